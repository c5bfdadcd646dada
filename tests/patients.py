"""Models that are ill in a known way, and healthy ones: what a check-up is tried on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from bn_tutorial import load_cifar10
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.recalibration import recalibrate

layers = keras.layers


class Patient(NamedTuple):
    """A model with what a check-up is given besides."""

    model: Any
    x: Any
    y: Any = None
    options: Mapping[str, Any] = MappingProxyType({})


def images() -> tuple[Any, Any, Any]:
    """Return pooled images from 0 to 1, the same standardised, and labels, as in the clinic."""
    data = load_cifar10("sample")
    blocks = (data.x_train / 255).reshape(-1, 8, 4, 8, 4, 3)
    raw = blocks.mean((2, 4)).reshape(len(data.x_train), -1).astype("float32")
    return raw, (raw - raw.mean(0)) / raw.std(0), data.y_train


def network(norm: Any = layers.BatchNormalization, seed: int = 0) -> Any:
    keras.utils.set_random_seed(seed)
    inputs, dense = keras.Input((192,)), layers.Dense(64, use_bias=False)
    head = layers.Dense(10, activation="softmax")
    return keras.Sequential([inputs, dense, norm(), layers.ReLU(), head])


def train(
    model: Any,
    x: Any,
    y: Any,
    epochs: int = 5,
    batch_size: Any = 100,
    rate: float = 2e-3,
    **more: Any,
) -> Any:
    adam = keras.optimizers.Adam(rate)
    model.compile(adam, "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(x, y, batch_size, epochs, verbose=0, **more)
    return model


# The clinic's ten


def lag(seed: int) -> Patient:
    raw, _, labels = images()
    return Patient(train(network(seed=seed), raw, labels), raw, labels)


def finetune(seed: int) -> Patient:
    """Return a network whose statistics were overwritten by those of other images."""
    _, standard, labels = images()
    keras.utils.set_random_seed(seed)
    norm = layers.BatchNormalization(momentum=0.9)
    dense = layers.Dense(64, use_bias=False)
    base = keras.Sequential([keras.Input((192,)), dense, norm, layers.ReLU()])
    old = keras.Sequential([base, layers.Dense(10, activation="softmax")])
    train(old, standard, labels)
    inputs = keras.Input((192,))
    new = keras.Model(inputs, layers.Dense(2, activation="softmax")(base(inputs)))
    bright = standard[:100] + 2
    train(new, bright, np.isin(labels[:100], [2, 3, 4, 5, 6, 7]), batch_size=10, rate=1e-5)
    return Patient(old, standard, labels)


def one(seed: int) -> Patient:
    _, standard, labels = images()
    return Patient(network(seed=seed), standard, labels, {"batch_size": 1})


def ragged(seed: int) -> Patient:
    _, standard, labels = images()
    pairs = tf.data.Dataset.from_tensor_slices((standard[:129], labels[:129]))
    batches = pairs.shuffle(129, seed=seed).batch(64)
    keras.utils.set_random_seed(seed)
    norm = layers.BatchNormalization(momentum=0.9)
    model = keras.Sequential([keras.Input((192,)), norm, layers.Dense(10, activation="softmax")])
    train(model, batches, None, epochs=20, batch_size=None, shuffle=False)
    return Patient(model, batches)


def serving(seed: int) -> Patient:
    _, standard, labels = images()
    model, inputs = train(network(seed=seed), standard, labels), keras.Input((192,))
    return Patient(keras.Model(inputs, model(inputs, training=True)), standard, labels)


def leak(seed: int) -> Patient:
    rng = np.random.default_rng(seed)
    target = rng.permuted(np.tile([0, 1] * 10, (50, 1)), axis=1)
    baseline, noise = rng.normal(0, 5, (50, 1, 1)), rng.normal(0, 0.5, (50, 20, 8))
    signal = (baseline + 2 * target[..., None] + noise).astype("float32").reshape(-1, 8)
    keras.utils.set_random_seed(seed)
    inputs, dense = keras.Input((8,)), layers.Dense(16, use_bias=False)
    rest = [layers.BatchNormalization(), layers.ReLU(), layers.Dense(2, activation="softmax")]
    model = keras.Sequential([inputs, dense, *rest])
    train(model, signal, target.ravel(), 4, 20, 0.01, shuffle=False)
    return Patient(model, signal, target.ravel(), {"batch_size": 20})


def epsilon(seed: int) -> Patient:
    _, standard, labels = images()
    keras.utils.set_random_seed(seed)
    head = layers.Dense(10, activation="softmax")
    model = keras.Sequential([keras.Input((192,)), layers.BatchNormalization(), head])
    return Patient(train(model, 0.01 * standard, labels), 0.01 * standard, labels)


def loading(seed: int) -> Patient:
    raw, _, labels = images()
    trained, copy = train(network(seed=seed), raw, labels), network(seed=seed + 100)
    for variable, source in zip(copy.trainable_variables, trained.trainable_variables, strict=True):
        variable.assign(source)
    return Patient(copy, raw, labels)


def two_populations(seed: int, joint: bool = False) -> Patient:
    """Return a network that bright and dark images have trained in batches of their own, or jointly."""
    _, standard, labels = images()
    both, twice = np.concatenate([standard, 0.5 * standard - 2]), np.tile(labels, 2)
    turns = np.arange(len(both)).reshape(2, -1, 50).swapaxes(0, 1).ravel()  # 50 of each in turn
    model = network(lambda: layers.BatchNormalization(momentum=0.9), seed)
    train(model, both[turns], twice[turns], 10, 100 if joint else 50, shuffle=False)
    return Patient(model, both, twice, {"groups": np.repeat(["bright", "dark"], len(standard))})


def regression(seed: int, at_end: bool = True, standardised: bool = False) -> Patient:
    """Return a network that learns an image's contrast in grey levels, with a normaliser at its end."""
    raw, standard, _ = images()
    y = 255 * raw.reshape(-1, 64, 3).mean(2).std(1)
    y = (y - y.mean()) / y.std() if standardised else y
    keras.utils.set_random_seed(seed)
    norms = [layers.BatchNormalization(momentum=0.9) for _ in range(2)]
    hidden = [layers.Dense(64, use_bias=False), norms[0], layers.ReLU()]
    last = [layers.Dense(1, use_bias=not at_end), *norms[1 : 1 + at_end]]
    model = keras.Sequential([keras.Input((192,)), *hidden, *last])
    model.compile(keras.optimizers.Adam(2e-3), "mse", jit_compile=False)
    model.fit(standard, y, 100, 20, verbose=0)
    return Patient(model, standard, y)


#: By the kinds that a check-up may name first.
CLINIC: dict[str, tuple[Callable[[int], Patient], str]] = {
    "1 lag": (lag, "lag"),
    "2 fine-tuning": (finetune, "shifted-data"),
    "3 a batch of one": (one, "batch-of-one"),
    "4 ragged": (ragged, "ragged-batch"),
    "5 training mode": (serving, "training-mode"),
    "6 leak": (leak, "leak"),
    "7 epsilon": (epsilon, "small-variance"),
    "8 loading": (loading, "statistics-not-restored"),
    "9 two populations": (two_populations, "two-populations"),
    "10 regression": (regression, "normalised-output"),
}


# Others


def healed(seed: int) -> Patient:
    """Return the first patient of the clinic, cured."""
    patient = lag(seed)
    recalibrate(patient.model, patient.x)
    return patient
