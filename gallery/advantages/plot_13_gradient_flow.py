"""
Does the gradient reach the first layer?
========================================

A layer learns from the gradient that reaches it. Ioffe and Szegedy (2015, section 3.3) conjecture
that batch normalisation lets gradients keep their size from layer to layer, and their sigmoid
network learnt only with it (section 4.2.2). Yang et al. (2019, theorem 3.10) derive otherwise for
deep and very wide ReLU networks before training: the gradient *grows* on its way down, by a factor
they give.

**What you'll do:** measure the gradient in every layer of new networks, hold it against the
theorem, and then see how well deep networks are trained. **What you'll see:** where
batch normalisation helps, and against what.
**Read with it:** :ref:`learn-why` and :ref:`learn-backward`.
"""

# %%
# Before any training
# -------------------
# Deep networks get a batch of images, and the gradient of the loss is taken with respect to what
# each hidden layer puts out, before its normaliser and activation. There are two plain networks:
# with the initial weights of He et al. (2015), made for ReLU, and with those of Glorot and
# Bengio (2010), Keras's default. The scale of the initial weights hardly matters to a network with
# normalisers; here these have He's. A sigmoid's slope is at most a quarter, so Glorot's weights lose
# a factor of four in every layer by arithmetic alone; the fair rival has weights four times as large.
# Two more ask what carries over: orthogonal weights, as in the code of Meterez and others (2024), who prove
# bounded gradients for a particular batch-normalised network without activations (abstract); and a residual sum.

from bn_tutorial import Experiment, Recipe
from bn_tutorial.engines import observe

trial = Experiment("gradient-flow")
deepest = min(24, 4 * trial.budget.epochs)
fresh = Recipe(
    width=256,
    depth=deepest,
    inputs="standardized",
    batch_size=128,
    epochs=1,
    train_size=trial.budget.subset,
    validation=trial.budget.validation,
)
arms = {
    "without, Glorot": {"initializer": "glorot_uniform"},
    "without, He": {"initializer": "he_normal"},
    "layer norm": {"initializer": "he_normal", "norm": "layer"},
    "batch norm": {"initializer": "he_normal", "norm": "batch"},
}
glorot, he, layer, batch = arms
gain = "without, Glorot × 4"
wide = {**arms, gain: {"initializer": "glorot_uniform", "init_scale": 4}}
orthogonal, residual = "batch norm, orthogonal", "batch norm, residual"
more = {
    **arms,
    orthogonal: {"initializer": "orthogonal", "norm": "batch"},
    residual: {**arms[batch], "residual": "sum"},
}
new = {
    name: {arm: fresh.but(activation=name.lower(), **rows[arm]) for arm in rows}
    for name, rows in (("ReLU", more), ("sigmoid", wide))
}
normalized = new["ReLU"][batch]
batches = {
    size: normalized.but(batch_size=size) for size in trial.grid((8, 32, 128))
}
trial.train(
    [*new["ReLU"].values(), *new["sigmoid"].values(), *batches.values()],
    trial.seeds_of("gradient-relu-he", "gradient-relu-glorot", "gradient-sigmoid"),
    engine=observe.gradient_norms,
)

# %%
# Growth from layer to layer
# --------------------------
# If every layer multiplies the gradient by the same factor, its size is a straight line on a
# logarithmic axis. That factor is read from the middle half of the layers, away from both ends.

from bn_tutorial.scratch import theory

predicted = theory.gradient_growth()
styles = {glorot: {"linestyle": ":"}, gain: {"linestyle": "--"}}
styles |= {orthogonal: {"linestyle": ":"}, residual: {"linestyle": "-."}}
trial.by_layer(
    new,
    "gradient",
    xlabel="hidden layer (output: right)",
    ylabel="gradient, relative to the last hidden layer's",
    relative=True,
    styles=styles,
    growth={"theory for batch norm, ReLU": ("ReLU", batch, predicted)},
    alt="Size of the gradient in each hidden layer of a new network, relative to "
    "the last one, on a logarithmic axis, with ReLU and with sigmoids: without "
    "normaliser, with layer norm, and with batch norm, that also with orthogonal "
    "weights and residual; dashed, the theory for batch norm and ReLU.",
)

# %%
# Orthogonal weights are no cure here, if their line runs with that of batch normalisation: a ReLU is outside
# the theory of Meterez and others, and so is the mean that batch normalisation takes away. A residual sum hands
# gradients on past each layer.
#
# Level lines are what one would like; a line that falls towards the left vanishes, one that rises
# explodes. In numbers, the factor per layer, from a straight line fitted to the logarithms of each
# seed:

import numpy as np
import pandas as pd
from bn_tutorial.evidence import interval, measures


def slope(sizes):
    """Return the log of the factor per layer on the way down, in the middle."""
    middle = sizes.iloc[deepest // 4 : deepest - deepest // 4]
    return -np.polyfit(middle.index, np.log(middle), 1)[0]


def growth(recipe):
    """Return that logarithm by seed."""
    return measures.by_layer(trial.of(recipe), "gradient").apply(slope, axis=1)


growths = {
    name: pd.DataFrame({arm: growth(net) for arm, net in networks.items()})
    for name, networks in new.items()
}
for name, logs in growths.items():
    for arm in logs:
        print(f"{name:8} {arm:20} {interval(np.exp(logs[arm])):.3f}")

# %%
# For batch normalisation with ReLU the theory gives a number: its limit for large batches is
# :math:`\sqrt{\pi / (\pi - 1)}`, and more for small ones. The theory is about infinitely wide and
# deep networks, and takes the weights of the backward pass for independent of those of the forward
# pass. With these networks it should agree to 5 %.

for size, net in batches.items():
    factor, expected = interval(np.exp(growth(net))), theory.gradient_growth(size)
    print(f"batch {size:3}: measured {factor:.3f}, theory {expected:.3f}")
    assert abs(factor.mean / expected - 1) < 0.05
print(f"the limit of large batches: {predicted:.3f}")

# %%
# Then, training
# --------------
# Does it matter? Narrower networks of several depths are trained by plain gradient descent, whose
# steps are as large or small as the gradient. (Adam divides each gradient by its own recent size.)
# Every network gets the one of 0.01, 0.03, 0.1 and 0.3 that led to the lowest training loss in pilot
# runs, with seeds that are not used here. On trial are the deepest ones; the others have fewer seeds.

depths = trial.grid(depth for depth in (4, 8, 16, 24) if depth <= deepest)
short = Recipe(
    width=64,
    inputs="standardized",
    optimizer="sgd",
    epochs=min(trial.budget.epochs, 6),
    train_size=min(trial.budget.subset, 2_560),
    validation=min(trial.budget.validation, 1_000),
)
rates = {
    glorot: {4: 0.03, 8: 0.1, 16: 0.1, 24: 0.01},
    he: {4: 0.03, 8: 0.01, 16: 0.01, 24: 0.01},
    batch: {4: 0.1, 8: 0.1, 16: 0.3, 24: 0.1},
}
deep = {
    arm: [short.but(depth=n, learning_rate=row[n], **arms[arm]) for n in depths]
    for arm, row in rates.items()
}
every = [net for row in deep.values() for net in row]
on_trial = [row[-1] for row in deep.values()]
trial.train(
    dict.fromkeys(every, trial.few_seeds) | dict.fromkeys(on_trial, trial.seeds),
    ends=True,
)
for arm, row in deep.items():
    listed = ", ".join(f"{net.learning_rate:g} for {net.depth}" for net in row)
    print(f"{arm:16} best rate {listed} layers")

# %%
# How well do they fit the training images in the end?

GUESSING = 1 / len(trial.data.classes)
trial.against(
    {"": deep},
    "fit_accuracy",
    "depth",
    styles=styles,
    levels={"guessing": GUESSING},
    diverged=GUESSING,
    alt="Training accuracy after the last epoch against the number of hidden "
    "layers, with ReLU: without normaliser from two initialisations, and with "
    "batch normalisation; a horizontal line marks guessing.",
)

# %%
# The verdicts
# ------------
# Registered in ``hypotheses/gradient-flow.toml`` after pilot runs, and before the runs shown here.
# A level gradient has a factor of 1, whose logarithm is 0: what is compared is how far from that
# each network is, up or down. How well a deep network is trained is judged by its accuracy in training, as it
# was on the way through the last epoch.


def fits(arm):
    """Return how well the deepest network fits; one that diverged guesses."""
    return trial.final("accuracy", deep[arm][-1]).fillna(GUESSING)


relu, sigmoid = (logs.abs() for logs in growths.values())
trial.judge(
    {
        "gradient-relu-he": {"without": relu[he], "batch": relu[batch]},
        "gradient-relu-glorot": {"without": relu[glorot], "batch": relu[batch]},
        "gradient-sigmoid": {"without": sigmoid[gain], "batch": sigmoid[batch]},
        "gradient-depth": {"without": fits(he), "batch": fits(batch)},
        "gradient-depth-glorot": {"without": fits(glorot), "batch": fits(batch)},
    }
)

# %%
# What this does *not* show
# -------------------------
# The lines above are those of a network's first step. Yang et al. (2019) report that after a single step
# the gradients of a batch-normalised network are far more even. And a size is not all there is to a
# gradient: it may be level and still say little about the images. Training was short, too; more epochs may
# take every arm deeper. On trial is how well the deepest network fits; for the depths between, read the
# figure. Where the best rate was an end of the four, pilot runs tried lower or higher ones, and found none
# better; with Glorot's weights, the deepest network did not start to learn at any of six. A residual
# network is in the first figure alone; trained ones are in
# :ref:`sphx_glr_auto_examples_questions_plot_42_residual.py`.
#
# **Go further.** Adam makes up for a gradient that is too small or too large by the same factor
# everywhere in a layer. Predict which arm gains most, then write ``optimizer="adam"`` in ``short``,
# and a tenth of the ``rates``.

relu, sigmoid = (np.exp(logs) for logs in growths.values())
factors = {"batch": relu[batch], "he": relu[he], "glorot": relu[glorot]}
factors["sigmoid"] = sigmoid[glorot]
found = {f"growth_{name}": interval(values) for name, values in factors.items()}
trial.record(depth=deepest, predicted=predicted, **found)
