"""
Is batch normalisation right for a recurrent network?
=====================================================

A recurrent network applies the same layer again at every step of a sequence. Whose statistics should
normalise it? Laurent et al. (2016) normalised the transition from state to state, which was no
help, or the inputs of each step: then training could be faster, but the network did not generalise
better. Cooijmans et al. (2017) normalised both, with a small initial scale and separate statistics
for every step, and the network trained faster and generalised better. Ba et al. (2016) left the
batch alone and proposed *layer normalisation*.

**What you'll do:** let a small recurrent network read images row by row, with four kinds of
normalisation and two batch sizes. **What you'll see:** which of them does better, and whether the
size of the batch decides. **How long it takes:** a minute or two on two cores; the end of the page
says how long it took.
**Read with it:** :ref:`practice-alternatives`.
"""

# %%
# A picture as a sequence
# -----------------------
# An image is read from top to bottom: 32 steps, each a row of 32 pixels in three colours. A gated
# recurrent unit (GRU) carries its state from row to row, and the last state is classified. The
# normaliser stands where the row has been multiplied with its weights and has not yet met the
# state.
#
# Batch normalisation then has a choice that a dense layer does not have. It can *share* its
# statistics among all steps, or keep some *per step*. To share is right if all steps look alike.
# Do they?

from bn_tutorial import Experiment, Recipe, build

trial = Experiment("recurrent")
for row in (0, 15, 31):
    pixels = trial.data.x_train[:1_000, row] / 255
    mean, deviation = pixels.mean(), pixels.std()
    print(f"row {row + 1:2}: mean {mean:.3f}, standard deviation {deviation:.3f}")

# %%
# Per step, the statistics fit each row exactly, but there is less to estimate them from. Here is
# how many numbers one mean averages in training:

network = Recipe(
    model="gru",
    width=32,
    inputs="standardized",
    epochs=min(trial.budget.epochs, 4),
    train_size=min(1_600, trial.budget.subset),
    # the test images are then looked at only once
    validation=250,
)
arms = {
    "layer": network.but(norm="layer"),
    "without": network,
    "per step": network.but(norm="batch", norm_options={"per_step": True}),
    "batch": network.but(norm="batch"),
}
few, many = sizes = 4, 64  # images in a batch
for size in sizes:
    print(
        f"batch {size:2}: {32 * size:5,} shared by the steps, {size:2} per step, "
        f"{3 * network.width} of one image and step with layer normalisation"
    )

# %%
# The projection of a row has three numbers for each unit, one for each of the GRU's two gates and
# one for its candidate state. And this is what statistics per step cost in weights (moving
# averages included):

for name, recipe in arms.items():
    print(f"{name:8} {build(recipe).count_params():6,} weights")

# %%
# The runs
# --------
# All have the same number of epochs, with Adam. The learning rates were chosen beforehand among
# 0.001, 0.003 and 0.01, on validation images and with a seed that is not used here. The best was
# 0.01 throughout (0.03 was worse), but for the network without a normaliser at the small batch.
# For statistics per step it is the rate of the shared ones.

rates = {("without", few): 0.001}
names = trial.grid(arms)
recipes = {
    size: {
        name: arms[name].but(
            batch_size=size, learning_rate=rates.get((name, size), 0.01)
        )
        for name in names
    }
    for size in sizes
}
trial.train([*recipes[few].values(), *recipes[many].values()])

# %%
# Accuracy, every seed
# --------------------
# If a small batch is the trouble, layer normalisation should win on the left. Batch normalisation
# is tested in two ways: with Keras's moving statistics (hollow), as in practice, and with
# population statistics (filled).

MOVING, POPULATION = "test_accuracy", "test_accuracy_population"
labels = {
    "without": "without",
    "layer": "layer norm",
    "batch": "batch norm, shared",
    "per step": "batch norm, per step",
}
readings = {
    None: [POPULATION],
    "layer": [POPULATION],
    "batch": [MOVING, POPULATION],
}
networks = {
    f"{size} images in a batch": {
        label: nets[name] for name, label in labels.items() if name in names
    }
    for size, nets in recipes.items()
}
rows = {
    title: {
        label: [(net, metric) for metric in readings[net.norm]]
        for label, net in nets.items()
    }
    for title, nets in networks.items()
}
trial.dots(
    rows,
    across=True,
    alt="Test accuracy of the recurrent network with 4 (left) and 64 images in a "
    "batch (right), in a row each: without a normaliser, with layer normalisation, "
    "and with batch normalisation, shared by the steps or per step, read with "
    "moving (hollow) and population statistics (filled).",
)

# %%
# How fast they learn
# -------------------
# Laurent et al. saw the training loss fall faster, but not the test error. So here is the loss on
# training images, in inference mode with population statistics. A slope depends on the learning
# rate, so where the rates differ, it is not the normaliser's alone.

shared = {
    title: {label: net for label, net in nets.items() if "per step" not in label}
    for title, nets in networks.items()
}
trial.curves(
    shared,
    "fit_loss",
    alt="Training loss against the epoch with 4 (left) and 64 images in a batch "
    "(right), without a normaliser, with layer normalisation and with batch "
    "normalisation shared by the steps.",
)

# %%
# The verdicts
# ------------
# Registered in ``hypotheses/recurrent.toml`` after pilot runs, and before the runs shown here. The
# first three are *primary*, read with moving statistics as in practice, with intervals widened so
# that they hold together.


def compare(size, name, metric=MOVING):
    """Return shared statistics and another arm, as far as they were trained."""
    pair = ("batch", name) if name in names else ("batch",)
    return trial.tested(metric, **{arm: recipes[size][arm] for arm in pair})


trial.judge(
    {
        "recurrent-small": compare(few, "layer"),
        "recurrent-large": compare(many, "layer"),
        "recurrent-step": compare(many, "per step"),
        "recurrent-small-population": compare(few, "layer", POPULATION),
        "recurrent-large-population": compare(many, "layer", POPULATION),
        "recurrent-step-small": compare(few, "per step", POPULATION),
    }
)

# %%
# What this does *not* show
# -------------------------
# Only the inputs are normalised, not the transition from state to state, where Cooijmans et al.
# put theirs too, and the scale starts at 1: no verdict here is one on their method. All images have
# 32 rows; in a text or a recording the lengths differ, and per-step statistics of late steps then
# rest on few examples, or on none. The network is small and briefly trained (so briefly that with
# large batches the moving statistics still remember their start), and a finer choice of learning
# rates could shift the rows.
#
# **Exercise.** If sharing helps, it may be because a batch of 4 has 32 rows each. Predict what 2 do
# to either kind of batch normalisation, then change one line: ``few, many = sizes = 2, 64``.

trial.record()
