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
**Read with it:** :ref:`learn-debate`.
"""

# %%
# How one looks around
# --------------------
# Take a batch, its loss, and the gradient :math:`g` of that loss at the weights :math:`w`. Now go
# along it, in six steps, up to a share of the weights' length: 1 %, 3 % or 10 % in each layer. Note
# the lowest and the highest loss on the way, and by how much the gradient changes,
# :math:`\|g' - g\| / \|g\|`. On a perfectly even slope that is 0. At 1 the change is as large as
# the gradient itself, and following it further is guesswork.
#
# Why shares, and not learning rates? A rate that suits one network is a long or a short step for
# another; and a layer before a normaliser computes the same with weights of any length, so that a
# step is long or short only in comparison with them. The networks are those of
# :ref:`sphx_glr_auto_examples_why_plot_31_covariate_shift.py`: each has the best of four learning
# rates, chosen in pilot runs.

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
    epochs=6,
    train_size=trial.budget.subset,
    validation=min(500, trial.budget.validation),
)
normaliser = "batch"
pair = [
    plain.but(learning_rate=0.03),
    plain.but(learning_rate=0.1, norm=normaliser),
]
trial.train(pair, engine=observe.landscape)

# %%
# What is around
# --------------
# The shaded area lies between the lowest and the highest loss that one of the six steps leads to. If
# batch normalisation smooths the loss, then the blue area is the narrower one.

shares = {f"up to {share:.0%}": f"{share:.0%}" for share in observe.SHARES}
steps, middle = dict.fromkeys(shares, pair), "up to 3%"


def around(share):
    """Return what computes the lowest and the highest loss, by seed and epoch."""

    def ends(runs):
        low, high = (
            runs.curves(f"landscape_{end} {share}") for end in ("low", "high")
        )
        return low, None, high

    return ends


trial.ranges(
    {middle: pair},
    {middle: around(shares[middle])},
    log=True,
    ylabel="loss after the step, nats",
    alt="The range of the loss along the gradient against the epoch, without "
    "normaliser and with batch norm, as a shaded area with a thin line at both "
    "ends for each seed, for steps of up to 3 % of the weights' length.",
)

# %%
# And here is the change of the gradient: the lower, the further it can be trusted.

trial.histories(
    steps,
    {title: f"gradient_change {share}" for title, share in shares.items()},
    log="y",
    mean="geometric",
    alt="The largest relative change of the gradient against the epoch, without "
    "normaliser and with batch norm, for steps of up to 1, 3 and 10 % of the "
    "weights' length.",
)

# %%
# The verdicts
# ------------
# Registered in ``hypotheses/landscape.toml`` after pilot runs, and before the runs shown here. The
# intervals of the four *primary* ones are widened, so that they hold together; the others are
# secondary. All compare geometric means over the epochs.
#
# The last two are checks. If the losses of two networks differ, the same range may be a large or a
# small part of them. And Santurkar and others divide the change of the gradient not by its size but
# by the distance gone in the space of the weights. That makes a difference: batch normalisation
# undoes any rescaling of the weights before it, so where weights are larger, the same distance
# means less.
# In the figure, what lies in the grey band is too small to matter.

from bn_tutorial.evidence.measures import overall


def width(runs):
    """Return the range of the loss, by seed and epoch."""
    low, _, high = around("3%")(runs)
    return high - low


def relative(runs):
    """Return that range, divided by the lowest loss."""
    return width(runs) / runs.curves("landscape_low 3%")


def compare(measure):
    """Return the geometric mean of a measure over the epochs, by seed."""
    arms = zip(("without", "batch"), pair, strict=True)
    return {arm: overall(trial.of(net), measure) for arm, net in arms}


trial.judge(
    {
        "landscape-loss": compare(width),
        "landscape-gradient": compare("gradient_change 3%"),
        "landscape-short": compare("gradient_change 1%"),
        "landscape-long": compare("gradient_change 10%"),
        "landscape-relative": compare(relative),
        "landscape-beta": compare("beta 3%"),
    },
    alt="Six ratios, with batch normalisation divided by without: of the range of "
    "the loss, and of the change of the gradient, along steps of three lengths.",
)

# %%
# What this does *not* show
# -------------------------
# One direction out of very many: the gradient's. Along others the loss may look quite different.
# Each glance is at the loss of one batch, whose own statistics normalise it wherever one looks. How
# long a step training takes, in shares of the weights, differs from network to network, and from
# epoch to epoch. And that a smoother loss goes with better training does not yet make it the reason.
#
# **Go further.** Is it the batch that matters, or will any normaliser do? Predict where layer
# normalisation lies in the figure, then change one line: ``normaliser = "layer"``. The verdicts
# will then call it batch normalisation all the same.

trial.record(rate=pair[0].learning_rate, rate_batch=pair[1].learning_rate)
# sphinx_gallery_key_figure = 3
# sphinx_gallery_thumbnail_number = 2
# sphinx_gallery_thumbnail_panel = 2
