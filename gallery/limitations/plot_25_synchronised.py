"""
Should replicas share their statistics?
=======================================

To train on several devices, each of them gets a *replica* of the network and a part of every batch;
the gradients are added up. But by default every replica normalises by its own images, so the batch
that matters to batch normalisation shrinks as devices are added. Peng et al. (2018) synchronised the
statistics to train a detector on up to 128 GPUs, where each has room for few images.

**What you'll do:** train one network on two replicas with a real distribution strategy, with
synchronised and with separate statistics, and with batches dealt by chance and by class. **What
you'll see:** what each is equal to on one device, what it costs, and what Keras saves.
**How long it takes:** a minute or two on two cores; the end of the page says how long it took.
**Read with it:** :ref:`practice-alternatives` and :ref:`keras-sync`.
"""

# %%
# Equal to what?
# --------------
# No second device is needed for this page: TensorFlow can cut a CPU into two *logical devices*, and
# its ``MirroredStrategy`` treats them as it would treat two GPUs (it takes GPUs where there are
# two). As devices are fixed when TensorFlow starts, the replicas live in a process of their own.
#
# With two replicas of 16 images, there should be two familiar things to find. Synchronised, it is
# batch normalisation over 32. Separate, it is *ghost batches* of 16: the gradient is that of all 32
# images, the statistics are those of one half. The engine ``replicas.compare`` takes the same steps
# in each of these ways. In the second recipe, every other batch is *ragged*: of its 21 images the
# first replica gets 11, as TensorFlow deals them. Predict what becomes of a mean that is
# synchronised: is it the mean of the two means, or that of the 21 images?

from bn_tutorial import Recipe, load_cifar10, profile, train
from bn_tutorial.engines import replicas

budget = profile()
data = load_cifar10(budget.source)
network = Recipe(
    width=128,
    depth=2,
    norm="batch",
    inputs="standardized",
    optimizer="sgd",
    learning_rate=0.1,
    batch_size=32,
    validation=250,  # the test images are then looked at only once
)
even = network.but(train_size=64, epochs=3)
ragged = network.but(batch_size=22, train_size=43, epochs=3)
apart = train([even, ragged], data, seeds=range(2), engine=replicas.compare)

# %%
# Below is how far the *update* of all weights is from that on one device, step by step, in relation to
# its length. It is the gradient that is compared here, as this is plain gradient descent.

import matplotlib.pyplot as plt
import numpy as np
from bn_tutorial.figures import COLORS, INK, mark_sample

PAIRS = {
    "synchronised ghost": ("synchronised and ghost batches", "batch", "--", 2.2),
    "separate batch": ("separate and batch norm", "ghost", "--", 2.2),
    "synchronised batch": ("synchronised and batch norm", "batch", "-", 5),
    "separate ghost": ("separate and ghost batches", "ghost", "-", 2.2),
}
figure, panels = plt.subplots(1, 2, figsize=(7.6, 4), sharey=True)
for axes, recipe, title in (
    (panels[0], even, "2 × 16 images"),
    (panels[1], ragged, "2 × 11, and 11 + 10 images"),
):
    for pair, (label, norm, style, width) in PAIRS.items():
        values = apart.of(recipe).curves(f"update/{pair}")
        steps = np.arange(1, values.shape[1] + 1)
        axes.plot(steps, values.T, style, color=COLORS[norm], lw=0.7, alpha=0.55)
        mean = np.exp(np.log(values).mean(axis=0))
        axes.plot(steps, mean, style, color=COLORS[norm], lw=width, label=label)
    axes.axhline(np.finfo("float32").eps, color=INK, ls=":", lw=1.2)
    axes.set(yscale="log", title=title, xlabel="step")
panels[0].set_ylabel("distance of the updates\non two replicas and on one device")
handles, labels = panels[0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside lower center", ncols=2)
mark_sample(figure, apart)
figure.set_label(
    "Relative distance between the weights' update on two replicas and on one device, on a "
    "logarithmic scale, against the step, for even batches on the left and ragged ones on the "
    "right: synchronised against the whole batch and separate against ghost batches lie near the "
    "precision of single floats, a dotted line, the crossed pairs near 1."
)

# %%
# Two of the pairs differ by rounding, the others by about as much as there is to differ. Here are the
# other quantities, as the largest distance over all steps and seeds: of the loss in training mode, of
# the update, of the moving statistics, and of the outputs in inference mode.


def largest(recipe, name):
    """Return the largest of some distances, over all steps and seeds."""
    return apart.of(recipe).curves(name).max()


columns = [
    (recipe, pair)
    for recipe in (even, ragged)
    for pair in ("synchronised batch", "separate ghost")
]
print(f"{'':34}{'even batches':24}{'ragged ones'}")
print(22 * " " + 2 * f"{'synchronised':>14}{'separate':>10}")
print(22 * " " + 2 * f"{'and batch':>14}{'and ghost':>10}")
for name in ("loss", "update", "moving", "averaged", "output"):
    values = [largest(recipe, f"{name}/{pair}") for recipe, pair in columns]
    print(f"{name:22}" + "{:14.0e}{:10.0e}{:14.0e}{:10.0e}".format(*values))

for recipe in (even, ragged):
    for name in ("loss", "update", "moving", "output"):
        assert largest(recipe, f"{name}/synchronised batch") < 1e-3
    for name in ("loss", "update"):
        assert largest(recipe, f"{name}/separate ghost") < 1e-3
    for pair in ("synchronised ghost", "separate batch"):
        assert largest(recipe, f"update/{pair}") > 0.1

# %%
# So the ragged batch is no exception: synchronised statistics are those of all its images, whatever
# the shares. (Keras adds up sums and counts, not means.) Nor does it matter *which* images a replica
# gets. Dealt by class, so that the replicas hardly share one, they still compute the same:

print(f"update, dealt by class: {largest(even, 'update/by class batch'):.0e}")
assert largest(even, "update/by class batch") < 1e-3

# %%
# What Keras saves
# ----------------
# The table has an exception: with separate statistics, the *moving* ones are not those of ghost
# batches. Each replica keeps its own, of its own images, and Keras saves the first replica's. Only
# averaged over the replicas (and with equal shares) would they be those of ghost batches. Until the
# model is saved, the same image can get two answers, depending on the replica that it lands on:

assert largest(even, "averaged/separate ghost") < 1e-3
for way in ("synchronised", "separate"):
    difference = largest(even, f"replicas/{way}")
    print(f"outputs of the two replicas, {way}: {difference:.1%} apart")
    assert (difference > 1e-3) == (way == "separate")

# %%
# What it costs
# -------------
# Now whole trainings: with 2 and with 16 images on each replica, and, with 16, with each batch sorted
# by class before it is dealt, as may happen where each device reads files of its own. As a control,
# the same on one device. The learning rates are those of
# :ref:`sphx_glr_auto_examples_limitations_plot_21_small_batches.py`, in proportion to the batch.

few, many = 2, 16  # images on a replica
longer = network.but(epochs=min(budget.epochs, 4))
images = {  # small batches make many steps
    few: min(800, budget.subset // 4),
    many: min(2_400, budget.subset // 2),
}
seeds = range(budget.subset_seeds)
found = {}
for share in (few, many):
    recipe = longer.but(
        batch_size=2 * share,
        learning_rate=network.learning_rate * share / 16,
        train_size=images[share],
    )
    ghost = recipe.but(norm="ghost", norm_options={"size": share})
    found |= {
        ("one device, batch norm", share): train(recipe, data, seeds),
        ("two replicas, synchronised", share): train(
            recipe, data, seeds, engine=replicas.synchronised
        ),
        ("one device, ghost batches", share): train(ghost, data, seeds),
        ("two replicas, separate", share): train(
            recipe, data, seeds, engine=replicas.separate
        ),
    }
found["separate, dealt by class", many] = train(
    recipe, data, seeds, engine=replicas.separate_by_class
)
replicas.stop()  # the other process has done its work

# %%
# Filled dots are population statistics, recomputed after the training; hollow ones are the moving
# statistics that Keras saves.

from bn_tutorial.evidence import interval, judge, record
from bn_tutorial.figures import percent
from matplotlib.lines import Line2D

MOVING, POPULATION = "test_accuracy", "test_accuracy_population"
rows = list(dict.fromkeys(label for label, _ in found))
figure, panels = plt.subplots(1, 2, figsize=(7.8, 4), sharey=True)
for axes, share in zip(panels, (few, many), strict=True):
    for row, label in enumerate(rows):
        if (label, share) not in found:
            continue
        shared = "batch norm" in label or "synchronised" in label
        color = COLORS["batch" if shared else "ghost"]
        for metric, shift, fill in (
            (MOVING, -0.17, "none"),
            (POPULATION, 0.17, color),
        ):
            one = interval(found[label, share].final(metric).values())
            at = [row + shift] * one.n
            axes.plot(one.values, at, "|", color=color, markersize=9)
            limits = (
                axes.dataLim.frozen()
            )  # a wide interval must not squeeze the dots
            axes.plot([one.low, one.high], at[:2], color=color, lw=3, alpha=0.4)
            axes.dataLim.set(limits)
            axes.plot(one.mean, at[0], "o", color=color, markersize=8, mfc=fill)
    axes.set(title=f"2 × {share} images", xlabel="test accuracy")
    axes.autoscale_view()
    axes.xaxis.set_major_formatter(percent)
    axes.grid(axis="y", visible=False)
panels[0].set_yticks(range(len(rows)), rows)
panels[0].set_ylim(len(rows) - 0.5, -0.5)
marker = {"color": INK, "marker": "o", "linestyle": "", "markersize": 8}
lines = [
    Line2D([], [], **marker, mfc="none", label="moving statistics"),
    Line2D([], [], **marker, label="population statistics"),
]
figure.legend(handles=lines, loc="outside lower center", ncols=2)
mark_sample(figure, apart)
figure.set_label(
    "Test accuracy with 2 (left) and 16 images on each replica, in a row each: one device with batch "
    "normalisation, two replicas with synchronised statistics, one device with ghost batches, two "
    "replicas with separate statistics, and these dealt by class (16 only); with moving (hollow) "
    "and population statistics (filled), the mean, its 95 % interval and a tick for every seed."
)

# %%
# The first two rows should agree, and the two that follow, but not seed by seed: the steps are the
# same, yet over hundreds of them even rounding grows into another network of the same kind.
#
# The less exact formula
# ----------------------
# To synchronise in one round of messages, Keras adds up :math:`x` and :math:`x^2`, and takes
# :math:`E[x^2] - E[x]^2` for the variance; without ``synchronized``, it averages
# :math:`(x - E[x])^2`. On paper these are the same. With single floats, the first is a small
# difference of two large numbers as soon as the mean is far larger than the standard deviation.
# Its error is then about :math:`\varepsilon \, (\mu/\sigma)^2`, where :math:`\varepsilon` is the
# precision of single floats. One replica is enough to see it:

from bn_tutorial.networks.backend import keras

ratios = np.geomspace(1, 1e4, 33)
batch = np.random.default_rng(0).normal(size=(512, 64))
errors = {True: [], False: []}
for ratio in ratios:
    inputs = (batch + ratio).astype("float32")
    exact = inputs.astype("float64").var(axis=0)
    for synchronized, values in errors.items():
        layer = keras.layers.BatchNormalization(
            momentum=0, synchronized=synchronized
        )
        layer(inputs, training=True)  # the moving variance is now the batch's
        values.append(np.abs(layer.moving_variance.numpy() / exact - 1))

figure, axes = plt.subplots(figsize=(7.2, 4))
for synchronized, values in errors.items():
    color = COLORS["batch" if synchronized else None]
    label = f"synchronized={synchronized}"
    axes.plot(ratios, np.mean(values, axis=1), color=color, lw=2.2, label=label)
    low, high = np.quantile(values, (0.05, 0.95), axis=1)
    axes.fill_between(ratios, low, high, color=color, alpha=0.2, lw=0)
theory = np.finfo("float32").eps * ratios**2
axes.plot(
    ratios, theory, "--", color=INK, lw=1.2, label=r"$\varepsilon\,(\mu/\sigma)^2$"
)
axes.set(
    xscale="log",
    yscale="log",
    xlabel="mean of the inputs, in standard deviations",
    ylabel="relative error of the variance",
)
axes.set_ylim(1e-9, 30)
figure.legend(loc="outside lower center", ncols=3)
figure.set_label(
    "Relative error of the variance that Keras computes in single precision, against the mean of "
    "the inputs in standard deviations, both logarithmic: with synchronized=True it grows with the "
    "square of the mean, along the dashed theory, up to 1 and beyond at ten thousand; without, it "
    "stays near the precision of the floats."
)
assert np.mean(errors[False][-1]) < 1e-4 < np.mean(errors[True][-1])

# %%
# Does a network ever get there? Here is the largest mean of a unit, in standard deviations, in the
# network above before its training, and in the same one if it is fed with raw pixels, which are
# not centred:

from bn_tutorial.engines.program import Workbench
from bn_tutorial.networks.models import build
from bn_tutorial.networks.statistics import batch_norms


def highest(model):
    """Return the largest |mean| / standard deviation of a unit."""
    return max(
        float(np.max(np.abs(layer.moving_mean) / np.sqrt(layer.moving_variance)))
        for layer in batch_norms(model)
    )


instant = network.but(norm_options={"momentum": 0})
pixel_mean, pixel_std = Workbench(data).pixel_statistics(network)
pixels = data.x_train[:1_000].astype("float32")
for label, inputs in (
    ("standardised pixels", (pixels - pixel_mean) / pixel_std),
    ("raw pixels", pixels),
):
    model = build(instant)
    model(inputs, training=True)
    ratio = highest(model)
    error = np.finfo("float32").eps * ratio**2
    print(
        f"{label:20} {ratio:.1f} standard deviations, so an error near {error:.0e}"
    )

# %%
# The verdicts
# ------------
# Written down in ``hypotheses/synchronised.toml`` before any run. The first three are primary, read
# with population statistics, and corrected for being three (Holm, 1979).


def arms(metric, share, **labels):
    """Return the arms of a hypothesis: a metric after the last epoch, for each seed."""
    return {arm: found[label, share].final(metric) for arm, label in labels.items()}


ways = {
    "separate": "two replicas, separate",
    "synchronised": "two replicas, synchronised",
}
dealt = {
    "chance": "two replicas, separate",
    "class": "separate, dealt by class",
}
verdicts = judge(
    "synchronised",
    {
        "sync-few": arms(POPULATION, few, **ways),
        "sync-many": arms(POPULATION, many, **ways),
        "sync-sorted": arms(POPULATION, many, **dealt),
        "sync-few-moving": arms(MOVING, few, **ways),
        "sync-sorted-moving": arms(MOVING, many, **dealt),
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
# Two replicas are few: with eight of 2 images each, to synchronise means 16 instead of 2. Nothing is
# timed, as the parts of one CPU need no cable, and waiting for each other in every layer is what
# synchronising costs. Two mishaps of Keras's ``fit`` are left out, because these engines take steps
# of their own. ``fit`` averages the *mean* losses of the replicas, so in a ragged batch an image of
# the smaller share counts more. And if a single image is left over for two replicas, the one without
# any averages nothing: with separate statistics the weights become NaN, so drop the remainder.
#
# **Exercise.** With separate statistics, how far the two replicas' outputs are apart depends on how
# many batches their averages remember. Predict what a shorter memory does to that distance, then
# change one line: ``norm_options={"momentum": 0.9},`` below ``norm="batch",``.

trained = [run for runs in found.values() for run in runs]
seconds = sum(run.provenance["seconds"] for run in (*apart, *trained))
print(f"The training behind this page took {seconds:.0f} s.")
record(
    "synchronised",
    verdicts,
    runs=apart,
    seeds=budget.subset_seeds,
    epochs=longer.epochs,
    images=images[many],
    replicas_apart=largest(even, "replicas/separate"),
    seconds=seconds,
)

# sphinx_gallery_thumbnail_number = 2
