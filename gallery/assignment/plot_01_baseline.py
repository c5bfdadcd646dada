"""
How far does a plain network get?
=================================

Before batch normalisation can help, there must be something to help. The assignment's
baseline is a network with one hidden layer, the kind in which Ioffe and Szegedy (2015) first
showed batch normalisation at work (theirs had three, on handwritten digits).

**What you'll do:** write the network in Keras, train it with several seeds, and see how much the
seed alone changes. **What you'll see:** its learning curves on CIFAR-10, and what becomes of
them when the pixels are standardised. **How long it takes:** minutes on two
cores; the end of the page says how many.
**Read with it:** :ref:`learn-why`.
"""

# %%
# The network
# -----------
# An image is flattened to 3072 numbers, a hidden layer of 512 rectified units reads them, and a
# softmax layer gives ten class probabilities. In Keras:

from bn_tutorial import Recipe, build, load_cifar10, profile, train
from bn_tutorial.networks.backend import keras

model = keras.Sequential(
    [
        keras.layers.Input((32, 32, 3)),
        keras.layers.Flatten(),
        keras.layers.Dense(512, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.summary(line_length=72)

# %%
# From here on a *recipe* stands for the network and for how it is trained. Its defaults are the
# assignment's: pixels divided by 255, Adam at Keras's default learning rate of 0.001, batches of
# 32, ten epochs. It builds the same network:

plain = Recipe()
assert build(plain).count_params() == model.count_params()
assert [weight.shape for weight in build(plain).weights] == [
    weight.shape for weight in model.weights
]
print(plain)

# %%
# The runs
# --------
# One run tells you about one roll of the dice. So every recipe is trained with several seeds; a
# seed fixes the initial weights and the order of the images. The test images serve for
# validation after each epoch, as in the notebook.

budget = profile()
data = load_cifar10(budget.source)
plain = plain.but(epochs=budget.epochs)
runs = train(plain, data, seeds=range(budget.seeds))

# %%
# The learning curves
# -------------------
# Thin lines are seeds, the bold line is their mean, and the band its 95 % interval.

from bn_tutorial.figures import learning_curves

figure = learning_curves(runs)
figure.set_label(
    "Four panels: training accuracy and loss above, test accuracy and loss below, against the "
    "epoch, for the plain network; a thin line for each seed and a bold line for the mean."
)

# %%
# How good is it? Here is the accuracy on the test images after the last epoch:

from bn_tutorial.evidence import interval, judge, record

final = interval(runs.final("val_accuracy").values())
print(f"test accuracy {final:.1%}")

# %%
# The inputs matter
# -----------------
# Pixels divided by 255 lie between 0 and 1, so none of them has mean 0. LeCun and others (1998)
# advise to *standardise* inputs: shift and scale each of them, here each colour, so that it has
# mean 0 and variance 1 over the training images. Hold on to this comparison: batch normalisation
# does to hidden layers what standardising does to the input, and it is easy to give it credit for
# both.

standardized = plain.but(inputs="standardized")
runs += train(standardized, data, seeds=range(budget.seeds))

import matplotlib.pyplot as plt
from bn_tutorial.figures import COLORS, INK, curve, mark_sample

figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.6))
for recipe, color in ((plain, COLORS[None]), (standardized, INK)):
    curve(left, runs.of(recipe), "accuracy", color=color)
    curve(right, runs.of(recipe), "val_accuracy", color=color)
right.plot([], [], color=COLORS[None], label="pixels / 255")
right.plot([], [], color=INK, label="standardised")
figure.legend(loc="outside lower center", ncols=2)
mark_sample(figure, runs)
figure.set_label(
    "Training accuracy (left) and test accuracy (right) of the plain network against the epoch, "
    "with pixels divided by 255 and with standardised pixels."
)

# %%
# The verdict
# -----------
# The rule is written down in ``hypotheses/``, before any run: an effect counts when its whole
# 95 % interval lies beyond one percentage point. Seeds are paired, so that chance which both
# networks share cancels.

measured = {
    "unit": runs.of(plain).final("val_accuracy"),
    "standardized": runs.of(standardized).final("val_accuracy"),
}
verdicts = judge("batch-norm", {"inputs-alone": measured}, sample=data.is_sample)
verdict = verdicts["inputs-alone"]
print(verdict)
print(verdict.sentence)

# %%
# What this does *not* show
# -------------------------
# Neither network is trained until it stops improving, and nothing was tuned. Ten epochs at one
# learning rate are the assignment's choice; a different budget could change the order. Nor can
# a few seeds tell small effects from none: look at the width of the intervals.
#
# **Exercise.** Which is the better use of the same time: twice as many hidden units, or twice as
# many epochs? Change one line: ``plain.but(width=1024)`` or ``plain.but(epochs=20)``.

seconds = sum(run.provenance["seconds"] for run in runs)
print(f"The training behind this page took {seconds:.0f} s.")
record(
    "baseline",
    runs=runs,
    accuracy=final,
    accuracy_standardized=interval(
        runs.of(standardized).final("val_accuracy").values()
    ),
    inputs_alone=verdict,
    seeds=budget.seeds,
    epochs=budget.epochs,
    seconds=seconds,
)
