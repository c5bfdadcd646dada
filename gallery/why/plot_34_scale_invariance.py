"""
What does weight decay do to a batch-normalised network?
========================================================

Weight decay is meant to restrain a network by keeping its weights small. But before batch
normalisation a kernel may have any size: the normaliser divides it away. Decay (L2
regularisation) "has no regularizing effect when combined with normalization", writes van Laarhoven
(2017, abstract); it influences the scale of the weights, and with it the effective learning rate.

**What you'll do:** train one network with several weight decays, and twins whose weights differ by
a factor of 4. **What you'll see:** that the size of a kernel is a learning rate in disguise, and
which course it takes.
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
#
# The test accuracy without decay and with the middle one is on trial: these two get more seeds.

from bn_tutorial import Experiment, Recipe, build
from bn_tutorial.engines import observe, probes

trial = Experiment("scale-invariance")
budget, RATE, ADAM_RATE = trial.budget, 0.1, 1e-3
network = Recipe(width=128, depth=2, norm="batch", inputs="standardized").but(
    optimizer="sgd", learning_rate=RATE, batch_size=16, epochs=8
)
held_out = min(500, budget.validation)
network = network.but(train_size=budget.subset // 2, validation=held_out)
plain = network.but(norm=None)
adamw = network.but(optimizer="adamw", learning_rate=ADAM_RATE)
decays = trial.grid([0, 0.005, 0.02])
sgd = {f"{100 * RATE * d:g}%": network.but(weight_decay=d) for d in decays}
adam = {
    f"{100 * RATE * d:g}%": adamw.but(weight_decay=d * RATE / ADAM_RATE)
    for d in (decays[0], decays[-1])
}
none, middle = sgd["0%"], [*sgd.values()][len(decays) // 2]
measure = observe.weight_geometry
trial.train([*sgd.values(), *adam.values(), plain], trial.few_seeds, engine=measure)
trial.train([none, middle], engine=measure)

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
from bn_tutorial.networks.backend import keras

ALPHA = 4
keras.config.set_dtype_policy("float64")
images, labels = trial.data.x_train[:512].astype(float), trial.data.y_train[:512]
images = (images - images.mean(axis=(0, 1, 2))) / images.std(axis=(0, 1, 2))
twin = network.but(norm_options={"epsilon": 1e-8})
models = build(twin), build(twin.but(init_scale=ALPHA))
small, large = (model(images, training=True) for model in models)
gap = np.abs(small - large).max()
print(f"largest difference between two predictions: {gap:.1e}")
assert gap < 1e-6
small, large = (probes.weight_geometry(model, images, labels) for model in models)
factors = (small["gradient_norm"] / large["gradient_norm"]).numpy()
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
# counts is the *effective* learning rate :math:`\eta / \|W\|^2` (van Laarhoven 2017). Of four networks, whose
# hidden kernels have a rate of their own, predict which learn the same, with batch normalisation and without.
#
# **With batch normalisation they are two pairs.**

from bn_tutorial.figures import INK, SHADES
from bn_tutorial.scratch import descend, theory

batches = np.random.default_rng(0).integers(len(images), size=(40, 128))
arms = {
    "W with η": (1, RATE),
    "αW with α²η": (ALPHA, ALPHA**2 * RATE),
    "W with η/α²": (1, RATE / ALPHA**2),
    "αW with η": (ALPHA, RATE),
}
bare = twin.but(norm=None, norm_options={})
losses = {"with batch normalisation": {}, "without": {}}
for name, (scale, rate) in arms.items():
    for found, net in zip(losses.values(), (twin, bare), strict=True):
        model = build(net.but(init_scale=scale))
        found[name] = descend(model, images, labels, batches, RATE, rate).losses

light, dark = ({"lw": 6, "alpha": 0.6, "color": SHADES[n]} for n in (0, 2))
dashed, dotted = ({"lw": 1.5, "color": INK, "ls": style} for style in ("--", ":"))
trial.lines(
    losses,
    xlabel="step",
    ylabel="loss of the batch",
    ylim=(0, 5),
    styles=dict(zip(arms, (light, dashed, dark, dotted), strict=True)),
    alt="Loss against the step with batch normalisation (left) and without: W with "
    "η and αW with α²η, W with η/α² and αW with η. In theory pairs agree (left).",
)

normalised = losses["with batch normalisation"]
for one, other in (("W with η", "αW with α²η"), ("W with η/α²", "αW with η")):
    gap = np.abs(normalised[one] - normalised[other]).max()
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

for title, net in zip(losses, (twin, bare), strict=True):
    found = descend(build(net), images, labels, batches, RATE)
    grown = found.norms[-1] ** 2 - found.norms[0] ** 2
    predicted = sum(RATE**2 * found.gradient_norms**2)
    print(f"{title}: grew by {grown:.3f}, by Pythagoras {predicted:.3f}")
    assert title == "without" or np.isclose(grown, predicted, rtol=1e-3)
keras.config.set_dtype_policy("float32")

# %%
# In the runs, here is the largest cosine of the angle between a kernel and its gradient. Even
# without batch normalisation two directions in so many dimensions are never far from a right
# angle; but not that close to it.

cosines = {}
for net in (*sgd.values(), plain):
    found = trial.of(net).frame().filter(like="alignment/")
    cosines[net] = found.abs().max(axis=None)
    norm = "with batch normalisation" if net.norm else "without"
    print(f"{norm}, weight decay {net.weight_decay:g}: {cosines[net]:.1e}")
cosine_plain, cosine = cosines.pop(plain), max(cosines[net] for net in sgd.values())
assert cosine < 5e-3

# %%
# So the effective learning rate has to fall, unless weight decay pulls the kernel back. Here is the
# size of the first hidden kernel, by the share of it that decays in a step:


def norms(runs):
    """Return ‖W‖ at the start and after each epoch, shape (seeds, epochs + 1)."""
    fresh = [build(run.recipe, run.seed).layers[1].kernel for run in runs]
    start = np.linalg.norm(fresh, axis=(1, 2))[:, None]
    return np.hstack([start, runs.curves("norm/0")])


sizes = {
    "SGD: size of the kernel": {s: (net, norms) for s, net in sgd.items()},
    "AdamW: size of the kernel": {s: (net, norms) for s, net in adam.items()},
}
sizes["SGD: size of the kernel"]["0%, no normaliser"] = plain, norms
shades = {s: {"color": shade} for s, shade in zip(sgd, SHADES, strict=False)}
trial.histories(
    sizes,
    ylabel="‖W‖",
    styles=shades,
    legend="share of the kernel that decays in a step",
    alt="Norm of the first hidden kernel against the epoch, for each weight decay, "
    "with SGD (left; also without batch normalisation, in grey) and with AdamW.",
)

# %%
# A kernel may grow without batch normalisation, too, but there its size is no mere learning rate.
#
# Adam divides a gradient by its recent size, so its steps are as long for :math:`\alpha W` as for
# :math:`W`, and turn :math:`W` in proportion to :math:`\eta / \|W\|`, not :math:`\eta / \|W\|^2`.
# The effective rates are drawn relative to the start.


def rates(runs):
    """Return the effective learning rate, relative to that of the start."""
    (recipe,) = runs.recipes
    power = 2 if recipe.optimizer == "sgd" else 1
    found = theory.effective_rate(recipe.learning_rate, norms(runs) ** power)
    return found / found[:, :1]


effective = {
    "SGD: effective rate η / ‖W‖²": {s: (net, rates) for s, net in sgd.items()},
    "AdamW: effective rate η / ‖W‖": {s: (net, rates) for s, net in adam.items()},
}
trial.histories(
    effective,
    log="y",
    ylabel="relative to the start",
    styles=shades,
    levels={"the start": 1},
    legend="share of the kernel that decays in a step",
    alt="Effective learning rate relative to its start against the epoch, with SGD "
    "(left) and AdamW, for each weight decay; a dotted line at 1.",
)

# %%
# The verdicts
# ------------
# Registered in ``hypotheses/scale-invariance.toml`` after pilot runs, and before the runs shown
# here. Two are *primary*. That the rate falls is algebra; on trial is by how much.

pair = {"without": none, "with": middle}
start = trial.final(lambda runs: rates(runs)[:, :1], none)
end = trial.final(rates, **pair)
trial.judge(
    {
        "rate-effective": {"start": start, "end": end["without"]},
        "decay-test": trial.tested("test_accuracy_population", **pair),
        "decay-rate": end,
    }
)

# %%
# What this does *not* show
# -------------------------
# The kernel of the output layer has no normaliser behind it; it decays, too, and that may well
# regularise. An effect of decay on the accuracy is therefore not the effective rate's alone, and
# a missing one at this learning rate says nothing of others: a rate that falls by itself may be
# too low in a longer training, or just what is needed. γ and β do not decay here at all.
#
# **Go further.** Growth and decay balance where :math:`\eta^2 \|\nabla L\|^2 = 2 \eta \lambda
# \|W\|^2`, with the decay :math:`\lambda`. As :math:`\|\nabla L\|` goes as :math:`1 / \|W\|`, the
# effective rate goes as :math:`\sqrt \lambda` there. Predict where the darkest curve of SGD settles
# with four times the decay, then change one line: ``decays = trial.grid([0, 0.005, 0.08])``.

trial.record(decay=middle.weight_decay, cosine=cosine, cosine_plain=cosine_plain)
# sphinx_gallery_thumbnail_number = 3
