"""
What if the new images look different?
======================================

A camera in the rain, a scanner in another hospital: what a network meets in use is seldom drawn like its
training images. Its moving statistics describe those. Schneider and others (2020) and Nado and others
(2020) put the statistics of the new images in their place, or, of few images, a mixture of both, without a label
and without training; Wang and
others (2021, TENT) let γ and β follow, down the entropy of the answers.

**What you'll do:** train one network, and ask it about test images with less contrast, more light, noise or
blur. **What you'll see:** what new statistics give or take, with how many images.
**Read with it:** :ref:`practice-alternatives` and :ref:`practice-clinic`.
"""

# %%
# Five kinds of test image
# ------------------------
# As they are; with about a third of their contrast; brighter by a quarter of the scale; with noise; and blurred. The
# network learns from images as they are, and nothing in it is trained afterwards, except by TENT.

import matplotlib.pyplot as plt
import numpy as np
from bn_tutorial import Experiment, Recipe
from bn_tutorial.engines import shifted

trial = Experiment("shifted")
recipe = Recipe(
    width=64,
    depth=3,
    norm="batch",
    initializer="he_normal",
    inputs="standardized",
    learning_rate=0.001,
    epochs=min(trial.budget.epochs, 6),
    train_size=trial.budget.subset,
    validation=min(1_000, trial.budget.validation),
)
plain = recipe.but(norm=None, learning_rate=0.0005)
runs = trial.train(recipe, engine=shifted.ask)
bare = trial.train(plain, engine=shifted.ask)

named = {kind: kind if kind != "none" else "as they are" for kind in shifted.SHIFTS}
some = trial.data.x_test[:4]
fig, axes = plt.subplots(1, len(shifted.SHIFTS), figsize=(7.2, 1.9))
for panel, kind in zip(axes, shifted.SHIFTS, strict=True):
    halves = np.split(shifted.shift(some, kind), 2)
    grid = np.hstack([np.vstack(half) for half in halves])
    panel.imshow(grid, interpolation="none")
    panel.set(title=named[kind], xticks=[], yticks=[])
fig.set_label(
    "Four test images five times: as they are, with noise, with less contrast, "
    "brighter, and blurred."
)

# %%
# How many images?
# ----------------
# :func:`~bn_tutorial.networks.recalibration.recalibrate` does it to a model of your own:
# ``recalibrate(model, new_images)``. Here is what it gives, in points of accuracy: with statistics of 1, 4, 16,
# 64, 256 and of all 2,000 shifted images, minus the accuracy with those of the training images. There is no
# mixture here: of one image, the variance is 0.

from bn_tutorial.figures import COLORS, INK, SHADES

counts = [*map(str, shifted.COUNTS), "all"]


def right(kind, statistics, of=runs):
    """Return the accuracy on a kind of image, by seed and part of these."""
    return trial.tested(f"accuracy/{kind}/{statistics}", of)


def gains(kind):
    """Return points gained over the training statistics, shape (counts, seeds)."""
    usual = right(kind, "training").mean(axis=1)
    return 100 * np.array([right(kind, n).mean(axis=1) - usual for n in counts])


looks = zip((INK, COLORS[None], *SHADES), ("", "o", "s", "^", "v"), strict=True)
trial.lines(
    {"": {named[kind]: gains(kind) for kind in shifted.SHIFTS}},
    [*shifted.COUNTS, shifted.ASKED],
    xlabel="images of which the statistics are computed",
    ylabel="points gained over training statistics",
    log="x",
    styles={
        named[kind]: {"color": color, "marker": marker}
        for kind, (color, marker) in zip(shifted.SHIFTS, looks, strict=True)
    },
    alt="Points of accuracy gained by statistics of 1 to 2,000 shifted images "
    "over those of the training images, for images as they are, noise, "
    "contrast, brightness and blur.",
)

# %%
# A single class, and a step further
# ----------------------------------
# Statistics of a stream are those of whatever comes by. If that is a single class (frames of one scene, a
# folder sorted by label), the network is told that what all these images have in common is the average. And
# TENT adds a second step: each batch of 200 is normalised by itself, and then γ and β go once down the gradient
# of its answers' mean entropy (by plain gradient descent; the authors' program uses Adam). It is compared with
# the same batches without that step. It is cheap, and it believes what the network believes already.
#
# Does a normalised network lose more than a plain one, which has no statistics that could be out of date? They
# differ in accuracy on images as they are, too.
#
# The verdicts
# ------------
# If new statistics mend what a shift did to means and deviations, they should give most where the shift is one
# of means and deviations, contrast and brightness, and little where it is something else.
#
# Registered in ``hypotheses/shifted.toml`` after pilot runs, and before the runs shown here.


def lost(kind):
    """Return what a shift costs either network, with the statistics of training."""
    return {
        arm: right("none", "training", of) - right(kind, "training", of)
        for arm, of in (("without", bare), ("batch", runs))
    }


def adapted(kind):
    """Return accuracy with old and new statistics."""
    return {"training": right(kind, "training"), "new": right(kind, "all")}


contrast, clean = right("contrast", "training"), right("none", "training")
trial.judge(
    {
        "shifted-contrast": adapted("contrast"),
        "shifted-brightness": adapted("brightness"),
        "shifted-noise": adapted("noise"),
        "shifted-blur": adapted("blur"),
        "shifted-clean": adapted("none"),
        "shifted-few": {"training": contrast, "new": right("contrast", "64")},
        "shifted-one": {"training": contrast, "new": right("contrast", "1")},
        "shifted-class": {
            "training": clean.mean(axis=1),
            "class": trial.final("accuracy/none/class", runs),
        },
        "shifted-entropy": {
            "batches": right("contrast", "batches"),
            "entropy": right("contrast", "entropy"),
        },
        "shifted-fragile": lost("noise"),
        "shifted-fragile-contrast": lost("contrast"),
    },
    alt="Effects on accuracy in percentage points: of new statistics on each "
    "kind of image, of those of few images and of a single class, and of "
    "TENT; and of what a shift costs, with minus without normalisation.",
)

# %%
# What this does *not* show
# -------------------------
# A small dense network, four made-up shifts of one strength each. Nado and others report mixed results after
# pre-training and with shifts that nature made (abstract). In a convolution, every pixel of an image counts
# for the statistics, so that fewer images do. TENT had a step for each batch, at one rate:
# if it gives little here, that says little of other rates.
#
# **Go further.** Predict whether a wider network loses less to each of the shifts, and whether it gains less
# from new statistics, then write ``width=256``.

trial.record()
# sphinx_gallery_thumbnail_number = 2
