"""
How far can the gradient be trusted?
====================================

A gradient is right only where it was computed; a step of any length goes on the assumption that it
still holds further on. Santurkar and others (2018, section 3.2, figure 4) looked along the gradient
of networks in training: with batch normalisation the loss varied less there, and the gradient was
a better guide.

**What you'll do:** stop a network in training after every epoch, and look around. **What you'll
see:** how the loss and its gradient change over steps of several lengths, with and without batch
normalisation.
**How long it takes:** a minute or so on two cores; the end of the page says how long it took.
**Read with it:** :ref:`learn-debate`.
"""

# %%
# How one looks around
# --------------------
# Take a batch, its loss, and the gradient :math:`g` of that loss at the weights :math:`w`. Now go
# along it, to :math:`w' = w - s\,\eta\,g`, where :math:`\eta` is the learning rate, for six lengths
# :math:`s` between a half and four; the step that training would take is among them. Note the
# lowest and the highest of the six losses (that of the start, with :math:`s = 0`, is not one of
# them), and by how much the gradient changes, :math:`\|g' - g\| / \|g\|`. On a perfectly even slope
# that is 0. At 1 the change is as large as the gradient itself, and following it further is
# guesswork.
#
# The networks, and the rule for their common learning rate, are those of
# :ref:`sphx_glr_auto_examples_why_plot_31_covariate_shift.py`: it is the rate, of a few, at which
# the *plain* network ends with the lowest training loss.

from bn_tutorial import Experiment, Recipe
from bn_tutorial.engines import observe

trial = Experiment("landscape")
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
rates = trial.grid([0.003, 0.01, 0.03, 0.1])
best = trial.pilot(plain.but(learning_rate=rate) for rate in rates)
print(f"The plain network's best learning rate is {best.learning_rate:g}.")

# %%
# That rate is the unit in which one looks. A tenth of it shows the closer surroundings.

normaliser = "batch"
gentle = best.but(learning_rate=best.learning_rate / 10)
pairs = {
    f"rate {net.learning_rate:.3g}": [net, net.but(norm=normaliser)]
    for net in (best, gentle)
}
trial.train(
    [net for pair in pairs.values() for net in pair], engine=observe.landscape
)

# %%
# What is around
# --------------
# The shaded area lies between the lowest and the highest loss that a step of one of the six lengths
# leads to; where they started from is not in it. If batch normalisation smooths the loss, then the
# blue area is the narrower one.


def around(runs):
    """Return the lowest and highest loss along the gradient, by seed and epoch."""
    return runs.curves("landscape_low"), None, runs.curves("landscape_high")


trial.ranges(
    pairs,
    around,
    log=True,
    ylabel="loss after the step, nats",
    alt="The range of the loss along the gradient against the epoch, without "
    "normaliser and with batch norm, as a shaded area with a thin line at both "
    "ends for each seed: on the left at the plain network's best learning rate, on "
    "the right at a tenth of it.",
)

# %%
# And here is the change of the gradient: the lower, the further it can be trusted.

trial.histories(
    pairs,
    "gradient_change",
    log="y",
    mean="geometric",
    alt="The largest relative change of the gradient against the epoch, without "
    "normaliser and with batch norm: on the left at the plain network's best "
    "learning rate, on the right at a tenth.",
)

# %%
# The verdicts
# ------------
# Written down in ``hypotheses/landscape.toml`` before these runs. Two hypotheses are *primary*, and
# corrected for being two; the others are secondary. All compare geometric means over the epochs.
#
# The last two are checks. If the losses of two networks differ, the same range may be a large or a
# small part of them. And Santurkar and others divide the change of the gradient not by its size but
# by the distance gone in the space of the weights. That makes a difference: batch normalisation
# undoes any rescaling of the weights before it, so where weights are larger, the same distance
# means less.

from bn_tutorial.evidence.measures import overall


def width(runs):
    """Return the range of the loss, by seed and epoch."""
    low, _, high = around(runs)
    return high - low


def relative(runs):
    """Return that range, divided by the lowest loss."""
    return width(runs) / runs.curves("landscape_low")


def compare(pair, measure):
    """Return the geometric mean of a measure over the epochs, by seed."""
    arms = zip(("without", "batch"), pair, strict=True)
    return {arm: overall(trial.of(net), measure) for arm, net in arms}


usual, small = pairs.values()
trial.judge(
    {
        "landscape-loss": compare(usual, width),
        "landscape-gradient": compare(usual, "gradient_change"),
        "landscape-gentle": compare(small, "gradient_change"),
        "landscape-relative": compare(usual, relative),
        "landscape-beta": compare(usual, "beta"),
    }
)

# %%
# What this does *not* show
# -------------------------
# One direction out of very many: the gradient's. Along others the loss may look quite different.
# Each glance is at the loss of one batch, whose own statistics normalise it wherever one looks. The
# rate is the plain network's best; at a rate that suits the normalised network better, its steps
# would be of another length. And that a smoother loss goes with better training does not yet make
# it the reason.
#
# **Exercise.** Is it the batch that matters, or will any normaliser do? Predict where layer
# normalisation lies in the figure, then change one line: ``normaliser = "layer"``. The verdicts
# will then call it batch normalisation all the same.

trial.record(rate=best.learning_rate, gentle=gentle.learning_rate)
