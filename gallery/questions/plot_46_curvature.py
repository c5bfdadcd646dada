"""
How sharp is the loss?
======================

The largest eigenvalue of the loss's second derivatives, its *sharpness*, says how long a step may be: on a
quadratic, gradient descent diverges if the rate is above 2 ÷ sharpness. Cohen and others (2021) found that
training with all images at once typically raises the sharpness until it meets this bound, and that it then hovers
just above. Page (2019) found that much of the sharpness of a network without batch normalisation goes when the
directions are taken out that move the means, variances and skews of its outputs.

**What you'll do:** go down the whole loss of a small network, and measure its Hessian on the way.
**What you'll see:** how sharp the loss is with and without batch normalisation, and in which direction.
**Read with it:** :ref:`learn-debate`.
"""

# %%
# Down the whole loss
# -------------------
# Five hundred images make one batch, so that the loss is the same function in every step. A step is an
# epoch, and there are 120; the sharpness is measured twelve times. Both networks have the same rate.

from bn_tutorial import Experiment, Recipe
from bn_tutorial.engines import curvature

trial = Experiment("curvature")
size = min(500, trial.budget.subset)
plain = Recipe(
    width=32,
    depth=2,
    initializer="he_normal",
    inputs="standardized",
    optimizer="sgd",
    learning_rate=0.05,
    batch_size=size,
    train_size=size,
    epochs=40 * min(trial.budget.epochs, 3),
)
rates = (0.02, 0.05)
networks = {
    f"learning rate {rate:g}": [
        plain.but(learning_rate=rate),
        plain.but(norm="batch", learning_rate=rate),
    ]
    for rate in rates
}
low, high = networks.values()
trial.train(
    dict.fromkeys(low, trial.few_seeds) | dict.fromkeys(high, trial.seeds),
    engine=curvature.edge,
)

# %%
# The edge
# --------
# If the sharpness were what limits the rate, the network that bears higher rates should be the flatter one at
# the same rate. If both go to the edge, it need not be.
#
# The dashed line is 2 ÷ rate. A curve above it is no error: the bound is that of a quadratic. The sharpness is
# that of the loss in training mode, with the batch's statistics a part of the function.

trial.histories(
    networks,
    "sharpness",
    ylabel="largest eigenvalue of the Hessian",
    over="step",
    log="y",
    theory={
        f"2 ÷ rate, {rate:g}": lambda step, rate=rate: 0 * step + 2 / rate
        for rate in rates
    },
    alt="The largest eigenvalue of the loss's Hessian against the step, with and "
    "without batch normalisation, at two learning rates, and across each "
    "panel two divided by the rate.",
)

# %%
# In which direction?
# -------------------
# A step along the gradient of an output's mean over the images moves that mean more than any other step of
# its length. How much of the sharpest direction lies in the span of these gradients? The span has nine dimensions
# of some hundred thousand, so that by chance it would be next to nothing. Part of what follows is arithmetic: in
# training mode no kernel before a normaliser can move the mean that it puts out.

trial.histories(
    networks,
    "means",
    ylabel="share of the sharpest direction",
    over="step",
    ylim=(0, 1),
    alt="The share of the sharpest direction that lies in the span of the "
    "gradients of the outputs' means, against the step, with and without "
    "batch normalisation.",
)

# %%
# The verdicts
# ------------
# Registered in ``hypotheses/curvature.toml`` after pilot runs, and before the runs shown here. Each reads the
# mean over the second half of the training, at the higher rate. (The last estimate was added on
# 30 November 2026, after the first builds: a reader had missed it.)


def late(net, name):
    """Return the mean over the second half of training, by seed."""
    half = slice(curvature.POINTS // 2, curvature.POINTS)
    return trial.final(
        lambda runs: runs.curves(name)[:, half].mean(1)[:, None], net
    )


without, batch = high
arms = {"without": without, "batch": batch}
edge = 2 / without.learning_rate
sharp = {arm: late(net, "sharpness") for arm, net in arms.items()}
line = 0 * sharp["without"] + edge
trial.judge(
    {
        "curvature-sharpness": sharp,
        "curvature-means": {arm: late(net, "means") for arm, net in arms.items()},
        "curvature-edge": {"edge": line, "plain": sharp["without"]},
        "curvature-edge-batch": {"edge": line, "batch": sharp["batch"]},
    }
)

# %%
# What this does *not* show
# -------------------------
# One batch of 500 images, and few steps: a mean over their second half says little of a curve that still rises
# or falls. With small batches the loss changes from step to step, and so does its curvature. And the sharpness
# of a batch-normalised network says little by itself: kernels before a normaliser that are twice as long
# compute nearly the same, with a quarter of the curvature in their own directions
# (:ref:`sphx_glr_auto_examples_why_plot_34_scale_invariance.py`).
#
# **Go further.** Predict what weight decay does to the sharpness with batch normalisation, then
# write ``weight_decay=0.01``.

trial.record()
