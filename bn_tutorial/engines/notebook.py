"""The student's notebook that this project grew out of: its cells, as they were.

Nothing here is clever, on purpose. It is what the library is compared with: for its results
on the page about the notebook, and for its speed in the benchmark.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines.rows import Row
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.recipe.recipes import Recipe


def prepare(data: Dataset) -> tuple[Any, Any, Any, Any]:
    """Return x_train, y_train, x_test, y_test as the notebook makes them (float64, one-hot)."""
    # [prepare]
    x_train = data.x_train / 255.0
    x_test = data.x_test / 255.0
    y_train = keras.utils.to_categorical(data.y_train, 10)
    y_test = keras.utils.to_categorical(data.y_test, 10)
    # [end]
    return x_train, y_train, x_test, y_test


def baseline() -> keras.Sequential:
    """Return the notebook's first network."""
    # [baseline]
    model = keras.Sequential(
        [
            keras.layers.Input((32, 32, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(512, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    # [end]
    return model


def batch_normalized() -> keras.Sequential:
    """Return the notebook's second network."""
    # [batch_normalized]
    model = keras.Sequential(
        [
            keras.layers.Input((32, 32, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(512),
            keras.layers.BatchNormalization(),
            keras.layers.Activation("relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    # [end]
    return model


def fit(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Train the notebook's network: an engine for `bn_tutorial.train`.

    Parameters
    ----------
    bench : Workbench
        Has the images.
    recipe : Recipe
        The baseline, with or without batch normalisation, at any batch size and for any
        number of epochs; the notebook knows nothing else.
    seed : int
        For the initial weights. The order of the images is Keras's own, and not reproducible.

    Yields
    ------
    dict of str to float
        What Keras's ``history`` holds of an epoch: ``loss``, ``accuracy``, ``val_loss``,
        ``val_accuracy``.

    Raises
    ------
    ValueError
        If the recipe is not one of the notebook's.
    """
    known = Recipe(norm=recipe.norm, batch_size=recipe.batch_size, epochs=recipe.epochs)
    if recipe != known or recipe.norm not in (None, "batch"):
        raise ValueError(f"the notebook trains no network with {recipe.label}.")
    # Keras's loop cannot be left between two epochs, so it runs in a thread that waits there
    pause = _Pause()
    with ThreadPoolExecutor(max_workers=1) as thread:
        training = thread.submit(_fit, bench.data, recipe, seed, pause)
        training.add_done_callback(lambda _: pause.rows.put(None))
        try:
            while (row := pause.rows.get()) is not None:
                yield row
                pause.over.release()
        finally:
            pause.cancelled = True
            pause.over.release()
        training.result()  # raises what the thread raised


class _Pause(keras.callbacks.Callback):
    """Hands over an epoch's row, and waits until the next epoch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self.over, self.cancelled = threading.Semaphore(0), False

    def on_epoch_end(self, epoch: int, logs: Row | None = None) -> None:
        self.rows.put({name: float(value) for name, value in (logs or {}).items()})
        self.over.acquire()
        self.model.stop_training = self.cancelled


def _fit(data: Dataset, recipe: Recipe, seed: int, pause: _Pause) -> keras.callbacks.History:
    keras.utils.set_random_seed(seed)
    x_train, y_train, x_test, y_test = prepare(data)
    model = batch_normalized() if recipe.norm else baseline()
    # With a global seed, Keras would shuffle every epoch into the same order, so the same
    # batches would come again and again; a notebook that sets no seed does not do that.
    tf.random.set_seed(None)
    batch_size, epochs, callbacks = recipe.batch_size, recipe.epochs, [pause]
    # [fit]
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(
        x_train,
        y_train,
        epochs=epochs,
        batch_size=batch_size,
        validation_data=(x_test, y_test),
        callbacks=callbacks,
        verbose=0,
    )
    # [end]
    return history
