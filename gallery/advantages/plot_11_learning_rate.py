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
**How long it takes:** minutes on two cores; the end of the page says how many.
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
arms = {"without": None, "batch": "batch", "layer": "layer"}
rates = {
    "SGD": trial.grid([0.01, 0.04, 0.16, 0.64, 2.5, 10, 40]),
    "Adam": trial.grid([0.0003, 0.0012, 0.005, 0.02, 0.08, 0.3, 1.2]),
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
# Each optimiser and each arm goes through four rounds:
#
# 1. the *map* of all rates, a factor of four apart, with two seeds;
# 2. the *best rate* on the validation images, of the map and of four more around its best, a factor of √2
#    apart;
# 3. the *limit*: where does a seed begin to fail? Take the largest rate of the map at which no seed
#    fails, and the next one at which every seed does. Try the rate between them, keep the half in
#    which the limit lies, and repeat that once, which leaves a factor of √2;
# 4. the *final*, with more seeds: at the arm's best rate and, with SGD, at the one that is best for
#    the plain network.
#
# First, then, the map and the best rates: those with the highest mean accuracy over seeds, to which a
# failed run contributes the accuracy that it ended with.

import numpy as np
from bn_tutorial.evidence.measures import by_seed, fails, last

VALIDATION, TEST = "val_accuracy_population", "test_accuracy_population"
GUESSING = 1 / len(trial.data.classes)


def trained(tried):
    """Train each arm at some rates; return the runs by rate, of each."""
    nets = [network(*key, rate) for key, row in tried.items() for rate in row]
    runs = trial.train(nets, trial.few_seeds[:2])
    return {
        key: {rate: runs.of(network(*key, rate)) for rate in row}
        for key, row in tried.items()
    }


def best_rate(row):
    """Return the rate with the highest validation accuracy."""
    return max(row, key=lambda rate: last(row[rate], VALIDATION, GUESSING).mean())


coarse = trained({(o, arm): rates[o] for o in rates for arm in arms})
near = [2**power for power in (-1, -0.5, 0.5, 1)]
finer = trained({key: [best_rate(coarse[key]) * x for x in near] for key in coarse})
best = {key: best_rate(row | finer[key]) for key, row in coarse.items()}

# %%
# Then the limits, without and with batch normalisation, seed by seed. The rate between two others is
# their geometric mean, and each round of the bisection trains a network for each optimiser and
# arm. If there is no higher rate at which every seed fails, the limit is at least the largest one at
# which none does.


def bracket(row):
    """Return the largest rate at which no seed fails, the next at which all do."""
    failed = {rate: [fails(run) for run in cell] for rate, cell in row.items()}
    low = max((rate for rate in row if not any(failed[rate])), default=min(row))
    return low, min((x for x in row if x > low and all(failed[x])), default=low)


pair = ("without", "batch")
brackets = {(o, arm): bracket(coarse[o, arm]) for o in rates for arm in pair}
beyond = [o for o in rates if len({*brackets[o, "batch"]}) == 1]
several = trial.seeds_of("rate-sgd-stable", "rate-adam-stable")
ends = {(key, seed): brackets[key] for key in brackets for seed in several}
for _ in range(2):
    rated = {one: np.sqrt(np.prod(between)) for one, between in ends.items()}
    tried = {}
    for (key, seed), rate in rated.items():
        tried.setdefault(network(*key, rate), []).append(seed)
    failed = {(run.recipe, run.seed): fails(run) for run in trial.train(tried)}
    for (key, seed), rate in rated.items():
        (low, high), gone = ends[key, seed], failed[network(*key, rate), seed]
        ends[key, seed] = (low, rate) if gone else (rate, high)
limits = {
    key: {seed: np.sqrt(np.prod(ends[key, seed])) for seed in several}
    for key in brackets
}

# %%
# The map
# -------

tables = {o: {arm: coarse[o, arm] for arm in arms} for o in rates}
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

for key, rate in best.items():
    found = ", ".join(f"{x:.2g}" for x in limits.get(key, {}).values())
    print(
        "{:5} {:8}".format(*key), f"best rate {rate:.2g}, fails from {found or '?'}"
    )

# %%
# The same rate, and the best rate
# --------------------------------
# How fast do the finalists learn with SGD? Here is their accuracy on validation images; the dotted line
# is what the plain network reaches in the end, in its last three epochs.

same, own, adam = (
    {arm: network(o, arm, best[o, chosen or arm]) for arm in arms}
    for o, chosen in (("SGD", "without"), ("SGD", None), ("Adam", None))
)
finalists = [net for one in (same, own, adam) for net in one.values()]
on_trial = [one[arm] for one in (same, own, adam) for arm in pair]
trial.train(
    dict.fromkeys(finalists, trial.few_seeds) | dict.fromkeys(on_trial, trial.seeds)
)

plain = trial.of(own["without"])
targets = by_seed(plain, plain.curves(VALIDATION)[:, -3:].mean(axis=1))
all_same = f"SGD, all at {best['SGD', 'without']:.2g}"
titles = {all_same: same, "SGD, each at its own best rate": own}
shown = {
    title: {f"{a}, best at {best['SGD', a]:.2g}": net for a, net in nets.items()}
    for title, nets in titles.items()
}
trial.curves(
    shown,
    VALIDATION,
    levels={"without, in the end": targets.mean()},
    alt="Validation accuracy with SGD against the epoch, without a normaliser, "
    "with batch and with layer normalisation: on the left all at the rate that is "
    "best without, on the right each at its own best rate. A dotted line marks "
    "what the plain network reaches in the end.",
)

# %%
# The verdicts
# ------------
# Registered in ``hypotheses/learning-rate.toml`` after pilot runs, and before the runs shown here.
# As to speed, the target is the accuracy on validation images (population statistics) that the plain
# network of the same seed has in the mean of its last three epochs. A network that never gets there is
# counted with one epoch more than it had. The finalists are tested once; one that diverged, and so could
# not be tested, would count as guessing. Where a limit lies above the map, the ratio of limits is known
# to be *at least* what was measured, and is judged so.


def epochs_to(run):
    """Return when a run first reaches its target, interpolated between epochs."""
    before, target = GUESSING, targets[run.seed]
    for epoch, after in enumerate(run.history[VALIDATION]):
        if after >= target:
            return np.interp(target, [before, after], [epoch, epoch + 1])
        before = after
    return run.recipe.epochs + 1


own_pair, adam_pair, same_pair = (
    trial.tested(TEST, **{arm: one[arm] for arm in pair})
    for one in (own, adam, same)
)
stable = {o: {arm: limits[o, arm] for arm in pair} for o in rates}
trial.judge(
    {
        "rate-sgd-stable": stable["SGD"],
        "rate-sgd-speed": {
            arm: {run.seed: epochs_to(run) for run in trial.of(own[arm])}
            for arm in pair
        },
        "rate-sgd-best": own_pair,
        "rate-adam-stable": stable["Adam"],
        "rate-adam-best": adam_pair,
        "rate-sgd-same": same_pair,
    },
    open_ended={f"rate-{o.lower()}-stable": 1 for o in beyond},
)

# %%
# What this does *not* show
# -------------------------
# To survive a rate is not to profit from it: look at the accuracies just left of the hatched cells.
# And failing is judged by the loss, so a network that is right more often than by chance, but far
# too sure of itself, has failed. A thousand steps at a constant rate favour what learns fast; warm-up,
# momentum or a schedule would move the limits. A best rate is the best of those tried, for two seeds.
# Two optimisers are not all, either: according to van Laarhoven (2017, abstract), Adam removes the influence of a
# normaliser on the effective learning rate only in part.
#
# **Exercise.** Without a normaliser, activations can grow from layer to layer. Predict what a deeper
# network does to each row of the map, then change one line: ``depth=6``.

found = {f"best_{o}_{arm}".lower(): rate for (o, arm), rate in best.items()}
trial.record(**found)
