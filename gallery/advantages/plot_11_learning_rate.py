"""
How high can the learning rate go?
==================================

A higher learning rate trains faster, until training fails. Ioffe and Szegedy (2015, section 4.2.2)
took five times the rate: it drove their plain network to "machine infinity", and the
batch-normalised one, with other changes, to the same accuracy in 14 times fewer steps. Bjorck
and others (2018, abstract) see in higher rates the cause of its faster convergence and better
generalisation.

**What you'll do:** train one network without a normaliser, with batch and with layer normalisation,
over a wide range of learning rates, with SGD and with Adam. **What you'll see:** at which rate
training begins to fail, and what is left of any advantage once each has the rate that suits it best.
**Read with it:** :ref:`learn-debate`.
"""

# %%
# The network
# -----------
# Three hidden layers of 64 rectified units, with He's initial weights, which are made for plain
# networks of this kind, and about a thousand steps. Some training images are held out for validation,
# and rates are chosen on them; the test images are looked at once.

from bn_tutorial import Experiment, Recipe

trial = Experiment("learning-rate")
base = Recipe(
    depth=3,
    width=64,
    initializer="he_normal",
    inputs="standardized",
    epochs=min(trial.budget.epochs, 6),
    train_size=trial.budget.subset,
    validation=trial.budget.validation,
)
arms = {
    "without": {},
    "batch": {"norm": "batch"},
    "layer": {"norm": "layer"},
    "sum": {"residual": "sum"},  # what carries over to residual networks?
    "sum, batch": {"residual": "sum", "norm": "batch"},
}
rates = {
    "SGD": trial.grid([0.01, 0.04, 0.16, 0.64, 2.5, 10, 40]),
    "Adam": trial.grid([0.0003, 0.0012, 0.005, 0.02, 0.08, 0.3, 1.2]),
}


def network(name, arm, rate):
    """Return what is trained at one rate."""
    return base.but(optimizer=name.lower(), learning_rate=rate, **arms[arm])


# %%
# When has a run *failed*? If its loss stops being finite; or if, after the last epoch, its loss on
# training images is no better than that of guessing, :math:`\ln 10`. Loss and accuracy are read with
# population statistics, so that no rate looks bad only because the moving statistics lag behind
# (see :ref:`sphx_glr_auto_examples_assignment_plot_02_batch_norm.py`).
#
# The runs
# --------
# Each optimiser and each arm has
#
# 1. a *map* of rates, a factor of four apart, with one seed in each cell;
# 2. a *best rate*: the one that validated best in pilot runs, of rates a factor of √2 apart (two for
#    layer normalisation and Adam), with five seeds that are not used here;
# 3. a *limit*, where a seed begins to fail: somewhere in a range of a factor of sixteen, wide enough for
#    all seeds of the pilot runs. Try the rate in the middle, keep the half in which the limit lies, and
#    repeat that twice, which leaves a factor of √2.

import numpy as np
from bn_tutorial.evidence.measures import by_seed, fails

VALIDATION, TEST = "val_accuracy_population", "test_accuracy_population"
best = {
    "SGD": {"without": 0.04, "batch": 0.11, "layer": 0.04},
    "Adam": {"without": 0.0003, "batch": 0.0035, "layer": 0.0008},
}
within = {
    ("SGD", "without"): (0.04, 0.64),
    ("SGD", "batch"): (0.64, 10),
    ("Adam", "without"): (0.005, 0.08),
    ("Adam", "batch"): (0.08, 1.2),
}
cells = [network(o, arm, x) for o in rates for arm in arms for x in rates[o]]
mapped = trial.train(cells, trial.few_seeds[:1], ends=True)
tables = {
    o: {a: {x: mapped.of(network(o, a, x)) for x in rates[o]} for a in arms}
    for o in rates
}

seeds = {o: trial.seeds_of(f"rate-{o.lower()}-stable") for o in rates}
ends = {(key, s): between for key, between in within.items() for s in seeds[key[0]]}
for _ in range(3):
    middle = {one: np.sqrt(np.prod(between)) for one, between in ends.items()}
    tried = {}
    for (key, seed), rate in middle.items():
        tried.setdefault(network(*key, rate), []).append(seed)
    runs = trial.train(tried, ends=True)
    failed = {(run.recipe, run.seed): fails(run) for run in runs}
    for (key, seed), rate in middle.items():
        (low, high), gone = ends[key, seed], failed[network(*key, rate), seed]
        ends[key, seed] = (low, rate) if gone else (rate, high)
limits = {key: {} for key in within}
for (key, seed), between in ends.items():
    limits[key][seed] = np.sqrt(np.prod(between))

# %%
# The map
# -------

trial.heatmaps(
    tables,
    VALIDATION,
    title="Validation accuracy (star: best rate; orange: seeds begin to fail)",
    stars={(o, arm): rate for o, row in best.items() for arm, rate in row.items()},
    ticks={key: [*found.values()] for key, found in limits.items()},
    alt="Tables of coloured cells, SGD above, Adam below: the validation "
    "accuracy without a normaliser, with batch and layer normalisation, and of two "
    "residual networks (rows) at each rate (columns). Cells in which a run failed "
    "are hatched; stars mark best rates, ticks where seeds begin to fail.",
)

# %%
# Read a column, and all arms have the same rate; compare the stars, and each has the rate that
# suits it best. The last two rows are for readers whose networks are residual: *sum* adds what each
# layer computes to what it was given. They are not on trial here; deeper ones are, in
# :ref:`sphx_glr_auto_examples_questions_plot_42_residual.py`. In numbers:

for (o, arm), found in limits.items():
    listed = ", ".join(f"{x:.2g}" for x in found.values())
    print(f"{o:5} {arm:8} best rate {best[o][arm]:g}, fails from {listed}")

# %%
# The same rate, and the best rate
# --------------------------------
# How fast do the finalists learn with SGD? Here is their accuracy on validation images; the dotted line
# is what the plain network reaches in the end, in its last three epochs.

nets = {o: {a: network(o, a, rate) for a, rate in best[o].items()} for o in best}
shared = {a: network("SGD", a, best["SGD"]["without"]) for a in best["SGD"]}
pair = ("without", "batch")
finalists = [net for one in (shared, *nets.values()) for net in one.values()]
finals = trial.train(
    dict.fromkeys(finalists, trial.few_seeds)
    | dict.fromkeys([nets["SGD"][a] for a in pair], trial.seeds_of("rate-sgd-fit"))
    | dict.fromkeys(
        [nets["Adam"][a] for a in pair], trial.seeds_of("rate-adam-best")
    )
)
same, own, adam = (
    {a: finals.of(net) for a, net in one.items()}
    for one in (shared, *nets.values())
)


def in_the_end(metric):
    """Return what the plain network reaches in its last three epochs, by seed."""
    plain = own["without"]
    return by_seed(plain, plain.curves(metric)[:, -3:].mean(axis=1))


all_same = f"SGD, all at {best['SGD']['without']:g}"
titles = {all_same: same, "SGD, each at its own best rate": own}
shown = {
    title: {f"{a}, best at {best['SGD'][a]:g}": runs for a, runs in group.items()}
    for title, group in titles.items()
}
trial.curves(
    shown,
    VALIDATION,
    levels={"without, in the end": in_the_end(VALIDATION).mean()},
    alt="Validation accuracy with SGD against the epoch, without a normaliser, "
    "with batch and with layer normalisation: on the left all at the rate that is "
    "best without, on the right each at its own best rate. A dotted line marks "
    "what the plain network reaches in the end.",
)

# %%
# The verdicts
# ------------
# Registered in ``hypotheses/learning-rate.toml`` after pilot runs, and before the runs shown here. What
# scattered too much in those is *estimated*. To be fast can mean two things: to fit the training images
# soon, or to do well on new ones. So there are two targets, the training loss and the validation accuracy
# that the plain network of the same seed has in the mean of its last three epochs. A network that never gets
# there is counted with one epoch more than it had.


def epochs_to(run, metric, start, target):
    """Return when a run first reaches a target, interpolated between epochs."""
    up, before = (-1 if "loss" in metric else 1), start
    for epoch, after in enumerate(run.history[metric]):
        if up * after >= up * target:
            between = [up * before, up * after]
            return np.interp(up * target, between, [epoch, epoch + 1])
        before = after
    return run.recipe.epochs + 1


def epochs(metric, start):
    """Return that for both arms, by seed."""
    targets = in_the_end(metric)
    return {
        arm: {
            run.seed: epochs_to(run, metric, start, targets[run.seed])
            for run in own[arm]
        }
        for arm in pair
    }


best_sgd, best_adam, same_rate = (
    trial.tested(TEST, **{arm: one[arm] for arm in pair})
    for one in (own, adam, same)
)
classes = len(trial.data.classes)
trial.judge(
    {
        "rate-sgd-stable": {arm: limits["SGD", arm] for arm in pair},
        "rate-adam-stable": {arm: limits["Adam", arm] for arm in pair},
        "rate-sgd-fit": epochs("fit_loss", np.log(classes)),
        "rate-sgd-speed": epochs(VALIDATION, 1 / classes),
        "rate-sgd-best": best_sgd,
        "rate-adam-best": best_adam,
        "rate-sgd-same": same_rate,
    }
)

# %%
# What this does *not* show
# -------------------------
# To survive a rate is not to profit from it: look at the accuracies just left of the hatched cells.
# And failing is judged by the loss, so a network that is right more often than by chance, but far
# too sure of itself, has failed. A thousand steps at a constant rate favour what learns fast; warm-up,
# momentum or a schedule would move the limits. A best rate is the best of those tried; and a seed whose
# limit lies outside its range counts at the end of it. Two optimisers are not all, either: according to
# van Laarhoven (2017, abstract), Adam removes the influence of a normaliser on the effective learning rate
# only in part.
#
# **Go further.** Without a normaliser, activations can grow from layer to layer. Predict what a
# deeper network does to each row of the map, then change one line: ``depth=6``.

trial.record()
