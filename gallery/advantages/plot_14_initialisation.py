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

from bn_tutorial import Recipe, build, load_cifar10, profile, train

budget = profile()
data = load_cifar10(budget.source)
plain = Recipe(
    depth=3,
    width=128,
    initializer="he_normal",
    inputs="standardized",
    optimizer="sgd",
    learning_rate=0.012,
    batch_size=64,
    epochs=min(budget.epochs, 5),
    train_size=budget.subset // 2,
    validation=budget.validation,
)
arms = {
    "without": plain,
    "batch, ε = 0.001": plain.but(norm="batch"),  # Keras's epsilon
    "batch, ε = 0.00001": plain.but(norm="batch", norm_options={"epsilon": 1e-5}),
    "layer": plain.but(norm="layer"),
}
scales = budget.grid([0.01, 0.1, 0.3, 1, 3, 10])
runs = train(
    [arm.but(init_scale=scale) for arm in arms.values() for scale in scales],
    data,
    seeds=range(budget.seeds),
)

# %%
# The map
# -------
# Each run looks at the test images once, after its last epoch, with population statistics. A run has
# *failed* if its loss stops being finite, or if its loss on training images ends no better than that
# of guessing, :math:`\ln 10`. It counts all the same, with the accuracy that it has.

import math

import matplotlib.pyplot as plt
import numpy as np
from bn_tutorial.figures import COLORS, INK, heatmap, mark_sample


def fails(run):
    """Return whether a run diverged, or ended no better than guessing."""
    guessing = math.log(len(data.classes)) - 0.001  # a dead network is within
    return run.diverged or run.history["fit_loss"][-1] >= guessing


def accuracies(arm, scale):
    """Return the test accuracy for each seed, failed ones included."""
    cell = runs.of(arms[arm].but(init_scale=scale))
    return {run.seed: run.history["test_accuracy_population"][-1] for run in cell}


table = [[np.mean([*accuracies(arm, s).values()]) for s in scales] for arm in arms]
failed = [
    [sum(map(fails, runs.of(recipe.but(init_scale=s)))) for s in scales]
    for recipe in arms.values()
]

figure, axes = plt.subplots(figsize=(7.6, 3.2))
heatmap(axes, table, list(arms), scales, failed, seeds=budget.seeds)
axes.set(
    xlabel="initial weights, times", ylabel="normaliser", title="Test accuracy"
)
mark_sample(figure, runs)
figure.set_label(
    "A table of coloured cells: the mean test accuracy without a normaliser, with batch "
    "normalisation and either epsilon, and with layer normalisation (rows), for initial weights "
    "multiplied by factors from 0.01 to 10 (columns). Cells in which a seed failed are hatched."
)

# %%
# How much the scale matters to an arm, in one number: its best minus its worst column, for each seed.

image = 1 / len(data.y_test)


def spread(arm):
    """Return the largest minus the smallest accuracy over the scales, for each seed."""
    columns = [accuracies(arm, scale) for scale in scales]
    return {
        seed: max(
            image, max(c[seed] for c in columns) - min(c[seed] for c in columns)
        )
        for seed in range(budget.seeds)
    }


for arm in arms:
    print(f"{arm:19}", ", ".join(f"{share:.1%}" for share in spread(arm).values()))

# %%
# Where epsilon begins
# --------------------
# Batch normalisation divides by :math:`\sqrt{v + \varepsilon}`, where :math:`v` is the variance of a
# unit's input over the batch. So the result has the standard deviation
# :math:`\sqrt{v / (v + \varepsilon)}`: nearly 1, whatever the scale, as long as :math:`v` is far above
# epsilon. Weights that are a hundredth of their usual size give a ten-thousandth of the variance.
# Here is the first layer of untrained networks, in training mode, on real images: the points are what
# comes out of Keras's layer, the dashed lines what the formula says.

from bn_tutorial.engines.program import Workbench
from bn_tutorial.scratch.theory import normalized_std

images = data.subset(500).x_train


def first_layer(recipe):
    """Return each unit's variance before normalisation, and its deviation after."""
    pixel_mean, pixel_std = Workbench(data).pixel_statistics(recipe)
    flatten, dense, norm = build(recipe).layers[:3]
    before = dense(flatten((images - pixel_mean) / pixel_std))
    after = norm(before, training=True)
    return np.var(before, axis=0, dtype=float), np.std(after, axis=0, dtype=float)


figure, axes = plt.subplots(figsize=(7.2, 4.0))
tolerance = 0.001
for epsilon, color in ((1e-3, COLORS["batch"]), (1e-5, COLORS["renorm"])):
    for inputs, pixels, marker in (
        ("standardized", "standardised pixels", "o"),
        ("unit", "pixels / 255", "s"),
    ):
        arm = plain.but(
            norm="batch", norm_options={"epsilon": epsilon}, inputs=inputs
        )
        usual, _ = first_layer(arm)
        points = []
        for scale in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10):
            variance, deviation = first_layer(arm.but(init_scale=scale))
            error = np.abs(deviation - normalized_std(variance, epsilon)).max()
            assert error < tolerance, f"scale {scale}: off by {error}"
            points.append((scale, deviation.mean()))
        line = np.geomspace(0.001, 10)
        predicted = normalized_std(np.outer(line**2, usual), epsilon).mean(axis=1)
        axes.plot(line, predicted, "--", color=INK, linewidth=1.2, zorder=3)
        label = f"ε = {epsilon:.5f}".rstrip("0") + f", {pixels}"
        axes.plot(
            *zip(*points, strict=True), marker, color=color, ms=8, label=label
        )
axes.set(xscale="log", xlabel="initial weights, times", ylim=(0, 1.05))
axes.set_ylabel("standard deviation after normalisation")
axes.xaxis.set_major_formatter("{x:g}")
figure.legend(loc="outside lower center", ncols=2)
figure.set_label(
    "The standard deviation of the first layer's normalised units, averaged over the units, against "
    "the scale of the initial weights, for two epsilons and for standardised and [0, 1] inputs: "
    "points measured, a dashed line through each series as the formula predicts."
)

# %%
# Every unit agrees with the formula to within 0.001, or this page would not have been built. In deeper
# layers the scale does not multiply up: each receives what the layer below has normalised. But nor does
# the loss to epsilon come only once: what a layer fails to bring back to 1 is missing in the next.
#
# The verdicts
# ------------
# The hypotheses were written down in ``hypotheses/initialisation.toml`` before any run.

from bn_tutorial.evidence import judge, record

without, usual, small, layer = arms
measured = {
    "init-spread": {"without": spread(without), "batch": spread(usual)},
    "init-tiny": {
        "epsilon 1e-3": accuracies(usual, scales[0]),
        "epsilon 1e-5": accuracies(small, scales[0]),
    },
    "init-spread-epsilon": {"without": spread(without), "batch": spread(small)},
    "init-spread-layer": {"without": spread(without), "layer": spread(layer)},
}
verdicts = judge("initialisation", measured, sample=data.is_sample)
for verdict in verdicts.values():
    print(verdict, end="\n\n")

# %%
# In words, as written beforehand for these verdicts:

for verdict in verdicts.values():
    print(verdict.sentence)

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

seconds = sum(run.provenance["seconds"] for run in runs)
print(f"The training behind this page took {seconds:.0f} s.")
record(
    "initialisation",
    verdicts,
    runs=runs,
    seeds=budget.seeds,
    epochs=plain.epochs,
    seconds=seconds,
    tolerance=tolerance,
)

# sphinx_gallery_thumbnail_number = 1
