"""
Which part of batch normalisation does it?
==========================================

Batch normalisation takes away a mean, divides by a deviation, multiplies by γ and adds β; and it does
so again in every step. Which of these does the work? Zhang, Lipton, Li and Smola ask it of their
readers in an exercise of *Dive into Deep Learning*; Frankle and others (2021) trained γ and β alone;
Page (2019) measured the curvature of a network whose statistics he had frozen.

**What you'll do:** train networks with parts of batch normalisation, at several learning rates.
**What you'll see:** which of them are trained at which rates, and whether a good start is enough.
**Read with it:** :ref:`learn-debate`.
"""

# %%
# The parts
# ---------
# A network of three hidden layers, without a normaliser and with the whole of it; by the mean alone, and
# by the variance alone (which is taken about the mean, but leaves that where it is); and without γ and β.

from bn_tutorial import Experiment, Recipe
from bn_tutorial.engines import parts, single

trial = Experiment("taken-apart")
whole = Recipe(
    width=64,
    depth=3,
    norm="batch",
    initializer="he_normal",
    inputs="standardized",
    optimizer="sgd",
    epochs=min(trial.budget.epochs, 5),
    train_size=trial.budget.subset // 2,
    validation=min(1_000, trial.budget.validation),
)
by_mean, by_variance = (
    whole.but(norm="partial", norm_options={part: False})
    for part in ("variance", "mean")
)
arms = {
    "none": whole.but(norm=None),
    "mean alone": by_mean,
    "variance alone": by_variance,
    "without γ and β": whole.but(norm_options={"center": False, "scale": False}),
    "all of it": whole,
}

# %%
# And three of the whole kind that are trained in another way. *Held from the start*: the statistics are
# those of the new network on its training images, and stay; what was a normaliser is then a fixed
# map, with a trained γ and β. *Held after an epoch*: the same, from the second epoch on. If a good
# start were all that batch normalisation gives, the first would do as well as the whole; what it does step by
# step is missing from both. *γ and β alone*: nothing else is trained.

engines = dict.fromkeys(arms, single.ends) | {
    "held from the start": parts.held_from_the_start,
    "held after an epoch": parts.held_after_an_epoch,
    "γ and β alone": parts.affine_alone,
}
rates = trial.grid((0.03, 0.1, 0.3, 1))


def network(arm, rate):
    """Return the recipe of an arm at one rate."""
    return arms.get(arm, whole).but(learning_rate=rate)


# %%
# All that is trained: each at all rates with one seed; at the rate that validated best in pilot runs (for γ and
# β alone it lies above the map, for no normaliser below) with all; and, with all, what is on trial at a high
# rate. The pilots' seeds are not used here.

best = {
    "none": 0.01,
    "mean alone": 0.03,
    "variance alone": 0.1,
    "without γ and β": 0.1,
    "held from the start": 0.03,
    "held after an epoch": 0.03,
    "γ and β alone": 3,
    "all of it": 0.1,
}
HIGH = 1
RIVALS = {
    "taken-variance": {"mean": "mean alone", "variance": "variance alone"},
    "taken-start": {"held": "held from the start", "whole": "all of it"},
    "taken-later": {"start": "held from the start", "epoch": "held after an epoch"},
}
wanted = {engine: {} for engine in engines.values()}
for arm, engine in engines.items():
    wanted[engine] |= {network(arm, rate): trial.few_seeds[:1] for rate in rates}
for arm, engine in engines.items():
    wanted[engine][network(arm, best[arm])] = trial.seeds
for arm in {arm for pair in RIVALS.values() for arm in pair.values()}:
    wanted[engines[arm]][network(arm, HIGH)] = trial.seeds
runs = {engine: trial.train(nets, engine=engine) for engine, nets in wanted.items()}


def trained(arm, rate):
    """Return the runs of an arm at one rate."""
    return runs[engines[arm]].of(network(arm, rate))


# %%
# The map
# -------
# If dividing by the deviation is what allows high rates, the rows without it should end early, and so should
# those that hold the statistics of a network that has learnt nothing. If it is the statistics of *this* step
# that count, both of the held rows should end early.
#
# How well does each fit its training images in the end? They are read with the statistics that they
# were trained with: the held ones with those, all others with population statistics.

trial.heatmaps(
    {"": {arm: {rate: trained(arm, rate) for rate in rates} for arm in engines}},
    "fit_accuracy",
    xlabel="learning rate",
    ylabel="",
    title="Training accuracy after the last epoch (hatched: training failed)",
    alt="A table of coloured cells: training accuracy of networks with parts of "
    "batch normalisation (rows) at each learning rate (columns).",
)

# %%
# At a high rate
# --------------
# Where a network with the mean alone fails, does the variance alone keep it in training? And where statistics
# of the start fail, do those of a later moment keep it in training, or must there be new ones in every step?
# The rate was chosen in pilot runs: the lowest of the map at which the mean alone, and statistics held from the
# start, failed with all seeds. A network that fails counts as one that guesses.

TEST = "test_accuracy_population"
at_high = {
    id: {name: trial.tested(TEST, trained(arm, HIGH)) for name, arm in pair.items()}
    for id, pair in RIVALS.items()
}

# %%
# At its own best rate
# --------------------
# A part may be worth less than its rates. Here is each at its best rate, on the test images, beside the network
# without a normaliser; *γ and β alone*, which trains far fewer numbers, is among the verdicts.

from bn_tutorial.evidence import difference

finalists = {arm: trained(arm, rate) for arm, rate in best.items()}
tested = {arm: trial.tested(TEST, runs) for arm, runs in finalists.items()}
gained = {
    arm: difference(tested["none"], values)
    for arm, values in tested.items()
    if arm not in ("none", "γ and β alone")
}
trial.effects(
    gained,
    alt="Test accuracy minus that of the network without a normaliser, in "
    "percentage points, each at its best rate: with the mean alone, the "
    "variance alone, without γ and β, with held statistics, and with all of "
    "batch normalisation.",
)

# %%
# What γ and β become
# -------------------
# γ starts at 1 everywhere, and β at 0. Frankle and others (2021, abstract) found that networks which train
# nothing else switch off a third of their features.

import numpy as np

share = np.linspace(0, 1, 51)


def trained_ones(arm, name):
    """Return the trained γ or β of all seeds, from the smallest to the largest."""
    last = finalists[arm].frame().groupby("seed").last().filter(like=f"{name}/")
    return np.quantile(last.to_numpy(), share)


whole_again = network("all of it", best["all of it"])
finalists["all of it"] = trial.train(
    whole_again, trial.few_seeds, engine=parts.whole
)
trial.lines(
    {
        sign: {
            arm: trained_ones(arm, name) for arm in ("all of it", "γ and β alone")
        }
        for sign, name in {"γ": "gamma", "β": "beta"}.items()
    },
    share,
    xlabel="share of the features",
    ylabel="after training, sorted",
    alt="The trained γ (left) and β (right) of all layers and seeds, sorted: of "
    "the whole network, and where γ and β alone are trained.",
)

# %%
# The verdicts
# ------------
# Registered in ``hypotheses/taken-apart.toml`` after pilot runs, and before the runs shown here.

at_best = {
    "taken-mean": {"none": tested["none"], "mean": tested["mean alone"]},
    "taken-most": {
        "variance": tested["variance alone"],
        "all": tested["all of it"],
    },
    "taken-held": {"none": tested["none"], "held": tested["held from the start"]},
    "taken-affine": {
        "γ and β": tested["γ and β alone"],
        "all": tested["all of it"],
    },
}
trial.judge(at_high | at_best)

# %%
# What this does *not* show
# -------------------------
# One network of three layers, and few images. An epoch with batch normalisation changes the kernels, too: they
# grow longer, so that a step is a smaller part of them. Whether a later moment's statistics or such kernels help
# is not told apart. What a part does at a rate says little of what it does in a
# deeper network, or with residual connections
# (:ref:`sphx_glr_auto_examples_questions_plot_42_residual.py`). Frankle and others train γ and β of far
# wider and deeper networks, in which they reach far more.
#
# **Go further.** Predict what becomes of *γ and β alone* in a network of twice the width, then write
# ``width=128``.

trial.record()
# sphinx_gallery_thumbnail_number = 2
