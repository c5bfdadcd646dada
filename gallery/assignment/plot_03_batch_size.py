"""
Does the batch size matter?
===========================

Batch normalisation estimates means and variances from a mini-batch, so a small batch gives noisy
estimates. Wu and He (2018, table 2) saw the error of a large network rise from 23.6 % with 32
images per batch and device to 34.7 % with 2. The notebook compared 32, 64, 128 and 256.

**What you'll do:** train the batch-normalised network at four batch sizes. **What you'll see:**
what the curves that Keras draws say about the batch size, and whether it is true of the networks
or only of their moving statistics. **How long it takes:**
minutes on two cores; the end of the page says how many.
**Read with it:** :ref:`learn-algorithm`.
"""

# %%
# The runs
# --------
# Batch 32 is the network of :ref:`sphx_glr_auto_examples_assignment_plot_02_batch_norm.py`: it is in the
# store already and is not trained again. All four see the same images in the same order, for the
# same number of epochs, at the same learning rate.

from bn_tutorial import Experiment, Recipe

trial = Experiment("batch-size")
recipes = {
    b: Recipe(norm="batch", batch_size=b, epochs=trial.budget.epochs)
    for b in (32, 64, 128, 256)
}
ends = {b: recipes[b].but(inputs="standardized") for b in (32, 256)}
trial.train([*recipes.values(), *ends.values()], trial.few_seeds)

# %%
# The grid
# --------
# Training accuracy, and test accuracy read in both ways: with moving statistics (dashed), as in
# the notebook, and with population statistics (solid).

trial.batch_size_grid(
    recipes.values(),
    alt="Training accuracy and test accuracy against the epoch: a panel each for "
    "batch sizes 32, 64, 128 and 256.",
)

# %%
# And the loss:

trial.batch_size_grid(
    recipes.values(),
    "loss",
    alt="Training loss and test loss against the epoch: a panel each for batch "
    "sizes 32, 64, 128 and 256.",
)

# %%
# The last epoch, against the batch size
# --------------------------------------
# As in the experiment before, standardised pixels are the control. The two ends of the range will
# do.

trial.against(
    {"pixels / 255": recipes.values(), "standardised pixels": ends.values()},
    "val_accuracy",
    "batch_size",
    alt="Final test accuracy against the batch size, from 32 to 256, with pixels "
    "divided by 255 on the left and standardised pixels on the right.",
)

# %%
# The verdicts
# ------------
# Written down in ``hypotheses/batch-size.toml`` before any run: batch 256 against batch 32, for
# each way of reading, and once more for the control. All three are primary, and corrected for
# being three (Holm, 1979).


def compare(recipes, metric):
    """Return a metric after the last epoch at both ends, by seed."""
    return {str(b): trial.final(metric, recipes[b]) for b in (32, 256)}


trial.judge(
    {
        "batch-size-moving": compare(recipes, "val_accuracy"),
        "batch-size-population": compare(recipes, "val_accuracy_population"),
        "batch-size-moving-standardized": compare(ends, "val_accuracy"),
    }
)

# %%
# How long the moving statistics remember
# ---------------------------------------
# An exponential average with momentum 0.99 still gives its starting value the weight
# :math:`0.99^t` after :math:`t` steps. An epoch has fewer steps when the batches are larger:

for b in recipes:
    steps = -(-len(trial.data.x_train) // b)
    left = f"weight of the start {0.99**steps:.1e}"
    print(f"batch {b:3}: {steps:5} steps an epoch, {left}")

# %%
# So the average's memory of about 100 steps spans a larger part of an epoch when the batches are
# larger. Whether that is why the dashed lines differ is a guess: nothing here tests it.
#
# What this does *not* show
# -------------------------
# The sweep changes two things at once: the noise of the statistics, and the number of updates. It
# also stays where batch normalisation is known to be stable; the collapse that Wu and He describe
# begins below 16. And the learning rate is the same for all sizes, which favours some.
#
# **Exercise.** Give every size the same number of updates instead of epochs: multiply ``epochs``
# by ``b // 32`` in one line. What is left of the differences?

trial.record()

# sphinx_gallery_thumbnail_number = 3
