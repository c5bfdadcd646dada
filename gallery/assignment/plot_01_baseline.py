"""
How far does a plain network get?
=================================

Before batch normalisation can help, there must be something to help. The assignment's
baseline is a network with one hidden layer, the kind in which Ioffe and Szegedy (2015) first
showed batch normalisation at work (theirs had three, on handwritten digits).

**What you'll do:** write the network in Keras, train it with several seeds, and see how much the
seed alone changes. **What you'll see:** its learning curves on CIFAR-10, and what becomes of
them when the pixels are standardised.
**Read with it:** :ref:`learn-why`.
"""

# %%
# The network
# -----------
# An image is flattened to 3072 numbers, a hidden layer of 512 rectified units reads them, and a
# softmax layer gives ten class probabilities. In Keras:

from bn_tutorial import Experiment, Recipe, build
from bn_tutorial.networks.backend import keras

model = keras.Sequential(
    [
        keras.layers.Input((32, 32, 3)),
        keras.layers.Flatten(),
        keras.layers.Dense(512, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
for layer in model.layers:
    print(f"{type(layer).__name__:20}{layer.count_params():9,} parameters")

# %%
# From here on a *recipe* stands for the network and for how it is trained. Its defaults are the
# assignment's: pixels divided by 255, Adam at Keras's default learning rate of 0.001, batches of
# 32, ten epochs. It builds the same network:

plain = Recipe()
shapes = [[w.shape for w in one.weights] for one in (build(plain), model)]
assert shapes[0] == shapes[1]
print(plain)

# %%
# The runs
# --------
# One run tells you about one roll of the dice. So every recipe is trained with several seeds; a
# seed fixes the initial weights and the order of the images. The test images serve for
# validation after each epoch, as in the notebook. A second recipe differs in its inputs: more on it
# below.

trial = Experiment("baseline")
plain = plain.but(epochs=trial.budget.epochs)
standardized = plain.but(inputs="standardized")
trial.train([plain, standardized], trial.few_seeds)

# %%
# The learning curves
# -------------------
# Thin lines are seeds, bold ones their mean.

trial.learning_curves(
    [plain],
    alt="Accuracy (left) and loss (right) of the plain network against the epoch, "
    "in training and on test images.",
)

# %%
# How good is it? Here is the accuracy on the test images after the last epoch:

from bn_tutorial.evidence import interval

accuracy = interval(trial.final("val_accuracy", plain))
print(f"test accuracy {accuracy:.1%}")

# %%
# The inputs matter
# -----------------
# Pixels divided by 255 lie between 0 and 1, so none of them has mean 0. LeCun and others (1998)
# advise to *standardise* inputs: shift and scale each of them, here each colour, so that it has
# mean 0 and variance 1 over the training images. Hold on to this comparison: batch normalisation
# does to hidden layers what standardising does to the input, and it is easy to give it credit for
# both.

from bn_tutorial.figures import INK

trial.curves(
    {"pixels / 255": plain, "standardised": standardized},
    ["accuracy", "val_accuracy"],
    styles={"standardised": {"color": INK}},
    alt="Training accuracy (left) and test accuracy (right) of the plain network "
    "against the epoch, with pixels divided by 255 and with standardised pixels.",
)

# %%
# The verdict
# -----------
# The rule is registered in ``hypotheses/``, before the runs shown here: an effect counts when its
# whole 95 % interval lies beyond one percentage point. Seeds are paired, so that chance which both
# networks share cancels; and so are the test images. Five epochs are averaged.

arms = trial.tested("val_accuracy", epochs=5, unit=plain, standardized=standardized)
trial.judge({"inputs-alone": arms}, of="batch-norm")

# %%
# What this does *not* show
# -------------------------
# Neither network is trained until it stops improving, and nothing was tuned. Ten epochs at one
# learning rate are the assignment's choice; a different budget could change the order. Nor can
# a few seeds tell small effects from none: look at the width of the intervals.
#
# **Go further.** Which is the better use of the same time: twice as many hidden units, or twice as
# many epochs? Change one line: ``plain.but(width=1024)`` or ``plain.but(epochs=20)``.

centred = interval(trial.final("val_accuracy", standardized))
trial.record(accuracy=accuracy, accuracy_standardized=centred)
# sphinx_gallery_thumbnail_number = 2
# sphinx_gallery_thumbnail_panel = 2
