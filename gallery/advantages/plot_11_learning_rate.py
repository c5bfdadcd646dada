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

from bn_tutorial import Recipe, Runs, load_cifar10, profile, train

budget = profile()
data = load_cifar10(budget.source)
base = Recipe(
    depth=3,
    width=128,
    initializer="he_normal",
    inputs="standardized",
    batch_size=64,
    epochs=min(budget.epochs, 5),
    train_size=budget.subset // 2,
    validation=budget.validation,
)
arms = {"without": None, "batch": "batch", "layer": "layer"}
rates = {
    "sgd": budget.grid([0.003, 0.012, 0.05, 0.2, 0.8, 3.2]),
    "adam": budget.grid([0.0002, 0.001, 0.005, 0.03, 0.2, 1]),
}


def recipe(optimizer, arm, rate):
    """Return what is trained at one rate."""
    return base.but(optimizer=optimizer, norm=arms[arm], learning_rate=rate)


# %%
# When has a run *failed*? If its loss stops being finite; or if, after the last epoch, its loss on
# training images is no better than that of guessing, :math:`\ln 10`. Loss and accuracy are read with
# population statistics, so that no rate looks bad only because the moving statistics lag behind
# (see :ref:`sphx_glr_auto_examples_assignment_plot_02_batch_norm.py`).

import math

import numpy as np


def fails(run):
    """Return whether a run diverged, or ended no better than guessing."""
    guessing = math.log(len(data.classes)) - 0.001  # a dead network is within
    return run.diverged or run.history["fit_loss"][-1] >= guessing


def last(runs, metric):
    """Return a metric after the last epoch, for each seed, failed ones included."""
    return {run.seed: run.history[metric][-1] for run in runs}


# %%
# The runs
# --------
# Each optimiser and each arm goes through three rounds:
#
# 1. the *map* of all rates, which gives the arm's best rate on the validation images;
# 2. the *final*, with more seeds: at that rate, and at the one that is best for the plain network;
# 3. the *limit*: where does a seed begin to fail? Take the largest rate of the map at which no seed
#    fails, and the next one at which every seed does. Try the rate between them, keep the half in
#    which the limit lies, and repeat that once.


def limit(low, high, optimizer, arm, seed):
    """Return the rate at which a seed begins to fail, by bisection."""
    for _ in range(2 if low < high else 0):
        middle = math.sqrt(low * high)
        (run,) = train(recipe(optimizer, arm, middle), data, seeds=[seed])
        tries.append(run)
        low, high = (low, middle) if fails(run) else (middle, high)
    return math.sqrt(low * high)


runs, finals, tries, best, limits = Runs(), Runs(), [], {}, {}
accuracy, failed = {o: [] for o in rates}, {o: [] for o in rates}
seeds = range(budget.subset_seeds)
for o, grid in rates.items():
    for arm in arms:
        tried = [recipe(o, arm, rate) for rate in grid]
        runs += train(tried, data, seeds=range(budget.seeds))
        cells = [
            [*last(runs.of(r), "val_accuracy_population").values()] for r in tried
        ]
        accuracy[o].append(np.mean(cells, axis=1))
        failed[o].append([sum(map(fails, runs.of(r))) for r in tried])

        best[o, arm] = grid[np.argmax(accuracy[o][-1])]
        finalists = [recipe(o, arm, best[o, chosen]) for chosen in ("without", arm)]
        finals += train(finalists, data, seeds=seeds)

        if arm != "layer":
            counts = list(zip(grid, failed[o][-1], strict=True))
            low = max((rate for rate, n in counts if n == 0), default=math.nan)
            above = [rate for rate, n in counts if rate > low and n == budget.seeds]
            high = min(above, default=low)
            limits[o, arm] = {
                seed: limit(low, high, o, arm, seed) for seed in range(budget.seeds)
            }

# %%
# The map
# -------

import matplotlib.pyplot as plt
from bn_tutorial.figures import COLORS, INK, curve, heatmap, mark_sample

figure, panels = plt.subplots(2, 1, figsize=(7.6, 5.0))
colors = (1 / len(data.classes), max(map(np.max, accuracy.values())))
for axes, (o, grid) in zip(panels, rates.items(), strict=True):
    heatmap(
        axes,
        accuracy[o],
        list(arms),
        grid,
        failed[o],
        seeds=budget.seeds,
        limits=colors,
    )
    for row, arm in enumerate(arms):
        axes.plot(
            grid.index(best[o, arm]) + 0.38, row - 0.26, "*k", ms=11, mec="white"
        )
        held = np.log([*limits.get((o, arm), {}).values()])
        column = np.interp(held, np.log(grid), range(len(grid)))
        axes.plot(column, 0 * column + row + 0.34, "|", c="#d55e00", ms=9, mew=2)
    axes.set(title={"sgd": "SGD", "adam": "Adam"}[o], ylabel="normaliser")
panels[1].set_xlabel("learning rate")
figure.suptitle(
    "Validation accuracy (star: a row's best; orange: where a seed begins to fail)"
)
mark_sample(figure, runs)
figure.set_label(
    "Two tables of coloured cells, for SGD above and Adam below: the mean validation accuracy "
    "without a normaliser, with batch and with layer normalisation (rows) at each learning rate "
    "(columns). Cells in which a seed failed are hatched; a star marks the best rate of each row, "
    "and orange ticks the rates at which single seeds begin to fail."
)

# %%
# Read a column, and all arms have the same rate; compare the stars, and each has the rate that
# suits it best. In numbers:

for (o, arm), rate in best.items():
    edge = " (an end of the grid)" if rate in (rates[o][0], rates[o][-1]) else ""
    line = f"{o:5} {arm:8} best rate {rate:g}{edge}"
    if (o, arm) in limits:
        beyond = rates[o][-1] in limits[o, arm].values()
        line += "; fails from " + ", ".join(
            f"{x:.2g}" for x in limits[o, arm].values()
        )
        line += " (the grid ends here, so the limit lies above)" if beyond else ""
    print(line)

# %%
# The same rate, and the best rate
# --------------------------------
# How fast do the finalists fit the training images with SGD? The dotted line is what the plain
# network reaches in the end.

same, own, adam = (
    {arm: finals.of(recipe(o, arm, best[o, chosen or arm])) for arm in arms}
    for o, chosen in (("sgd", "without"), ("sgd", None), ("adam", None))
)
targets = last(own["without"], "fit_accuracy")

figure, panels = plt.subplots(1, 2, figsize=(7.6, 3.9), sharey=True)
for axes, shown, title in (
    (panels[0], same, f"SGD, all at {best['sgd', 'without']:g}"),
    (panels[1], own, "SGD, each at its own best rate"),
):
    for arm, one in shown.items():
        curve(axes, one, "fit_accuracy", color=COLORS[arms[arm]])
    axes.axhline(np.mean([*targets.values()]), color=INK, linestyle=":")
    axes.set(title=title, ylabel="")
panels[0].set_ylabel("training accuracy")
for arm, norm in arms.items():
    label = f"{arm}, best at {best['sgd', arm]:g}"
    panels[1].plot([], [], color=COLORS[norm], linewidth=2.2, label=label)
figure.legend(loc="outside lower center", ncols=3)
mark_sample(figure, runs)
figure.set_label(
    "Training accuracy with SGD against the epoch, without a normaliser, with batch and with layer "
    "normalisation: on the left all at the rate that is best without, on the right each at its own "
    "best rate. A dotted line marks what the plain network reaches in the end."
)

# %%
# The verdicts
# ------------
# The hypotheses were written down in ``hypotheses/learning-rate.toml`` before any run. As to
# speed, the target is the accuracy on training images (inference mode, population statistics) that
# the plain network of the same seed reaches after its last epoch. A network that never gets there
# is counted with one epoch more than it had.

from bn_tutorial.evidence import judge, record


def epochs_to(run):
    """Return when a run first reaches its target, interpolated between epochs."""
    before, target = 1 / len(data.classes), targets[run.seed]
    for epoch, after in enumerate(run.history["fit_accuracy"]):
        if after >= target:
            return np.interp(target, [before, after], [epoch, epoch + 1])
        before = after
    return run.recipe.epochs + 1


pair, test = ("without", "batch"), "test_accuracy_population"
measured = {
    "rate-sgd-stable": {arm: limits["sgd", arm] for arm in pair},
    "rate-sgd-speed": {
        arm: {r.seed: epochs_to(r) for r in own[arm]} for arm in pair
    },
    "rate-sgd-best": {arm: last(own[arm], test) for arm in pair},
    "rate-adam-stable": {arm: limits["adam", arm] for arm in pair},
    "rate-adam-best": {arm: last(adam[arm], test) for arm in pair},
    "rate-sgd-same": {arm: last(same[arm], test) for arm in pair},
}
verdicts = judge("learning-rate", measured, sample=data.is_sample)
for verdict in verdicts.values():
    print(verdict, end="\n\n")

# %%
# In words, as written beforehand for these verdicts:

for verdict in verdicts.values():
    print(verdict.sentence)

# %%
# What this does *not* show
# -------------------------
# To survive a rate is not to profit from it: look at the accuracies just left of the hatched cells.
# And failing is judged by the loss, so a network that is right more often than by chance, but far
# too sure of itself, has failed. Five epochs at most, at a constant rate, favour what learns fast;
# warm-up, momentum or a schedule would move the limits. Two optimisers are not all, either:
# according to van Laarhoven (2017, abstract), Adam removes the influence of a normaliser on the
# effective learning rate only in part.
#
# **Exercise.** Without a normaliser, activations can grow from layer to layer. Predict what a deeper
# network does to each row of the map, then change one line: ``depth=6``.

trained = {
    (r.recipe, r.seed): r.provenance["seconds"] for r in (*runs, *finals, *tries)
}
seconds = sum(trained.values())
print(f"The training behind this page took {seconds:.0f} s.")
record(
    "learning-rate",
    verdicts,
    runs=runs,
    seeds=budget.seeds,
    final_seeds=budget.subset_seeds,
    epochs=base.epochs,
    seconds=seconds,
    **{f"best_{o}_{arm}": rate for (o, arm), rate in best.items()},
)

# sphinx_gallery_thumbnail_number = 1
