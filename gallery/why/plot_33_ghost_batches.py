"""
Is it the noise that regularises?
=================================

In training, an image is normalised by the statistics of the batch that it happens to be in. That
is noise, and the smaller the batch, the more of it. Luo et al. (2019) show for a single layer
that such noise acts as a regulariser. *Ghost batches* put it back into large batches; Hoffer et al.
(2017), whose idea they are, lessened the loss of test accuracy there, without more updates.

**What you'll do:** normalise 2 to 256 images of a batch of 256 together, and leave everything else
alone. **What you'll see:** what noise does to training and to test accuracy.
**How long it takes:** a minute or so on two cores; the end of the page says how long it took.
**Read with it:** :ref:`learn-debate` and :ref:`practice-alternatives`.
"""

# %%
# One thing varies
# ----------------
# A smaller batch has noisier statistics, but also a noisier gradient, and it makes more updates in
# an epoch. Ghost batches tell these apart. The gradient is that of all 256 images, at the same
# learning rate for all; only the statistics are computed within parts of it.
#
# How much noise is that? Here is an image whose input to a unit is exactly 1, in the company of
# images whose inputs are drawn from a normal distribution with mean 0 and variance 1. Without noise
# it would stay 1. It is normalised a thousand times, each time with other companions:

import numpy as np
from bn_tutorial import Recipe, load_cifar10, profile, train
from bn_tutorial.networks.layers import normalization

budget = profile()
sizes = sorted({16, *budget.grid((2, 4, 16, 64, 256))})

inputs = np.random.default_rng(0).normal(size=(256, 1_000)).astype("float32")
inputs[0] = 1
for size in sizes:
    ghost = normalization("ghost", size=size)
    outputs = np.asarray(ghost(inputs, training=True))[0]
    print(f"{size:3} images together: {outputs.mean():.2f} ± {outputs.std():.2f}")

# %%
# To make it comparable, the number of training images is a multiple of 256, so that no epoch ends
# in a smaller batch. A ghost batch of 256 is then ordinary batch normalisation. The images are few,
# so that there is something to regularise.

data = load_cifar10(budget.source)
plain = Recipe(
    width=128,
    depth=2,
    inputs="standardized",
    optimizer="sgd",
    learning_rate=0.1,
    batch_size=256,
    epochs=15,
    train_size=256 * min(10, budget.subset // 256),
    validation=budget.validation,
)
ghosts = {
    size: plain.but(norm="ghost", norm_options={"size": size}) for size in sizes
}
runs = train([plain, *ghosts.values()], data, seeds=range(budget.subset_seeds))

# %%
# Noise against accuracy
# ----------------------
# On the left the statistics are noisiest, on the right they are those of the whole batch. All
# networks are read in inference mode with population statistics, so that noise plays no part when
# they are tested. If noise regularises, training accuracy should rise from left to right, and test
# accuracy should have its maximum somewhere between.

import matplotlib.pyplot as plt
from bn_tutorial.evidence import interval
from bn_tutorial.figures import COLORS, mark_sample, percent
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator


def final(recipe, metric="test_accuracy_population"):
    """Return a metric after the last epoch, for each seed."""
    return runs.of(recipe).final(metric)


figure, panels = plt.subplots(2, 1, figsize=(7.2, 5.8), sharex=True)
for axes, metric, label in (
    (panels[0], "test_accuracy_population", "test accuracy"),
    (panels[1], "fit_accuracy", "training accuracy"),
):
    color = COLORS["ghost"]
    means = [interval(final(ghosts[size], metric).values()) for size in sizes]
    for size in sizes:
        values = list(final(ghosts[size], metric).values())
        axes.plot(len(values) * [size], values, "_", color=color, markersize=9)
    axes.plot(sizes, [one.mean for one in means], "o-", color=color, linewidth=2.2)
    without = interval(final(plain, metric).values())
    for value in without.values:
        axes.axhline(value, color=COLORS[None], linewidth=0.7, alpha=0.55)
    axes.axhline(without.mean, color=COLORS[None], linewidth=2.2)
    limits = axes.dataLim.frozen()  # a wide interval must not squeeze the curves
    lows, highs = [one.low for one in means], [one.high for one in means]
    axes.fill_between(sizes, lows, highs, color=color, alpha=0.2, linewidth=0)
    axes.axhspan(
        without.low, without.high, color=COLORS[None], alpha=0.2, linewidth=0
    )
    axes.dataLim.set(limits)
    axes.autoscale_view()
    axes.set_ylabel(label)
    axes.yaxis.set_major_formatter(percent)
panels[1].set_xscale("log", base=2)
panels[1].set_xticks(sizes, [str(size) for size in sizes])
panels[1].minorticks_off()
panels[1].set_xlabel(
    "images normalised together, of a batch of 256 (less noise: right)"
)
lines = [
    Line2D([], [], color=COLORS["ghost"], marker="o", label="ghost norm"),
    Line2D([], [], color=COLORS[None], label="without"),
]
figure.legend(handles=lines, loc="outside lower center", ncols=2)
mark_sample(figure, runs)
figure.set_label(
    "Test accuracy (above) and training accuracy (below) after the last epoch against the number "
    "of images that are normalised together, with population statistics: a tick for each seed, a line "
    "for the mean, a band for its 95 % interval. Grey lines show the network without normaliser."
)

# %%
# More than a brake?
# ------------------
# A network that is hindered in fitting the training images keeps a small gap between training and
# test accuracy for that reason alone, as it would if it were trained for fewer epochs. So here is
# validation accuracy along the *training loss*. Where the curves coincide, noise is just a brake.
# A ghost batch of 256 gets the colour of batch normalisation, which it is.

shown = {
    "without": (plain, COLORS[None]),
    "ghost norm, 16 images": (ghosts[16], COLORS["ghost"]),
    "the whole batch, 256 images": (ghosts[256], COLORS["batch"]),
}
figure, axes = plt.subplots()
for label, (recipe, color) in shown.items():
    loss = runs.of(recipe).curves("fit_loss")
    accuracy = runs.of(recipe).curves("val_accuracy_population")
    axes.plot(loss.T, accuracy.T, color=color, linewidth=0.7, alpha=0.55)
    axes.plot(
        np.exp(np.log(loss).mean(axis=0)),
        accuracy.mean(axis=0),
        "o-",
        color=color,
        linewidth=2.2,
        markersize=4,
        label=label,
    )
axes.set_xscale("log")
axes.xaxis.set_major_locator(FixedLocator([2, 1, 0.5, 0.2, 0.1]))
axes.xaxis.set_major_formatter("{x:g}")
axes.minorticks_off()
axes.invert_xaxis()
axes.set_xlabel("training loss, log scale (better fit: right)")
axes.set_ylabel("validation accuracy")
axes.yaxis.set_major_formatter(percent)
figure.legend(loc="outside lower center", ncols=3)
mark_sample(figure, runs)
figure.set_label(
    "Validation accuracy against training loss, which falls from left to right, without "
    "normaliser, with ghost batches of 16 and with the whole batch of 256: a thin line for each "
    "seed, a bold one for their mean with a dot for each epoch."
)

# %%
# The verdicts
# ------------
# Written down in ``hypotheses/ghost-batches.toml`` before these runs; ghost batches of 16 were
# chosen beforehand, not as the best of the curve. Two hypotheses are *primary*, and corrected for being
# two; the others are secondary.

from bn_tutorial.evidence import judge, record


def gaps(recipe):
    """Return training minus validation accuracy, for each seed and epoch."""
    fitted, validated = "fit_accuracy", "val_accuracy_population"
    return runs.of(recipe).curves(fitted) - runs.of(recipe).curves(validated)


def last(recipe):
    """Return the gap after the last epoch, for each seed."""
    rows = zip(runs.of(recipe), gaps(recipe), strict=True)
    return {run.seed: values[-1] for run, values in rows}


def matched(recipe, levels):
    """Return the gap where the training loss first falls to a seed's level."""
    found = {}
    losses = runs.of(recipe).curves("fit_loss")
    rows = zip(runs.of(recipe), levels, losses, gaps(recipe), strict=True)
    for run, level, loss, values in rows:
        reached = np.argmax(loss <= level)
        around = slice(
            max(reached - 1, 0), reached + 1
        )  # the epochs to interpolate
        found[run.seed] = np.interp(-level, -loss[around], values[around])
    return found


noisy, quiet = ghosts[16], ghosts[256]
lowest = [
    runs.of(recipe).curves("fit_loss").min(axis=1) for recipe in (noisy, quiet)
]
levels = np.maximum(*lowest)
verdicts = judge(
    "ghost-batches",
    {
        "ghost-test": {"256": final(quiet), "16": final(noisy)},
        "ghost-gap": {"16": last(noisy), "256": last(quiet)},
        "ghost-gap-matched": {
            "16": matched(noisy, levels),
            "256": matched(quiet, levels),
        },
        "ghost-tiny": {"256": final(quiet), "2": final(ghosts[2])},
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
# The learning rate is the same for all sizes, and not the best for each; more noise may call for
# another. The number of updates is the same, too: a noisier network might catch up in more of them.
# Nor is the whole batch of 256 a noiseless one. And in a convolution a ghost batch counts every
# pixel of its images, so that 16 images give much less noise than here.
#
# **Exercise.** If noise merely slows training down, more training should make up for it. Predict how
# the left end of the curve moves, then double ``epochs``.

seconds = sum(run.provenance["seconds"] for run in runs)
print(f"The training behind this page took {seconds:.0f} s.")
record(
    "ghost-batches",
    verdicts,
    runs=runs,
    seeds=budget.subset_seeds,
    images=plain.train_size,
    epochs=plain.epochs,
    seconds=seconds,
)

# sphinx_gallery_thumbnail_number = 1
