"""Recalibrating and folding: what they keep, and what they refuse."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from bn_tutorial import Recipe, build, scratch
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.folding import fold
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
    recalibrate(model, x, batch_size=7)  # the last batch is smaller
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
    """A normaliser that may compute something else."""


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
        (lambda: sequence(inner()), "'inner' has batch normalisation inside"),
        (lambda: sequence(bn(trainable=False)), "'bn' gathers no statistics"),
        (lambda: sequence(bn(momentum=1.0)), "'bn' gathers no statistics"),
        (lambda: sequence(bn(renorm=True)), "'bn' cannot be recalibrated: batch renorm"),
        (lambda: sequence(OwnNorm()), "'own_norm.*' is of a subclass of BatchNormalization"),
        (lambda: sequence(layers.Masking(), bn(), shape=(5, 2)), "its input is masked"),
        (lambda: sequence(layers.GaussianNoise(1.0), bn()), "draws at random in training"),
        (lambda: sequence(BatchNorm()), "'batch_norm.*' has batch normalisation inside"),
        (lambda: sequence(layers.Dense(2)), "has no batch normalisation layer"),
        (shared, "is shared: it has one set"),
        (own, "has a call method of its own"),
        (two_inputs, "has 2 inputs"),
        (lambda: keras.Sequential([bn()]), "with a known input shape"),
    ],
)
def test_recalibrating_refuses_what_it_would_get_wrong(
    make: Callable[[], keras.Model], reason: str
) -> None:
    model = make()
    before = [weight.numpy() for weight in model.weights]
    with pytest.raises(ValueError, match=reason):
        recalibrate(model, images(8, model.inputs[0].shape[1:] if model.built else SHAPE))
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_recalibrating_wants_images_and_a_batch() -> None:
    with pytest.raises(ValueError, match="there are no images"):
        recalibrate(sequence(bn()), images(0))
    with pytest.raises(ValueError, match="batch_size=0 is impossible: it must be at least 1"):
        recalibrate(sequence(bn()), images(), batch_size=0)
    with pytest.raises(ValueError, match="the images are a _TensorSliceDataset: give an array"):
        recalibrate(sequence(bn()), tf.data.Dataset.from_tensor_slices(images()))


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
    "groups after": (lambda: sequence(bn(), layers.Conv2D(3, 3, groups=3)), "in groups"),
    "depthwise": (
        lambda: sequence(layers.DepthwiseConv2D(3, name="deep"), bn()),
        "'deep' is neither a dense nor an ordinary convolutional layer",
    ),
    "subclass": (lambda: sequence(Squared(4, name="own"), bn()), "'own' is neither a dense nor"),
    "another dtype": (
        lambda: sequence(layers.Dense(4, dtype="mixed_float16"), bn()),
        "computes in float16",
    ),
    "channels first": (
        lambda: sequence(layers.Conv2D(3, 3, data_format="channels_first"), bn(), shape=(3, 6, 5)),
        "has its channels first",
    ),
    "shared input": (branch, "goes elsewhere, too"),
    "shared layer": (twice, "the layer 'twin' is shared: it is called 2 times"),
    "another axis": (
        lambda: sequence(layers.Dense(4), bn(axis=1)),
        "its features are on axis 1, not on the last",
    ),
}


@pytest.mark.parametrize("case", FOLDABLE)
def test_a_folded_model_predicts_the_same_without_a_normaliser(case: str) -> None:
    model = FOLDABLE[case]()
    x = images(shape=model.input_shape[1:])
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
        (
            lambda: sequence(inner()),
            "'inner' has batch normalisation inside, where it cannot be treated",
        ),
        (lambda: sequence(BatchNorm()), "'batch_norm.*' has batch normalisation inside"),
        (lambda: keras.Sequential([layers.Dense(2)]), "with a known input shape"),
        (lambda: sequence(layers.Lambda(lambda x: x), bn()), "cannot be copied"),
        (lambda: sequence(layers.Dense(2, partial(keras.ops.relu)), bn()), "cannot be copied"),
        (words, "'lookup' has a vocabulary, which a copy would lose"),
        (own, "has a call method of its own"),
    ]
    for make, reason in cases:
        with pytest.raises(ValueError, match=reason):
            fold(make())


def test_of_two_well_known_networks_one_can_be_folded() -> None:
    options = {"weights": None, "input_shape": (32, 32, 3)}
    model, x = keras.applications.ResNet50(**options), images(shape=(32, 32, 3))
    np.testing.assert_allclose(fold(model)(x), model(x), rtol=1e-3)
    with pytest.raises(ValueError, match="is neither a dense nor an ordinary convolutional layer"):
        fold(keras.applications.MobileNetV2(**options))


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
    np.testing.assert_array_equal(fold(model).layers[-1].kernel, kernel)
    np.testing.assert_array_equal(fold(model).layers[-1].bias, bias)
