from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bn_tutorial.engines import notebook
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.folding import fold
from bn_tutorial.networks.layers import NoisyBatchNormalization
from bn_tutorial.networks.models import Scaled, build, initial_values
from bn_tutorial.networks.statistics import batch_norms, population_statistics
from bn_tutorial.recipe import MAX_CNN_DEPTH, Recipe, choices
from tests.networks import IMAGES, flat, trained

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
        if name != "orthogonal"
    }
    fan_in, fan_out = 3072, 64
    expected = {"glorot": 2 / (fan_in + fan_out), "he": 2 / fan_in, "lecun": 1 / fan_in}
    for name, found in std.items():
        assert found == pytest.approx(expected[name.split("_")[0]] ** 0.5, rel=0.02), name


def test_orthogonal_kernels_keep_lengths() -> None:
    recipe = Recipe(width=192, depth=3, initializer="orthogonal", init_scale=2.0)
    first, second, third, head = kernels(build(recipe, 3, shape=SMALL))
    for kernel in (first, second, third):
        np.testing.assert_allclose(kernel.T @ kernel, 4 * np.eye(192), atol=1e-5)
    assert not np.allclose(second, third, atol=0.1)
    assert not np.allclose(head.T @ head, np.eye(10), atol=0.1)
    wide, *_ = kernels(build(recipe.but(width=300, init_scale=1.0), shape=SMALL))
    np.testing.assert_allclose(wide @ wide.T, np.eye(192), atol=1e-5)


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


# Residual networks

RESIDUAL = Recipe(width=6, depth=3, residual="sum")
RESIDUALS = [
    RESIDUAL.but(residual=residual, norm=norm, norm_position=position, activation="tanh")
    for residual in ("sum", "skipinit")
    for norm, position in ((None, "before"), ("batch", "before"), ("batch", "after"))
]
EVERYTHING = RESIDUAL.but(residual="skipinit", kernel="standardized", norm="noisy", dropout=0.5)


def by_hand(recipe: Recipe, model: Any, training: bool) -> tuple[Any, list[Any]]:
    """Compute a residual network of tanh with NumPy; return probabilities and normalisers' moments."""
    kinds = {
        kind: iter([one for one in model.layers if isinstance(one, getattr(keras.layers, kind))])
        for kind in ("Dense", "BatchNormalization")
    }
    gains = iter([one.gain.numpy() for one in model.layers if type(one).__name__ == "Gain"])
    found = []

    def dense(values: Any) -> Any:
        kernel, bias = next(kinds["Dense"]).get_weights()
        return values @ kernel.astype(float) + bias

    def normalised(values: Any) -> Any:
        gamma, beta, *moments = next(kinds["BatchNormalization"]).get_weights()
        if training:
            moments = [values.mean(axis=0), values.var(axis=0)]
        found.append(tuple(moments))
        return gamma * (values - moments[0]) / np.sqrt(moments[1] + 1e-3) + beta

    def read(values: Any) -> Any:
        steps: list[Any] = [np.tanh, *([normalised] if recipe.norm else [])]
        for step in steps[::-1] if recipe.norm_position == "before" else steps:
            values = step(values)
        return values

    total = dense(flat(100))
    for _ in range(recipe.depth - 1):
        branch = dense(read(total))
        total = total + (next(gains) if recipe.residual == "skipinit" else 1) * branch
    powers = np.exp(dense(read(total)))
    return powers / powers.sum(axis=1, keepdims=True), found


def label(recipe: Recipe) -> str:
    return f"{recipe.residual} {recipe.norm} {recipe.norm_position}"


@pytest.mark.parametrize("recipe", RESIDUALS, ids=label)
@pytest.mark.parametrize("training", [False, True])
def test_a_residual_network_adds_up_what_its_dense_layers_put_out(
    recipe: Recipe, training: bool
) -> None:
    model = trained(recipe)
    expected, _ = by_hand(recipe, model, training)
    np.testing.assert_allclose(model(IMAGES, training=training), expected, rtol=1e-4)
    plain = [weight for weight in model.weights if weight.name != "gain"]
    without = build(recipe.but(residual=None), shape=IMAGES.shape[1:], classes=3)
    without.set_weights(plain)
    assert not np.allclose(without(IMAGES, training=training), expected, rtol=1e-2)


@pytest.mark.parametrize("recipe", [one for one in RESIDUALS if one.norm], ids=label)
def test_population_statistics_of_a_residual_network_are_those_of_one_large_batch(
    recipe: Recipe,
) -> None:
    model = trained(recipe)
    _, expected = by_hand(recipe, model, True)
    found = population_statistics(model, lambda indices: tf.gather(IMAGES, indices), 100, 100)
    assert len(found) == len(expected) == 3
    for pair, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(pair, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("recipe", [one for one in RESIDUALS if one.norm], ids=label)
def test_a_residual_network_can_be_folded_but_not_between_a_sum_and_an_activation(
    recipe: Recipe,
) -> None:
    model = trained(recipe)
    before = recipe.norm_position == "before"
    if before:
        with pytest.raises(ValueError, match=r"goes elsewhere, too\..*neither a dense"):
            fold(model)
    folded = fold(model, strict=False)
    assert len(batch_norms(folded)) == (3 if before else 0)
    np.testing.assert_allclose(folded(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_with_skipinit_a_deep_network_starts_as_a_shallow_one(norm: Any) -> None:
    deep = Recipe(width=6, depth=5, residual="skipinit").but(norm=norm)
    images = np.random.default_rng(0).normal(size=(20, *SMALL)).astype(np.float32)
    shallow = build(deep.but(depth=1, residual=None), 3, shape=SMALL)(images, training=True)
    np.testing.assert_array_equal(build(deep, 3, shape=SMALL)(images, training=True), shallow)
    for other in (deep.but(residual="sum"), deep.but(residual=None)):
        outputs = build(other, 3, shape=SMALL)(images, training=True)
        assert not np.allclose(outputs, shallow, rtol=1e-2)


@pytest.mark.parametrize(
    "recipe", [*RESIDUALS[:2], EVERYTHING, EVERYTHING.but(initializer="orthogonal")], ids=label
)
def test_a_residual_network_takes_the_initial_values_of_any_seed(recipe: Recipe) -> None:
    model, other = build(recipe, shape=SMALL), build(recipe, 7, shape=SMALL)
    values = initial_values(recipe, 7, model)
    for variable, value in values:
        variable.assign(value)
    drawn = 4 + (6 if recipe == EVERYTHING.but(initializer=recipe.initializer) else 0)
    assert len(values) == drawn  # kernels, and states of noise and dropout
    for ours, theirs in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)


def test_residual_arms_of_one_seed_start_from_the_same_kernels() -> None:
    arm = Recipe(width=8, depth=3)
    first = kernels(build(arm, 3, shape=SMALL))
    for other in (
        arm.but(residual="sum"),
        arm.but(residual="skipinit", norm="batch"),
        arm.but(kernel="standardized"),
        arm.but(norm="partial", norm_options={"mean": False}),
        arm.but(norm="rms"),
        arm.but(norm="dyt", norm_position="after"),
        arm.but(norm="derf", norm_options={"alpha": 0.7}),
    ):
        for one, another in zip(first, kernels(build(other, 3, shape=SMALL)), strict=True):
            np.testing.assert_array_equal(one, another)


def test_the_layers_of_a_residual_network_stand_in_order() -> None:
    recipe = Recipe(width=4, depth=2, residual="skipinit", norm="batch", dropout=0.1)
    norm = ["BatchNormalization", "Activation"]
    start, branch, end = ["InputLayer", "Flatten", "Dense"], ["Dense", "Gain", "Add"], ["Dense"]
    assert names(build(recipe, shape=SMALL)) == [
        *start, *norm, "Dropout", *branch, *norm, "Dropout", *end,
    ]  # fmt: skip
    after = recipe.but(residual="sum", norm_position="after", dropout=0.0, kernel="standardized")
    standardized = [name.replace("Dense", "StandardizedDense") for name in (*start, *branch)]
    assert names(build(after, shape=SMALL)) == [
        *standardized[:3], *norm[::-1], standardized[3], "Add", *norm[::-1], *end,
    ]  # fmt: skip
    early = build(recipe.but(dropout_position="before"), shape=SMALL)
    assert names(early)[3] == names(early)[7] == "Dropout"
    (add,) = (layer for layer in early.layers if isinstance(layer, keras.layers.Add))
    assert add.input[0] is early.layers[3].output  # what is read is what is added to


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3.15
def test_a_residual_network_survives_saving(tmp_path: Path) -> None:
    model = trained(EVERYTHING)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))
