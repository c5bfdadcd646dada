"""
How high can the learning rate go?
==================================

A higher learning rate trains faster, until training fails. Ioffe and Szegedy (2015, section 4.2.2)
took five times the rate: it drove their plain network to "machine infinity", and the
batch-normalised one, with other changes, to the same accuracy in 14 times fewer steps. Bjorck
and others (2018, abstract) see in higher rates the cause of its faster convergence and better
generalisation.

**What you'll do:** train one network without a normaliser, with batch and with layer normalisation,
over the whole range of learning rates, with SGD and with Adam. **What you'll see:** at which rate
training begins to fail, and what is left of any advantage once each has the rate that suits it best.
**How long it takes:** minutes on two cores; the end of the page says how many.
**Read with it:** :ref:`learn-debate`.
"""

# %%
# The network
# -----------
# Three hidden layers of 128 rectified units, with He's initial weights, which are made for plain
# networks of this kind. Some training images are held out for validation, and rates are chosen on
# them; the test images are looked at once. Neighbouring rates are a factor of four to seven apart.

from bn_tutorial import Experiment, Recipe

trial = Experiment("learning-rate")
base = Recipe(
    depth=3,
    width=128,
    initializer="he_normal",
    inputs="standardized",
    batch_size=64,
    epochs=min(trial.budget.epochs, 5),
    train_size=trial.budget.subset // 2,
    validation=trial.budget.validation,
)
arms = {"without": None, "batch": "batch", "layer": "layer"}
rates = {
    "SGD": trial.grid([0.003, 0.012, 0.05, 0.2, 0.8, 3.2]),
    "Adam": trial.grid([0.0002, 0.001, 0.005, 0.03, 0.2, 1]),
}


def network(name, arm, rate):
    """Return what is trained at one rate."""
    return base.but(optimizer=name.lower(), norm=arms[arm], learning_rate=rate)


# %%
# When has a run *failed*? If its loss stops being finite; or if, after the last epoch, its loss on
# training images is no better than that of guessing, :math:`\ln 10`. Loss and accuracy are read with
# population statistics, so that no rate looks bad only because the moving statistics lag behind
# (see :ref:`sphx_glr_auto_examples_assignment_plot_02_batch_norm.py`).
#
# The runs
# --------
# Each optimiser and each arm goes through three rounds:
#
# 1. the *map* of all rates, which gives the arm's best rate on the validation images;
# 2. the *limit*: where does a seed begin to fail? Take the largest rate of the map at which no seed
#    fails, and the next one at which every seed does. Try the rate between them, keep the half in
#    which the limit lies, and repeat that once;
# 3. the *final*, with more seeds: at the arm's best rate and, with SGD, at the one that is best for
#    the plain network.
#
# First, then, the map. A row's best rate is the one with the highest mean accuracy over seeds, to
# which a failed run contributes the accuracy that it ended with.

from bn_tutorial.evidence.measures import fails, last

VALIDATION, TEST = "val_accuracy_population", "test_accuracy_population"
GUESSING = 1 / len(trial.data.classes)


def best_rate(row):
    """Return the rate with the highest validation accuracy."""
    return max(row, key=lambda rate: last(row[rate], VALIDATION, GUESSING).mean())


runs = trial.train(
    [network(o, arm, rate) for o in rates for arm in arms for rate in rates[o]],
    trial.few_seeds,
)
tables = {
    o: {arm: {x: runs.of(network(o, arm, x)) for x in rates[o]} for arm in arms}
    for o in rates
}
best = {(o, arm): best_rate(tables[o][arm]) for o in rates for arm in arms}

# %%
# Then the limits, without and with batch normalisation, seed by seed. The rate between two others is
# their geometric mean, and each round of the bisection trains a network for each optimiser and
# arm. If there is no higher rate at which every seed fails, the limit is the largest one at which
# none does.

import math


def bracket(row):
    """Return the largest rate at which no seed fails, the next at which all do."""
    failed = {rate: [fails(run) for run in cell] for rate, cell in row.items()}
    low = max((rate for rate in row if not any(failed[rate])), default=math.nan)
    above = [rate for rate in row if rate > low and all(failed[rate])]
    return low, min(above, default=low)


pair = ("without", "batch")
brackets = {(o, arm): bracket(tables[o][arm]) for o in rates for arm in pair}
limits = {key: {} for key in brackets}
for seed in trial.few_seeds:
    ends = dict(brackets)
    for _ in range(2):
        tried = {
            key: network(*key, math.sqrt(low * high))
            for key, (low, high) in ends.items()
            if low < high
        }
        between = trial.train(tried.values(), [seed]) if tried else ()
        for key, run in zip(tried, between, strict=True):
            (low, high), rate = ends[key], run.recipe.learning_rate
            ends[key] = (low, rate) if fails(run) else (rate, high)
    for key, (low, high) in ends.items():
        limits[key][seed] = math.sqrt(low * high)

# %%
# The map
# -------

trial.heatmaps(
    tables,
    VALIDATION,
    title="Validation accuracy (star: best of a row; orange: seeds begin to fail)",
    stars=best,
    ticks={key: [*found.values()] for key, found in limits.items()},
    alt="Tables of coloured cells, SGD above, Adam below: the mean validation "
    "accuracy without a normaliser, with batch and with layer normalisation (rows) "
    "at each learning rate (columns). Cells in which a seed failed are hatched; a "
    "star marks a row's best rate, orange ticks where single seeds begin to fail.",
)

# %%
# Read a column, and all arms have the same rate; compare the stars, and each has the rate that
# suits it best. In numbers:

for (o, arm), rate in best.items():
    edge = " (an end of the grid)" if rate in (rates[o][0], rates[o][-1]) else ""
    line = f"{o:5} {arm:8} best rate {rate:g}{edge}"
    if found := limits.get((o, arm), {}).values():
        line += "; fails from " + ", ".join(f"{x:.2g}" for x in found)
        if rates[o][-1] in found:
            line += " (the grid ends here, so the limit lies above)"
    print(line)

# %%
# The same rate, and the best rate
# --------------------------------
# How fast do the finalists fit the training images with SGD? The dotted line is what the plain
# network reaches in the end.

same, own, adam = (
    {arm: network(o, arm, best[o, chosen or arm]) for arm in arms}
    for o, chosen in (("SGD", "without"), ("SGD", None), ("Adam", None))
)
trial.train([*same.values(), *own.values(), *adam.values()])

targets = last(trial.of(own["without"]), "fit_accuracy")
all_same = f"SGD, all at {best['SGD', 'without']:g}"


def named(networks):
    """Return networks by their arms and what is best for these."""
    return {
        f"{arm}, best at {best['SGD', arm]:g}": net for arm, net in networks.items()
    }


trial.curves(
    {all_same: named(same), "SGD, each at its own best rate": named(own)},
    "fit_accuracy",
    levels={"without, in the end": targets.mean()},
    alt="Training accuracy with SGD against the epoch, without a normaliser, with "
    "batch and with layer normalisation: on the left all at the rate that is best "
    "without, on the right each at its own best rate. A dotted line marks what the "
    "plain network reaches in the end.",
)

# %%
# The verdicts
# ------------
# Registered in ``hypotheses/learning-rate.toml`` after pilot runs, and before the runs shown here.
# As to speed, the target is the accuracy on training images (inference mode, population statistics)
# that the plain network of the same seed reaches after its last epoch. A network that never gets
# there is counted with one epoch more than it had. The finalists are tested once; one that
# diverged, and so could not be tested, would count as guessing.

import numpy as np


def epochs_to(run):
    """Return when a run first reaches its target, interpolated between epochs."""
    before, target = GUESSING, targets[run.seed]
    for epoch, after in enumerate(run.history["fit_accuracy"]):
        if after >= target:
            return np.interp(target, [before, after], [epoch, epoch + 1])
        before = after
    return run.recipe.epochs + 1


def tested(networks):
    """Return the test accuracy of both arms, by seed and part of the images."""
    return trial.tested(TEST, **{arm: networks[arm] for arm in pair})


trial.judge(
    {
        "rate-sgd-stable": {arm: limits["SGD", arm] for arm in pair},
        "rate-sgd-speed": {
            arm: {run.seed: epochs_to(run) for run in trial.of(own[arm])}
            for arm in pair
        },
        "rate-sgd-best": tested(own),
        "rate-adam-stable": {arm: limits["Adam", arm] for arm in pair},
        "rate-adam-best": tested(adam),
        "rate-sgd-same": tested(same),
    }
)

# %%
# What this does *not* show
# -------------------------
# To survive a rate is not to profit from it: look at the accuracies just left of the hatched cells.
# And failing is judged by the loss, so a network that is right more often than by chance, but far
# too sure of itself, has failed. Five epochs at most, at a constant rate, favour what learns fast;
# warm-up, momentum or a schedule would move the limits. A best rate is the best of those tried: at
# an end of the grid (the list above says so), a better one may lie beyond. Two optimisers are not
# all, either: according to van Laarhoven (2017, abstract), Adam removes the influence of a
# normaliser on the effective learning rate only in part.
#
# **Exercise.** Without a normaliser, activations can grow from layer to layer. Predict what a deeper
# network does to each row of the map, then change one line: ``depth=6``.

found = {f"best_{o}_{arm}".lower(): rate for (o, arm), rate in best.items()}
trial.record(**found)
