"""
Does the gradient reach the first layer?
========================================

A layer learns from the gradient that reaches it. Ioffe and Szegedy (2015, section 3.3) conjecture
that batch normalisation lets gradients keep their size from layer to layer, and their sigmoid
network learnt only with it (section 4.2.2). Yang et al. (2019, theorem 8) prove otherwise for deep
ReLU networks before training: the gradient *grows* on its way down, by a factor they give.

**What you'll do:** measure the gradient in every layer of new networks, hold it against the
theorem, and then see how deep a network may be to be trained. **What you'll see:** where
batch normalisation helps, and against what.
**How long it takes:** a minute or so on two cores; the end of the page says how long it took.
**Read with it:** :ref:`learn-why` and :ref:`learn-backward`.
"""

# %%
# Before any training
# -------------------
# Deep networks get a batch of images, and the gradient of the loss is taken with respect to what
# each hidden layer puts out, before its normaliser and activation. There are two plain networks:
# with the initial weights of He et al. (2015), made for ReLU, and with those of Glorot and
# Bengio (2010), Keras's default. The scale of the initial weights hardly matters to a network with
# normalisers; here these have He's.

from bn_tutorial import Recipe, load_cifar10, profile, train
from bn_tutorial.engines import observe

budget = profile()
data = load_cifar10(budget.source)
deepest = min(24, 4 * budget.epochs)
fresh = Recipe(
    width=256,
    depth=deepest,
    inputs="standardized",
    batch_size=128,
    epochs=1,
    train_size=budget.subset,
    validation=budget.validation,
)
arms = {
    "without, Glorot": {"initializer": "glorot_uniform"},
    "without, He": {"initializer": "he_normal"},
    "layer norm": {"initializer": "he_normal", "norm": "layer"},
    "batch norm": {"initializer": "he_normal", "norm": "batch"},
}
new = {
    (activation, arm): fresh.but(activation=activation, **changes)
    for activation in ("relu", "sigmoid")
    for arm, changes in arms.items()
}
normalized = new["relu", "batch norm"]
batches = {
    size: normalized.but(batch_size=size) for size in budget.grid((8, 32, 128))
}
runs = train(
    [*new.values(), *batches.values()],
    data,
    seeds=range(budget.subset_seeds),
    engine=observe.gradient_norms,
)

# %%
# Growth from layer to layer
# --------------------------
# If every layer multiplies the gradient by the same factor, its size is a straight line on a
# logarithmic axis. That factor is read from the middle half of the layers, away from both ends.

import matplotlib.pyplot as plt
import numpy as np
from bn_tutorial.evidence import interval
from bn_tutorial.figures import COLORS, INK, mark_sample, percent, spread
from bn_tutorial.scratch import theory
from matplotlib.lines import Line2D

layers = np.arange(1, deepest + 1)
middle = slice(deepest // 4, deepest - deepest // 4)


def gradient(recipe):
    """Return the gradient's size, shape (seeds, layers), the first layer first."""
    columns = [runs.of(recipe).curves(f"gradient/{layer - 1}") for layer in layers]
    return np.hstack(columns)


def growth(recipe):
    """Return, for each seed, the logarithm of the factor per layer on the way down."""
    slopes = np.polyfit(layers[middle], np.log(gradient(recipe)[:, middle]).T, 1)[0]
    return dict(enumerate(-slopes))


predicted = theory.gradient_growth()
styles = {
    "without, Glorot": {"color": COLORS[None], "linestyle": ":"},
    "without, He": {"color": COLORS[None]},
    "layer norm": {"color": COLORS["layer"]},
    "batch norm": {"color": COLORS["batch"]},
}
figure, panels = plt.subplots(1, 2, figsize=(7.6, 4))
for axes, activation in zip(panels, ("relu", "sigmoid"), strict=True):
    for arm, style in styles.items():
        sizes = gradient(new[activation, arm])
        sizes = sizes / sizes[:, -1:]
        axes.semilogy(layers, sizes.T, linewidth=0.7, alpha=0.55, **style)
        mean = np.exp(np.log(sizes).mean(axis=0))
        axes.semilogy(layers, mean, linewidth=2.2, **style)
        if (activation, arm) == ("relu", "batch norm"):
            anchor = len(layers) // 2
            line = mean[anchor] * predicted ** (layers[anchor] - layers)
            axes.semilogy(layers, line, "--", color=INK, linewidth=1.4)
    axes.set_title({"relu": "ReLU", "sigmoid": "sigmoid"}[activation])
    axes.set_xlim(0.5, deepest + 0.5)
    axes.set_xlabel("hidden layer (output: right)")
panels[0].set_ylabel("gradient, relative to the last hidden layer's")
handles = [
    Line2D([], [], linewidth=2.2, label=arm, **style)
    for arm, style in styles.items()
]
handles.append(
    Line2D([], [], color=INK, linestyle="--", label="theory for batch norm, ReLU")
)
figure.legend(handles=handles, loc="outside lower center", ncols=3)
mark_sample(figure, runs)
figure.set_label(
    "Size of the gradient in each hidden layer of a network that has not been trained, relative to "
    "the last one, on a logarithmic axis: with ReLU on the left, with sigmoids on the right, each "
    "without normaliser from two initialisations, and with layer and batch normalisation; a thin "
    "line for each seed. A dashed line shows the growth that theory predicts for batch "
    "normalisation with ReLU."
)

# %%
# Level lines are what one would like; a line that falls towards the left vanishes, one that rises
# explodes. In numbers, the factor per layer:

for (activation, arm), recipe in new.items():
    factors = interval(np.exp(list(growth(recipe).values())))
    print(f"{activation:8} {arm:16} {factors:.3f}")

# %%
# For batch normalisation with ReLU the theory gives a number: its limit for large batches is
# :math:`\sqrt{\pi / (\pi - 1)}`, and more for small ones. The theory is about infinitely wide and
# deep networks; with these it should agree to 5 %.

for size, recipe in batches.items():
    factors = interval(np.exp(list(growth(recipe).values())))
    expected = theory.gradient_growth(size)
    print(f"batch {size:3}: measured {factors:.3f}, theory {expected:.3f}")
    assert abs(factors.mean / expected - 1) < 0.05
print(f"the limit of large batches: {predicted:.3f}")

# %%
# Then, training
# --------------
# Does it matter? Narrower networks of several depths are trained by plain gradient descent, whose
# steps are as large or small as the gradient. (Adam divides each gradient by its own recent size.)
# For each arm, the learning rate was chosen beforehand on validation images, with one seed, among
# 0.01, 0.03, 0.1 and 0.3; for batch normalisation 0.1 and 0.3 were about equal. Growth that is so
# regular could be made up for by other rates in other layers; here all layers share one.

depths = budget.grid(depth for depth in (4, 8, 16, 24) if depth <= deepest)
short = Recipe(
    width=64,
    inputs="standardized",
    optimizer="sgd",
    epochs=min(budget.epochs, 6),
    train_size=min(budget.subset, 2_560),
    validation=min(budget.validation, 1_000),
)
rates = {"without, Glorot": 0.1, "without, He": 0.01, "batch norm": 0.1}
deep = {
    (arm, depth): short.but(depth=depth, learning_rate=rate, **arms[arm])
    for arm, rate in rates.items()
    for depth in depths
}
trained = train(deep.values(), data, seeds=range(budget.seeds))

# %%
# A network counts as trained if at least 20 % of the training images are right in the end, twice
# as many as by guessing. The *reach* of an arm is the depth at which its accuracy falls below
# that, interpolated between depths (on a logarithmic axis). If even the deepest network trains,
# that depth is taken, so that a reach beyond it is cut off; and the shallowest likewise.

THRESHOLD = 0.2


def accuracy(arm):
    """Return the training accuracy in the end, shape (depths, seeds); guessing if diverged."""
    finals = [
        list(trained.of(deep[arm, depth]).final("fit_accuracy").values())
        for depth in depths
    ]
    return np.nan_to_num(finals, nan=1 / len(data.classes))


def reach(arm):
    """Return, for each seed, the depth at which accuracy falls below the threshold."""
    found = {}
    for seed, values in enumerate(accuracy(arm).T):
        trains = np.flatnonzero(values >= THRESHOLD)
        last = trains.max(initial=0)
        found[seed] = float(depths[last])
        if trains.size and last + 1 < len(depths):
            share = (values[last] - THRESHOLD) / (values[last] - values[last + 1])
            found[seed] *= (depths[last + 1] / depths[last]) ** share
    return found


figure, axes = plt.subplots()
for arm in rates:
    values = np.transpose(accuracy(arm))
    spread(axes, depths, values, marker="o", **styles[arm])
axes.axhline(THRESHOLD, color=INK, linewidth=0.8)
axes.set_xscale("log", base=2)
axes.set_xticks(depths, [str(depth) for depth in depths])
axes.minorticks_off()
axes.set_xlabel("hidden layers")
axes.set_ylabel("training accuracy")
axes.yaxis.set_major_formatter(percent)
figure.legend(
    handles=[
        Line2D([], [], marker="o", linewidth=2.2, label=arm, **styles[arm])
        for arm in rates
    ],
    loc="outside lower center",
    ncols=3,
)
mark_sample(figure, trained)
figure.set_label(
    "Training accuracy after the last epoch against the number of hidden layers, with ReLU: "
    "without normaliser from two initialisations, and with batch normalisation; a thin line for "
    "each seed, a band for the 95 % interval of the mean, and a horizontal line at 20 %."
)

# %%
# The verdicts
# ------------
# Written down in ``hypotheses/gradient-flow.toml`` before any run. A level gradient has a factor of
# 1, whose logarithm is 0: what is compared is how far from that each network is, up or down.

from bn_tutorial.evidence import judge, record


def unevenness(activation, arm):
    """Return, for each seed, the absolute logarithm of the growth per layer."""
    return {seed: abs(g) for seed, g in growth(new[activation, arm]).items()}


verdicts = judge(
    "gradient-flow",
    {
        name: {
            "without": unevenness(activation, plain),
            "batch": unevenness(activation, "batch norm"),
        }
        for name, activation, plain in (
            ("gradient-relu-he", "relu", "without, He"),
            ("gradient-relu-glorot", "relu", "without, Glorot"),
            ("gradient-sigmoid", "sigmoid", "without, Glorot"),
        )
    }
    | {
        "gradient-depth": {
            "without": reach("without, Glorot"),
            "batch": reach("batch norm"),
        }
    },
    sample=data.is_sample,
)
for verdict in verdicts.values():
    print(verdict, end="\n\n")

# %%
# In words, as written beforehand for these verdicts:

print("\n".join(verdict.sentence for verdict in verdicts.values()))

# %%
# What this does *not* show
# -------------------------
# The lines above are those of a network's first step. Yang et al. (2019) report that after a single
# step the gradients of a batch-normalised network are far more even. And a size is not
# all there is to a gradient: it may be level and still say little about the images. Training was
# short, too; more epochs take every arm deeper. Residual connections, which deep networks have for
# this very purpose, are missing altogether.
#
# **Exercise.** Adam makes up for a gradient that is too small or too large by the same factor
# everywhere in a layer. Predict which arm gains most, then write ``optimizer="adam"`` in ``short``,
# and 0.001 for all three ``rates``.

everything = runs + trained
seconds = sum(run.provenance["seconds"] for run in everything)
print(f"The measurements and the training behind this page took {seconds:.0f} s.")
record(
    "gradient-flow",
    verdicts,
    runs=everything,
    seeds=budget.subset_seeds,
    depth=deepest,
    predicted=predicted,
    growth_batch=interval(np.exp(list(growth(normalized).values()))),
    growth_he=interval(np.exp(list(growth(new["relu", "without, He"]).values()))),
    growth_glorot=interval(
        np.exp(list(growth(new["relu", "without, Glorot"]).values()))
    ),
    growth_sigmoid=interval(
        np.exp(list(growth(new["sigmoid", "without, Glorot"]).values()))
    ),
    seconds=seconds,
)

# sphinx_gallery_thumbnail_number = 1
