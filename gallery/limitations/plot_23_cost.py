"""
What does batch normalisation cost?
===================================

In training, every normaliser reads the whole batch once more, and needs it again on the way back.
Gitman and Ginsburg (2017, abstract) write that it takes a significant part of the training time,
and that it is hard to speed up, as it is bound by memory bandwidth. At inference it is a fixed
linear transform (Ioffe and Szegedy, 2015, section 3.1), which can be folded into the layer before.

**What you'll do:** time training and inference of a dense and of a convolutional network, without
a normaliser and with one, and fold batch normalisation away. **What you'll see:** which of these
is slower, and by how much. **How long it takes:** a minute or so on two cores; the end of the page
says how long it took.
**Read with it:** :ref:`practice-keras`.
"""

# %%
# A fair race
# -----------
# On a machine that does other things, too, the same step may take half as long again a moment later.
# So the contestants take turns, call by call and in random order. A *round* gives each of them five
# calls, of which the fastest counts, as a disturbance can only add time; a call is a few steps
# without a pause. What is compared is always of the same round. Nothing that happens once, such as
# compiling, is counted.
#
# Whether the many small operations of a normaliser are *fused* into a few larger ones should
# matter. XLA does that; a plain TensorFlow graph does not. So the dense network is timed both ways.
# (On a CPU, XLA makes convolutions many times slower, so there the convolutional one is a graph.)

from concurrent.futures import ThreadPoolExecutor

from bn_tutorial import Recipe, Runs, load_cifar10, profile, train
from bn_tutorial.engines import timing
from bn_tutorial.engines.program import suits_xla

budget = profile()
data = load_cifar10(budget.source)
mlp = Recipe(
    depth=3,
    width=256,
    inputs="standardized",
    train_size=256,  # images in a call
    validation=budget.validation,
    epochs=2 * budget.epochs,  # rounds
)
cnn = mlp.but(model="cnn", width=16, train_size=64, epochs=budget.epochs)
compiled = "XLA" if suits_xla(cnn) else "graph"
cells = budget.grid(
    [
        ("MLP, XLA", mlp, timing.steps),
        ("MLP, XLA", mlp.but(batch_size=256), timing.steps),
        ("MLP, graph", mlp, timing.steps_without_xla),
        (f"CNN, {compiled}", cnn.but(batch_size=256, train_size=256), timing.steps),
        (f"CNN, {compiled}", cnn, timing.steps),
    ]
)

runs, times = Runs(), {}
with ThreadPoolExecutor(1) as here:  # and not on a cluster, whose times are others
    for network, recipe, engine in cells:
        for run in train(recipe, data, engine=engine, executor=here):
            runs += Runs([run])
            times[network, recipe.batch_size] = run.history

# %%
# Times are stored like any other result: a rebuild of this page prints these numbers again, and
# does not measure anew. In milliseconds per step, the medians over all rounds:

import numpy as np

contestants = {
    "training": ("train/none", "train/batch", "train/layer"),
    "inference": ("infer/none", "infer/batch", "infer/folded"),
}
for what, names in contestants.items():
    heads = [name.partition("/")[2] for name in names]
    print(f"{what:22}" + "".join(f"{head:>10}" for head in heads))
    for (network, size), history in times.items():
        medians = (np.median(history[name]) for name in names)
        cell = f"{network}, batch {size}"
        print(f"{cell:22}" + "".join(f"{value:10.3f}" for value in medians))

# %%
# Folding must not change what the network says. After some steps of training, so that the moving
# statistics have moved, each layer's statistics, scale and shift went into the kernel and the bias
# of the layer before. All predicted probabilities agree:

difference = max(history["difference"][-1] for history in times.values())
assert difference < 1e-4
print(f"The largest difference between two probabilities is {difference:.1e}.")

# %%
# Slower than without
# -------------------
# A dot at 1 is as fast as the network without a normaliser. A tick is a round; the bar is the 95 %
# interval of their mean.

import matplotlib.pyplot as plt
from bn_tutorial.evidence import interval
from bn_tutorial.figures import COLORS, INK, mark_sample
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator


def ratio(cell, contestant):
    """Return a contestant's time over that without a normaliser, round by round."""
    reference = contestant.partition("/")[0] + "/none"
    return np.divide(times[cell][contestant], times[cell][reference])


panels = {
    "training": {"train/batch": -0.16, "train/layer": 0.16},
    "inference": {"infer/batch": 0},
    "inference, folded": {"infer/folded": 0},
}
colors = dict.fromkeys(("train/batch", "infer/batch"), COLORS["batch"])
colors |= {"train/layer": COLORS["layer"], "infer/folded": COLORS["batch"]}
figure, columns = plt.subplots(
    1, 3, figsize=(7.6, 1.6 + 0.45 * len(times)), sharex=True, sharey=True
)
for axes, (title, rows) in zip(columns, panels.items(), strict=True):
    axes.axvline(1, color=INK, linewidth=1)
    for row, cell in enumerate(times):
        for name, offset in rows.items():
            found = interval(np.log(ratio(cell, name)))
            style = {"color": colors[name], "solid_capstyle": "butt"}
            ends, height = np.exp([found.low, found.high]), row + offset
            axes.plot(ends, [height] * 2, linewidth=5, alpha=0.4, **style)
            ticks = np.exp(found.values)
            axes.plot(
                ticks, [height] * len(ticks), "|", markersize=7, alpha=0.5, **style
            )
            axes.plot(np.exp(found.mean), height, "o", markersize=6, **style)
    axes.set_title(title)
    axes.grid(axis="y", visible=False)
columns[0].set_xscale("log")
columns[0].xaxis.set_major_locator(FixedLocator([0.25, 0.5, 1, 1.5, 2, 3, 4, 6]))
columns[0].xaxis.set_minor_locator(NullLocator())
columns[0].xaxis.set_major_formatter("{x:g}")
columns[0].set_yticks(
    range(len(times)), [f"{network}\nbatch {size}" for network, size in times]
)
columns[0].set_ylim(len(times) - 0.5, -0.5)
columns[1].set_xlabel("time, relative to the network without normaliser")
figure.legend(
    handles=[
        Line2D(
            [],
            [],
            color=COLORS[norm],
            marker="o",
            linewidth=5,
            label=f"{norm} norm",
        )
        for norm in ("batch", "layer")
    ],
    loc="outside lower center",
    ncols=2,
)
mark_sample(figure, runs)
figure.set_label(
    "Time of a step relative to the same network without normaliser, for dense and convolutional "
    "networks and two batch sizes: in training with batch and with layer normalisation, at "
    "inference with batch normalisation, and at inference with batch normalisation folded. A dot "
    "for the mean over rounds, a bar for its 95 % interval, a tick for each round; a line at 1."
)

# %%
# Memory, counted
# ---------------
# What training must keep can be counted, without measuring anything. The backward pass of a dense
# layer, of a convolution and of a normaliser reads the layer's input again, that of ReLU its output;
# what two of them read is kept once. Adam keeps two numbers for each weight, and the gradient is a
# third. Each number takes four bytes. (A compiler may compute some of it anew instead.)

from math import prod

from bn_tutorial import build


def kept(model):
    """Return how many numbers per image the backward pass reads again."""
    read = {}
    for layer in model.layers:
        if layer.weights:
            read[id(layer.input)] = layer.input
        elif "Activation" in type(layer).__name__:
            read[id(layer.output)] = layer.output
    return sum(prod(tensor.shape[1:]) for tensor in read.values())


memory = {}
print(f"{'':14}{'weights':>10}{'kept/image':>12}{'MB at 32':>10}{'MB at 256':>10}")
for network, recipe in (("MLP", mlp), ("CNN", cnn)):
    for norm in (None, "batch", "layer"):
        model = build(recipe.but(norm=norm))
        weights = sum(prod(v.shape) for v in model.trainable_variables)
        fixed = model.count_params() - weights + 4 * weights
        sizes = [4 * (fixed + size * kept(model)) / 1e6 for size in (32, 256)]
        memory[network, norm] = sizes[1]
        name = f"{network}, {norm or 'none'}"
        print(
            f"{name:14}{weights:10,}{kept(model):12,}{sizes[0]:10.1f}{sizes[1]:10.1f}"
        )

# %%
# The verdicts
# ------------
# Written down in ``hypotheses/cost.toml`` before any run. The dense network, compiled by XLA, in
# batches of 32 was chosen beforehand for the three primary ones. Here n counts rounds: seeds play
# no part in how long a step takes.

from bn_tutorial.evidence import judge, record


def against_none(cell, contestant, arm):
    """Return the times of both arms in each round, if the cell was measured."""
    if cell not in times:
        return {}
    reference = contestant.partition("/")[0] + "/none"
    pair = {"without": reference, arm: contestant}
    return {key: dict(enumerate(times[cell][name])) for key, name in pair.items()}


first = ("MLP, XLA", 32)
verdicts = judge(
    "cost",
    {
        "cost-training": against_none(first, "train/batch", "batch"),
        "cost-inference": against_none(first, "infer/batch", "batch"),
        "cost-folded": against_none(first, "infer/folded", "folded"),
        "cost-training-graph": against_none(
            ("MLP, graph", 32), "train/batch", "batch"
        ),
        "cost-training-cnn": against_none(
            (f"CNN, {compiled}", 32), "train/batch", "batch"
        ),
    },
    sample=data.is_sample,
)
for verdict in verdicts.values():
    print(verdict, end="\n\n")

# %%
# In words, as written beforehand for these verdicts:

print("\n".join(verdict.sentence for verdict in verdicts.values()))

# %%
# What this does *not* show
# -------------------------
# These are small networks on one machine, and each was compiled only once: the interval is about
# the noise from round to round, and not about other machines, compilers or networks. The share of
# a normaliser falls as layers get wider, because a product of matrices grows faster than what is
# normalised. On a GPU, multiplying and reading memory cost something else. And a step that takes
# longer may still pay, if fewer steps are needed:
# :ref:`sphx_glr_auto_examples_assignment_plot_02_batch_norm.py`.
#
# **Exercise.** Predict what a third of the width, ``width=86``, does to the first row of the figure;
# then change it in ``mlp``.

seconds = sum(run.provenance["seconds"] for run in runs)
print(f"The measurements behind this page took {seconds:.0f} s.")
record(
    "cost",
    verdicts,
    runs=runs,
    rounds=mlp.epochs,
    memory_mlp=memory["MLP", "batch"] / memory["MLP", None],
    memory_cnn=memory["CNN", "batch"] / memory["CNN", None],
    difference=difference,
    seeds=1,
    seconds=seconds,
)

# sphinx_gallery_thumbnail_number = 1
