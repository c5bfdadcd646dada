"""Recalibrating and folding: what they keep, and what they refuse."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from bn_tutorial import Recipe, build, scratch
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.folding import fold
from bn_tutorial.networks.layers import GhostBatchNormalization
from bn_tutorial.networks.passes import at_once, footprint, untouched
from bn_tutorial.networks.recalibration import recalibrate
from bn_tutorial.networks.statistics import population_statistics
from bn_tutorial.scratch.layer import BatchNorm

layers = keras.layers
SHAPE = (8, 8, 3)


def disturb(model: keras.Model, kept: keras.layers.Layer | None = None) -> keras.Model:
    """Give every weight but those of `kept` another value than that of the beginning."""
    random = np.random.default_rng(0)
    spared = {weight.path for weight in kept.weights} if kept else set()
    for weight in [one for one in model.weights if one.path not in spared]:
        values = random.uniform(-1, 1, weight.shape)
        weight.assign(0.5 + np.abs(values) if "variance" in weight.name else values)
    return model


def images(count: int = 6, shape: tuple[int, ...] = SHAPE) -> Any:
    return np.random.default_rng(1).normal(1, 2, (count, *shape)).astype("float32")


def sequence(*parts: Any, shape: tuple[int, ...] = SHAPE) -> keras.Model:
    return disturb(keras.Sequential([layers.Input(shape), *parts]))


# Recalibrating


def test_recalibrated_statistics_are_those_of_the_population() -> None:
    model, x = sequence(layers.Flatten(), layers.BatchNormalization(), layers.Dense(2)), images(50)
    kernel = model.layers[-1].kernel.numpy()
    recalibrate(model, x, batch_size=9)  # some batches are smaller
    flat = x.reshape(50, -1)
    np.testing.assert_allclose(model.layers[1].moving_mean, flat.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.layers[1].moving_variance, flat.var(0), rtol=1e-4)
    np.testing.assert_array_equal(model.layers[-1].kernel, kernel)


def test_a_recalibrated_model_predicts_what_it_does_in_training_mode() -> None:
    model, x = disturb(build(Recipe(norm="batch", width=8, depth=2), shape=SHAPE)), images(40)
    assert np.abs(model(x) - model(x, training=True)).max() > 0.1
    recalibrate(model, x)
    np.testing.assert_allclose(model(x), model(x, training=True), atol=1e-4)


@pytest.mark.parametrize("synchronized", [False, True])
def test_recalibrated_statistics_are_exact_far_from_zero_and_in_any_order(
    synchronized: bool,
) -> None:
    x = (1e4 + np.repeat([[0.0], [6.0]], 500, axis=0) + images(1000, (1,))).astype("float32")
    model = sequence(layers.BatchNormalization(synchronized=synchronized), shape=(1,))
    recalibrate(model, x, batch_size=100)  # of images that are sorted
    np.testing.assert_allclose(model.layers[0].moving_mean, x.mean(0, float), rtol=1e-6)
    np.testing.assert_allclose(model.layers[0].moving_variance, x.var(0, float), rtol=1e-3)


def test_features_that_are_always_zero_have_mean_and_variance_zero() -> None:
    model = sequence(bn())
    recalibrate(model, 0 * images())
    np.testing.assert_array_equal(model.layers[0].moving_mean, np.zeros(3))
    np.testing.assert_array_equal(model.layers[0].moving_variance, np.zeros(3))


def test_a_normaliser_that_keeps_its_statistics_is_told_from_zeros() -> None:
    model, x = sequence(bn(trainable=False)), images()
    with pytest.raises(ValueError, match="'bn' gathers no statistics in training mode"):
        population_statistics(model, lambda indices: tf.gather(x, indices), len(x))


class OwnNorm(layers.BatchNormalization):  # type: ignore[name-defined]
    """A normaliser of somebody's own that computes what Keras does."""


class Halved(layers.BatchNormalization):  # type: ignore[name-defined]
    """A normaliser that computes something else."""

    def _moments(self, inputs: Any, mask: Any) -> tuple[Any, Any]:
        mean, variance = super()._moments(inputs, mask)
        return mean, variance / 2


class DropConnect(layers.Layer):  # type: ignore[name-defined]
    """A layer that drops whole examples, in every mode."""

    def call(self, inputs: Any) -> Any:
        kept = tf.floor(0.5 + tf.random.uniform([tf.shape(inputs)[0], 1, 1, 1]))
        return inputs / 0.5 * kept


class Within(layers.Layer):  # type: ignore[name-defined]
    """A layer with a normaliser inside."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.norm = layers.BatchNormalization()

    def call(self, inputs: Any) -> Any:
        return self.norm(2 * inputs)


def shared() -> keras.Model:
    inputs, norm = layers.Input((2, 4)), layers.BatchNormalization()
    return keras.Model(inputs, layers.Subtract()([norm(inputs[:, 0]), norm(inputs[:, 1])]))


class Own(keras.Model):
    """A functional model with a `call` of its own."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return 2 * super().call(inputs, training=training)


def own() -> keras.Model:
    inputs = layers.Input(SHAPE)
    return Own(inputs, layers.BatchNormalization()(layers.Dense(2)(inputs)))


def two_inputs() -> keras.Model:
    inputs = [layers.Input(SHAPE), layers.Input(SHAPE)]
    return keras.Model(inputs, layers.BatchNormalization()(layers.Add()(inputs)))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: sequence(bn(trainable=False)), "'bn' gathers no statistics"),
        (lambda: sequence(bn(renorm=True)), "'bn' cannot be recalibrated: batch renorm"),
        (lambda: sequence(Halved()), "its class, Halved, gathers other statistics"),
        (lambda: sequence(DropConnect(), bn()), "what reaches the layer 'bn' differs from pass to"),
        (lambda: sequence(layers.Dense(2)), "has no batch normalisation layer"),
        (two_inputs, "the images do not fit the model: .* expects 2 "),
        (lambda: keras.Sequential([bn()]), "the model has no weights yet"),
    ],
)
def test_recalibrating_refuses_what_it_would_get_wrong(
    make: Callable[[], keras.Model], reason: str
) -> None:
    model = make()
    before = [weight.numpy() for weight in model.weights]
    with pytest.raises(ValueError, match=reason):
        recalibrate(model, images(8))
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_recalibrating_wants_images_and_a_batch() -> None:
    with pytest.raises(ValueError, match="there are no images"):
        recalibrate(sequence(bn()), images(0))
    with pytest.raises(
        ValueError, match="batch_size=0 is impossible: it must be a whole number from 1"
    ):
        recalibrate(sequence(bn()), images(), batch_size=0)
    with pytest.raises(ValueError, match="the images do not fit the model: "):
        recalibrate(sequence(bn()), images(shape=(8, 8, 2)))


@pytest.mark.parametrize(("count", "size"), [(1, 1000), (5, 1000), (60, 1), (60, 5)])
def test_a_few_values_are_no_population(count: int, size: int) -> None:
    model = sequence(layers.Flatten(), layers.Dense(4), bn())
    with pytest.raises(ValueError, match="of each feature in a batch, which is no population"):
        recalibrate(model, images(count), batch_size=size)
    recalibrate(sequence(layers.Conv2D(4, 3), bn()), images(count))  # of many places


def test_large_images_pass_in_smaller_batches() -> None:
    model = sequence(layers.Conv2D(64, 1), bn(), shape=(256, 256, 3))
    with untouched():
        assert at_once(model, footprint(model, images(2, (256, 256, 3)))) == 11


def test_only_models_are_recalibrated() -> None:
    with pytest.raises(TypeError, match="a Keras model is recalibrated, and this is a NoneType"):
        recalibrate(None, images())


@pytest.mark.parametrize("spoilt", [np.nan, np.inf])
def test_statistics_that_are_not_finite_are_not_written(spoilt: float) -> None:
    model, x = sequence(layers.Dense(4), bn()), images()
    x[3, 2, 1, 0] = spoilt
    before = [weight.numpy() for weight in model.weights]
    with pytest.raises(ValueError, match="'bn' would get statistics that are not finite"):
        recalibrate(model, x)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_images_that_overflow_in_half_precision_are_refused() -> None:
    model = sequence(layers.Dense(4, dtype="mixed_float16"), bn(dtype="mixed_float16"))
    with pytest.raises(ValueError, match="not finite: look for images that"):
        recalibrate(model, 1e5 * images())


def recurrent(cell: Any) -> keras.Model:
    return sequence(cell, bn(), shape=(5, 3))


# what a normaliser, the last layer, should get: the model before it in inference mode
RIGHT: dict[str, Callable[[], keras.Model]] = {
    "a class of one's own": lambda: sequence(layers.Dense(4), OwnNorm()),
    "momentum 1": lambda: sequence(layers.Dense(4), bn(momentum=1.0)),
    "momentum 0": lambda: sequence(layers.Dense(4), bn(momentum=0.0)),
    "axis 1": lambda: sequence(layers.Dense(4), bn(axis=1)),
    "noise in training": lambda: sequence(layers.GaussianNoise(1.0), layers.Dropout(0.5), bn()),
    "augmentation": lambda: sequence(layers.RandomFlip(), layers.Rescaling(0.1), bn()),
    "GRU": lambda: recurrent(layers.GRU(4, dropout=0.5)),
    "LSTM": lambda: recurrent(layers.LSTM(4, return_sequences=True)),
    "two directions": lambda: recurrent(layers.Bidirectional(layers.SimpleRNN(3))),
    "no scale, no shift": lambda: sequence(layers.Dense(4), bn(scale=False, center=False)),
    "64 bits": lambda: sequence(layers.Dense(4, dtype="float64"), bn(dtype="float64")),
    "mixed precision": lambda: sequence(
        layers.Dense(4, dtype="mixed_float16"), bn(dtype="mixed_float16")
    ),
    "ghost": lambda: sequence(layers.Dense(4), GhostBatchNormalization(size=4)),
}


@pytest.mark.parametrize("case", RIGHT)
def test_recalibrating_is_right_on(case: str) -> None:
    model = RIGHT[case]()
    x, norm = images(64, model.input_shape[1:]), model.layers[-1]
    given = keras.Sequential([layers.Input(x.shape[1:]), *model.layers[:-1]])(x)
    given = np.asarray(given, float)
    axes = tuple(one for one in range(given.ndim) if one != norm.axis % given.ndim)
    recalibrate(model, x)
    np.testing.assert_allclose(norm.moving_mean, given.mean(axes), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, given.var(axes), rtol=1e-3, atol=1e-4)


def test_masked_values_do_not_count() -> None:
    model, x = sequence(layers.Masking(), bn(), shape=(5, 2)), images(40, (5, 2))
    x[:, 3:] = 0
    recalibrate(model, x)
    np.testing.assert_allclose(model.layers[1].moving_mean, x[:, :3].mean((0, 1)), rtol=1e-4)
    np.testing.assert_allclose(model.layers[1].moving_variance, x[:, :3].var((0, 1)), rtol=1e-4)


def test_a_recurrent_layer_that_remembers_is_left_with_what_it_did() -> None:
    inputs = keras.Input((5, 3), batch_size=8)
    parts = [layers.LSTM(4, stateful=True), layers.Dense(4), layers.BatchNormalization()]
    model = keras.Sequential([inputs, *parts, layers.ReLU()])
    x = images(24, (5, 3))
    model(x[:8])
    remembered = [one.numpy() for one in parts[0].states]
    recalibrate(model, x)
    folded = fold(model, x)
    for one, other in zip(parts[0].states, remembered, strict=True):
        np.testing.assert_array_equal(one, other)
    parts[0].reset_state()
    expected = model(x[:8])
    folded.layers[1].reset_state()
    np.testing.assert_allclose(folded(x[:8]), expected, rtol=1e-4, atol=1e-6)


def test_a_normaliser_that_is_called_twice_gets_the_statistics_of_both() -> None:
    model, x = shared(), images(40, (2, 4)) + np.arange(2)[:, None]
    recalibrate(model, x)
    [norm] = [one for one in model.layers if hasattr(one, "moving_mean")]
    np.testing.assert_allclose(norm.moving_mean, x.mean((0, 1)), rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, x.var((0, 1)), rtol=1e-4)


@pytest.mark.parametrize("make", [lambda: sequence(inner()), lambda: sequence(Within()), own])
def test_normalisers_within_models_and_layers_are_recalibrated(
    make: Callable[[], keras.Model],
) -> None:
    model, x = make(), images(40)
    recalibrate(model, x)
    with keras.StatelessScope():
        expected = model(x, training=True)
    np.testing.assert_allclose(model(x), expected, atol=1e-4)


@pytest.mark.parametrize(
    "give",
    [
        lambda x: {"a": x[0], "b": x[1]},
        lambda x: tf.data.Dataset.from_tensor_slices(({"a": x[0], "b": x[1]}, x[0])).batch(16),
        lambda x: iter([({"a": x[0], "b": x[1]},)]),
    ],
    ids=["dict", "dataset", "generator"],
)
def test_several_inputs_are_given_as_fit_would_take_them(give: Callable[[Any], Any]) -> None:
    inputs = {name: layers.Input((4,), name=name) for name in ("a", "b")}
    model = keras.Model(inputs, bn()(layers.Add()([*inputs.values()])))
    x = images(2 * 40, (4,)).reshape(2, 40, 4)
    recalibrate(model, give(x))
    np.testing.assert_allclose(model.layers[-1].moving_mean, (x[0] + x[1]).mean(0), rtol=1e-4)


def test_two_inputs_may_be_a_list() -> None:
    model, x = two_inputs(), [images(40), images(40) ** 2]
    recalibrate(model, x)
    expected = (x[0] + x[1]).mean((0, 1, 2))
    np.testing.assert_allclose(model.layers[-1].moving_mean, expected, rtol=1e-4)


def inner() -> keras.Model:
    return renamed(sequence(layers.Flatten(), layers.BatchNormalization()), "inner")


def renamed(model: keras.Model, name: str) -> keras.Model:
    model.name = name
    return model


# Folding


def bn(**options: Any) -> keras.layers.Layer:
    return layers.BatchNormalization(name="bn", **options)


def branch() -> keras.Model:
    """Return a model in which a normaliser shares its input with another layer."""
    inputs = layers.Input(SHAPE)
    hidden = layers.Dense(4, name="hidden")(inputs)
    return disturb(keras.Model(inputs, [layers.ReLU()(bn()(hidden)), layers.ReLU()(hidden)]))


def twice() -> keras.Model:
    """Return a model that uses one dense layer twice."""
    inputs, shared = layers.Input(SHAPE), layers.Dense(3, name="twin")
    return disturb(keras.Model(inputs, layers.ReLU()(bn()(shared(shared(inputs))))))


def residual() -> keras.Model:
    """Return a functional model with a branch around a normalised layer."""
    inputs = layers.Input(SHAPE)
    hidden = layers.BatchNormalization()(layers.Conv2D(3, 3, padding="same")(inputs))
    return disturb(keras.Model(inputs, layers.Add()([inputs, layers.ReLU()(hidden)])))


def adapted(inside: bool = False) -> keras.Model:
    """Return a model whose first layer, or inner model, knows the statistics of its inputs."""
    first = layers.Normalization()
    first.adapt(50 + 10 * images(64))
    first = keras.Sequential([first]) if inside else first
    rest = [layers.Dense(4), bn(), layers.ReLU()]
    return disturb(keras.Sequential([layers.Input(SHAPE), first, *rest]), kept=first)


def always_dropping() -> keras.Model:
    """Return a model whose dropout is never off, as for estimates of uncertainty."""
    inputs = layers.Input(SHAPE)
    hidden = layers.Dropout(0.5, name="drop")(layers.Dense(4)(inputs), training=True)
    return disturb(keras.Model(inputs, bn()(hidden)))


def always_training() -> keras.Model:
    """Return a model whose normaliser uses its batch even when the model is in use."""
    inputs = layers.Input(SHAPE)
    return disturb(keras.Model(inputs, bn()(layers.Dense(4)(inputs), training=True)))


def by_keyword() -> keras.Model:
    inputs = layers.Input((4, 6))
    hidden = bn()(inputs=layers.Dense(8)(inputs))
    attention = layers.MultiHeadAttention(2, 4)(query=hidden, value=hidden)
    return disturb(keras.Model(inputs, attention))


def words() -> keras.Model:
    inputs = layers.Input((3,), dtype="int32")
    lookup = layers.IntegerLookup(vocabulary=[5, 6, 7], output_mode="multi_hot", name="lookup")
    return disturb(keras.Model(inputs, bn()(layers.Dense(2)(lookup(inputs)))))


def bins() -> keras.Model:
    """Return a model whose first layer knows where the bins of its inputs begin."""
    first = layers.Discretization(num_bins=4)
    first.adapt(images(64, (3,)))
    inputs = layers.Input((3,))
    hidden = layers.Flatten()(layers.Embedding(4, 5)(first(inputs)))
    return disturb(keras.Model(inputs, bn()(layers.Dense(2)(hidden))), kept=first)


def centred(model: keras.Model) -> keras.Model:
    model.layers[0].moving_mean.assign(np.zeros(3))
    return model


def siamese() -> keras.Model:
    """Return a model that calls an inner one for both of its parts."""
    inputs, encoder = (
        layers.Input((2, 6)),
        keras.Sequential([layers.Input((6,)), layers.Dense(4), bn()]),
    )
    parts = [layers.ReLU()(encoder(inputs[:, part])) for part in range(2)]
    return disturb(keras.Model(inputs, layers.Subtract()(parts)))


def twins() -> keras.Model:
    """Return the same with layers that are called twice."""
    inputs, dense, norm = layers.Input((2, 6)), layers.Dense(4), bn()
    parts = [layers.ReLU()(norm(dense(inputs[:, part]))) for part in range(2)]
    return disturb(keras.Model(inputs, layers.Subtract()(parts)))


def two_readers() -> keras.Model:
    """Return a model with a layer that is called twice, and normalised once."""
    inputs, dense = layers.Input((2, 6)), layers.Dense(4)
    parts = [layers.ReLU()(bn()(dense(inputs[:, 0]))), dense(inputs[:, 1])]
    return disturb(keras.Model(inputs, layers.Subtract()(parts)))


def unlike() -> keras.Model:
    """Return a model with a state that is neither in its weights nor in its configuration."""
    model = sequence(Shifted(), layers.Dense(4), bn())
    model.layers[0].shift = 3.0
    return model


@keras.saving.register_keras_serializable()
class Shifted(layers.Layer):  # type: ignore[name-defined]
    shift = 0.0

    def call(self, inputs: Any) -> Any:
        return inputs + self.shift


def preactivated() -> keras.Model:
    """Return a model with a normaliser that truly cannot go, and one that can."""
    inputs = layers.Input(SHAPE)
    hidden = layers.ReLU()(layers.BatchNormalization(name="stays")(inputs))
    return disturb(keras.Model(inputs, layers.ReLU()(bn()(layers.Dense(4)(hidden)))))


class Squared(layers.Dense):  # type: ignore[name-defined]
    """A dense layer that folding does not know."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return keras.ops.square(super().call(inputs))


FOLDABLE: dict[str, Callable[[], keras.Model]] = {
    "dense": lambda: sequence(layers.Dense(4), bn(), layers.ReLU(), layers.Dense(2)),
    "no bias": lambda: sequence(layers.Dense(4, use_bias=False), bn(), layers.ReLU()),
    "no scale": lambda: sequence(layers.Dense(4), bn(scale=False), layers.ReLU()),
    "no shift": lambda: sequence(layers.Dense(4), bn(center=False, epsilon=0.1), layers.ReLU()),
    "padded convolution before": lambda: sequence(layers.Conv2D(4, 3, padding="same"), bn()),
    "convolution in groups before": lambda: sequence(layers.Conv2D(6, 3, groups=3), bn()),
    "dropout between": lambda: sequence(layers.Dense(4), layers.Dropout(0.5), bn(), layers.ReLU()),
    "dense after": lambda: sequence(layers.Dense(4, "relu"), bn(), layers.Dense(2, "tanh")),
    "first layer": lambda: sequence(bn(), layers.Conv2D(4, 3, strides=2, use_bias=False)),
    "convolution of one pixel after": lambda: sequence(bn(), layers.Conv2D(4, 1, padding="same")),
    "on both sides": lambda: sequence(
        layers.Dense(4, "relu"), layers.BatchNormalization(), layers.Dense(3), bn(), layers.ReLU()
    ),
    "sequence": lambda: sequence(layers.Conv1D(4, 3), bn(), layers.ReLU(), shape=(9, 2)),
    "ghost": lambda: disturb(build(Recipe(norm="ghost", width=8, depth=2), shape=SHAPE)),
    "after the activation": lambda: disturb(
        build(Recipe(norm="batch", width=8, depth=2, norm_position="after"), shape=SHAPE)
    ),
    "convolutional": lambda: disturb(
        build(Recipe(model="cnn", norm="batch", width=4, depth=2), shape=SHAPE)
    ),
    "residual": residual,
    "masked": lambda: sequence(layers.Masking(), layers.Dense(4), bn(), shape=(5, 2)),
    "standardised inputs": adapted,
    "standardised inputs, inside": lambda: adapted(inside=True),
    "an activation that is a layer": lambda: sequence(
        layers.Dense(4, layers.LeakyReLU()), bn(), layers.Dense(2)
    ),
    "called by keyword": by_keyword,
    "depthwise before": lambda: sequence(layers.DepthwiseConv2D(3, depth_multiplier=2), bn()),
    "depthwise after": lambda: sequence(bn(), layers.DepthwiseConv2D(3, depth_multiplier=2)),
    "separable before": lambda: sequence(layers.SeparableConv2D(5, 3, depth_multiplier=2), bn()),
    "separable after": lambda: sequence(bn(), layers.SeparableConv2D(5, 3, depth_multiplier=2)),
    "depthwise sequence": lambda: sequence(layers.DepthwiseConv1D(3), bn(), shape=(9, 2)),
    "transposed before": lambda: sequence(layers.Conv2DTranspose(4, 3, strides=2), bn()),
    "transposed after, without shift": lambda: centred(
        sequence(bn(center=False), layers.Conv2DTranspose(4, 3))
    ),
    "groups after": lambda: sequence(bn(), layers.Conv2D(6, 3, groups=3)),
    "dilated": lambda: sequence(layers.Conv2D(4, 2, dilation_rate=2, padding="same"), bn()),
    "two in a row": lambda: sequence(
        layers.Dense(4), layers.BatchNormalization(), bn(), layers.ReLU()
    ),
    "two in a row, then dense": lambda: sequence(
        layers.ReLU(), layers.BatchNormalization(), bn(), layers.Dense(3)
    ),
    "a linear activation between": lambda: sequence(
        layers.Dense(4), layers.Activation("linear"), bn(), layers.ReLU()
    ),
    "pooled, then dense": lambda: sequence(
        layers.ReLU(), bn(), layers.GlobalAveragePooling2D(), layers.Dense(3)
    ),
    "flattened, then dense": lambda: sequence(
        layers.ReLU(), bn(), layers.AveragePooling2D(2), layers.Flatten(), layers.Dense(3)
    ),
    "pooled before": lambda: sequence(layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), bn()),
    "an inner model": lambda: sequence(
        keras.Sequential([layers.Input(SHAPE), layers.Dense(4), bn(), layers.ReLU()])
    ),
    "an inner model that is called twice": siamese,
    "a layer and a normaliser that are called twice": twins,
    "words": words,
    "bins": bins,
    "nothing to fold": lambda: sequence(layers.Flatten(), layers.Dense(2)),
}
REFUSED: dict[str, tuple[Callable[[], keras.Model], str]] = {
    "activation in between": (
        lambda: sequence(layers.Dense(4, "relu", name="first"), bn(), layers.ReLU(name="last")),
        r"the activation of 'first', relu, is in between. .* 'last' is neither a dense nor",
    ),
    "activation as a layer": (
        lambda: sequence(layers.Dense(4), layers.ReLU(name="middle"), bn()),
        r"before: 'middle' is neither .* after: what lies .* is an output of the model",
    ),
    "activation that is a layer": (
        lambda: sequence(layers.Dense(4, layers.LeakyReLU()), bn()),
        r", LeakyReLU, is in between",
    ),
    "dropout that is never off": (always_dropping, "'drop' is called with training=True"),
    "always in training mode": (
        always_training,
        r"before: the layer 'bn' is called with training=True",
    ),
    "zero padding after": (
        lambda: sequence(bn(), layers.Conv2D(4, 3, padding="same", name="padded")),
        r"no layer stands before it. .* 'padded' pads with zeros, which the normaliser does not",
    ),
    "causal padding after": (
        lambda: sequence(bn(), layers.Conv1D(4, 2, padding="causal"), shape=(9, 2)),
        "pads with zeros",
    ),
    "transposed after": (lambda: sequence(bn(), layers.Conv2DTranspose(4, 3)), "pads with zeros"),
    "one shared layer, two normalisers": (two_readers, "is shared: it is called 2 times"),
    "subclass": (lambda: sequence(Squared(4, name="own"), bn()), "'own' is neither a dense nor"),
    "another dtype": (
        lambda: sequence(layers.Dense(4, dtype="mixed_float16"), bn()),
        "computes in float16",
    ),
    "channels first": (
        lambda: sequence(layers.Conv2D(3, 3, data_format="channels_first"), bn(), shape=(3, 6, 5)),
        "the features are on axis 3, not on that of 'conv2d",
    ),
    "shared input": (branch, "goes elsewhere, too"),
    "shared layer": (twice, "the layer 'twin' is shared: it is called 2 times"),
    "another axis": (
        lambda: sequence(layers.Dense(4), bn(axis=1)),
        "the features are on axis 1, not on that of 'dense",
    ),
}


@pytest.mark.parametrize("case", FOLDABLE)
def test_a_folded_model_predicts_the_same_without_a_normaliser(case: str) -> None:
    model = FOLDABLE[case]()
    x = images(shape=model.input_shape[1:])
    if "int" in str(model.inputs[0].dtype):
        x = np.random.default_rng(1).integers(0, 9, x.shape)
    expected = model(x).numpy()
    folded = fold(model)
    assert not [one for one in folded.layers if isinstance(one, layers.BatchNormalization)]
    assert np.ptp(expected, axis=0).max() > 1e-3  # it depends on the image
    np.testing.assert_allclose(folded(x), expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(model(x), expected)  # the model itself is as it was


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_folded_exactly_is_refused_with_a_reason(case: str) -> None:
    make, reason = REFUSED[case]
    with pytest.raises(ValueError, match=rf"the layer 'bn' cannot be folded.*{reason}"):
        fold(make())


def test_folding_refuses_models_that_it_cannot_see_through() -> None:
    cases: list[tuple[Callable[[], keras.Model], str]] = [
        (lambda: sequence(inner()), "'batch_normalization.*' cannot be folded"),
        (lambda: sequence(Within()), "it lies inside the layer 'within.*', where it cannot"),
        (lambda: sequence(OwnNorm()), "it is of a class of its own, which may compute"),
        (lambda: sequence(BatchNorm()), "is of a class of its own"),
        (unlike, "a copy of the model .* does not answer as it does"),
        (lambda: keras.Sequential([layers.Dense(2)]), "with a known input shape"),
        (lambda: sequence(layers.Dense(2, partial(keras.ops.relu)), bn()), "cannot be copied"),
        (own, "has a call method of its own"),
    ]
    for make, reason in cases:
        with pytest.raises(ValueError, match=reason):
            fold(make())


@pytest.mark.parametrize("name", ["ResNet50", "MobileNetV2"])
def test_well_known_networks_can_be_folded(name: str) -> None:
    options = {"weights": None, "input_shape": (32, 32, 3)}
    model, x = getattr(keras.applications, name)(**options), images(shape=(32, 32, 3))
    folded = fold(model, x)
    assert not [one for one in folded.layers if isinstance(one, layers.BatchNormalization)]
    np.testing.assert_allclose(folded(x), model(x), rtol=1e-3)


def test_where_some_must_stay_the_others_go(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = preactivated(), images()
    with pytest.raises(ValueError, match="the layer 'stays' cannot be folded"):
        fold(model)
    folded = fold(model, strict=False)
    np.testing.assert_allclose(folded(x), model(x), atol=1e-4)
    assert (folded.folded, [*folded.stayed]) == (1, ["stays"])
    assert "Folded 1 of 2; the layer 'stays' cannot be folded. Into" in capsys.readouterr().out


def test_what_stays_is_named_by_where_it_lies_and_models_keep_their_names() -> None:
    inputs = layers.Input(SHAPE, name="in")
    parts = [preactivated(), preactivated()]
    for part, name in zip(parts, "ab", strict=True):
        part.name = name
    model = keras.Model(inputs, layers.Add()([part(inputs) for part in parts]), name="whole")
    folded = fold(model, strict=False)
    assert ([*folded.stayed], folded.folded) == (["a/stays", "b/stays"], 2)
    assert (folded.name, folded.inputs[0].name) == ("whole", "in")
    assert [one.name for one in folded.layers if isinstance(one, keras.Model)] == ["a", "b"]


def test_a_renormalising_layer_may_take_another_in() -> None:
    inputs = layers.Input(SHAPE)
    first = layers.BatchNormalization(name="first", renorm=True, scale=False)
    model = disturb(keras.Model(inputs, layers.ReLU()(bn(center=False)(first(inputs)))))
    folded = fold(model, strict=False)
    assert ([*folded.stayed], folded.folded) == (["first"], 1)
    np.testing.assert_allclose(folded(images()), model(images()), rtol=1e-4, atol=1e-5)


class Times(keras.layers.Layer):
    """A layer of somebody who has not written get_config."""

    def __init__(self, factor: float = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs: Any) -> Any:
        return inputs * self.factor


def test_layers_without_a_configuration_are_copied_or_used_again() -> None:
    parts = [layers.Dense(4), bn(), Times(3), layers.Lambda(lambda x: x + 1), layers.Dense(2)]
    model, x = sequence(*parts), images()
    folded = fold(model, x)
    np.testing.assert_allclose(folded(x), model(x), rtol=1e-4, atol=1e-5)


class Sine(keras.layers.Layer):
    """What makes much of small differences."""

    def call(self, inputs: Any) -> Any:
        return keras.ops.sin(inputs)


def amplifier(gain: float) -> keras.Model:
    """Return a model in which rounding grows by a factor: it looks at the last digits."""
    parts = [layers.Dense(4), bn(), layers.Rescaling(gain), Sine()]
    return sequence(*parts, shape=(3,))


def test_rounding_that_grows_on_its_way_is_no_fault_of_the_copy() -> None:
    model = amplifier(1e3)
    wrong = np.abs(fold(model)(images(shape=(3,))) - model(images(shape=(3,)))).max()
    assert wrong < 0.2
    with pytest.raises(ValueError, match="in their last digits: no copy can be compared"):
        fold(amplifier(1e6))


def test_a_refusal_spares_from_a_wrong_answer() -> None:
    """Shifting the bias of a padded convolution is exact inside, and wrong at the border."""
    norm, conv = bn(), layers.Conv2D(2, 3, padding="same")
    model, x = sequence(norm, conv), images()
    gamma, beta, mean, variance = norm.get_weights()
    factor = gamma / np.sqrt(variance + norm.epsilon)
    kernel, bias = conv.get_weights()
    shift = np.tensordot(beta - mean * factor, kernel, (0, 2)).sum((0, 1))
    naive = keras.ops.conv(x, kernel * factor[:, None], padding="same") + bias + shift
    off = np.abs(naive - model(x)).max((0, 3))
    assert off[1:-1, 1:-1].max() < 1e-4
    assert off[0].min() > 1e-2


def test_folding_is_the_formula_of_from_scratch() -> None:
    dense, norm = layers.Dense(4), bn()
    model = sequence(dense, norm)
    kernel, bias = scratch.fold(*dense.get_weights(), *norm.get_weights())
    np.testing.assert_allclose(fold(model).layers[-1].kernel, kernel, rtol=1e-5)
    np.testing.assert_allclose(fold(model).layers[-1].bias, bias, rtol=1e-5, atol=1e-6)
