"""
Does the network compute the same in training and in use?
=========================================================

In training a batch is normalised by its own statistics, in use by averages kept for that purpose.
Where the two differ, the network in use is not the one that was trained. Singh and Shrivastava
(2019, abstract) corrected nothing but the statistics used at evaluation, and gained 6.18 points
on ImageNet after training with batches of 2.

**What you'll do:** train with several batch sizes, stop at a few steps, and let the network
predict with every kind of average. **What you'll see:** what these averages remember, what they
underestimate, and what that costs.
**Read with it:** :ref:`learn-algorithm` and :ref:`practice-clinic`.
"""

# %%
# The runs
# --------
# Keras updates an average after each step: *average* ← 0.99 · *average* + 0.01 · *batch*, and
# starts from mean 0 and variance 1. No average takes part in training, so one run can keep many
# of them side by side. That is what the engine ``averages.compare`` does. It notes each measure
# by the name of the average: ``accuracy/0.99`` is the accuracy with that of momentum 0.99,
# ``accuracy/population`` with statistics recomputed over the training images, and ``accuracy/batch``
# in training mode. With five hidden layers in place of one, each receives the errors of those before.

from bn_tutorial import Experiment, Recipe
from bn_tutorial.engines import averages

trial = Experiment("train-inference")
network = Recipe(
    width=128,
    norm="batch",
    inputs="standardized",
    train_size=trial.budget.subset,
    validation=trial.budget.validation,
)
more = min(10_000, len(trial.data.y_train) - network.train_size)
epochs = {2: 1, 8: 2, 32: 6, 256: 12}  # small batches take many steps in an epoch
trained = {b: network.but(batch_size=b, epochs=epochs[b]) for b in epochs}
trained |= {b: trained[b].but(validation=more) for b in (2, 32)}  # to be judged
pixels = trained[32].but(inputs="unit")  # pixels / 255, as in the notebook
deep = {b: trained[b].but(depth=5) for b in (2, 32)}

# %%
# Two things can go wrong with an average: it remembers a start that was never right, and it follows
# weights that have moved on. To tell them apart, here are the same networks with a learning rate of
# practically zero: only the averages move. (What is not on trial has fewer seeds.)

still = {"learning_rate": 1e-9, "validation": network.validation}
frozen = {b: recipe.but(**still) for b, recipe in trained.items()}
every = [*trained.values(), *frozen.values(), *deep.values(), pixels]
on_trial = {"small": trained[2], "late": trained[32], "early-deep": deep[32]}
on_trial["pixels"] = pixels
seeds = {net: trial.seeds_of(f"statistics-{n}") for n, net in on_trial.items()}
trial.train(dict.fromkeys(every, trial.few_seeds) | seeds, engine=averages.compare)

# %%
# What an average remembers
# -------------------------
# The engine compares the moving mean with the mean over the training images, recomputed at the
# same weights: their distance, as a share of what it is at the start. After :math:`t` steps with
# momentum :math:`\alpha` the start has the weight :math:`\alpha^t`. That is the whole distance, if neither
# chance nor the weights add to it. Predict: which curve of which panel leaves its dashes first?
#
# **While the weights stand still, a long average forgets its start as slowly as predicted.**

from bn_tutorial.figures import COLORS, INK, SHADES, percent
from bn_tutorial.scratch.theory import expected_variance_ratio, start_weight

momenta = (0.9, 0.99, 0.999)
states = {"weights stand still": frozen, "weights are trained": trained}
distances = {
    state: {f"momentum {m}": (networks[32], f"distance/{m}") for m in momenta}
    for state, networks in states.items()
}
theory = {
    rf"theory $\alpha^t$, momentum {m}": lambda step, m=m: start_weight(step, m)
    for m in momenta
}
trial.histories(
    distances,
    ylabel="moving mean's distance from the population's\n(at the start: 1)",
    over="step",
    log="xy",
    styles={f"momentum {m}": {"color": SHADES[i]} for i, m in enumerate(momenta)},
    theory=theory,
    ylim=(0.02, 1.5),
    alt="Distance of the moving mean from the population mean against the step, "
    "both logarithmic, for momentum 0.9, 0.99 and 0.999, with weights that stand "
    "still on the left and trained ones on the right; the weight of the start is "
    "dashed.",
)

# %%
# On the left only chance keeps an average from its dashes: it covers a limited number of batches, and
# the shorter the memory, the fewer. On the right the weights move, and the average describes those of
# some time ago. Where the start dominates and the weights stand still, the theory is held to account:

from bn_tutorial.evidence.measures import by_step

for momentum in (0.99, 0.999):
    measured = by_step(trial.of(frozen[32]), f"distance/{momentum}").mean()
    predicted = start_weight(measured.index, momentum)
    gaps = (measured - predicted).abs()[predicted > 0.3]
    print(
        f"momentum {momentum}: at most {gaps.max():.3f} from theory up to step "
        f"{gaps.index[-1]:.0f}"
    )
    assert gaps.max() < 0.07
for momentum in momenta:
    measured = by_step(trial.of(trained[32]), f"distance/{momentum}").mean()
    last = measured.index[-1]
    found, start = percent(measured[last]), percent(start_weight(last, momentum))
    print(f"momentum {momentum}: {found} in the end; the start explains {start}")

# %%
# What a batch underestimates
# ---------------------------
# The variance within a batch of :math:`m` is on average :math:`(m-1)/m` of the population's
# (Ioffe and Szegedy 2015 multiply it by :math:`m/(m-1)`; Keras does not). Here is the moving
# variance at the last step over that of the population, with the share of the start taken out.
#
# **While the weights stand still, the averaged variance falls short as predicted; while they are
# trained, it may itself have changed.**

RATIO = "ratio/0.99 debiased"
trial.against(
    {"": {state: networks.values() for state, networks in states.items()}},
    RATIO,
    "batch_size",
    xlabel="batch size m",
    ylabel="moving / population variance",
    dots=True,
    styles={"weights stand still": {"color": COLORS[None], "marker": "s"}},
    theory={"theory, $(m-1)/m$": expected_variance_ratio},
    alt="Ratio of the moving to the population variance against the batch size, 2 "
    "to 256: measured with weights that stand still and with trained ones, and (m "
    "− 1) / m dashed.",
)
for b, recipe in frozen.items():
    measured = trial.final(RATIO, recipe).mean()
    predicted = expected_variance_ratio(b)
    print(f"batch {b:3}: {measured:.3f} measured, {predicted:.3f} in theory")
    assert abs(measured / predicted - 1) < 0.25 / b**0.5

# %%
# Where the circles leave the squares, the variance itself has changed while it was being
# averaged. The larger the batch, the fewer steps there were here, and the further back into the
# beginning of training does an average reach.
#
# What it costs
# -------------
# Above, the share of validation images that the network gets right. Below, by how much its
# probabilities differ from those in training mode: the Kullback–Leibler divergence, which is 0 if
# they are the same. Part of that is the batches' own noise, even for the best of statistics.

lost = {"moving": "0.99", "population": "population"}
kinds = {"training mode": "batch"} | {f"{n} statistics": k for n, k in lost.items()}
networks = {
    title: {name: (recipe, kind) for name, kind in kinds.items()}
    for title, recipe in (
        ("batch 2", trained[2]),
        ("batch 32", trained[32]),
        ("batch 32, pixels / 255", pixels),
        ("batch 32, five layers", deep[32]),
    )
}
rows = {
    "validation accuracy": "accuracy/",
    "divergence from training mode\nin nats": "kl/",
}
trial.histories(
    networks,
    ylabel=rows,
    over="step",
    log="x",
    styles={
        "training mode": {"color": INK},
        "moving statistics": {"linestyle": "--"},
    },
    ylim=(0, None),
    alt="Validation accuracy (above) and divergence of the predictions from those "
    "in training mode (below) against the step, for batches of 2, of 32, and of 32 "
    "with pixels / 255 or five hidden layers: in training mode, with moving "
    "(dashed) and with population statistics.",
)

# %%
# Classes are what is counted above, probabilities below. If a wrong mean or variance shifts all classes
# alike, the largest probability can stay the largest.
#
# The verdicts
# ------------
# Registered in ``hypotheses/train-inference.toml`` after pilot runs, and before the runs shown here.
# What does the network lose by the moving statistics? The right comparator is the same network with
# recomputed ones: training mode has the noise of its batches besides. *Early* is the mean over the points
# from step 20 to 160, *late* over those from step 500 on.
# In the figure, what lies in the grey band is too small to matter.

EARLY, LATE = (20, 160), (500, None)  # steps


def accuracies(recipe, arms, steps=LATE):
    """Return each arm's mean accuracy over some of the points, by seed."""
    names = {arm: f"accuracy/{kind}" for arm, kind in arms.items()}
    tables = {arm: by_step(trial.of(recipe), name) for arm, name in names.items()}
    return {
        arm: one.loc[:, slice(*steps)].mean(axis=1) for arm, one in tables.items()
    }


momentum = {"0.99": "0.99", "0.9": "0.9"}
bessel = {"biased": "0.99", "unbiased": "0.99 unbiased"}
trial.judge(
    {
        "statistics-early": accuracies(trained[32], lost, EARLY),
        "statistics-late": accuracies(trained[32], lost),
        "statistics-small": accuracies(trained[2], lost),
        "statistics-early-deep": accuracies(deep[32], lost, EARLY),
        "statistics-late-deep": accuracies(deep[32], lost),
        "statistics-small-deep": accuracies(deep[2], lost),
        "statistics-pixels": accuracies(pixels, lost, EARLY),
        "statistics-momentum": accuracies(trained[32], momentum, EARLY),
        "statistics-bessel": accuracies(trained[2], bessel),
    },
    alt="Five effects on the validation accuracy, population minus moving "
    "statistics, in points: early and late, and for several networks.",
)

# %%
# What this does *not* show
# -------------------------
# Five layers are not fifty. And where inputs are not centred, the start is only half of the story:
# :ref:`sphx_glr_auto_examples_assignment_plot_02_batch_norm.py` shows the rest.
#
# **Go further.** Adam moves the weights fast. Predict where the right-hand curves of the first
# figure level off at a tenth of the learning rate, then change one line:
# ``network = Recipe(learning_rate=1e-4, …``.

trial.record()
# sphinx_gallery_key_figure = 4
# sphinx_gallery_thumbnail_number = 3
# sphinx_gallery_thumbnail_panel = 3
