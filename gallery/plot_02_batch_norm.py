"""
Does batch normalisation make the network better?
=================================================

Ioffe and Szegedy (2015) trained an image classifier to the same accuracy in 14 times fewer
steps with batch normalisation. The notebook put it into the baseline of
:ref:`sphx_glr_auto_examples_plot_01_baseline.py`, and its validation curve came out jagged.

**What you'll do:** add the layer, train both networks with the same seeds, and read the result
in two ways. **What you'll see:** what the notebook saw; why; and the remedy.
**How long it takes:** minutes on two cores; the end of the page says how many.
"""

# %%
# One more layer
# --------------
# The hidden layer loses its activation, batch normalisation follows, and then comes the
# activation: Dense → BatchNormalization → ReLU.

from bn_tutorial import Recipe, build, load_cifar10, profile, train
from bn_tutorial.backend import keras

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
# is all that a student who looks at Keras's plot has to judge the network by. Three questions, each
# with its rule fixed beforehand:

from bn_tutorial.evidence import difference, judge, record, roughness


def compare(claim, first, second, metric, second_metric=None):
    """Judge second − first, paired by seed, after the last epoch."""
    effect = difference(
        runs.of(first).final(metric), runs.of(second).final(second_metric or metric)
    )
    return judge(claim, effect, sample=data.is_sample)


fits_faster = compare("fits-faster", plain, normalized, "accuracy")
notebook_curve = compare("notebook-curve", plain, normalized, "val_accuracy")
jagged = judge(
    "jagged",
    difference(
        roughness(runs.of(plain), "val_accuracy"),
        roughness(runs.of(normalized), "val_accuracy"),
    ),
    sample=data.is_sample,
)
for verdict in (fits_faster, notebook_curve, jagged):
    print(verdict, end="\n\n")

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

hidden = compare(
    "hidden", normalized, normalized, "val_accuracy", "val_accuracy_population"
)
better_network = compare(
    "better-network", plain, normalized, "val_accuracy", "val_accuracy_population"
)
for verdict in (hidden, better_network):
    print(verdict, end="\n\n")

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
# All effects in one figure
# -------------------------

hidden_std = compare(
    "hidden-standardized",
    normalized_std,
    normalized_std,
    "val_accuracy",
    "val_accuracy_population",
)
inputs_alone = compare("inputs-alone", plain, plain_std, "val_accuracy")
beyond_inputs = compare(
    "beyond-inputs",
    plain_std,
    normalized_std,
    "val_accuracy",
    "val_accuracy_population",
)
for verdict in (hidden_std, inputs_alone, beyond_inputs):
    print(verdict, end="\n\n")

from bn_tutorial.figures import effects

figure = effects(
    {
        "with BN − without, as the notebook's plot shows it": notebook_curve.effect,
        "… with population statistics": better_network.effect,
        "population − moving statistics": hidden.effect,
        "… with standardised pixels": hidden_std.effect,
        "standardising the pixels, without BN": inputs_alone.effect,
        "with BN − without, standardised pixels": beyond_inputs.effect,
    }
)
mark_sample(figure, runs)
figure.set_label(
    "Six effects on the final test accuracy, in percentage points, each with its 95 % interval and "
    "a tick for every seed; a grey band marks effects below one point."
)

# %%
# In words, as written beforehand for these verdicts:

story = (
    fits_faster,
    notebook_curve,
    jagged,
    hidden,
    better_network,
    hidden_std,
    beyond_inputs,
)
print("\n".join(verdict.sentence for verdict in story))

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
    fits_faster=fits_faster,
    notebook_curve=notebook_curve,
    jagged=jagged,
    hidden=hidden,
    better_network=better_network,
    hidden_standardized=hidden_std,
    inputs_alone=inputs_alone,
    beyond_inputs=beyond_inputs,
    seeds=budget.seeds,
    epochs=budget.epochs,
    seconds=seconds,
)

# sphinx_gallery_thumbnail_number = 3
