"""
How much does initialisation matter?
====================================

Weights that start too small or too large can stop a network from learning anything. A batch-normalised
layer does not feel their scale, wrote Ioffe and Szegedy (2015, section 3.3): BN((aW)u) = BN(Wu), and
larger weights get smaller gradients. Yang and others (2019, abstract) add that the way its gradients
grow with depth cannot be tuned away by the variance of the initial weights.

**What you'll do:** multiply the initial weights by factors from 0.01 to 10, and train. **What you'll
see:** at which scales each network still learns, and how Keras's epsilon breaks the invariance.
**How long it takes:** a minute or two on two cores; the end of the page says how many seconds.
**Read with it:** :ref:`learn-algorithm` and :ref:`learn-debate`.
"""

# %%
# The runs
# --------
# Three hidden layers of 128 rectified units; their initial weights are He's, times a factor. The
# last layer is the same in all. The optimiser is SGD, and that is a choice: Adam gives steps of much
# the same size to small and to large gradients, and so repairs a part of the damage by itself. The
# learning rate was fixed beforehand, for all arms, as one at which each of them learns from He's
# weights; see :ref:`sphx_glr_auto_examples_advantages_plot_11_learning_rate.py`.

from bn_tutorial import Experiment, Recipe, build

trial = Experiment("initialisation")
plain = Recipe(
    depth=3,
    width=128,
    initializer="he_normal",
    inputs="standardized",
    optimizer="sgd",
    learning_rate=0.012,
    batch_size=64,
    epochs=min(trial.budget.epochs, 5),
    train_size=trial.budget.subset // 2,
    validation=trial.budget.validation,
)
arms = {
    "without": plain,
    "batch, ε = 0.001": plain.but(norm="batch"),  # Keras's epsilon
    "batch, ε = 0.00001": plain.but(norm="batch", norm_options={"epsilon": 1e-5}),
    "layer": plain.but(norm="layer"),
}
without, usual, small, layer = arms
scales = trial.grid([0.01, 0.1, 0.3, 1, 3, 10])
rows = {
    arm: {scale: net.but(init_scale=scale) for scale in scales}
    for arm, net in arms.items()
}
trial.train([net for row in rows.values() for net in row.values()], trial.few_seeds)

# %%
# The map
# -------
# Each run looks at the test images once, after its last epoch, with population statistics. A run has
# *failed* if its loss stops being finite, or if its loss on training images ends no better than that of
# guessing, :math:`\ln 10`. It counts all the same, with the accuracy that it has.

TEST = "test_accuracy_population"
trial.heatmaps(
    {"Test accuracy": rows},
    TEST,
    alt="A table of coloured cells: the mean test accuracy without a normaliser, "
    "with batch normalisation and either epsilon, and with layer normalisation "
    "(rows), for initial weights multiplied by factors from 0.01 to 10 (columns). "
    "Cells in which a seed failed are hatched.",
)

# %%
# How much the scale matters to an arm, in one number: its best minus its worst column, for each seed.

import pandas as pd
from bn_tutorial.evidence.measures import last

tested = {
    arm: pd.DataFrame({s: last(trial.of(net), TEST, 0.1) for s, net in row.items()})
    for arm, row in rows.items()
}
image = 1 / len(trial.data.y_test)
spread = {
    arm: (shares.max(axis=1) - shares.min(axis=1)).clip(lower=image)
    for arm, shares in tested.items()
}
for arm, shares in spread.items():
    print(f"{arm:19}", ", ".join(f"{share:.1%}" for share in shares))

# %%
# Where epsilon begins
# --------------------
# Batch normalisation divides by :math:`\sqrt{v + \varepsilon}`, where :math:`v` is the variance of a
# unit's input over the batch. So the result has the standard deviation
# :math:`\sqrt{v / (v + \varepsilon)}`: nearly 1, whatever the scale, as long as :math:`v` is far above
# epsilon. Weights that are a hundredth of their usual size give a ten-thousandth of the variance.
# Here is the first layer of untrained networks, in training mode, on real images: the points are what
# comes out of Keras's layer, the dashed lines what the formula says.

import numpy as np
from bn_tutorial.scratch.theory import normalized_std


def first_layer(recipe):
    """Return each unit's variance before, its deviation after, and epsilon."""
    flatten, dense, norm = build(recipe).layers[:3]
    before = dense(flatten(trial.inputs(recipe, 500)))
    after = norm(before, training=True)
    variance = np.var(before, axis=0, dtype=float)
    return variance, np.std(after, axis=0, dtype=float), norm.epsilon


networks = {
    "ε = 0.001, standardised pixels": arms[usual],
    "ε = 0.001, pixels / 255": arms[usual].but(inputs="unit"),
    "ε = 0.00001, standardised pixels": arms[small],
    "ε = 0.00001, pixels / 255": arms[small].but(inputs="unit"),
}
factors = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)
finely, tolerance = np.geomspace(0.001, 10), 0.001
points, lines = {name: [] for name in networks}, {}
for name, net in networks.items():
    variance, _, epsilon = first_layer(net)
    variances = np.outer(finely**2, variance)
    lines[name] = normalized_std(variances, epsilon).mean(axis=1)
    for factor in factors:
        variance, deviation, epsilon = first_layer(net.but(init_scale=factor))
        error = np.abs(deviation - normalized_std(variance, epsilon)).max()
        assert error < tolerance, f"scale {factor}: off by {error}"
        points[name].append(deviation.mean())

# %%
# The figure shows the mean over the layer's 128 units; the code above has compared each of them.

from bn_tutorial.figures import INK, SHADES

with trial.panels(
    alt="The standard deviation of the first layer's normalised units, averaged "
    "over the units, against the scale of the initial weights, for two epsilons "
    "and for standardised and [0, 1] inputs: points measured, a dashed line "
    "through each series as the formula predicts.",
) as (panel,):
    dashed = {"color": INK, "ls": "--", "lw": 1.2, "zorder": 3, "legend": False}
    for n, name in enumerate(networks):
        look = {"color": SHADES[n // 2 * 2], "marker": "os"[n % 2]}
        panel.line(name, factors, points[name], ls="", ms=8, **look)
        panel.line(f"{name}, formula", finely, lines[name], **dashed)
    panel.ticks("x", (0.001, 0.01, 0.1, 1, 10), log=10)
    panel.axes.set(xlabel="initial weights, times", ylim=(0, 1.05))
    panel.axes.set_ylabel("standard deviation after normalisation")

# %%
# Every unit agrees with the formula to within 0.001, or this page would not have been built. In deeper
# layers the scale does not multiply up: each receives what the layer below has normalised. But nor does
# the loss to epsilon come only once: what a layer fails to bring back to 1 is missing in the next.
#
# The verdicts
# ------------
# The hypotheses were written down in ``hypotheses/initialisation.toml`` before any run.

trial.judge(
    {
        "init-spread": {"without": spread[without], "batch": spread[usual]},
        "init-tiny": {
            "epsilon 1e-3": tested[usual][scales[0]],
            "epsilon 1e-5": tested[small][scales[0]],
        },
        "init-spread-epsilon": {"without": spread[without], "batch": spread[small]},
        "init-spread-layer": {"without": spread[without], "layer": spread[layer]},
    }
)

# %%
# What this does *not* show
# -------------------------
# Only the scale is varied, not the distribution, and the last layer keeps its own. At another learning
# rate, or after more epochs, a slow start might be made up for. Nor is a network whose *function*
# ignores the scale one whose *training* does: its gradients are the smaller, the larger the weights are,
# so with one learning rate for all it moves more slowly from a large start.
#
# **Exercise.** Adam divides each step by the size of the gradients. Predict which rows of the map this
# changes most, then change one line: ``optimizer="adam", learning_rate=0.001``.

trial.record(tolerance=tolerance)
