"""
Does batch normalisation regularise?
====================================

A network that knows its training images by heart can be worse on new ones; a regulariser is meant
to prevent that. Ioffe and Szegedy (2015, section 4.2.1) left dropout out of their batch-normalised
network and saw no more overfitting, and Luo et al. (2019) explain it for a single layer:
the noise of a batch's statistics acts like a penalty on γ.

**What you'll do:** let networks with and without batch normalisation learn their images by heart, and
compare them *at the same training loss*; then add dropout, on either side of the normaliser, and weight
decay. **What you'll see:** a trajectory for each network, and what each regulariser is worth.
**Read with it:** :ref:`learn-debate`.
"""

# %%
# Networks that overfit
# ---------------------
# Two hidden layers have hundreds of thousands of weights, and they get about a thousand images, which
# every seed draws anew. Some other training images are held out for validation; the test images are
# looked at once, at the end. The weight decay was chosen beforehand among 0.3, 1 and 3, for each network on
# validation images, with seeds that are not used here.

import numpy as np
from bn_tutorial import Experiment, Recipe, build

trial = Experiment("regularisation")  # this profile's budget, images and hypotheses
few, many = min(1_280, trial.budget.subset // 2), trial.budget.subset
rates = trial.grid((0.0, 0.2, 0.5))

plain = Recipe(
    width=128,
    depth=2,
    inputs="standardized",
    batch_size=64,
    epochs=25,
    train_size=few,
    validation=trial.budget.validation,
)
batch = plain.but(norm="batch")
dropped = {net: {p: net.but(dropout=p) for p in rates} for net in (plain, batch)}
after = batch.but(dropout=0.5)
before = after.but(dropout_position="before")
decayed = {plain: plain.but(weight_decay=3), batch: batch.but(weight_decay=0.3)}
with_few = {"without": plain, "batch": batch}
with_many = {
    arm: net.but(train_size=many, epochs=8) for arm, net in with_few.items()
}

regularised = [net for row in dropped.values() for p, net in row.items() if p]
regularised += [before, *decayed.values()]
trial.train(regularised, trial.few_seeds, ends=True)
trial.train(
    dict.fromkeys(with_many.values(), trial.seeds_of("regularisation-matched-many"))
    | dict.fromkeys(with_few.values(), trial.seeds)
)

# %%
# The same training loss
# ----------------------
# After the same number of epochs the two networks do not fit the training images equally well. The
# one that fits faster has the larger *generalisation gap*, training minus validation accuracy, for
# that reason alone. So we follow each network along its *training loss* instead of along the
# epochs, and compare the two at three training losses that were fixed beforehand. Everything
# here is measured in inference mode with population statistics, on as many training images as there are
# validation images, or on all if they are fewer.

from bn_tutorial.evidence.measures import at_equal_fit, gap

VALIDATION = "val_accuracy_population"
LOSSES = {"few": (1.2, 0.9, 0.6), "many": (1.3, 1.1, 0.9)}
trial.trajectories(
    {
        f"{few:,} training images": with_few.values(),
        f"{many:,} training images": with_many.values(),
    },
    {"training − validation accuracy": gap, "validation accuracy": VALIDATION},
    compare=LOSSES["few"][:2],
    alt="Generalisation gap (above) and validation accuracy (below) against "
    "training loss, which falls from left to right, with few training images on "
    "the left and more on the right, with and without batch normalisation; dotted "
    "lines at two of the losses where they are compared.",
)

# %%
# A regulariser's curve should run lower than the other one above, and higher below. The two rows
# need not agree, since the same loss is not the same accuracy: a few mistakes that a network is very
# sure of cost as much as many hesitant ones. So the gap is compared at the same training
# *accuracy*, too.
#
# Instead of dropout?
# -------------------
# If batch normalisation regularises, dropout should be needed less. Each rate is tried with and
# without it, and the rate is chosen by *validation* accuracy; no dropout is one of the choices. Whether
# batch normalisation can *replace* dropout is a question only where dropout is worth something. In pilot
# runs of networks like these, with up to 256 units, it was worth less than a point without batch
# normalisation, so what comes out here is estimated and not judged.

best, best_batch = (
    trial.best(VALIDATION, dropped[net].values()) for net in (plain, batch)
)
for net in (best, best_batch):
    print(f"norm={net.norm!r}: a dropout rate of {net.dropout:g} validates best")

# %%
# And on which side?
# ------------------
# Dropout with rate *p* zeroes a unit, or divides it by 1 − *p*. That keeps its mean μ, but its
# variance σ² grows by a factor of :math:`1 + \frac{p}{1-p}\left(1 + \frac{\mu^2}{\sigma^2}\right)`:
# at least 2 for *p* = 0.5. If a normaliser comes next, its moving variance is that larger one, and
# at inference, without dropout, it divides by too much. Li et al. (2019, figure 1) saw a DenseNet
# fall from 77.42 % to 68.55 % on CIFAR-100 with such a dropout of 0.5 in each bottleneck; in Wide
# ResNets, thanks to their many features, the two went well together (abstract).
#
# Behind the first layer's normaliser, dropout still stands before that of the second, though with
# weights between. Here is the factor before the first one, in the untrained network:

flatten, dense, dropout = build(before).layers[:3]
units = np.asarray(dense(flatten(trial.inputs(before))))
variance = np.asarray(dropout(units, training=True)).var(axis=0)
growth = np.median(variance / units.var(axis=0))
theory = np.median(2 + units.mean(axis=0) ** 2 / units.var(axis=0))
print(f"The variance grows by a factor of {growth:.2f}; in theory, {theory:.2f}.")

# %%
# *Population* statistics are computed with dropout off. So if that factor does the harm, they
# should repair it, without any training.

TEST, MOVING = "test_accuracy_population", "test_accuracy"
trial.dots(
    {
        "how much dropout": {
            f"{p:g}": [(dropped[net][p], TEST) for net in (plain, batch)]
            for p in rates
        },
        "other": {
            "weight\ndecay": [(net, TEST) for net in decayed.values()],
            "dropout behind\nthe normaliser": [(after, MOVING), (after, TEST)],
            "dropout before\nthe normaliser": [(before, MOVING), (before, TEST)],
        },
    },
    names=("dropout rate", "weight decay; place of dropout (0.5)"),
    alt="Final test accuracy of networks trained on few images. Left: against the "
    "dropout rate, with and without batch normalisation. Right: both with weight "
    "decay, and with dropout of 0.5 behind and before the normaliser, each with "
    "moving (hollow) and with population statistics.",
)

# %%
# The verdicts
# ------------
# Registered in ``hypotheses/regularisation.toml`` after pilot runs, and before the runs shown here. Three
# are *primary*: the accuracy on new images at equal training losses, with few and with more images, as their
# number mattered in pilot runs; and the accuracy on the test images in the end.
# In the figure, what lies in the grey band is too small to matter.

tested = trial.tested  # by seed and part of the images, so that differences pair
gained = {
    "without": (tested(TEST, best) - tested(TEST, plain)).dropna(),
    "batch": (tested(TEST, best_batch) - tested(TEST, batch)).dropna(),
}
trial.judge(
    {
        "regularisation-matched": at_equal_fit(
            trial, with_few, VALIDATION, LOSSES["few"]
        ),
        "regularisation-gap": at_equal_fit(trial, with_few, gap, LOSSES["few"]),
        "regularisation-test": tested(TEST, **with_few),
        "regularisation-dropout": tested(TEST, dropout=best, batch=batch),
        "regularisation-decay": tested(TEST, decay=decayed[plain], batch=batch),
        "dropout-order": tested(MOVING, after=after, before=before),
        "dropout-shift": {
            "population": tested(TEST, before),
            "moving": tested(MOVING, before),
        },
        "dropout-gain": gained,
        "regularisation-gap-accuracy": at_equal_fit(
            trial, with_few, gap, (0.4, 0.3, 0.2), along="fit_accuracy"
        ),
        "regularisation-matched-many": at_equal_fit(
            trial, with_many, VALIDATION, LOSSES["many"]
        ),
        "regularisation-gap-many": at_equal_fit(
            trial, with_many, gap, LOSSES["many"]
        ),
        "regularisation-test-many": tested(TEST, **with_many),
    },
    alt="Five effects of batch normalisation in percentage points: on the accuracy "
    "on new images and on the generalisation gap at equal training loss, with few "
    "and with more images, and on the test accuracy in the end.",
)

# %%
# What else was the case at the same training losses, with few images, which was not on trial:

from bn_tutorial.evidence import interval

for metric, name, spec in (
    ("fit_accuracy", "training accuracy", ".1%"),
    ("val_loss_population", "validation loss", ".2f"),
):
    for arm, values in at_equal_fit(trial, with_few, metric, LOSSES["few"]).items():
        print(f"{name}, {arm}: {interval(values):{spec}}")

# %%
# What this does *not* show
# -------------------------
# The networks have two hidden layers, see about a thousand images and use Adam at its default rate.
# With dropout it may take more epochs to get the best of it. And the two networks differ in more than
# noise: batch normalisation also changes the path that training takes. Noise alone is the subject of
# :ref:`sphx_glr_auto_examples_why_plot_33_ghost_batches.py`.
#
# **Go further.** A batch of 16 gives noisier statistics than one of 64. Predict what that does to
# the blue curve of the first figure, then change one line of ``plain``: ``batch_size=16``.

trial.record(
    rate_without=best.dropout, rate_batch=best_batch.dropout, variance_growth=growth
)
# sphinx_gallery_key_figure = 3
# sphinx_gallery_thumbnail_panel = 3
