"""
What shifts, and does batch normalisation stop it?
==================================================

Every update of a layer changes what the layers above it receive: Ioffe and Szegedy (2015) called
this *internal covariate shift*, and batch normalisation was their remedy. The input of a unit that
they followed drifted less with it (section 4.1, figure 1). Santurkar and others (2018, section 2)
made it drift again, with noise behind each normaliser, and the network still trained almost as
well; the same noise in the network *without* batch normalisation kept it from training at all. And
by its gradients, they found the shift similar with batch normalisation, or even worse.

**What you'll do:** measure the shift in both of these senses, in a plain, a batch-normalised and a
noisy network. **What you'll see:** what batch normalisation steadies, at which learning rate, and
what becomes of training when it is made unsteady again.
**How long it takes:** a minute or so on two cores; the end of the page says how long it took.
**Read with it:** :ref:`learn-why` and :ref:`learn-debate`.
"""

# %%
# Two meanings of one word
# ------------------------
# *By distribution.* Take a unit, and what enters its activation for 500 fixed images. After every
# epoch, note the quantiles of these 500 numbers. How far do they move in an epoch, compared with
# how far apart the 15th and the 85th percentile are? That is the unit's *drift*.
#
# *By gradient.* Let :math:`G` be the gradient of the loss of a batch with respect to a layer's
# weights. Now update the layers below it, and only these, and compute the gradient again,
# :math:`G'`. The layer is about to step along :math:`G` while :math:`G'` would be right. So the
# shift is :math:`\|G - G'\| / \|G\|`: at 0 the layers below do not matter, and at 1 the error is as
# large as the gradient itself.

# %%
# Three networks
# --------------
# Five hidden layers of 128 rectified units, trained by plain gradient descent: without a
# normaliser, with batch normalisation, and with noise after it. The noise shifts and stretches the
# outputs of every unit at random, anew in every step, so that the next layer never meets the same
# distribution twice. At inference there is no noise.

from bn_tutorial import Experiment, Recipe

trial = Experiment("covariate-shift")
plain = Recipe(
    depth=5,
    width=128,
    initializer="he_normal",
    inputs="standardized",
    optimizer="sgd",
    batch_size=64,
    epochs=12,
    train_size=trial.budget.subset // 2,
    validation=trial.budget.validation,
)

# %%
# A longer step shifts more, so the learning rate must be the same for all, and chosen beforehand.
# The rule: the one of a few at which the *plain* network ends with the lowest training loss, in a
# run with a seed that is not used again.

rates = trial.grid([0.003, 0.01, 0.03, 0.1])
best = trial.pilot(plain.but(learning_rate=rate) for rate in rates)
print(f"The plain network's best learning rate is {best.learning_rate:g}.")

# %%
# In small steps things may look different from in large ones. So the first two networks are trained
# at a tenth of that rate, too.

from bn_tutorial.engines import observe

networks = {
    "without": best,
    "batch norm": best.but(norm="batch"),
    "noisy batch norm": best.but(norm="noisy"),
}
gentle = best.learning_rate / 10
slow = {
    name: networks[name].but(learning_rate=gentle)
    for name in ("without", "batch norm")
}
trial.train([*networks.values(), *slow.values()], engine=observe.covariate_shift)

# %%
# The first meaning: distributions
# --------------------------------
# One unit of the last hidden layer, for each network and seed, at the plain network's best rate.
# Its scale is that of the first epoch: 0 is its median then, and 1 the distance between its two
# percentiles. If batch normalisation works as its inventors meant it to, then the middle panel is
# calm; and if the noise does its work, then the one on the right is not.

import numpy as np
from bn_tutorial.engines.probes import QUANTILES


def percentiles(runs):
    """Return three percentiles of the first unit, by seed and epoch."""
    low, below, above, high = (
        runs.curves(f"quantiles/{QUANTILES.index(share)}")
        for share in (0.15, 0.45, 0.55, 0.85)
    )
    middle = (below + above) / 2
    start, spread = middle[:, :1], high[:, :1] - low[:, :1]
    return (np.array([low, middle, high]) - start) / spread


trial.ranges(
    {name: [net] for name, net in networks.items()},
    percentiles,
    one_seed=True,
    ylabel="input of a unit\n(1: its spread after the first epoch)",
    alt="The input of one unit of the last hidden layer against the epoch, without "
    "normaliser, with batch norm and with noisy batch norm: for one seed the "
    "median as a bold line and the range from the 15th to the 85th percentile as a "
    "band, for the other seeds the median as a thin line.",
)

# %%
# The second meaning: gradients
# -----------------------------
# Now for each layer: by how much does a step of the layers below change its gradient? Nothing lies
# below the first layer, so the panels begin with the second. Look at both rates before you answer.

trial.by_layer(
    {f"rate {best.learning_rate:.3g}": networks, f"rate {gentle:.3g}": slow},
    "shift",
    names=[*range(2, plain.depth + 1), "out"],
    alt="Shift of the gradient of each layer, from the second to the output layer, "
    "at the plain network's best learning rate (left) and at a tenth of it "
    "(right), without normaliser, with batch norm and, on the left, with noisy "
    "batch norm.",
)

# %%
# And this is what it is all for: how well the networks fit the training images, at the higher rate.

trial.curves(
    {f"rate {best.learning_rate:.3g}": networks},
    "fit_accuracy",
    alt="Training accuracy against the epoch, without normaliser, with batch norm "
    "and with noisy batch norm, at the plain network's best learning rate.",
)

# %%
# The verdicts
# ------------
# Written down in ``hypotheses/covariate-shift.toml`` before these runs. Three hypotheses are
# *primary*, and corrected for being three; the others are secondary.

from bn_tutorial.evidence.measures import by_layer


def mean(name, **arms):
    """Return a measure averaged over layers and epochs, by seed."""
    return {
        arm: by_layer(trial.of(net), name).mean(axis=1) for arm, net in arms.items()
    }


without, batch, noisy = networks.values()
trial.judge(
    {
        "shift-gradient": mean("shift", without=without, batch=batch),
        "shift-gentle": mean(
            "shift", without=slow["without"], batch=slow["batch norm"]
        ),
        "shift-distribution": mean("drift", without=without, batch=batch),
        "shift-noise-drift": mean("drift", without=without, noisy=noisy),
        "shift-noise": trial.final("fit_accuracy", batch=batch, noisy=noisy),
        "shift-noise-none": trial.final(
            "fit_accuracy", without=without, noisy=noisy
        ),
    }
)

# %%
# What this does *not* show
# -------------------------
# Which shift matters. If the noise costs accuracy, that need not be because distributions shift:
# noise is a burden of its own, all the more in a narrow network. And if a shift comes out smaller,
# that does not make it the reason why a network trains better. The learning rate is the same for
# all, where each network might deserve its own. Nothing is measured before the end of the first
# epoch. And Santurkar and others studied a VGG network and a linear one of 25 layers, not this one.
#
# **Exercise.** Can the network bear more noise? Predict what becomes of drift and accuracy if the
# noise is twice as large, then change one line:
# ``noisy = best.but(norm="noisy", norm_options={"max_shift": 1.0, "max_scale": 1.5})``.

trial.record(rate=best.learning_rate, gentle=gentle)
