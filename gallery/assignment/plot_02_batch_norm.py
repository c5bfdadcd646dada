"""
Does batch normalisation make the network better?
=================================================

Ioffe and Szegedy (2015, section 4.2.2) trained an image classifier to the same accuracy in 14 times
fewer steps with batch normalisation, a higher learning rate and other changes. The
notebook put it into the baseline of
:ref:`sphx_glr_auto_examples_assignment_plot_01_baseline.py`, and its validation curve came out jagged.

**What you'll do:** add the layer, train both networks with the same seeds, and read the result
in two ways. **What you'll see:** what the notebook saw; why; and the remedy.
**Read with it:** :ref:`learn-algorithm` and :ref:`practice-clinic`.
"""

# %%
# One more layer
# --------------
# The hidden layer loses its activation, batch normalisation follows, and then comes the
# activation: Dense → BatchNormalization → ReLU.

from bn_tutorial import Experiment, Recipe, build
from bn_tutorial.networks.backend import keras

model = keras.Sequential(
    [
        keras.layers.Input((32, 32, 3)),
        keras.layers.Flatten(),
        keras.layers.Dense(512),
        keras.layers.BatchNormalization(),
        keras.layers.Activation("relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
for layer in model.layers:
    print(f"{type(layer).__name__:20}{layer.count_params():9,} parameters")

# %%
# In a recipe that is one word. The seeds are shared, so both networks begin with the same weights
# in their dense layers and see the same images in the same order. Each is trained with standardised
# pixels, too: what for, you'll see.

trial = Experiment("batch-norm")
plain = Recipe(epochs=trial.budget.epochs)
normalized = plain.but(norm="batch")
shapes = [[w.shape for w in one.weights] for one in (build(normalized), model)]
assert shapes[0] == shapes[1]

both = [plain, normalized]
standardized = [net.but(inputs="standardized") for net in both]
plain_std, normalized_std = standardized
trial.train(
    dict.fromkeys(standardized, trial.few_seeds) | dict.fromkeys(both, trial.seeds)
)

# %%
# First, what the notebook shows
# ------------------------------
# Keras reports the training curves and, after each epoch, the accuracy on the test images. For
# the test images it switches to *inference mode*: instead of the statistics of a batch it uses
# their moving averages.

trial.curves(
    both,
    ["accuracy", "val_accuracy"],
    alt="Training accuracy (left) and test accuracy with moving statistics (right) "
    "against the epoch, with and without batch normalisation.",
)

# %%
# The left panel shows how fast the training images are fitted. In the right one, the dashed curve
# is all that a student who looks at Keras's plot has to judge the network by. Before you read on:
# which network would you choose?

# %%
# Then, why
# ---------
# Training fits the weights to batches that are normalised by *their own* mean and variance. The
# moving averages try to follow these, with a weight of 0.99 on the past. But the weights move on
# with every step, and the hidden layer's inputs are all positive: a small change in the weights
# shifts the mean of a unit's input by a lot, compared with its spread. If the averages lag behind,
# the network is tested with statistics that belong to somewhat older weights.
#
# That can be checked without training anything else. Take the network as it
# is, compute the mean and the variance of each unit over 10,000 training images (its *population
# statistics*), and test again. No weight is touched.

trial.two_scores(
    plain,
    normalized,
    alt="Test accuracy against the epoch: without batch normalisation, with it and "
    "moving statistics (dashed), and the same network with recomputed statistics, "
    "with the distance between the two in the end.",
)

# %%
# Here are both networks with their losses, too.

trial.learning_curves(both, alt="Accuracy and loss in training (above) and test.")

# %%
# And the remedy
# --------------
# If it is uncentred inputs that make the averages lag, then centring them should help; and it may
# help the baseline as well. That is what both networks were trained with standardised inputs for. This
# control tells two things apart: what batch normalisation adds, and what it merely does in place of
# standardising.

trial.curves(
    {"pixels / 255": both, "standardised pixels": standardized},
    population=True,
    alt="Test accuracy against the epoch, with pixels divided by 255 (left) and "
    "with standardised pixels: without batch normalisation and with it.",
)

# %%
# The verdicts
# ------------
# Registered in ``hypotheses/batch-norm.toml`` after pilot runs, and before the runs shown here.
# There are eight, each with the smallest effect that matters; every one compares two arms, paired by
# seed. Where a curve is jagged its last point is a matter of luck, so test accuracies are means of the
# last five epochs; what the moving statistics hide is there throughout, so it is one of the last eight.
# The intervals of the two *primary* hypotheses are widened, so that they hold
# together; one asks for an estimate only, and the others are secondary.
# In the figure, what lies in the grey band is too small to matter.

from bn_tutorial.evidence.measures import roughness

MOVING, POPULATION = "val_accuracy", "val_accuracy_population"
with_both = {"without": plain, "batch": normalized}


def averaged(metric, *recipe, epochs=5, **arms):
    """Return a mean over the last epochs, by seed and test images."""
    return trial.tested(metric, *recipe, epochs=epochs, **arms)


def readings(recipe):
    """Return a network's accuracy with moving and with population statistics."""
    return {
        "moving": averaged(MOVING, recipe, epochs=8),
        "population": averaged(POPULATION, recipe, epochs=8),
    }


trial.judge(
    {
        "fits-faster": trial.final("accuracy", **with_both),
        "notebook-curve": averaged(MOVING, **with_both),
        "jagged": {
            arm: roughness(trial.of(net), MOVING) for arm, net in with_both.items()
        },
        "better-network": averaged(POPULATION, **with_both),
        "hidden": readings(normalized),
        "hidden-standardized": readings(normalized_std),
        "inputs-alone": averaged(MOVING, unit=plain, standardized=plain_std),
        "beyond-inputs": averaged(
            POPULATION, without=plain_std, batch=normalized_std
        ),
    },
    alt="Six effects on the test accuracy of the last epochs, in points; a grey "
    "band marks those below one point.",
)

# %%
# What this does *not* show
# -------------------------
# This is one shallow network on one dataset, with Adam at its default rate. The theory's strongest
# cases for batch normalisation are deep networks and high learning rates, and neither is here.
# Population statistics are also no free lunch: they cost a pass over some thousand images whenever
# you want to test.
#
# **Go further.** A shorter memory lags less. Predict what a momentum of 0.9 does to the dashed
# curve, then change one line: ``plain.but(norm="batch", norm_options={"momentum": 0.9})``.

trial.record()
# sphinx_gallery_thumbnail_number = 2
