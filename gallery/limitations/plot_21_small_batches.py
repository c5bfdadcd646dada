"""
How small may the batch be?
===========================

A batch of 2 may be all that fits into memory, with large images or large networks. Wu and He (2018,
table 2) trained an ImageNet network with 32 down to 2 images per device: its error rose from 23.6 %
to 34.7 % with batch normalisation, and stayed near 24 % with *group normalisation*, which takes its
statistics from one image at a time.

**What you'll do:** train a dense and a convolutional network with batches of 2 to 32 images. **What
you'll see:** how the accuracy of each changes with the batch, and what a batch of 2 costs it.
**Read with it:** :ref:`learn-backward` and :ref:`practice-alternatives`.
"""

# %%
# The limiting case
# -----------------
# Before any training: a dense layer gives each unit one number per image. In a batch of 2, what is
# left of the two numbers once they are normalised? Here are three pairs that differ by 2, by 50
# and by 720. Predict the output.

import numpy as np
from bn_tutorial.networks.layers import normalization

pairs = np.array([[3, 3, -700], [5, 53, 20]], "float32")
print(np.asarray(normalization("batch")(pairs, training=True)).round(2))

# %%
# Always −1 and +1. All that is left is which of the two is larger, and even that depends on the
# partner that chance has put into the batch. A convolution is better off: it gives a channel one
# number for each pixel, so in the first layer a batch of 2 still has 2 · 32 · 32 numbers to
# average. Ioffe and Szegedy (2015, section 3.2) call that the *effective* size of the batch.
#
# The runs
# --------
# As Wu and He did, all sizes get the same number of epochs, and a learning rate in proportion to
# the batch. Each network's rate for 32 is the one of 0.03, 0.06, 0.1 and 0.2 that led to the lowest
# validation loss in pilot runs, with seeds that are not used here. Small batches make many steps, so a
# part of the images has to do. (The two networks with the lowest rate might do better with a lower one
# still.) Only 2 and 32 are on trial; the sizes between, and the control that is not, have fewer seeds.

from bn_tutorial import Experiment, Recipe

trial = Experiment("small-batches")
shared = {
    "inputs": "standardized",
    "optimizer": "sgd",
    "epochs": min(trial.budget.epochs, 4),
    # the test images are then looked at only once
    "validation": 250,
}
subset = trial.budget.subset
dense = Recipe(width=128, depth=2, train_size=min(2_400, subset // 2), **shared)
convolutional = Recipe(
    model="cnn", width=8, depth=3, train_size=min(1_280, subset // 4), **shared
)


options = {"group": {"groups": 4}}  # the convolution has 8 channels at first
rates = {
    dense: {None: 0.03, "group": 0.03, "batch": 0.06},
    convolutional: {None: 0.1, "group": 0.06, "batch": 0.1},
}


def sweep(kind, sizes):
    """Return a recipe for each normaliser and batch size."""
    return {
        (norm, b): kind.but(
            norm=norm,
            norm_options=options.get(norm, {}),
            batch_size=b,
            learning_rate=rate * b / 32,
        )
        for norm, rate in rates[kind].items()
        for b in sizes
    }


mlp, cnn = sweep(dense, trial.grid((2, 4, 8, 32))), sweep(convolutional, (2, 32))
every = [*mlp.values(), *cnn.values()]
dense_seeds = trial.seeds_of("small-mlp", "small-group")
cnn_seeds = trial.seeds_of("small-cnn")
on_trial = {net: dense_seeds for (_, b), net in mlp.items() if b in (2, 32)}
on_trial |= {net: cnn_seeds for (norm, _), net in cnn.items() if norm != "group"}
trial.train(dict.fromkeys(every, trial.few_seeds) | on_trial, ends=True)

# %%
# Accuracy against the batch size
# -------------------------------
# The network without a normaliser and the one with group normalisation are the controls: what
# changes *their* accuracy is the batch size's effect on the gradient, not on the statistics. Batch
# normalisation is read in two ways. With population statistics (solid), recomputed after training,
# it answers for nothing but the weights that it has led to. With Keras's moving statistics
# (dashed), two more things come in: the average may lag behind, and at batch 2 the variance of a
# dense layer is estimated at half its size, as Keras leaves out the factor :math:`m/(m-1)`.
# :ref:`sphx_glr_auto_examples_limitations_plot_22_train_inference.py` takes these apart.

POPULATION, MOVING = "test_accuracy_population", "test_accuracy"
trial.against(
    {"dense layers": mlp.values(), "convolutions": cnn.values()},
    MOVING,
    "batch_size",
    xlabel="images in a batch",
    alt="Test accuracy after the last epoch against the batch size, 2 to 32, of a "
    "dense network (left) and a convolutional one (right): without a normaliser, "
    "with group normalisation, and with batch normalisation read with population "
    "(solid) and moving statistics (dashed).",
)

# %%
# What a batch of 2 costs
# -----------------------
# Each network against itself: accuracy at batch 2 minus accuracy at batch 32, with the same seed.

from bn_tutorial.evidence import interval
from bn_tutorial.figures import COLORS


def change(recipes, norm, metric=POPULATION, b=2):
    """Return test accuracy at a small batch minus that at batch 32."""
    small, large = (trial.tested(metric, recipes[norm, size]) for size in (b, 32))
    both = small.index.intersection(large.index)  # some sizes have fewer seeds
    return small.loc[both] - large.loc[both]


networks = {
    "dense, without": (mlp, None),
    "dense, group norm": (mlp, "group"),
    "dense, batch norm": (mlp, "batch"),
    "dense, batch norm, moving statistics": (mlp, "batch", MOVING),
    "convolutional, without": (cnn, None),
    "convolutional, group norm": (cnn, "group"),
    "convolutional, batch norm": (cnn, "batch"),
}
changes = {n: interval(change(*of).mean(axis=1)) for n, of in networks.items()}
trial.effects(
    changes,
    colors={name: COLORS[norm] for name, (_, norm, *_) in networks.items()},
    alt="Test accuracy at batch 2 minus that at batch 32, in percentage points, "
    "for the dense network without a normaliser, with group and with batch "
    "normalisation (population and moving statistics), and for the convolutional "
    "one without, with group and with batch normalisation.",
)

# %%
# The verdicts
# ------------
# Registered in ``hypotheses/small-batches.toml`` after pilot runs, and before the runs shown here.
# What the small batch costs *because of the normaliser* is a difference of differences: the change
# from 32 to 2 with batch normalisation, minus the same change without. The first three are *primary*,
# with intervals widened so that they hold together; they read batch normalisation with population
# statistics, the harder test for who says that it suffers.


def versus(recipes, norm, metric=POPULATION, b=2):
    """Return the change with batch normalisation beside that of another network."""
    if (norm, b) not in recipes:  # the quick look has the ends only
        return {}
    own = change(recipes, "batch", metric, b)
    return {norm or "without": change(recipes, norm, b=b), "batch": own}


trial.judge(
    {
        "small-mlp": versus(mlp, None),
        "small-cnn": versus(cnn, None),
        "small-mlp-8": versus(mlp, None, b=8),
        "small-mlp-4": versus(mlp, None, b=4),
        "small-group": versus(mlp, "group"),
        "small-mlp-moving": versus(mlp, None, MOVING),
        "small-group-cnn": versus(cnn, "group"),
    }
)

# %%
# What this does *not* show
# -------------------------
# From which size on a batch is too small: only 2 and 32 are on trial, and 4 and 8 are estimated. Nor does the
# cost of a batch of 2 say which network is ahead at 2: one that loses less may have been far behind at 32.
# These networks are small and trained briefly, the convolutional one most of all: it is far from what it could
# learn. Its dashed line is not judged, because at batch 32 it makes so few steps that Keras's average still
# remembers its start. A learning rate in proportion to the batch is one convention; the best rate of each size
# may be another. And if it is memory that forbids a larger batch, gradients can be summed over several batches,
# but not the statistics within them.
#
# **Go further.** Batch renormalisation (Ioffe 2017) corrects a batch's statistics by the moving
# ones, already in training. Predict where its curve (orange-red) runs, then change one line: put
# ``"renorm": 0.06`` into the ``rates`` of ``dense``.

steps = cnn["batch", 32].epochs * -(-convolutional.train_size // 32)
print(f"The start's weight in that average: {0.99**steps:.0%} after {steps} steps.")
trial.record(images_convolutional=convolutional.train_size)
# sphinx_gallery_key_figure = 2
