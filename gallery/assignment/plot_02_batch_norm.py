"""
Does batch normalisation make the network better?
=================================================

Ioffe and Szegedy (2015, section 4.2.2) trained an image classifier to the same accuracy in 14 times
fewer steps with batch normalisation, a higher learning rate and other changes. The
notebook put it into the baseline of
:ref:`sphx_glr_auto_examples_assignment_plot_01_baseline.py`, and its validation curve came out jagged.

**What you'll do:** add the layer, train both networks with the same seeds, and read the result
in two ways. **What you'll see:** what the notebook saw; why; and the remedy.
**How long it takes:** minutes on two cores; the end of the page says how many.
**Read with it:** :ref:`learn-algorithm` and :ref:`practice-clinic`.
"""

# %%
# One more layer
# --------------
# The hidden layer loses its activation, batch normalisation follows, and then comes the
# activation: Dense → BatchNormalization → ReLU.

from bn_tutorial import Recipe, build, load_cifar10, profile, train
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
model.summary(line_length=72)

# %%
# In a recipe that is one word. The seeds are shared, so both networks begin with the same weights
# in their dense layers and see the same images in the same order.

budget = profile()
data = load_cifar10(budget.source)
plain = Recipe(epochs=budget.epochs)
normalized = plain.but(norm="batch")
assert build(normalized).count_params() == model.count_params()
assert [w.shape for w in build(normalized).weights] == [
    w.shape for w in model.weights
]

runs = train([plain, normalized], data, seeds=range(budget.seeds))

# %%
# First, what the notebook shows
# ------------------------------
# Keras reports the training curves and, after each epoch, the accuracy on the test images. For
# the test images it switches to *inference mode*: instead of the statistics of a batch it uses
# their moving averages.

import matplotlib.pyplot as plt
from bn_tutorial.figures import curve, learning_curves, legend, mark_sample

figure, panels = plt.subplots(1, 2, figsize=(7.6, 3.6))
for recipe in (plain, normalized):
    curve(panels[0], runs.of(recipe), "accuracy")
    curve(panels[1], runs.of(recipe), "val_accuracy")
legend(figure, runs, population=False)
mark_sample(figure, runs)
figure.set_label(
    "Training accuracy (left) and test accuracy with moving statistics (right) against the epoch, "
    "with and without batch normalisation; a thin line for each seed."
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

figure = learning_curves(runs)
figure.set_label(
    "Training (above) and test (below) accuracy and loss against the epoch. The batch-normalised "
    "network has two test curves: dashed with moving statistics, solid with population statistics."
)

# %%
# And the remedy
# --------------
# If it is uncentred inputs that make the averages lag, then centring them should help; and it may
# help the baseline as well. So here are both networks again, with standardised inputs. This control tells
# two things apart: what batch normalisation adds, and what it merely does in place of
# standardising.

plain_std = plain.but(inputs="standardized")
normalized_std = normalized.but(inputs="standardized")
runs += train([plain_std, normalized_std], data, seeds=range(budget.seeds))

figure, panels = plt.subplots(1, 2, figsize=(7.6, 3.8), sharey=True)
for axes, title, pair in (
    (panels[0], "pixels / 255", (plain, normalized)),
    (panels[1], "standardised pixels", (plain_std, normalized_std)),
):
    for recipe in pair:
        curve(axes, runs.of(recipe), "val_accuracy")
    curve(axes, runs.of(pair[1]), "val_accuracy_population")
    axes.set_title(title)
panels[1].set_ylabel("")
legend(figure, runs)
mark_sample(figure, runs)
figure.set_label(
    "Test accuracy against the epoch, with pixels divided by 255 on the left and standardised "
    "pixels on the right: without batch normalisation, with it and moving statistics (dashed), and "
    "with it and population statistics (solid)."
)

# %%
# The verdicts
# ------------
# Eight hypotheses were written down in ``hypotheses/batch-norm.toml`` before any run, each with
# the smallest effect that matters. Every one compares two arms, paired by seed. Two of them are
# *primary*, and corrected for being two (Holm, 1979); the others are secondary.

from bn_tutorial.evidence import judge, record, roughness


def final(recipe, metric="val_accuracy"):
    """Return a metric after the last epoch, for each seed."""
    return runs.of(recipe).final(metric)


population = "val_accuracy_population"
measured = {
    "fits-faster": {
        "without": final(plain, "accuracy"),
        "batch": final(normalized, "accuracy"),
    },
    "notebook-curve": {"without": final(plain), "batch": final(normalized)},
    "jagged": {
        "without": roughness(runs.of(plain), "val_accuracy"),
        "batch": roughness(runs.of(normalized), "val_accuracy"),
    },
    "better-network": {
        "without": final(plain),
        "batch": final(normalized, population),
    },
    "hidden": {
        "moving": final(normalized),
        "population": final(normalized, population),
    },
    "hidden-standardized": {
        "moving": final(normalized_std),
        "population": final(normalized_std, population),
    },
    "inputs-alone": {"unit": final(plain), "standardized": final(plain_std)},
    "beyond-inputs": {
        "without": final(plain_std),
        "batch": final(normalized_std, population),
    },
}
verdicts = judge("batch-norm", measured, sample=data.is_sample)
for verdict in verdicts.values():
    print(verdict, end="\n\n")

# %%
# All effects on the test accuracy in one figure:

from bn_tutorial.figures import effects

labels = {
    "notebook-curve": "with BN − without, as the notebook's plot shows it",
    "better-network": "… with population statistics",
    "hidden": "population − moving statistics",
    "hidden-standardized": "… with standardised pixels",
    "inputs-alone": "standardising the pixels, without BN",
    "beyond-inputs": "with BN − without, standardised pixels",
}
figure = effects({label: verdicts[name].effect for name, label in labels.items()})
mark_sample(figure, runs)
figure.set_label(
    "Six effects on the final test accuracy, in percentage points, each with its 95 % interval and "
    "a tick for every seed; a grey band marks effects below one point."
)

# %%
# In words, as written beforehand for these verdicts:

for verdict in verdicts.values():
    print(verdict.sentence)

# %%
# What this does *not* show
# -------------------------
# This is one shallow network on one dataset, with Adam at its default rate. The theory's strongest
# cases for batch normalisation are deep networks and high learning rates, and neither is here.
# Population statistics are also no free lunch: they cost a pass over some thousand images whenever
# you want to test.
#
# **Exercise.** A shorter memory lags less. Predict what a momentum of 0.9 does to the dashed
# curve, then change one line: ``plain.but(norm="batch", norm_options={"momentum": 0.9})``.

seconds = sum(run.provenance["seconds"] for run in runs)
print(f"The training behind this page took {seconds:.0f} s.")
record(
    "batch-norm",
    verdicts,
    runs=runs,
    seeds=budget.seeds,
    epochs=budget.epochs,
    seconds=seconds,
)

# sphinx_gallery_thumbnail_number = 3
