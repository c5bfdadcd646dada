"""A check-up names what ails a model, and leaves the model as it was."""

from __future__ import annotations

import dataclasses
import json
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from bn_tutorial import checkup, recalibrate
from bn_tutorial.bench.findings import illnesses
from bn_tutorial.cli import main
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.feeding import fed

from .patients import (
    CLINIC,
    Patient,
    healed,
    images,
    lag,
    network,
    regression,
    train,
    two_populations,
)

layers = keras.layers
RAW, STANDARD, LABELS = images()


def examined(patient: Patient) -> Any:
    return checkup(patient.model, patient.x, patient.y, **patient.options)


@pytest.fixture(scope="module")
def healthy() -> Patient:
    return healed(0)


# What it finds


@pytest.mark.parametrize("case", CLINIC)
def test_each_patient_of_the_clinic_is_named_first(case: str) -> None:
    make, kind = CLINIC[case]
    found = examined(make(3)).findings
    assert (found[0].kind, found[0].serious) == (kind, True)
    assert found[0].measured
    assert found[0].cure


def test_a_healthy_model_gets_one_calm_sentence(healthy: Patient) -> None:
    report = examined(healthy)
    assert not report.serious
    assert "is healthy" in str(report)
    assert report.scores["inference"].accuracy == pytest.approx(
        report.scores["recalibrated"].accuracy, abs=0.03
    )


def test_a_model_without_normaliser_has_no_finding() -> None:
    report = checkup(keras.Sequential([keras.Input((4,)), layers.Dense(2)]), np.ones((8, 4)))
    assert report.findings == []
    assert "has no batch normalisation" in report.sentence


def test_images_of_the_training_make_sure_that_the_data_are_shifted() -> None:
    model = train(network(), STANDARD, LABELS, epochs=40)
    found = checkup(model, STANDARD + 1, LABELS, trained_on=STANDARD).findings[0]
    assert (found.kind, found.sure, found.serious) == ("shifted-data", "certain", True)


def frozen_after_compile(model: Any) -> Any:
    model.layers[1].trainable = False
    return model


def broken(model: Any) -> Any:
    model.layers[1].moving_variance.assign(np.full(64, np.nan))
    return model


def negative(model: Any) -> Any:
    model.layers[1].moving_variance.assign(np.linspace(-1, 1, 64))
    return model


def dead(model: Any) -> Any:
    model.layers[1].beta.assign(np.full(64, -9.0))
    return model


def switched_off(model: Any) -> Any:
    model.layers[1].gamma.assign(np.where(np.arange(64) < 40, 1e-9, 1.0))
    return model


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (frozen_after_compile, "frozen-mismatch"),
        (broken, "non-finite"),
        (negative, "non-finite"),
        (dead, "dead-features"),
        (switched_off, "dead-features"),
    ],
)
def test_what_spoils_a_healthy_model_is_named_first(spoil: Callable[[Any], Any], kind: str) -> None:
    model = spoil(healed(0).model)
    found = checkup(model, RAW, LABELS).findings[0]
    assert (found.kind, found.serious) == (kind, True)
    assert found.layers == (model.layers[1].name,)


def test_dropout_before_a_normaliser_widens_its_moving_variances() -> None:
    keras.utils.set_random_seed(0)
    norm, head = layers.BatchNormalization(momentum=0.9), layers.Dense(10, activation="softmax")
    before = [layers.Dense(64, activation="relu"), layers.Dropout(0.7)]
    model = train(
        keras.Sequential([keras.Input((192,)), *before, norm, head]), STANDARD, LABELS, epochs=20
    )
    found = checkup(model, STANDARD, LABELS).findings[0]
    assert (found.kind, found.sure) == ("variance-shift", "certain")
    mild = dataclasses.replace(found, serious=False)
    report = dataclasses.replace(checkup(model, STANDARD, LABELS), findings=[mild])
    assert "not quite those of these images" in report.sentence
    recalibrate(model, STANDARD)
    assert "variance-shift" not in [one.kind for one in checkup(model, STANDARD, LABELS).findings]


def test_augmentation_s_usual_mode_is_no_illness_and_hides_none() -> None:
    model = lag(0).model
    inputs = keras.Input((192,))
    noisy = layers.Reshape((8, 8, 3))(inputs)
    noisy = layers.Flatten()(layers.RandomFlip("horizontal")(noisy))
    augmented = keras.Sequential([keras.Model(inputs, noisy), *model.layers])
    found = {one.kind: one.serious for one in checkup(augmented, RAW, LABELS).findings}
    assert (next(iter(found)), found["training-mode"]) == ("lag", False)
    recalibrate(augmented, RAW)
    assert not checkup(augmented, RAW, LABELS).serious


def test_pixels_that_somebody_forgot_to_divide_are_other_images(healthy: Patient) -> None:
    model = train(network(layers.BatchNormalization), RAW, LABELS, epochs=60)
    found = checkup(model, 255 * RAW, LABELS).findings[0]
    assert (found.kind, found.serious) == ("shifted-data", True)


def test_little_distances_count_if_recalibrating_gains_much() -> None:
    x = np.random.default_rng(0).normal(size=(512, 1)).astype("float32")
    model = keras.Sequential(
        [keras.Input((1,)), layers.BatchNormalization(), layers.Dense(1, "sigmoid")]
    )
    model.layers[1].kernel.assign([[99.0]])
    model.compile("sgd", "binary_crossentropy")
    recalibrate(model, x)
    assert not checkup(model, x, x > x.mean()).findings
    model.layers[0].moving_mean.assign_add([0.3])
    report = checkup(model, x, x > x.mean())
    assert report.layers[0]["distance"] == pytest.approx(0.3, abs=0.02)
    assert (report.findings[0].kind, report.serious) == ("lag", True)


def test_a_loss_can_leak_too() -> None:
    rng = np.random.default_rng(0)
    subject, own = rng.normal(0, 5, (100, 1, 1)), rng.normal(0, 1, (100, 20, 4))
    x = (subject + own).astype("float32").reshape(-1, 4)
    y = own.mean(-1, keepdims=True).astype("float32").reshape(-1, 1)
    parts = [layers.BatchNormalization(momentum=0.9), layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *parts])
    model.compile(keras.optimizers.Adam(0.03), "mse")
    model.fit(x, y, 20, 20, shuffle=False, verbose=0)
    found = checkup(model, x, y, batch_size=20).findings[0]
    assert (found.kind, found.serious) == ("leak", True)
    assert "loss" in found.measured


def test_batches_of_one_may_be_those_of_an_evaluation(healthy: Patient) -> None:
    pairs = tf.data.Dataset.from_tensor_slices((RAW, LABELS)).batch(1)
    report = checkup(healthy.model, pairs)
    assert (report.findings[0].kind, report.findings[0].sure) == ("batch-of-one", "possible")
    assert not report.serious


def test_groups_far_apart_are_serious_if_each_had_batches_to_itself() -> None:
    joint = examined(two_populations(0, joint=True))
    assert not joint.serious
    patient = two_populations(0)
    report = examined(patient)
    assert [one.kind for one in report.findings] == ["two-populations"]  # which explains the rest
    assert "the moving means those of none" in report.findings[0].sentence
    untold = checkup(patient.model, patient.x, patient.y)
    assert "two-populations" not in [one.kind for one in untold.findings]
    assert untold.serious
    unlabelled = checkup(patient.model, patient.x, **patient.options)
    assert (unlabelled.findings[0].kind, unlabelled.serious) == ("two-populations", True)
    assert "accuracy" not in unlabelled.findings[0].measured


def test_statistics_that_fit_one_of_two_groups_are_worth_knowing(healthy: Patient) -> None:
    groups = np.arange(len(RAW)) % 2
    both = RAW + 0.3 * groups[:, None]
    found = {one.kind: one for one in checkup(healthy.model, both, LABELS, groups=groups).findings}
    assert not found["two-populations"].serious
    again = checkup(healthy.model, RAW, groups=groups).findings
    assert "two-populations" not in [one.kind for one in again]


def test_new_statistics_are_new_whatever_the_groups() -> None:
    groups = np.arange(len(RAW)) % 2
    found = checkup(network(), RAW + groups[:, None], LABELS, groups=groups).findings
    kinds = {one.kind: one.serious for one in found}
    assert next(iter(kinds)) == "statistics-not-restored"
    assert kinds["two-populations"] is False


def test_groups_of_a_regression_are_compared_by_their_loss() -> None:
    keras.utils.set_random_seed(0)
    x = np.concatenate([drawn(500, 6), 9 + drawn(500, 6)])
    y = np.tile(drawn(500, 6)[:, :1] - 2, (2, 1))
    parts = [layers.BatchNormalization(momentum=0.9), layers.Dense(1)]
    model = keras.Sequential([keras.Input((6,)), *parts])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    turns = np.arange(1000).reshape(2, -1, 50).swapaxes(0, 1).ravel()
    model.fit(x[turns], y[turns], 50, 10, shuffle=False, verbose=0)
    found = checkup(model, x, y, groups=np.repeat([0, 1], 500)).findings[0]
    assert (found.kind, found.serious) == ("two-populations", True)
    assert "loss" in found.measured


def test_groups_may_be_given_to_a_model_of_a_fixed_batch() -> None:
    model, x = stateful(), drawn(80, 5, 3)
    recalibrate(model, x)
    assert not checkup(model, x, groups=np.arange(80) % 3).serious


@pytest.mark.parametrize("options", [{"standardised": True}, {"at_end": False}])
def test_a_regression_is_ill_only_if_its_answers_have_the_wrong_size(
    options: dict[str, bool],
) -> None:
    report = examined(regression(0, **options))
    assert not report.serious
    kinds = [one.kind for one in report.findings]
    assert ("normalised-output" in kinds) is options.get("at_end", True)


def test_a_normaliser_at_the_end_is_seen_through_layers_that_pass_on() -> None:
    inputs = keras.Input((6,))
    hidden = layers.BatchNormalization(axis=1, name="last")(layers.Reshape((2, 3))(inputs))
    outputs = layers.Activation("linear")(layers.Dropout(0.5)(layers.Reshape((3, 2))(hidden)))
    model, x = keras.Model(inputs, outputs), drawn(64, 6)
    recalibrate(model, x)
    y = x.reshape(-1, 2, 3) * [[5], [1]] + [[40], [0]] + np.sign(x[::-1]).reshape(-1, 2, 3)
    found = {one.kind: one for one in checkup(model, x, y.reshape(-1, 3, 2)).findings}
    assert (found["normalised-output"].layers, found["normalised-output"].serious) == (
        ("last",),
        True,
    )
    values, wanted = model(x).numpy().reshape(-1, 2, 3)[:, 0], y[:, 0]
    error = np.mean((values - wanted) ** 2) / wanted.var()
    best = 1 - np.corrcoef(values.ravel(), wanted.ravel())[0, 1] ** 2
    assert f"squared error is {error:.2g} times" in found["normalised-output"].measured
    assert f"would be {best:.2g} times" in found["normalised-output"].measured
    assert "normalised-output" not in [one.kind for one in checkup(model, x).findings]
    assert not checkup(model, x[:20], y.reshape(-1, 3, 2)[:20]).serious


def test_answers_that_suit_their_own_loss_are_not_ill() -> None:
    x = drawn(512, 6)
    y = 3 * (x - x.mean(0))  # in the right direction, and of another length
    model = keras.Sequential([keras.Input((6,)), layers.BatchNormalization()])
    recalibrate(model, x)
    for loss, serious in (("mse", True), ("cosine_similarity", False)):
        model.compile("sgd", loss)
        assert checkup(model, x, y).serious is serious


def test_embeddings_classes_and_frozen_layers_at_the_end_are_no_regression() -> None:
    model, x = keras.Sequential([keras.Input((6,)), layers.BatchNormalization()]), drawn(64, 6)
    recalibrate(model, x)
    for y in (None, np.arange(64) % 6, x > 2, np.full((64, 6), 9.0), drawn(64, 9)):
        assert "normalised-output" not in [one.kind for one in checkup(model, x, y).findings]
    model.trainable = False
    assert "normalised-output" not in [one.kind for one in checkup(model, x, 9 * x).findings]


def test_a_ragged_last_batch_is_seen_from_the_number_of_images(healthy: Patient) -> None:
    kinds = [one.kind for one in checkup(healthy.model, RAW[:129], batch_size=64).findings]
    assert kinds[0] == "ragged-batch"
    assert "ragged-batch" not in [one.kind for one in checkup(healthy.model, RAW[:129]).findings]


def test_what_is_worth_knowing_is_no_illness() -> None:
    keras.utils.set_random_seed(0)
    norm = layers.BatchNormalization(gamma_regularizer="l2")
    model = keras.Sequential([keras.Input((192,)), layers.Dense(8), norm, layers.Dense(10)])
    recalibrate(model, STANDARD)
    report = checkup(model, STANDARD, LABELS)
    assert {one.kind for one in report.findings} == {"bias-before", "decay"}
    assert not report.serious


# On which models, and from which inputs


def convolutional(**options: Any) -> Any:
    parts = [layers.Conv2D(4, 3), layers.BatchNormalization(**options), layers.ReLU()]
    return keras.Sequential([keras.Input((8, 8, 3)), *parts, layers.Flatten(), layers.Dense(2)])


class Own(keras.Model):
    """A subclassed model with a normaliser within a layer within a list."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = [keras.Sequential([layers.Dense(4), layers.BatchNormalization()])]
        self.head = layers.Dense(2)

    def call(self, inputs: Any) -> Any:  # without a mode of its own
        for block in self.blocks:
            inputs = block(inputs)
        return self.head(inputs)


def own() -> Any:
    model = Own()
    model(np.zeros((2, 6)))
    return model


def two_inputs() -> Any:
    inputs = {name: keras.Input((6,), name=name) for name in ("a", "b")}
    hidden = layers.BatchNormalization()(layers.Add()([*inputs.values()]))
    return keras.Model(inputs, {"out": layers.Dense(2)(hidden)})


def nested() -> Any:
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.BatchNormalization()])
    inputs = keras.Input((6,))
    return keras.Model(
        inputs, layers.Dense(1)(inner(inner(layers.Dense(6)(inputs)) @ np.ones((4, 6))))
    )


def drawn(*shape: int) -> Any:
    return np.random.default_rng(0).normal(2, 3, shape).astype("float32")


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "convolutional": lambda: (convolutional(), drawn(64, 8, 8, 3)),
    "axis 1": lambda: (convolutional(axis=1), drawn(64, 8, 8, 3)),
    "subclassed": lambda: (own(), drawn(64, 6)),
    "two inputs": lambda: (two_inputs(), {"a": drawn(64, 6), "b": drawn(64, 6)}),
    "time distributed": lambda: (
        keras.Sequential([keras.Input((5, 6)), layers.TimeDistributed(layers.BatchNormalization())]),
        drawn(64, 5, 6),
    ),
    "masked": lambda: (
        keras.Sequential([keras.Input((5, 6)), layers.Masking(), layers.BatchNormalization()]),
        drawn(64, 5, 6) * (np.arange(5) < 3)[:, None],
    ),
    "mixed precision": lambda: (
        keras.Sequential(
            [keras.Input((6,)), layers.Dense(4, dtype="mixed_float16"),
             layers.BatchNormalization(dtype="mixed_float16"), layers.Dense(2)]
        ),
        drawn(64, 6),
    ),
    "no scale, no shift": lambda: (
        keras.Sequential([keras.Input((6,)), layers.BatchNormalization(scale=False, center=False)]),
        drawn(64, 6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_new_statistics_are_found_and_fresh_ones_are_healthy(name: str) -> None:
    model, x = MODELS[name]()
    assert checkup(model, x).findings[0].kind == "statistics-not-restored"
    recalibrate(model, x)
    assert not checkup(model, x).serious


def test_what_cannot_be_folded_is_worth_knowing() -> None:
    inputs = keras.Input((6,))
    hidden = layers.ReLU()(layers.BatchNormalization(name="kept")(layers.ReLU()(inputs)))
    model, x = keras.Model(inputs, layers.Dense(2)(hidden)), drawn(64, 6)
    recalibrate(model, x)
    found = {one.kind: one for one in checkup(model, x).findings}
    assert found["not-foldable"].layers == ("kept",)
    assert not found["not-foldable"].serious
    assert "Into the layer before: 're_lu" in found["not-foldable"].measured


class Centred(keras.layers.Layer):
    """A normaliser that does not say over what it normalises."""

    def build(self, shape: Any) -> None:
        self.moving_variance = self.add_weight(shape=(1,), trainable=False)

    def call(self, inputs: Any, training: Any = None) -> Any:
        return inputs - keras.ops.mean(inputs, 0) if training else inputs


@pytest.mark.parametrize("beside", [[], [layers.BatchNormalization]])
def test_normalisers_that_it_cannot_look_into_are_named(beside: list[Any]) -> None:
    strange = Centred(name="strange")
    model = keras.Sequential([keras.Input((6,)), *(one() for one in beside), strange])
    report = checkup(model, drawn(64, 6))
    assert report.findings[-1].kind == "not-examined"
    assert report.findings[-1].layers == ("strange",)
    assert ("no normaliser that" in report.sentence) is not bool(beside)


class Both(keras.Model):
    """A subclassed model of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = layers.BatchNormalization(), layers.Dense(2)

    def call(self, inputs: Any, training: Any = None) -> Any:
        return self.head(self.norm(keras.ops.concatenate(inputs, -1), training=training))


def test_a_subclassed_model_gets_its_list_of_inputs() -> None:
    model, x = Both(), [drawn(64, 6), drawn(64, 3)]
    model([part[:2] for part in x])
    assert checkup(model, x).findings[0].kind == "statistics-not-restored"
    recalibrate(model, x)
    np.testing.assert_allclose(model.norm.moving_mean[6:], x[1].mean(0), rtol=1e-4)


def test_words_may_be_objects() -> None:
    known = ["cat", "dog", "horse"]
    parts = [
        layers.StringLookup(vocabulary=known),
        layers.Embedding(4, 3, keras.initializers.RandomNormal(0, 1)),
        layers.Flatten(),
    ]
    inputs = keras.Input((2,), dtype="string")
    model = keras.Sequential([inputs, *parts, layers.BatchNormalization()])
    words = np.random.default_rng(0).choice(np.array(known, object), (64, 2))
    recalibrate(model, words)
    assert not checkup(model, words).serious


def stateful() -> Any:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 3), batch_size=8)
    hidden = layers.GRU(4, stateful=True)(inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.BatchNormalization()(hidden)))


def test_a_fixed_batch_and_what_layers_remember_are_respected() -> None:
    model, x = stateful(), drawn(67, 5, 3)
    model(x[:8])
    remembered = model.layers[1].states[0].numpy()
    assert checkup(model, x).findings[0].kind == "statistics-not-restored"
    recalibrate(model, x)
    assert not checkup(model, x).serious
    np.testing.assert_array_equal(model.layers[1].states[0], remembered)


def pairs() -> Iterator[tuple[Any, Any]]:
    for start in range(0, len(RAW), 100):
        yield RAW[start : start + 100], LABELS[start : start + 100]


class Batches(keras.utils.PyDataset):
    def __len__(self) -> int:
        return len(RAW) // 100

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return [*pairs()][index]


@pytest.mark.parametrize(
    "give",
    [
        lambda: (RAW, LABELS),
        lambda: (RAW.tolist(), LABELS.tolist()),
        lambda: ([RAW], [LABELS]),
        lambda: (tf.constant(RAW), tf.constant(LABELS)),
        lambda: (tf.data.Dataset.from_tensor_slices((RAW, LABELS)).batch(100), None),
        lambda: (Batches(), None),
        lambda: (pairs(), None),
        lambda: ([*map(list, pairs())].__iter__(), None),
    ],
    ids=[
        "arrays",
        "numbers",
        "lists of arrays",
        "tensors",
        "dataset",
        "PyDataset",
        "generator",
        "batches that are lists",
    ],
)
def test_it_takes_what_fit_would_take(give: Callable[[], tuple[Any, Any]]) -> None:
    patient = lag(0)
    x, y = give()
    report = checkup(patient.model, x, y, most=len(RAW))
    expected = checkup(patient.model, RAW, LABELS, most=len(RAW))
    assert report.findings[0].kind == expected.findings[0].kind == "lag"
    assert report.scores["inference"].accuracy == expected.scores["inference"].accuracy


@pytest.mark.parametrize("source", ["dataset", "PyDataset"])
def test_of_many_batches_some_from_everywhere_are_taken(healthy: Patient, source: str) -> None:
    """Images that are sorted by class would make the first of them another population."""
    order = np.argsort(LABELS, kind="stable")

    class Sorted(Batches):
        def __getitem__(self, index: int) -> tuple[Any, Any]:
            at = order[100 * index : 100 * index + 100]
            return RAW[at], LABELS[at]

    data = tf.data.Dataset.from_tensor_slices((RAW[order], LABELS[order])).batch(100)
    given = fed(healthy.model, data if source == "dataset" else Sorted(), most=300)
    assert given.sizes == (100, 100, 100)
    assert {*given.targets} >= {0, 9}


def test_targets_by_name_go_to_outputs_of_that_name() -> None:
    inputs = keras.Input((192,))
    hidden = layers.BatchNormalization()(inputs)
    heads = [layers.Dense(10, name="z")(hidden), layers.Dense(1, name="a")(hidden)]
    model = keras.Model(inputs, heads)
    loss = {"z": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "a": "mse"}
    model.compile("sgd", loss)
    targets = {"z": LABELS, "a": RAW[:, 0]}
    found = checkup(model, RAW, targets, most=len(RAW)).scores["inference"]
    right = np.mean(model(RAW)[0].numpy().argmax(-1) == LABELS)
    assert found.accuracy == pytest.approx(right)
    # as fit takes them when the outputs have names, too
    named = keras.Model(inputs, {"z": heads[0], "a": heads[1]})
    named.compile("sgd", loss)
    expected = checkup(named, RAW, targets, most=len(RAW)).scores["inference"]
    assert found.loss == pytest.approx(expected.loss)


def test_one_hot_targets_and_a_loss_of_their_own_will_do(healthy: Patient) -> None:
    model = keras.models.clone_model(healthy.model)
    model.set_weights(healthy.model.get_weights())
    model.compile("sgd", loss=lambda y, scores: keras.ops.mean(keras.ops.abs(y - scores), -1))
    report = checkup(model, RAW, np.eye(10)[LABELS], most=len(RAW))
    inside = np.abs(np.eye(10)[LABELS] - model(RAW).numpy()).mean()
    assert report.scores["inference"].loss == pytest.approx(inside, abs=1e-5)
    right = np.mean(model(RAW).numpy().argmax(-1) == LABELS)
    assert report.scores["inference"].accuracy == pytest.approx(right)


# Nothing changes


def state(model: Any) -> list[Any]:
    variables = [*model.variables, *model.optimizer.variables]
    compiled = [model.train_function, model.predict_function, model.compiled, model.losses]
    # the next numbers that each would draw
    drawn = [random.getstate(), pickle.dumps(np.random.get_state())]  # noqa: NPY002
    return [*(one.numpy().tolist() for one in variables), *compiled, *drawn]


@pytest.mark.parametrize("case", ["1 lag", "5 training mode"])
def test_a_check_up_leaves_no_trace(case: str) -> None:
    patient = CLINIC[case][0](0)
    patient.model.compile("adam", "sparse_categorical_crossentropy")
    before = state(patient.model)
    examined(patient)
    assert state(patient.model) == before
    with pytest.raises(ValueError, match="the images do not fit the model"):
        checkup(patient.model, patient.x[:, :3], patient.y)
    assert state(patient.model) == before
    assert not any("call" in vars(layer) for layer in patient.model._flatten_layers())


def test_random_numbers_are_drawn_as_if_there_had_been_no_check_up() -> None:
    inputs = keras.Input((6,))
    hidden = layers.BatchNormalization()(layers.Dropout(0.5)(inputs))
    model, x = keras.Model(inputs, layers.Dense(2)(hidden)), drawn(64, 6)

    def draw() -> list[Any]:
        keras.utils.set_random_seed(7)
        if examine:
            checkup(model, x)
        return [random.random(), np.random.normal(), float(tf.random.normal(())),  # noqa: NPY002
                float(keras.random.normal(())), model(x, training=True).numpy().tolist()]  # fmt: skip

    examine = False
    model.layers[1].seed_generator.state.assign([1, 2])
    expected = draw()
    model.layers[1].seed_generator.state.assign([1, 2])
    examine = True
    assert draw()[:4] == expected[:4]


# Mistakes


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (lambda model: (model, RAW[:0]), "there are no images"),
        (lambda model: (model, RAW, LABELS[:9]), "differ in number"),
        (lambda model: (model, "images"), "must be arrays, and this is a str"),
        (lambda model: (model, iter([])), "there are no images"),
        (lambda model: (model, pairs(), LABELS), "leave y out"),
        (lambda model: (model, tf.data.Dataset.from_tensor_slices(RAW)), "give dataset.batch"),
        (lambda model: (stateful(), drawn(5, 5, 3)), "takes 8 images at a time, and these are 5"),
        (lambda model: (keras.Sequential([layers.BatchNormalization()]), RAW), "no weights yet"),
    ],
)
def test_a_mistake_gets_one_sentence(
    healthy: Patient, give: Callable[[Any], tuple[Any, ...]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        checkup(*give(healthy.model))


def test_sizes_are_whole_numbers(healthy: Patient) -> None:
    for options in ({"batch_size": 32.0}, {"batch_size": 0}, {"most": 0}):
        with pytest.raises(ValueError, match="is impossible: it must be"):
            checkup(healthy.model, RAW, **options)


def test_only_keras_models_are_examined() -> None:
    with pytest.raises(TypeError, match="needs a Keras model, and this is a int"):
        checkup(3, RAW)


def test_groups_need_a_label_for_each_image(healthy: Patient) -> None:
    with pytest.raises(ValueError, match="a label for each of them"):
        checkup(healthy.model, RAW, groups=[1, 2])


# How it is told


def test_a_report_is_text_html_json_and_a_figure() -> None:
    report = examined(lag(0))
    text = str(report)
    assert text.startswith("The model 'sequential")
    for part in (
        "1. lag (serious)",
        "Measured: on 480 images",
        "How sure:",
        "    recalibrate(model",
    ):
        assert part in text
    page = report._repr_html_()
    assert "<details open>" in page
    assert "<svg" in page
    found = json.loads(json.dumps(report.to_dict()))
    assert found["serious"] is True
    assert found["findings"][0]["kind"] == "lag"
    left, right = report.figure().axes
    assert len(left.patches) == len(right.patches) == 1
    assert left.patches[0].get_width() == pytest.approx(report.layers[0]["distance"])


def test_each_illness_says_all_that_there_is_to_say() -> None:
    for kind, texts in illnesses().items():
        assert set(texts) == {"threshold", "sentence", "cure", "link"}, kind


def saved(folder: Path, model: Any, **arrays: Any) -> list[str]:
    model.save(folder / "model.keras")
    np.savez(folder / "images.npz", **arrays)
    return ["checkup", str(folder / "model.keras"), str(folder / "images.npz")]


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # in Keras, when it saves
def test_the_command_line_says_by_its_status_what_was_found(tmp_path: Path) -> None:
    run = CliRunner()
    patient = lag(0)
    command = saved(tmp_path, patient.model, x=RAW, y=LABELS)
    result = run.invoke(main, [*command, "--json", str(tmp_path / "report.json")])
    assert result.exit_code == 1, result.output
    assert "1. lag (serious)" in result.output
    assert json.loads((tmp_path / "report.json").read_text())["findings"][0]["kind"] == "lag"
    recalibrate(patient.model, RAW)
    result = run.invoke(main, saved(tmp_path, patient.model, images=RAW))
    assert result.exit_code == 0, result.output


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # in Keras, when it saves
def test_the_command_line_refuses_with_a_sentence(tmp_path: Path, healthy: Patient) -> None:
    model, file = saved(tmp_path, healthy.model, x=RAW)[1:]
    twist = keras.Sequential(
        [keras.Input((192,)), layers.Lambda(lambda x: x), layers.BatchNormalization()]
    )
    twist.save(tmp_path / "twist.keras")
    (tmp_path / "text.npz").write_text("no arrays")
    np.savez(tmp_path / "small.npz", x=RAW[:, :3])
    cases = {
        (str(tmp_path / "none.keras"), file): "there is no file",
        (model, str(tmp_path / "none.npz")): "there is no file",
        (model, str(tmp_path / "text.npz")): "cannot be read as .npz or .npy",
        (model, str(tmp_path / "small.npz")): "the images do not fit the model",
        (file, file): "cannot be loaded as a Keras model",
        (str(tmp_path / "twist.keras"), file): "if you trust it, add --unsafe",
    }
    for arguments, message in cases.items():
        result = CliRunner().invoke(main, ["checkup", *arguments])
        assert result.exit_code == 2, arguments
        assert message in result.output
    trusted = ["checkup", str(tmp_path / "twist.keras"), file, "--unsafe"]
    assert CliRunner().invoke(main, trusted).exit_code == 1  # new statistics


# What a reader of the code foresaw


def test_a_regularised_model_is_examined_with_its_own_loss() -> None:
    keras.utils.set_random_seed(0)
    dense = layers.Dense(8, kernel_regularizer="l2")
    model = keras.Sequential(
        [keras.Input((192,)), dense, layers.BatchNormalization(), layers.Dense(10)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    found = checkup(model, STANDARD, LABELS).scores["inference"].loss
    assert found is not None
    assert np.isfinite(found)
    assert not model._compile_loss.built  # it is the model's own


@pytest.mark.parametrize("count", [1, 5])
def test_few_images_are_no_reason_for_alarm(healthy: Patient, count: int) -> None:
    assert not checkup(healthy.model, RAW[:count]).serious


def test_a_frozen_backbone_need_not_fit_the_new_images(healthy: Patient) -> None:
    base = keras.Sequential(healthy.model.layers[:-1])
    base.trainable = False
    inputs = keras.Input((192,))
    head = layers.Dense(10, activation="softmax")
    model = train(keras.Model(inputs, head(base(inputs))), RAW + 0.3, LABELS, epochs=30)
    assert not checkup(model, RAW + 0.3, LABELS).serious


def test_of_several_outputs_each_is_looked_at() -> None:
    inputs = keras.Input((6,))
    plain = layers.Dense(2, activation="softmax", name="plain")(inputs)
    normalised = layers.Dense(1, name="normalised")(layers.BatchNormalization()(inputs))
    model = keras.Model(inputs, [plain, normalised])
    report = checkup(model, drawn(64, 6), [np.arange(64) % 2, np.ones(64)])
    assert (report.findings[0].kind, report.serious) == ("statistics-not-restored", True)


class Compiled(keras.Model):
    """A model that compiles its call by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = layers.BatchNormalization()

    @tf.function  # type: ignore[untyped-decorator]
    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.norm(inputs, training=training)


def test_a_compiled_call_is_seen_through() -> None:
    model, x = Compiled(), drawn(64, 6)
    model(x)
    model(x, training=True)
    before = model.norm.moving_mean.numpy()
    report = checkup(model, x)
    assert report.findings[0].kind == "lag"
    np.testing.assert_array_equal(model.norm.moving_mean, before)


def test_rectifiers_that_always_fire_are_worth_knowing(healthy: Patient) -> None:
    model = keras.models.clone_model(healthy.model)
    model.set_weights(healthy.model.get_weights())
    assert "always-firing" not in [one.kind for one in checkup(model, RAW, LABELS).findings]
    model.layers[1].beta.assign(np.full(64, 9.0))
    found = {one.kind: one.serious for one in checkup(model, RAW, LABELS).findings}
    assert found["always-firing"] is False


def test_dead_rectifiers_are_found_in_a_model_built_layer_by_layer() -> None:
    model = keras.Sequential()
    model.add(keras.Input((192,)))
    for layer in (layers.Dense(8), layers.BatchNormalization(), layers.ReLU(), layers.Dense(2)):
        model.add(layer)
    recalibrate(model, STANDARD)
    model.layers[1].beta.assign(np.full(8, -9.0))
    kinds = [one.kind for one in checkup(model, STANDARD).findings]
    assert kinds == ["dead-features", "bias-before"]
