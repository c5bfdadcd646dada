"""
What does batch normalisation cost?
===================================

In training, every normaliser reads the whole batch once more, and needs it again on the way back.
Gitman and Ginsburg (2017, abstract) write that it takes a significant part of the training time,
and that it is hard to speed up, as it is bound by memory bandwidth. At inference it is a fixed
linear transform (Ioffe and Szegedy, 2015, section 3.1), which can be folded into the layer before.

**What you'll do:** time training and inference of a dense and of a convolutional network, without
a normaliser and with one, and fold batch normalisation away. **What you'll see:** which of these
is slower, and by how much.
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
# The networks race one after the other and in this process, not on a cluster, whose times are others.

from bn_tutorial import Experiment, Recipe, build
from bn_tutorial.engines import timing
from bn_tutorial.engines.program import suits_xla

trial = Experiment("cost")
mlp = Recipe(
    depth=3,
    width=256,
    inputs="standardized",
    train_size=256,  # images in a call
    validation=trial.budget.validation,
    epochs=2 * trial.budget.epochs,  # rounds
)
cnn = mlp.but(model="cnn", width=16, train_size=64)
cnn_large = cnn.but(batch_size=256, train_size=256, epochs=trial.budget.epochs)
compiled = "XLA" if suits_xla(cnn) else "graph"
rows = {
    "MLP, XLA, batch 32": (mlp, timing.steps),
    "MLP, XLA, batch 256": (mlp.but(batch_size=256), timing.steps),
    "MLP, graph, batch 32": (mlp, timing.steps_without_xla),
    f"CNN, {compiled}, batch 256": (cnn_large, timing.steps),
    f"CNN, {compiled}, batch 32": (cnn, timing.steps),
}

times = {}
for name in trial.grid(rows):
    recipe, engine = rows[name]
    found = trial.train(recipe, trial.seeds[:1], engine=engine, workers=1).frame()
    times[name] = found.set_index("epoch").rename_axis("round")

# %%
# Times are stored like any other result: a rebuild of this page prints these numbers again, and
# does not measure anew. In milliseconds per step, the medians over all rounds:

for what, mode, names in (
    ("training", "train", ("none", "batch", "layer")),
    ("inference", "infer", ("none", "batch", "folded")),
):
    print(f"{what:22}" + "".join(f"{name:>10}" for name in names))
    for row, found in times.items():
        medians = (found[f"{mode}/{name}"].median() for name in names)
        print(f"{row:22}" + "".join(f"{median:10.3f}" for median in medians))

# %%
# Folding must not change what the network says. After some steps of training, so that the moving
# statistics have moved, each layer's statistics, scale and shift went into the kernel and the bias
# of the layer before. All predicted probabilities agree:

difference = max(found["difference"].max() for found in times.values())
assert difference < 1e-4
print(f"The largest difference between two probabilities is {difference:.1e}.")

# %%
# Slower than without
# -------------------
# A dot at 1 is as fast as the network without a normaliser. A tick is a round; the bar is the 95 %
# interval of their mean.


def slower(mode, **names):
    """Return times over those without a normaliser, by round, of every network."""
    return {
        row.replace(", batch", "\nbatch"): {
            f"{norm} norm": found[f"{mode}/{name}"] / found[f"{mode}/none"]
            for norm, name in names.items()
        }
        for row, found in times.items()
    }


trial.ratios(
    {
        "training": slower("train", batch="batch", layer="layer"),
        "inference": slower("infer", batch="batch"),
        "inference, folded": slower("infer", batch="folded"),
    },
    xlabel="time, relative to the network without normaliser",
    alt="Time of a step relative to the same network without normaliser (a line at "
    "1), for dense and convolutional networks and two batch sizes: in training "
    "with batch and with layer normalisation, at inference with batch "
    "normalisation, and at inference with batch normalisation folded.",
)

# %%
# Memory, counted
# ---------------
# What training must keep can be counted, without measuring anything. The backward pass of a dense
# layer, of a convolution and of a normaliser reads the layer's input again, that of ReLU its output;
# what two of them read is kept once. Adam keeps two numbers for each weight, and the gradient is a
# third. Each number takes four bytes. (A compiler may compute some of it anew instead.)

from math import prod


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
for network, recipe in {"MLP": mlp, "CNN": cnn}.items():
    for norm in (None, "batch", "layer"):
        model = build(recipe.but(norm=norm))
        weights = sum(prod(v.shape) for v in model.trainable_variables)
        numbers = model.count_params() + 3 * weights
        few, many = (4 * (numbers + size * kept(model)) / 1e6 for size in (32, 256))
        memory[network, norm] = many
        name = f"{network}, {norm or 'none'}"
        print(f"{name:14}{weights:10,}{kept(model):12,}{few:10.1f}{many:10.1f}")
grown = {
    f"memory_{network.lower()}": memory[network, "batch"] / memory[network, None]
    for network in ("MLP", "CNN")
}

# %%
# The verdicts
# ------------
# Registered in ``hypotheses/cost.toml`` after pilot runs, and before the runs shown here. On trial is the
# convolutional network in batches of 32. In the dense one the costs lay near 5 % in pilot runs, which is
# about what rounds differ by, so they are *estimated*. Here n counts rounds: seeds play no part in how
# long a step takes.


def arms(row, mode, arm):
    """Return the times of both arms in each round, if the row was measured."""
    names = {"without": f"{mode}/none", arm: f"{mode}/{arm}"}
    return {one: times[row][name] for one, name in names.items() if row in times}


dense, graph = "MLP, XLA, batch 32", "MLP, graph, batch 32"
chosen = f"CNN, {compiled}, batch 32"
trial.judge(
    {
        "cost-training-cnn": arms(chosen, "train", "batch"),
        "cost-inference-cnn": arms(chosen, "infer", "batch"),
        "cost-folded-cnn": arms(chosen, "infer", "folded"),
        "cost-training": arms(dense, "train", "batch"),
        "cost-inference": arms(dense, "infer", "batch"),
        "cost-folded": arms(dense, "infer", "folded"),
        "cost-training-graph": arms(graph, "train", "batch"),
    }
)

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
# **Go further.** Predict what a third of the width, ``width=86``, does to the first row of the
# figure; then change it in ``mlp``.

trial.record(difference=difference, **grown)
