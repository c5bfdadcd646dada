"""
Do residual networks need batch normalisation?
==============================================

Nearly every deep network of today adds what a block computes to what the block was given. De and Smith
(2020, abstract) say what batch normalisation does there: at the start it makes branches smaller than the sums
they are added to, by a factor of the order of the root of the depth, so that a deep network begins close to the
identity. If that is all, a branch that simply starts at zero should do as well.

**What you'll do:** measure the branches of new networks, and train networks of 2 to 24 layers. **What you'll
see:** which of them train, at which learning rates. **Read with it:** :ref:`learn-debate`.
"""

# %%
# Five kinds of network
# ---------------------
# In three of them, every layer but the first adds to the sum of all before it; what it is given is that sum,
# after normaliser and ReLU (He and others, 2016, call it pre-activation). *SkipInit*, by De and Smith,
# multiplies each branch by a number that starts at 0 and is trained, and normalises nothing. Two are chains,
# without a sum.

from bn_tutorial import Experiment, Recipe
from bn_tutorial.engines import observe

trial = Experiment("residual")
chain = Recipe(
    width=64,
    depth=24,
    initializer="he_normal",
    inputs="standardized",
    optimizer="sgd",
    epochs=min(trial.budget.epochs, 5),
    train_size=trial.budget.subset // 2,
    validation=min(1_000, trial.budget.validation),
)
sums = chain.but(residual="sum")
arms = {
    "chain": chain,
    "chain, batch": chain.but(norm="batch"),
    "sum": sums,
    "sum, batch": sums.but(norm="batch"),
    "SkipInit": chain.but(residual="skipinit"),
}

# %%
# At the start
# ------------
# How large is a branch beside the sum that it is added to? The first layer puts out a variance of 2, as He's
# weights double that of the pixels, and a branch behind normaliser and ReLU adds :math:`1 - 1/\pi`. So branch
# :math:`l` is :math:`1/\sqrt{l + 1.93}` times as large as the sum: that is the dashed line, in the end nearly
# :math:`1/\sqrt{l}`. Without a normaliser a branch should be nearly as large as its sum, and the sum nearly
# double its variance each time. Those of *SkipInit* are multiplied by 0, and need no line.

import numpy as np

starts = {
    name: trial.train(net, trial.few_seeds, engine=observe.branches)
    for name, net in {
        "with batch normalisation": arms["sum, batch"],
        "without": sums,
    }.items()
}
layers = np.arange(1, sums.depth)


def sizes(runs):
    """Return the size of each branch, shape (branches, seeds)."""
    return np.array(
        [[run.history[f"branch/{n - 1}"][0] for run in runs] for n in layers]
    )


trial.lines(
    {"": {name: sizes(runs) for name, runs in starts.items()}},
    layers,
    xlabel="branch",
    ylabel="branch ÷ sum before it (deviations)",
    theory={"theory": lambda branch: (branch + 1.93) ** -0.5},
    ylim=(0, None),
    alt="The standard deviation of each branch over that of the sum it is added "
    "to, at the start, against the branch from 1 to 23, with and without "
    "batch normalisation, and the predicted curve.",
)

# %%
# Which rates, which depths
# -------------------------
# If a small branch at the start is what counts, *SkipInit* should train like the sum with batch normalisation,
# at any depth; and a bare sum should not. At two layers there is one branch, and little to tell apart.
#
# All five are trained at each learning rate; then each at the rate that validated best in pilot runs (with
# seeds that are not used here), for 2, 8 and 24 layers. A run that diverges, or ends no better than a guess, has
# *failed*. If the bare sum of 24 layers does so at every rate of the map, whatever is compared with it is
# compared with a failure.

rates = trial.grid((1e-5, 0.003, 0.03, 0.3))
table = {
    name: {rate: net.but(learning_rate=rate) for rate in rates}
    for name, net in arms.items()
}
depths = trial.grid((2, 8, 24))
best = {
    "chain": {2: 0.03, 8: 0.03, 24: 0.03},
    "chain, batch": {2: 0.03, 8: 0.1, 24: 0.1},
    "sum": {2: 0.01, 8: 0.01, 24: 1e-5},
    "sum, batch": {2: 0.03, 8: 0.3, 24: 0.3},
    "SkipInit": {2: 0.01, 8: 0.01, 24: 0.01},
}
deep = {
    name: {n: arms[name].but(depth=n, learning_rate=row[n]) for n in depths}
    for name, row in best.items()
}
seeds = {net: trial.few_seeds[:1] for row in table.values() for net in row.values()}
seeds |= {net: trial.few_seeds for row in deep.values() for net in row.values()}
seeds |= {row[24]: trial.seeds for row in deep.values()}
trial.train(seeds, ends=True)

trial.heatmaps(
    {"": table},
    "val_accuracy_population",
    xlabel="learning rate",
    ylabel="",
    title="24 layers: validation accuracy (hatched: training failed)",
    alt="A table of coloured cells: validation accuracy of five kinds of network "
    "of 24 layers (rows) at each learning rate (columns).",
)

# %%
# Two layers should train in any of these ways. Which of them still do with 22 more, the same few images and the
# same few steps? Those whose lines stay level.
#
# With all seeds, the deepest ones are on trial; test images, population statistics.

from bn_tutorial.figures import COLORS

TEST = "test_accuracy_population"
grey, blue, dashed = (
    {"color": COLORS[None]},
    {"color": COLORS["batch"]},
    {"ls": "--"},
)
styles = {"chain": grey, "chain, batch": blue}
styles |= {"sum": grey | dashed, "sum, batch": blue | dashed}
reached = {
    name: [trial.tested(TEST, net).mean(axis=None) for net in row.values()]
    for name, row in deep.items()
}
trial.lines(
    {"": reached},
    depths,
    xlabel="hidden layers",
    ylabel="test accuracy",
    log="x",
    styles=styles,
    alt="Test accuracy against the number of hidden layers, 2, 8 and 24, for "
    "five kinds of network, each at its best rate.",
)

# %%
# The verdicts
# ------------
# Registered in ``hypotheses/residual.toml`` after pilot runs, and before the runs shown here.

tested = {name: trial.tested(TEST, row[24]) for name, row in deep.items()}
pairs = {
    "residual-needs": ("SkipInit", "sum, batch"),
    "residual-sum": ("sum", "sum, batch"),
    "residual-skip": ("chain, batch", "sum, batch"),
    "residual-zero": ("chain", "SkipInit"),
}
trial.judge(
    {
        id: dict(zip(("without", "with"), (tested[a], tested[b]), strict=True))
        for id, (a, b) in pairs.items()
    },
    alt="Four effects on the test accuracy of networks of 24 layers, in "
    "percentage points: of batch normalisation against SkipInit and against "
    "a bare sum, and of the sum with batch normalisation, and with SkipInit, "
    "against chains.",
)

# %%
# What this does *not* show
# -------------------------
# Dense branches of one layer, few images, five epochs. Residual networks for images have convolutions, two
# or three in a branch, and are trained for long, with decay and a schedule. A sum without a normaliser can
# also be scaled down beforehand.
#
# **Go further.** Predict the line of the first figure for layer normalisation (``sums.but(norm="layer")``), then
# add it to ``starts``.

trial.record()
# sphinx_gallery_thumbnail_number = 3
