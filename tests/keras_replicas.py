"""What Keras's own `fit` does on two replicas, printed as JSON: for a process of its own."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import tensorflow as tf

COUNTS = (35, 33)  # in batches of 32, 2 + 1 images are left over for two replicas, or just one


def main() -> None:
    """Train a small network on two replicas and on one device."""
    cpu, *_ = tf.config.list_physical_devices("CPU")
    parts = 2 * [tf.config.LogicalDeviceConfiguration()]
    tf.config.set_logical_device_configuration(cpu, parts)
    from bn_tutorial.backend import keras

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    random = np.random.default_rng(0)
    x = random.normal(3, 2, (64, 4)).astype("float32")
    y = x[:, :1] + random.normal(size=(64, 1)).astype("float32")

    def model(norm: bool, synchronized: bool = False) -> Any:
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(3), keras.layers.Dense(1)]
        if norm:
            layers.insert(1, keras.layers.BatchNormalization(momentum=0, synchronized=synchronized))
        made = keras.Sequential([keras.Input((4,)), *layers])
        made.compile(keras.optimizers.SGD(0.1), "mse")
        return made

    def fit(count: int, norm: bool, synchronized: bool = False) -> Any:
        with strategy.scope():
            made = model(norm, synchronized)
        made.fit(x[:count], y[:count], batch_size=32, shuffle=False, verbose=0)
        return made

    def weights(made: Any) -> list[float]:
        return [float(value) for array in made.get_weights() for value in array.ravel()]

    def by_hand(*, of_means: bool) -> list[float]:
        """Take both steps of 35 images on one device; the last loss is of 2 and of 1 images."""
        made = model(norm=False)
        for batch, share in ((slice(0, 32), 16), (slice(32, 35), 2)):
            with tf.GradientTape() as tape:
                errors = (made(x[batch]) - y[batch]) ** 2
                halves = tf.reduce_mean(errors[:share]), tf.reduce_mean(errors[share:])
                loss = sum(halves) / 2 if of_means else tf.reduce_mean(errors)
            variables = made.trainable_variables
            made.optimizer.apply(tape.gradient(loss, variables), variables)
        return weights(made)

    ragged = tf.data.Dataset.from_tensor_slices(np.arange(21)).batch(32)
    (dealt,) = strategy.experimental_distribute_dataset(ragged)
    found: dict[str, Any] = {
        "dealt": [len(share) for share in strategy.experimental_local_results(dealt)],
        "fit": weights(fit(COUNTS[0], norm=False)),
        "mean of means": by_hand(of_means=True),
        "mean of images": by_hand(of_means=False),
    }
    for synchronized in (True, False):
        name = "synchronised" if synchronized else "separate"
        fitted = fit(64, norm=True, synchronized=synchronized)
        moving = fitted.layers[1].moving_mean
        saved = [array.tolist() for array in fitted.get_weights() if array.shape == (3,)]
        found[name] = {
            "left over": bool(np.isfinite(weights(fit(COUNTS[1], True, synchronized))).all()),
            "replicas": [value.numpy().tolist() for value in moving.value.values],
            "saved": moving.numpy().tolist() in saved and moving.numpy().tolist(),
            "predictions": float(
                np.abs(fitted.predict(x, batch_size=64, verbose=0) - fitted(x)).max()
            ),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
