"""
Before or after the activation?
===============================

.. index:: ! before or after

Few questions are asked more often. Ioffe and Szegedy (2015, section 3.2) put batch normalisation before the
activation, as what comes out of a sum is more likely to look normal; many networks have it behind. Reports
favour either; what they leave open is the seed and the learning rate.

**What you'll do:** train four networks with it before and behind, each at its own best learning rate. **What
you'll see:** what the place is worth, in points of test accuracy, and whether that depends on the network.
**Read with it:** :ref:`learn-algorithm` and :ref:`practice-keras`.
"""

# %%
# Four networks
# -------------
# Three are dense, with three hidden layers of 64 units: with ReLU; with GELU, which is smooth; and with
# ReLU and a fifth of the units dropped at the end of each layer. The fourth has three convolutions, each with
# ReLU and pooling. Adam trains them all. Each place has the learning rate that validated best in pilot
# runs, of four or five (of three for the convolutions), with seeds that are not used here.

from bn_tutorial import Experiment, Recipe

trial = Experiment("placement")
relu = Recipe(
    width=64,
    depth=3,
    norm="batch",
    initializer="he_normal",
    inputs="standardized",
    epochs=min(trial.budget.epochs, 6),
    train_size=trial.budget.subset,
    validation=min(1_000, trial.budget.validation),
)
convolutions = relu.but(
    model="cnn", width=8, epochs=5, train_size=trial.budget.subset // 2
)
networks = {
    "ReLU": (relu, 0.001, 0.004),
    "GELU": (relu.but(activation="gelu"), 0.001, 0.016),
    "ReLU and dropout": (relu.but(dropout=0.2), 0.002, 0.002),
    "convolutions": (convolutions, 0.01, 0.01),
}
places = {
    name: {
        "before": net.but(norm_position="before", learning_rate=before),
        "behind": net.but(norm_position="after", learning_rate=behind),
    }
    for name, (net, before, behind) in networks.items()
}
every = [net for pair in places.values() for net in pair.values()]
trial.train(every, ends=True)

# %%
# Before, and behind
# ------------------
# Accuracy on the test images, with population statistics.

TEST = "test_accuracy_population"
trial.dots(
    places,
    [TEST],
    alt="Test accuracy of four networks, each with batch normalisation before "
    "the activation and behind it.",
)

# %%
# The estimates
# -------------
# Registered in ``hypotheses/placement.toml`` after pilot runs, and before the runs shown here. In those, a
# place was worth a point or two at most, and seeds differed by as much: a verdict would not have repeated, so
# all four are estimates.

ids = {
    "placement-relu": "ReLU",
    "placement-gelu": "GELU",
    "placement-dropout": "ReLU and dropout",
    "placement-cnn": "convolutions",
}
trial.judge(
    {id: trial.tested(TEST, **places[name]) for id, name in ids.items()},
    alt="Test accuracy with batch normalisation behind the activation minus "
    "before, in percentage points, for each of the four networks.",
)

# %%
# What this does *not* show
# -------------------------
# Small networks, trained for a short time. Behind a GELU, the best rate was the highest of those tried, and a
# higher one may be better still. In a residual network the question is another one: there the
# place decides what the sum of all branches is made of (He et al. 2016 compare five orders), and
# :ref:`sphx_glr_auto_examples_questions_plot_42_residual.py` normalises what enters a branch. And a
# normaliser behind the activation cannot be folded into the layer before it, but often into the one behind.
#
# **Go further.** Each place has had its best rate. Predict whether ReLU or GELU changes its answer
# if both places share a rate, then give them one.

trial.record()
