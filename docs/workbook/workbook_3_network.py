# %% [markdown]
# # Workbook 3: a trained network
#
# A small Keras network on a small sample of CIFAR-10, which answers worse than it could. You measure what ails it, cure it, and then take its normalisers out, with the same answers.
#
# Put your lines in the place of `raise NotImplementedError(...)`, run the cell, then the check below it. You need NumPy and a little Keras; the images come with the library.

# %%
import numpy as np

from bn_tutorial import checkup, load_cifar10
from bn_tutorial.bench import check
from bn_tutorial.networks.backend import keras

layers = keras.layers
data = load_cifar10("sample")
blocks = (data.x_train / 255).reshape(-1, 8, 4, 8, 4, 3)  # each pixel a mean of 4 × 4
images, labels = blocks.mean((2, 4)).astype("float32"), data.y_train

keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((8, 8, 3))])
for _ in range(2):
    model.add(layers.Conv2D(16, 3, use_bias=False))
    model.add(layers.BatchNormalization())
    model.add(layers.ReLU())
model.add(layers.Flatten())
model.add(layers.Dense(10, activation="softmax"))
model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
model.fit(images, labels, 50, 5, verbose=0)
norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]


def given_to(layer, images):
    """Return what a layer of the model is given for images, in inference mode."""
    part = keras.Model(model.inputs[0], layer.input)
    return np.asarray(part(images, training=False))


def accuracy(model):
    """Return the accuracy on the images that it was trained on."""
    return np.mean(np.argmax(model(images, training=False), axis=1) == labels)


print(f"{len(images)} images; right in inference mode: {accuracy(model):.0%}")

# %% [markdown]
# ## 8. The first measurement of a check-up
#
# In inference mode a normaliser uses its moving statistics. Are they those of the values that it is given? For each channel, how far is the moving mean from the mean of these values, in *their* standard deviations:
#
# $$\frac{|\,\text{moving mean} - \mu\,|}{\sqrt{\sigma^2 + \epsilon}}$$
#
# With $\mu$ and $\sigma^2$ over all axes but the last, as in the first notebook. The layer has `layer.moving_mean` and `layer.epsilon`; `np.asarray` makes an array of a variable.


# %% your turn
def distance(layer, x):
    """Measure how far a normaliser's moving means are from those of what it is given.

    x has the shape (..., features). Return one distance per feature, in standard deviations.
    """
    axes = tuple(range(x.ndim - 1))
    apart = np.abs(np.asarray(layer.moving_mean) - x.mean(axes))
    return apart / np.sqrt(x.var(axes) + layer.epsilon)


# %%
check(distance)

# %% [markdown]
# Here is your number for the network, and then the library's check-up of it, which says the same number among others, and what to do.
# (For the second layer the two differ: you pass images through a first layer that is not well yet; the check-up normalises each layer by its batch.)

# %%
for norm in norms:
    print(f"{norm.name}: {distance(norm, given_to(norm, images)).mean():.2g} standard deviations")
print()
print(checkup(model, images, labels, most=len(images)))

# %% [markdown]
# ## 9. Recalibrate
#
# The cure: give each normaliser the mean and the biased variance of what it is *given*, over all images, in place of its moving statistics. No weight changes, and nothing is trained.
#
# Two normalisers stand one behind the other. **Before you write**: does it matter in which order they are measured?
#
# The images are few, so that one pass holds them all. `variable.assign(values)` changes a variable; `keras.Model(model.inputs[0], layer.input)` is the part of a model up to a layer, as in `given_to` above (take the `model` that your function is given).


# %% your turn
def recalibrate(model, images):
    """Replace the moving statistics of a model of stacked layers by those of images, in place.

    model.layers has its layers in order. Return nothing.
    """
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            part = keras.Model(model.inputs[0], layer.input)
            x = np.asarray(part(images, training=False))
            layer.moving_mean.assign(x.mean(axis=(0, 1, 2)))
            layer.moving_variance.assign(x.var(axis=(0, 1, 2)))


# %%
check(recalibrate)

# %% [markdown]
# If it is right, inference mode now answers as training mode would with all images as one batch: that is how the check knows. **Before you run this**: how much accuracy was only a matter of two sets of statistics?

# %%
before = accuracy(model)
recalibrate(model, images)
print(f"right: {before:.0%} before, {accuracy(model):.0%} after")
print(checkup(model, images, labels, most=len(images)).sentence)

# %% [markdown]
# ## 10. Fold
#
# In inference mode a normaliser multiplies each channel by a number and adds another. The layer before it can do that as well: with other weights and another bias it gives what both gave,
#
# $$\gamma\,\frac{(W * u + b) - \mu}{\sqrt{v + \epsilon}} + \beta \;=\; W' * u + b'$$
#
# where $\mu$ and $v$ are the stored statistics. Solve it for $W'$ and $b'$.


# %% your turn
def fold(kernel, bias, gamma, beta, mean, variance, epsilon):
    """Put a normaliser in inference mode into the dense or convolutional layer before it.

    The last axis of kernel is that of the outputs, as Keras keeps it; all others but epsilon have the
    shape (outputs,). Return the new kernel and the new bias.
    """
    factor = gamma / np.sqrt(variance + epsilon)
    return kernel * factor, (bias - mean) * factor + beta


# %%
check(fold)

# %% [markdown]
# Now the whole network, without its normalisers. **Before you run this**: how far apart may the answers be?

# %%
light, before = keras.Sequential([keras.Input((8, 8, 3))]), None
for layer in model.layers:
    if isinstance(layer, layers.BatchNormalization):
        kernel = np.asarray(before.kernel)
        stored = [np.asarray(one) for one in layer.weights]  # γ, β, moving mean, moving variance
        new = fold(kernel, np.zeros(kernel.shape[-1]), *stored, layer.epsilon)
        light.layers[-1].set_weights(new)
    else:
        config = layer.get_config()
        if isinstance(layer, layers.Conv2D):
            config["use_bias"] = True
        light.add(type(layer).from_config(config))
        if isinstance(layer, layers.Dense):
            light.layers[-1].set_weights(layer.get_weights())
    before = layer

apart = np.abs(np.asarray(light(images)) - np.asarray(model(images, training=False))).max()
assert apart < 1e-4
print(f"{len(model.layers)} layers became {len(light.layers)}; answers {apart:.0e} apart at most")

# %% [markdown]
# The library does the same for any model, or says why it cannot: `recalibrate`, `fold` and `checkup` of `bn_tutorial`. What else a check-up looks at: `practice-checkup`. What to do with a folded model: `practice-recipes`.
