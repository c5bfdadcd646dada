"""
What does weight decay do to a batch-normalised network?
========================================================

Weight decay is meant to restrain a network by keeping its weights small. But before batch
normalisation a kernel may have any size: the normaliser divides it away. Decay (L2
regularisation) "has no regularizing effect when combined with normalization", writes van Laarhoven
(2017, abstract); it influences the scale of the weights, and with it the effective learning rate.

**What you'll do:** train one network with several weight decays, and twins whose weights differ by
a factor of 4. **What you'll see:** that the size of a kernel is a learning rate in disguise, and
which course it takes. **How long it takes:** a minute or two on two cores; the end of the page
says how long it took.
**Read with it:** :ref:`learn-backward` and :ref:`learn-debate`.
"""

# %%
# The runs
# --------
# They come first, as they take the time; the last section looks at them. Two hidden layers are
# trained with gradient descent and three weight decays, and with AdamW and two. Decay takes a
# share of every kernel in each step, the decay times the learning rate, and the shares are the
# same for both optimisers. The engine ``observe.weight_geometry`` also measures each hidden kernel
# :math:`W` and the gradient of the loss :math:`L` with respect to it.

from bn_tutorial import Recipe, build, load_cifar10, profile, train
from bn_tutorial.engines import observe

RATE, ADAM_RATE = 0.1, 1e-3
budget = profile()
data = load_cifar10(budget.source)
network = Recipe(
    width=128,
    depth=2,
    norm="batch",
    inputs="standardized",
    optimizer="sgd",
    learning_rate=RATE,
    batch_size=16,
    epochs=8,
    train_size=budget.subset // 2,
    validation=budget.validation,
)
decays = budget.grid([0, 0.005, 0.02])
sgd = {decay: network.but(weight_decay=decay) for decay in decays}
adam = {
    decay: network.but(
        optimizer="adamw",
        learning_rate=ADAM_RATE,
        weight_decay=decay * RATE / ADAM_RATE,
    )
    for decay in (decays[0], decays[-1])
}
plain = network.but(norm=None)

# %%
# The test accuracy without decay and with the middle one is on trial. At a constant learning rate
# it can scatter a lot from seed to seed, so these two get twice as many seeds as usual.

none, middle = decays[0], decays[len(decays) // 2]
seeds = range(2 * budget.subset_seeds)
tried = [sgd[none], sgd[middle]]
others = [one for one in (*sgd.values(), *adam.values(), plain) if one not in tried]
runs = train(tried, data, seeds, engine=observe.weight_geometry)
runs += train(others, data, range(budget.seeds), engine=observe.weight_geometry)

# %%
# A kernel's size does not matter to the network
# ----------------------------------------------
# Multiply a kernel :math:`W` by :math:`\alpha`. Its outputs, their mean and their standard
# deviation are multiplied by :math:`\alpha` as well, and the normaliser leaves nothing of it. So
# :math:`L(\alpha W) = L(W)`, and therefore :math:`\nabla L(\alpha W) = \nabla L(W) / \alpha`
# (Ioffe and Szegedy 2015, section 3.3). Here that is, for two fresh networks with the same seed.
# The epsilon that Keras adds to the variance spoils the invariance a little, so it is made tiny.
# And all is computed in double precision: what single precision rounds off would grow from step
# to step below.

import numpy as np
from bn_tutorial.engines.probes import weight_geometry
from bn_tutorial.networks.backend import keras, tf

ALPHA = 4
keras.config.set_dtype_policy("float64")
images = data.x_train[:512].astype("float64")
images = (images - images.mean(axis=(0, 1, 2))) / images.std(axis=(0, 1, 2))
labels = data.y_train[:512]

twin = network.but(norm_options={"epsilon": 1e-8})
small, large = build(twin), build(twin.but(init_scale=ALPHA))
gap = np.abs(small(images, training=True) - large(images, training=True)).max()
print(f"largest difference between two predictions: {gap:.1e}")
assert gap < 1e-6

gradients = [
    weight_geometry(model, images, labels)["gradient_norm"].numpy()
    for model in (small, large)
]
factors = gradients[0] / gradients[1]
print(f"gradients smaller by factors of {factors}; in theory {ALPHA}")
assert np.allclose(factors, ALPHA, rtol=1e-3)

# %%
# A kernel's size is a learning rate in disguise
# ----------------------------------------------
# A step of gradient descent with learning rate :math:`\eta` from :math:`\alpha W` thus arrives at
#
# .. math::
#
#    \alpha W - \eta \, \frac{\nabla L(W)}{\alpha}
#    = \alpha \left( W - \frac{\eta}{\alpha^2} \nabla L(W) \right),
#
# which is the same network as after a step with :math:`\eta / \alpha^2` from :math:`W`. What
# counts is the *effective* learning rate :math:`\eta / \|W\|^2` (van Laarhoven 2017). Two pairs
# of twins put that to the test; their hidden kernels have a learning rate of their own. Predict
# which of the four will learn the same, and what becomes of that without batch normalisation.

from bn_tutorial.scratch.theory import norm_growth

batches = np.random.default_rng(0).integers(len(images), size=(40, 128))


def descend(recipe, scale, rate):
    """Return the losses, and how ‖W‖² has grown and how it would by Pythagoras."""
    model = build(recipe.but(init_scale=scale))
    dense = [one for one in model.layers if isinstance(one, keras.layers.Dense)]
    hidden = [id(layer.kernel) for layer in dense[:-1]]
    first, variables = dense[0].kernel, model.trainable_variables
    rates = [rate if id(one) in hidden else RATE for one in variables]
    start = predicted = float(tf.norm(first)) ** 2
    losses = []
    for batch in batches:
        with tf.GradientTape() as tape:
            outputs = model(images[batch], training=True)
            loss = tf.reduce_mean(
                keras.losses.sparse_categorical_crossentropy(labels[batch], outputs)
            )
        slopes = tape.gradient(loss, variables)
        for variable, own, slope in zip(variables, rates, slopes, strict=True):
            variable.assign_sub(own * slope)
        losses.append(float(loss))
        predicted = norm_growth(predicted, rate, float(tf.norm(slopes[0])) ** 2)
    return losses, float(tf.norm(first)) ** 2 - start, float(predicted) - start


arms = {  # the scale of the hidden kernels, and their learning rate
    "W with η": (1, RATE),
    "αW with α²η": (ALPHA, ALPHA**2 * RATE),
    "W with η/α²": (1, RATE / ALPHA**2),
    "αW with η": (ALPHA, RATE),
}
networks = {
    "with batch normalisation": twin,
    "without": twin.but(norm=None, norm_options={}),
}
descents = {
    title: {name: descend(recipe, *arm) for name, arm in arms.items()}
    for title, recipe in networks.items()
}
keras.config.set_dtype_policy("float32")

import matplotlib.pyplot as plt
from bn_tutorial.figures import COLORS, INK, mark_sample, percent, spread

SHADES = ("#7cc4f2", COLORS["batch"], "#3f6fae")
looks = (
    {"color": SHADES[0], "lw": 6, "alpha": 0.6},
    {"color": INK, "lw": 1.5, "ls": "--"},
    {"color": SHADES[2], "lw": 6, "alpha": 0.6},
    {"color": INK, "lw": 1.5, "ls": ":"},
)
figure, panels = plt.subplots(1, 2, figsize=(7.6, 4.2), sharey=True)
for axes, (title, found) in zip(panels, descents.items(), strict=True):
    for (name, (losses, *_)), look in zip(found.items(), looks, strict=True):
        axes.plot(range(1, len(losses) + 1), losses, label=name, **look)
    axes.set(xlabel="step", title=title, ylim=(0, 5))
panels[0].set_ylabel("loss of the batch")
handles = panels[0].get_lines()
figure.legend(handles=handles, loc="outside lower center", ncols=4)
mark_sample(figure, runs)
figure.set_label(
    "Loss against the step with batch normalisation (left) and without (right), four curves each: "
    "W with η and αW with α²η, W with η/α² and αW with η. By the theory each of these pairs "
    "coincides on the left."
)

normalised = descents["with batch normalisation"]
for one, other in (("W with η", "αW with α²η"), ("W with η/α²", "αW with η")):
    gap = np.abs(np.subtract(normalised[one][0], normalised[other][0])).max()
    print(f"{one} and {other}: the losses differ by at most {gap:.1e}")
    assert gap < 1e-4

# %%
# A curve that leaves the right panel at the top has blown up.
#
# Which course it takes
# ---------------------
# If the loss does not change along :math:`W`, its gradient is at right angles to :math:`W`. So
# every step leads outwards, and by Pythagoras :math:`\|W\|^2` grows by :math:`\eta^2 \|\nabla
# L\|^2`. For the first kernel in the forty steps with :math:`W` and :math:`\eta`:

for title, found in descents.items():
    _, grown, predicted = found["W with η"]
    print(f"{title}: grew by {grown:.3f}, by Pythagoras {predicted:.3f}")
_, grown, predicted = normalised["W with η"]
assert np.isclose(grown, predicted, rtol=1e-3)

# %%
# In the runs, here is the largest cosine of the angle between a kernel and its gradient. Even
# without batch normalisation two directions in so many dimensions are never far from a right
# angle; but not that close to it.


def largest(recipe):
    """Return the largest |cosine| over hidden layers, epochs and seeds."""
    found = [runs.of(recipe).curves(f"alignment/{layer}") for layer in (0, 1)]
    return np.nanmax(np.abs(found))


cosines = {decay: largest(recipe) for decay, recipe in sgd.items()}
for decay, cosine in cosines.items():
    print(f"with batch normalisation, weight decay {decay:g}: {cosine:.1e}")
print(f"without, weight decay 0: {largest(plain):.1e}")
assert max(cosines.values()) < 5e-3

# %%
# So the effective learning rate has to fall, unless weight decay pulls the kernel back. Adam
# divides a gradient by its recent size, so its steps are as long for :math:`\alpha W` as for
# :math:`W`, and turn :math:`W` in proportion to :math:`\eta / \|W\|`, not :math:`\eta / \|W\|^2`.
# The curves are drawn relative to the start, for the first hidden kernel.

from bn_tutorial.scratch.theory import effective_rate


def norms(recipe):
    """Return ‖W‖ before the first epoch and after each, shape (seeds, epochs + 1)."""
    found = runs.of(recipe)
    fresh = [build(recipe, run.seed).layers[1].kernel for run in found]
    start = [[float(tf.norm(kernel))] for kernel in fresh]
    return np.hstack([start, found.curves("norm/0")])


colors = dict(zip(decays, SHADES, strict=False))
epochs = range(plain.epochs + 1)
figure, panels = plt.subplots(2, 2, figsize=(7.6, 6.2), sharex=True)
for row, recipes, power in ((panels[0], sgd, 2), (panels[1], adam, 1)):
    for decay, recipe in recipes.items():
        color, courses = colors[decay], norms(recipe)
        rates = effective_rate(recipe.learning_rate, courses**power)
        share = recipe.learning_rate * recipe.weight_decay
        spread(row[0], epochs, courses, color=color, label=percent(share))
        spread(row[1], epochs, rates / rates[:, :1], color=color)
    row[0].set_ylabel("‖W‖")
    row[1].axhline(1, color=INK, lw=0.8)
    row[1].set_yscale("log", base=2)
    row[1].yaxis.set_major_formatter("{x:g}")
    row[1].set_ylabel("relative to the start")
label = "0%, no normaliser"
spread(panels[0, 0], epochs, norms(plain), color=COLORS[None], label=label)
handles, labels = panels[0, 0].get_legend_handles_labels()
title = "share of the kernel that decays in a step"
figure.legend(handles, labels, title=title, loc="outside lower center", ncols=4)
panels[0, 0].set_title("SGD: size of the kernel")
panels[0, 1].set_title("SGD: effective rate η / ‖W‖²")
panels[1, 0].set_title("AdamW: size of the kernel")
panels[1, 1].set_title("AdamW: effective rate η / ‖W‖")
for axes in panels[1]:
    axes.set_xlabel("epoch")
mark_sample(figure, runs)
figure.set_label(
    "Norm of the first hidden kernel (left) and the effective learning rate relative to its start "
    "(right) against the epoch, with SGD above and AdamW below, for each weight decay; the norm in "
    "a network without batch normalisation in grey."
)

# %%
# A kernel may grow without batch normalisation, too (grey). But there its size matters to the
# network, and is no mere learning rate.
#
# The verdicts
# ------------
# Written down in ``hypotheses/scale-invariance.toml`` before any run. The first two are primary,
# and corrected for being two (Holm, 1979).

from bn_tutorial.evidence import judge, record


def rate_at(decay, epoch):
    """Return the effective learning rate after an epoch, for each seed."""
    norm = norms(sgd[decay])[:, epoch]
    return dict(zip(seeds, effective_rate(RATE, norm**2), strict=True))


def tested(decay):
    """Return the test accuracy with population statistics, for each seed."""
    return runs.of(sgd[decay]).final("test_accuracy_population")


measured = {
    "rate-effective": {"start": rate_at(none, 0), "end": rate_at(none, -1)},
    "decay-test": {"without": tested(none), "with": tested(middle)},
    "decay-rate": {"without": rate_at(none, -1), "with": rate_at(middle, -1)},
}
verdicts = judge("scale-invariance", measured, sample=data.is_sample)
for verdict in verdicts.values():
    print(verdict, end="\n\n")
for verdict in verdicts.values():
    print(verdict.sentence)

# %%
# What this does *not* show
# -------------------------
# The kernel of the output layer has no normaliser behind it; it decays, too, and that may well
# regularise. An effect of decay on the accuracy is therefore not the effective rate's alone, and
# a missing one at this learning rate says nothing of others: a rate that falls by itself may be
# too low in a longer training, or just what is needed. γ and β do not decay here at all.
#
# **Exercise.** Growth and decay balance where :math:`\eta^2 \|\nabla L\|^2 = 2 \eta \lambda
# \|W\|^2`, with the decay :math:`\lambda`. As :math:`\|\nabla L\|` goes as :math:`1 / \|W\|`, the
# effective rate goes as :math:`\sqrt \lambda` there. Predict where the darkest curve of SGD
# settles with four times the decay, then change one line: ``decays = budget.grid([0, 0.005,
# 0.08])``.

seconds = sum(run.provenance.seconds for run in runs)
print(f"The training behind this page took {seconds:.0f} s.")
record(
    "scale-invariance",
    verdicts,
    runs=runs,
    seeds=len(seeds),
    decay=middle,
    cosine=float(max(cosines.values())),
    cosine_plain=float(largest(plain)),
    seconds=seconds,
)

# sphinx_gallery_thumbnail_number = 1
