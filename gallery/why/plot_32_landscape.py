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
# lowest and the highest loss on the way, and by how much the gradient changes,
# :math:`\|g' - g\| / \|g\|`. On a perfectly even slope that is 0. At 1 the change is as large as
# the gradient itself, and following it further is guesswork.
#
# The networks, and the rule for their common learning rate, are those of
# :ref:`sphx_glr_auto_examples_why_plot_31_covariate_shift.py`: it is the rate, of a few, at which
# the *plain* network ends with the lowest training loss.

from bn_tutorial import Recipe, load_cifar10, profile, train
from bn_tutorial.engines import observe

budget = profile()
data = load_cifar10(budget.source)
plain = Recipe(
    depth=5,
    width=128,
    initializer="he_normal",
    inputs="standardized",
    optimizer="sgd",
    batch_size=64,
    epochs=12,
    train_size=budget.subset // 2,
    validation=budget.validation,
)
rates = budget.grid([0.003, 0.01, 0.03, 0.1])
trials = train(
    [plain.but(learning_rate=rate) for rate in rates],
    data,
    seeds=[budget.subset_seeds],
)
best = min(trials, key=lambda run: run.history["loss"][-1]).recipe
print(f"The plain network's best learning rate is {best.learning_rate:g}.")

# %%
# That rate is the unit in which one looks. A tenth of it shows the closer surroundings.

normaliser = "batch"
normalised = best.but(norm=normaliser)
gentle = best.but(learning_rate=best.learning_rate / 10)
normalised_gentle = gentle.but(norm=normaliser)
runs = train(
    [best, normalised, gentle, normalised_gentle],
    data,
    seeds=range(budget.subset_seeds),
    engine=observe.landscape,
)

# %%
# What is around
# --------------
# On the left, the shaded area lies between the lowest and the highest loss that a step of one of
# the six lengths leads to. If batch normalisation smooths the loss, then the blue area is the
# narrower one. On the right, the change of the gradient: the lower, the further it can be trusted.

import matplotlib.pyplot as plt
import numpy as np
from bn_tutorial.figures import COLORS, mark_sample
from matplotlib.ticker import FixedLocator, MaxNLocator


def centre(curves):
    """Return the geometric mean over seeds."""
    return np.exp(np.log(curves).mean(axis=0))


figure, panels = plt.subplots(2, 2, figsize=(7.6, 5.8), sharex=True, sharey="col")
epochs = range(1, plain.epochs + 1)
pairs = (best, normalised), (gentle, normalised_gentle)
for (losses, changes), pair in zip(panels, pairs, strict=True):
    for recipe in pair:
        color, found = COLORS[recipe.norm], runs.of(recipe)
        low, high, change = map(
            found.curves,
            ("landscape_low", "landscape_high", "gradient_change"),
        )
        ends = centre(low), centre(high)
        losses.fill_between(
            epochs, *ends, color=color, alpha=0.35, linewidth=0,
            label=f"{recipe.norm} norm" if recipe.norm else "without",
        )  # fmt: skip
        for axes, curves in (losses, low), (losses, high), (changes, change):
            axes.plot(epochs, curves.T, color=color, linewidth=0.7, alpha=0.55)
        changes.plot(epochs, centre(change), color=color, linewidth=2.2)
    losses.set_title(f"rate {recipe.learning_rate:.3g}")
    losses.set_ylabel("loss after the step, nats")
    changes.set_ylabel(r"$\|g' - g\|\,/\,\|g\|$")
panels[0, 1].set_title("change of the gradient")
for axes in panels.flat:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(
        FixedLocator([0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20])
    )
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
for axes in panels[1]:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
handles, labels = panels[0, 0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside lower center", ncols=2)
mark_sample(figure, runs)
figure.set_label(
    "Left: the range of the loss along the gradient against the epoch, without normaliser and with "
    "batch norm, as a shaded area with a thin line at both ends for each seed. Right: the largest "
    "relative change of the gradient, a thin line for each seed and a bold one for their mean. "
    "Above at the plain network's best learning rate, below at a tenth of it."
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

from bn_tutorial.evidence import judge, record


def overall(recipe, measure):
    """Return the geometric mean of a measure over the epochs, for each seed."""
    found = runs.of(recipe)
    values = np.exp(np.log(measure(found)).mean(axis=1))
    return {run.seed: value for run, value in zip(found, values, strict=True)}


def width(found):
    """Return the range of the loss, by seed and epoch."""
    return found.curves("landscape_high") - found.curves("landscape_low")


def relative(found):
    """Return that range, divided by the lowest loss."""
    return width(found) / found.curves("landscape_low")


def change(found):
    """Return the relative change of the gradient, by seed and epoch."""
    return found.curves("gradient_change")


def beta(found):
    """Return the change of the gradient per distance, by seed and epoch."""
    return found.curves("beta")


measured = {
    name: {
        "without": overall(first, measure),
        "batch": overall(second, measure),
    }
    for name, (first, second), measure in (
        ("landscape-loss", pairs[0], width),
        ("landscape-gradient", pairs[0], change),
        ("landscape-gentle", pairs[1], change),
        ("landscape-relative", pairs[0], relative),
        ("landscape-beta", pairs[0], beta),
    )
}
verdicts = judge("landscape", measured, sample=data.is_sample)
for verdict in verdicts.values():
    print(verdict, end="\n\n")

# %%
# In words, as written beforehand for these verdicts:

print("\n".join(verdict.sentence for verdict in verdicts.values()))

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

seconds = sum(run.provenance["seconds"] for run in trials + runs)
print(f"The training behind this page took {seconds:.0f} s.")
record(
    "landscape",
    verdicts,
    runs=runs,
    seeds=budget.subset_seeds,
    rate=best.learning_rate,
    gentle=gentle.learning_rate,
    seconds=seconds,
)

# sphinx_gallery_thumbnail_number = 1
