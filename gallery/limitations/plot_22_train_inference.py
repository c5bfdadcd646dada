"""
Does the network compute the same in training and in use?
=========================================================

In training a batch is normalised by its own statistics, in use by averages kept for that purpose.
Where the two differ, the network in use is not the one that was trained. Singh and Shrivastava
(2019, abstract) corrected nothing but the statistics used at evaluation, and gained 6.18 points
on ImageNet after training with batches of 2.

**What you'll do:** train with several batch sizes, stop at a few steps, and let the network
predict with every kind of average. **What you'll see:** what these averages remember, what they
underestimate, and what that costs. **How long it takes:** a minute or two on two cores; the end
of the page says how long it took.
**Read with it:** :ref:`learn-algorithm` and :ref:`practice-clinic`.
"""

# %%
# The runs
# --------
# Keras updates an average after each step: *average* ← 0.99 · *average* + 0.01 · *batch*, and
# starts from mean 0 and variance 1. No average takes part in training, so one run can keep many
# of them side by side. That is what the engine ``averages.compare`` does.

from bn_tutorial import Recipe, load_cifar10, profile, train
from bn_tutorial.engines import averages

budget = profile()
data = load_cifar10(budget.source)
network = Recipe(
    width=128,
    norm="batch",
    inputs="standardized",
    train_size=budget.subset,
    validation=budget.validation,
)
epochs = {2: 1, 8: 2, 32: 6, 256: 12}  # small batches take many steps in an epoch
recipes = {b: network.but(batch_size=b, epochs=epochs[b]) for b in epochs}
pixels = recipes[32].but(inputs="unit")  # pixels / 255, as in the notebook
seeds = range(budget.subset_seeds)
runs = train(
    [recipes[2], recipes[32], pixels], data, seeds, engine=averages.compare
)
runs += train(
    [recipes[8], recipes[256]], data, range(budget.seeds), engine=averages.compare
)

# %%
# Two things can go wrong with an average: it remembers a start that was never right, and it
# follows weights that have moved on. To tell them apart, here are the same networks with a
# learning rate of practically zero. Their weights stand still; only the averages move.

frozen = {b: recipe.but(learning_rate=1e-9) for b, recipe in recipes.items()}
runs += train(frozen.values(), data, range(budget.seeds), engine=averages.compare)

# %%
# What an average remembers
# -------------------------
# The engine compares the moving mean with the mean over the training images, recomputed at the
# same weights: their distance, as a share of what it is at the start. After :math:`t` steps with
# momentum :math:`\alpha` the start has the weight :math:`\alpha^t`. That is the whole distance, if neither
# chance nor the weights add to it. Predict: which curve of which panel will leave its dashes
# first?

import matplotlib.pyplot as plt
import numpy as np
from bn_tutorial.evidence import interval
from bn_tutorial.figures import COLORS, INK, mark_sample, percent, spread
from bn_tutorial.scratch.theory import expected_variance_ratio, start_weight

SHADES = {0.9: "#7cc4f2", 0.99: COLORS["batch"], 0.999: "#3f6fae"}


def courses(recipe, metric):
    """Return the steps, and a metric at each of them, shape (seeds, steps)."""
    found = runs.of(recipe)
    steps = next(iter(found)).history["step"]
    return np.array(steps), found.curves(metric)[:, : len(steps)]


def draw(axes, recipe, metric, color, style="-", label=None):
    """Draw each seed, their mean, and its 95 % interval."""
    spread(
        axes, *courses(recipe, metric), color=color, linestyle=style, label=label
    )


def legend_below(figure, axes):
    """Put the legend of one panel below all of them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(labels), 4)
    )


figure, panels = plt.subplots(1, 2, figsize=(7.6, 4.2), sharey=True)
for axes, recipe, title in (
    (panels[0], frozen[32], "weights stand still"),
    (panels[1], recipes[32], "weights are trained"),
):
    steps, _ = courses(recipe, "step")
    for momentum, color in SHADES.items():
        label = f"momentum {momentum}"
        draw(axes, recipe, f"distance/{momentum}", color, label=label)
        dense = np.geomspace(1, steps[-1], 200)
        theory = start_weight(dense, momentum)
        label = r"theory, $\alpha^t$" if momentum == 0.999 else None
        axes.plot(dense, theory, "--", color=INK, lw=1.2, label=label)
    axes.set(xscale="log", yscale="log", xlabel="step", title=title)
    axes.set_ylim(0.02, 1.5)
panels[0].set_ylabel(
    "moving mean's distance from the population's\n(at the start: 1)"
)
panels[0].yaxis.set_major_formatter(percent)
legend_below(figure, panels[0])
mark_sample(figure, runs)
figure.set_label(
    "Distance of the moving mean from the population mean against the step, both logarithmic, for "
    "momentum 0.9, 0.99 and 0.999, with weights that stand still on the left and trained ones on "
    "the right; the weight of the start is dashed."
)

# %%
# On the left only chance keeps an average from its dashes: it covers a limited number of batches,
# and the shorter the memory, the fewer. On the right, the weights move as well, and the average
# describes the ones of some time ago. The theory is exact where the start still dominates and the
# weights stand still, so there it is held to account:

steps, _ = courses(frozen[32], "step")
for momentum in (0.99, 0.999):
    _, measured = courses(frozen[32], f"distance/{momentum}")
    theory = start_weight(steps, momentum)
    early = theory > 0.3
    gaps = np.abs(measured.mean(axis=0) - theory)[early]
    print(
        f"momentum {momentum}: at most {gaps.max():.3f} from theory up to step "
        f"{steps[early][-1]:.0f}"
    )
    assert gaps.max() < 0.07
for momentum in SHADES:
    end = interval(courses(recipes[32], f"distance/{momentum}")[1][:, -1]).mean
    print(
        f"momentum {momentum}, trained weights: {percent(end)} at step {steps[-1]:.0f}, "
        f"of which the start explains {percent(start_weight(steps[-1], momentum))}"
    )

# %%
# What a batch underestimates
# ---------------------------
# The variance within a batch of :math:`m` is on average :math:`(m-1)/m` of the population's
# (Ioffe and Szegedy 2015 multiply it by :math:`m/(m-1)`; Keras does not). Here is the moving
# variance at the last step over that of the population, with the share of the start taken out:

metric = "ratio/0.99 debiased"
dense = np.geomspace(1.8, 280, 100)
figure, axes = plt.subplots(figsize=(7.2, 3.8))
theory = expected_variance_ratio(dense)
axes.plot(dense, theory, "--", color=INK, lw=1.2, label="theory, $(m-1)/m$")
for chosen, color, marker, shift, label in (
    (frozen, COLORS[None], "s", 0.93, "weights stand still"),
    (recipes, COLORS["batch"], "o", 1.07, "weights are trained"),
):
    found = {b: courses(recipe, metric)[1][:, -1] for b, recipe in chosen.items()}
    for b, values in found.items():
        axes.plot(
            np.full(len(values), shift * b), values, "_", color=color, markersize=9
        )
    means = [values.mean() for values in found.values()]
    at = [shift * b for b in found]
    axes.plot(at, means, marker, color=color, markersize=7, label=label)
axes.set_xscale("log", base=2)
axes.set_xticks(list(recipes), [str(b) for b in recipes])
axes.set(
    xlabel="batch size m", ylabel="moving / population variance", ylim=(0, None)
)
legend_below(figure, axes)
mark_sample(figure, runs)
figure.set_label(
    "Ratio of the moving to the population variance against the batch size, 2 to 256: measured "
    "with weights that stand still and with trained ones, a tick for each seed, and (m − 1) / m "
    "dashed."
)

for b, recipe in frozen.items():
    measured = courses(recipe, metric)[1][:, -1].mean()
    theory = expected_variance_ratio(b)
    print(f"batch {b:3}: {measured:.3f} measured, {theory:.3f} in theory")
    # averages over larger batches scatter less
    assert abs(measured / theory - 1) < 0.25 / b**0.5

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

figure, panels = plt.subplots(2, 3, figsize=(7.8, 5.6), sharex="col", sharey="row")
for column, recipe, title in (
    (panels[:, 0], recipes[2], "batch 2"),
    (panels[:, 1], recipes[32], "batch 32"),
    (panels[:, 2], pixels, "batch 32, pixels / 255"),
):
    for key, color, style, label in (
        ("batch", INK, "-", "training mode"),
        ("0.99", COLORS["batch"], "--", "moving statistics"),
        ("population", COLORS["batch"], "-", "population statistics"),
    ):
        draw(column[0], recipe, f"accuracy/{key}", color, style, label)
        if key != "batch":
            draw(column[1], recipe, f"kl/{key}", color, style)
    column[0].set(xscale="log", title=title)
    column[1].set(xscale="log", xlabel="step")
panels[0, 0].set_ylabel("validation accuracy")
panels[0, 0].yaxis.set_major_formatter(percent)
panels[1, 0].set_ylabel("divergence from training mode\nin nats")
panels[1, 0].set_ylim(0, None)
legend_below(figure, panels[0, 0])
mark_sample(figure, runs)
figure.set_label(
    "Validation accuracy (above) and divergence of the predictions from those in training mode "
    "(below) against the step, for batches of 2, of 32, and of 32 with pixels / 255: in training "
    "mode, with moving statistics (dashed) and with population statistics."
)

# %%
# Compare the two rows: classes are what is counted above, probabilities below. If a wrong mean or
# variance shifts all classes alike, the largest probability can stay the largest.
#
# The verdicts
# ------------
# Written down in ``hypotheses/train-inference.toml`` before any run. The first three are primary,
# and corrected for being three (Holm, 1979).

from bn_tutorial.evidence import judge, record

EARLY = 40


def at(recipe, kind, step=None):
    """Return the accuracy at the step nearest to `step`, or the last, for each seed."""
    steps, values = courses(recipe, f"accuracy/{kind}")
    index = -1 if step is None else np.abs(steps - step).argmin()
    return dict(zip(seeds, values[:, index], strict=True))


measured = {
    "statistics-early": {
        "moving": at(recipes[32], "0.99", EARLY),
        "batch": at(recipes[32], "batch", EARLY),
    },
    "statistics-late": {
        "moving": at(recipes[32], "0.99"),
        "batch": at(recipes[32], "batch"),
    },
    "statistics-small": {
        "moving": at(recipes[2], "0.99"),
        "population": at(recipes[2], "population"),
    },
    "statistics-pixels": {
        "moving": at(pixels, "0.99", EARLY),
        "batch": at(pixels, "batch", EARLY),
    },
    "statistics-momentum": {
        "0.99": at(recipes[32], "0.99", EARLY),
        "0.9": at(recipes[32], "0.9", EARLY),
    },
    "statistics-bessel": {
        "biased": at(recipes[2], "0.99"),
        "unbiased": at(recipes[2], "0.99 unbiased"),
    },
}
verdicts = judge("train-inference", measured, sample=data.is_sample)
for verdict in verdicts.values():
    print(verdict, end="\n\n")

# %%
# In words, as written beforehand for these verdicts:

for verdict in verdicts.values():
    print(verdict.sentence)

# %%
# What this does *not* show
# -------------------------
# This is one hidden layer. In a deep network each layer receives the errors of those before it.
# Training mode is itself no ideal: it normalises an image together with whichever images happen
# to be in its batch. And where inputs are not centred, the start is only half of the story:
# :ref:`sphx_glr_auto_examples_assignment_plot_02_batch_norm.py` shows the rest.
#
# **Exercise.** Adam moves the weights fast. Predict where the right-hand curves of the first
# figure level off at a tenth of the learning rate, then change one line:
# ``network = Recipe(learning_rate=1e-4, …``.

steps, _ = courses(recipes[32], "step")
nearest = int(steps[np.abs(steps - EARLY).argmin()])
weight = float(start_weight(nearest, 0.99))
print(
    f"“In the first steps” is step {nearest}: the start still weighs {weight:.0%}."
)
seconds = sum(run.provenance["seconds"] for run in runs)
print(f"The training behind this page took {seconds:.0f} s.")
record(
    "train-inference",
    verdicts,
    runs=runs,
    seeds=budget.subset_seeds,
    early_step=nearest,
    early_weight=weight,
    seconds=seconds,
)

# sphinx_gallery_thumbnail_number = 1
