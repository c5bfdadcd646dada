"""What Keras's own `fit` does on two replicas, printed as JSON: for a process of its own."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import tensorflow as tf


def main() -> None:
    """Train a small network on two replicas and on one device."""
    cpu, *_ = tf.config.list_physical_devices("CPU")
    parts = 2 * [tf.config.LogicalDeviceConfiguration()]
    tf.config.set_logical_device_configuration(cpu, parts)
    from bn_tutorial.networks.backend import keras

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    random = np.random.default_rng(0)
    x = random.normal(3, 2, (64, 4)).astype("float32")
    y = x[:, :1] + random.normal(size=(64, 1)).astype("float32")

    def model(norm: bool, synchronized: bool = False) -> Any:
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(3), keras.layers.Dense(1)]
        if norm:
            normaliser = keras.layers.BatchNormalization(momentum=0, synchronized=synchronized)
            layers.insert(1, normaliser)
        with strategy.scope():
            made = keras.Sequential([keras.Input((4,)), *layers])
            made.compile(keras.optimizers.SGD(0.1), "mse")
        return made

    def fit(made: Any, count: int) -> Any:
        made.fit(x[:count], y[:count], batch_size=32, shuffle=False, verbose=0)
        return made

    def weights(made: Any) -> list[float]:
        return [float(value) for array in made.get_weights() for value in array.ravel()]

    def by_hand(*, of_means: bool) -> list[float]:
        """Take the two steps of 35 images on one device; the last is of 2 and of 1 images."""
        keras.utils.set_random_seed(0)
        made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
        optimizer = keras.optimizers.SGD(0.1)
        for batch, share in ((slice(0, 32), 16), (slice(32, 35), 2)):
            with tf.GradientTape() as tape:
                errors = (made(x[batch]) - y[batch]) ** 2
                means = tf.reduce_mean(errors[:share]), tf.reduce_mean(errors[share:])
                loss = sum(means) / 2 if of_means else tf.reduce_mean(errors)
            variables = made.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
        return weights(made)

    ragged = tf.data.Dataset.from_tensor_slices(np.arange(21)).batch(32)
    (dealt,) = strategy.experimental_distribute_dataset(ragged)
    found: dict[str, Any] = {
        "dealt": [len(share) for share in strategy.experimental_local_results(dealt)],
        "fit": weights(fit(model(norm=False), 35)),
        "mean of means": by_hand(of_means=True),
        "mean of images": by_hand(of_means=False),
    }
    for synchronized in (True, False):
        made = fit(model(norm=True, synchronized=synchronized), 64)
        moving = made.layers[1].moving_mean.value.values
        predictions = made.predict(x, batch_size=64, verbose=0), np.asarray(made(x))
        found["synchronised" if synchronized else "separate"] = {
            "replicas": [value.numpy().tolist() for value in moving],
            "saved": made.get_weights()[4].tolist(),  # after kernel, bias, γ and β
            "difference": float(np.abs(np.subtract(*predictions)).max()),
            "left over": bool(np.isfinite(weights(fit(made, 33))).all()),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
