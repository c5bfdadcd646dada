from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bn_tutorial.engines import notebook
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.layers import NoisyBatchNormalization
from bn_tutorial.networks.models import Scaled, build
from bn_tutorial.networks.statistics import batch_norms
from bn_tutorial.recipe import MAX_CNN_DEPTH, Recipe, choices

SMALL = (8, 8, 3)
INITIALIZERS = choices("initializer") or ()


def kernels(model: Any) -> list[Any]:
    """Return the kernels, recurrent ones too, in order."""
    return [weight.numpy() for weight in model.weights if "kernel" in weight.name]


def names(model: Any) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


def outline(model: Any) -> Any:
    """Return all that matters of an architecture; an activation counts as a layer."""
    found = []
    for layer in model.layers:
        config = layer.get_config()
        activation = config.get("activation")
        own = {
            name: config.get(name)
            for name in ("units", "momentum", "epsilon", "center", "scale", "use_bias")
        }
        initializers = {
            name: value["class_name"]
            for name, value in config.items()
            if name.endswith("_initializer")
        }
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if isinstance(layer, keras.layers.Activation):
            found.append(activation)
            continue
        found.append((type(layer).__name__, own, initializers, shapes, layer.output.shape))
        if activation not in (None, "linear"):
            found.append(activation)
    return found


@pytest.mark.parametrize(
    ("recipe", "written"),
    [
        (Recipe(), notebook.baseline),
        (Recipe(norm="batch"), notebook.batch_normalized),
    ],
)
def test_the_notebooks_networks_are_recipes(recipe: Recipe, written: Any) -> None:
    ours, theirs = build(recipe), written()
    assert outline(ours) == outline(theirs)
    assert ours.count_params() == theirs.count_params()
    assert len(ours.trainable_weights) == len(theirs.trainable_weights)
    assert ours.input_shape == theirs.input_shape == (None, 32, 32, 3)


@pytest.mark.parametrize("model", choices("model") or ())
def test_arms_of_one_seed_start_from_the_same_kernels(model: Any) -> None:
    arm = Recipe(model=model, width=8, depth=2, batch_size=4)
    first = kernels(build(arm, 3, shape=SMALL))
    assert len(first) == (5 if model == "gru" else 3)
    for other in (
        arm.but(norm="batch"),
        arm.but(norm="ghost", norm_position="after", norm_options={"size": 2}),
        arm.but(norm="noisy", norm_position="after"),
        arm.but(dropout=0.5),
        arm.but(dropout=0.5, dropout_position="before"),
        arm.but(norm="renorm", dropout=0.25, learning_rate=1, batch_size=7, activation="tanh"),
    ):
        for one, another in zip(first, kernels(build(other, 3, shape=SMALL)), strict=True):
            np.testing.assert_array_equal(one, another)
    for one, another in zip(first, kernels(build(arm, 4, shape=SMALL)), strict=True):
        assert not np.isclose(one, another).any(axis=-1).all()


def test_layers_of_one_network_start_differently() -> None:
    model = build(Recipe(width=192, depth=3), shape=SMALL)
    first, second, third, _ = kernels(model)
    assert first.shape == second.shape == third.shape == (192, 192)
    assert not np.isclose(first, second).all()
    assert not np.isclose(second, third).all()


def test_arms_of_one_seed_share_the_dropout_stream() -> None:
    arm = Recipe(width=8, depth=2, dropout=0.5)

    def states(recipe: Recipe, seed: int) -> list[Any]:
        layers = build(recipe, seed, shape=SMALL).layers
        return [
            tuple(layer.seed_generator.state.numpy().tolist())
            for layer in layers
            if isinstance(layer, keras.layers.Dropout)
        ]

    assert states(arm, 0) == states(arm.but(norm="layer", dropout=0.25), 0)
    assert states(arm, 0) == states(arm.but(norm="noisy", dropout_position="before"), 0)
    assert len({*states(arm, 0), *states(arm, 1)}) == 4


def test_the_noise_follows_from_the_seed_and_the_layer() -> None:
    arm = Recipe(width=8, depth=2, norm="noisy", norm_options={"max_shift": 0.25})

    def seeds(recipe: Recipe, seed: int) -> list[Any]:
        layers = build(recipe, seed, shape=SMALL).layers
        return [layer.seed for layer in layers if isinstance(layer, NoisyBatchNormalization)]

    assert seeds(arm, 0) == seeds(arm.but(dropout=0.5, norm_options={}), 0)
    assert len({*seeds(arm, 0), *seeds(arm, 1)}) == 4


@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_init_scale_scales_the_hidden_kernels(initializer: Any) -> None:
    recipe = Recipe(width=8, depth=2, initializer=initializer)
    plain = kernels(build(recipe, shape=SMALL))
    scaled = kernels(build(recipe.but(init_scale=3.0), shape=SMALL))
    for before, after in zip(plain[:-1], scaled[:-1], strict=True):
        np.testing.assert_allclose(after, 3 * before, rtol=1e-6)
    np.testing.assert_array_equal(plain[-1], scaled[-1])  # the head


def test_initialisers_are_those_of_keras() -> None:
    std = {
        name: kernels(build(Recipe(width=64).but(initializer=name)))[0].std()
        for name in map(str, INITIALIZERS)
    }
    fan_in, fan_out = 3072, 64
    expected = {"glorot": 2 / (fan_in + fan_out), "he": 2 / fan_in, "lecun": 1 / fan_in}
    for name, found in std.items():
        assert found == pytest.approx(expected[name.split("_")[0]] ** 0.5, rel=0.02), name


def test_the_layers_stand_in_the_order_of_the_recipe() -> None:
    mlp = Recipe(width=8, norm="layer", dropout=0.1)
    dense, norm, after = "Dense", "LayerNormalization", "Activation"
    start, end = ["Flatten"], ["Dropout", "Dense"]
    assert names(build(mlp, shape=SMALL)) == [*start, dense, norm, after, *end]
    assert names(build(mlp.but(norm_position="after"), shape=SMALL)) == [
        *start, dense, after, norm, *end,
    ]  # fmt: skip
    for position, rest in (("before", [norm, after]), ("after", [after, norm])):
        early = mlp.but(dropout_position="before", norm_position=position)
        assert names(build(early, shape=SMALL)) == [*start, dense, "Dropout", *rest, "Dense"]
    cnn = Recipe(model="cnn", width=4, depth=2, norm="instance")
    block = ["Conv2D", "GroupNormalization", "Activation", "MaxPooling2D"]
    assert names(build(cnn, shape=SMALL)) == [*block, *block, "GlobalAveragePooling2D", "Dense"]
    early = cnn.but(dropout=0.1, dropout_position="before", depth=1)
    assert names(build(early, shape=SMALL))[:3] == ["Conv2D", "Dropout", "GroupNormalization"]
    gru = Recipe(model="gru", width=4, depth=2, norm="batch")
    for recipe, block in (
        (gru, [dense, "BatchNormalization", "ProjectedGRU"]),
        (gru.but(norm_position="after"), [dense, "ProjectedGRU", "BatchNormalization"]),
        (gru.but(dropout=0.1), [dense, "BatchNormalization", "ProjectedGRU", "Dropout"]),
        (
            gru.but(norm_options={"per_step": True}),
            [dense, "Flatten", "BatchNormalization", "Reshape", "ProjectedGRU"],
        ),
        (gru.but(norm_options={"per_step": False}), [dense, "BatchNormalization", "ProjectedGRU"]),
    ):
        assert names(build(recipe, shape=SMALL)) == ["Reshape", *block * 2, "Dense"]


def test_shapes_follow_width_depth_and_classes() -> None:
    mlp = build(Recipe(width=7, depth=2), shape=SMALL, classes=4)
    assert [kernel.shape for kernel in kernels(mlp)] == [(192, 7), (7, 7), (7, 4)]
    cnn = build(Recipe(model="cnn", width=4, depth=MAX_CNN_DEPTH))
    assert [kernel.shape[-1] for kernel in kernels(cnn)] == [4, 8, 16, 32, 64, 10]
    gru = build(Recipe(model="gru", width=5, depth=2), shape=SMALL)
    assert [layer.output.shape[1:] for layer in gru.layers] == [
        (8, 24), (8, 15), (8, 5), (8, 15), (5,), (10,),
    ]  # fmt: skip


@pytest.mark.parametrize("per_step", [False, True])
def test_a_recurrent_network_normalises_its_input_projection(per_step: bool) -> None:
    recipe = Recipe(model="gru", width=4, norm="batch", norm_options={"per_step": per_step})
    model = build(recipe, shape=SMALL)
    (norm,) = batch_norms(model)
    images = np.random.default_rng(0).normal(size=(16, *SMALL)).astype(np.float32)
    projected = keras.Sequential(model.layers[:2])(images).numpy()
    axes = (0,) if per_step else (0, 1)  # rows share their statistics, or do not
    normalised = (projected - projected.mean(axes)) / np.sqrt(projected.var(axes) + 1e-3)
    model(images, training=True)
    assert norm.moving_mean.shape == norm.gamma.shape == ((8 * 12,) if per_step else (12,))
    np.testing.assert_allclose(
        norm.moving_mean, 0.01 * projected.mean(axes).reshape(-1), rtol=1e-3, atol=1e-6
    )
    start = model.layers.index(norm) - per_step
    after = keras.Sequential(model.layers[start:])
    recurrent = keras.Sequential(model.layers[start + 1 + 2 * per_step :])
    np.testing.assert_allclose(
        after(projected, training=True), recurrent(normalised), rtol=1e-4, atol=1e-5
    )


def test_a_recurrent_network_is_compiled_with_its_gradient() -> None:
    recipe = Recipe(model="gru", width=4, norm="batch", norm_options={"per_step": True})
    model = build(recipe, shape=SMALL)
    images = tf.constant(np.random.default_rng(0).random((4, *SMALL)).astype(np.float32))

    def gradients() -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images, training=True)[:, 0])
        return tape.gradient(loss, model.trainable_variables)

    for one, another in zip(tf.function(gradients, jit_compile=True)(), gradients(), strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("activation", choices("activation") or ())
def test_the_activation_is_the_one_asked_for(activation: Any) -> None:
    layers = build(Recipe(width=4, activation=activation), shape=SMALL).layers
    assert layers[2].activation is keras.activations.get(activation)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3.15
def test_a_scaled_initialiser_survives_saving(tmp_path: Path) -> None:
    model = build(Recipe(width=4, init_scale=2.5, norm="batch"), shape=SMALL)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    initializer = loaded.layers[1].kernel_initializer
    assert isinstance(initializer, Scaled)
    assert initializer.factor == 2.5
    np.testing.assert_array_equal(initializer((192, 4)), kernels(model)[0])
    images = np.random.default_rng(0).random((3, *SMALL)).astype(np.float32)
    np.testing.assert_array_equal(loaded(images), model(images))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3.15
def test_a_recurrent_network_survives_saving(tmp_path: Path) -> None:
    model = build(Recipe(model="gru", width=4), shape=SMALL)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).random((3, *SMALL)).astype(np.float32)
    np.testing.assert_array_equal(loaded(images), model(images))
