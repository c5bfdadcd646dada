"""The student's notebook that this project grew out of: its cells, as they were.

Nothing here is clever, on purpose. It is what the library is compared with: for its results
on the page about the notebook, and for its speed in the benchmark.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.recipe import Recipe


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


def fit(
    recipe: Recipe, data: Dataset, seed: int, on_epoch: Callable[[], object] = lambda: None
) -> dict[str, list[float]]:
    """Train the notebook's network: an engine for `bn_tutorial.train`.

    Parameters
    ----------
    recipe : Recipe
        The baseline, with or without batch normalisation, at any batch size and for any
        number of epochs; the notebook knows nothing else.
    data : Dataset
        The images.
    seed : int
        For the initial weights. The order of the images is Keras's own, and not reproducible.
    on_epoch : callable
        Is called after each epoch.

    Returns
    -------
    dict of str to list of float
        What Keras's ``history`` holds: ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``.

    Raises
    ------
    ValueError
        If the recipe is not one of the notebook's.
    """
    known = Recipe(norm=recipe.norm, batch_size=recipe.batch_size, epochs=recipe.epochs)
    if recipe != known or recipe.norm not in (None, "batch"):
        raise ValueError(f"the notebook trains no network with {recipe.label}.")
    keras.utils.set_random_seed(seed)
    x_train, y_train, x_test, y_test = prepare(data)
    model = batch_normalized() if recipe.norm else baseline()
    # With a global seed, Keras would shuffle every epoch into the same order, so the same
    # batches would come again and again; a notebook that sets no seed does not do that.
    tf.random.set_seed(None)
    batch_size, epochs = recipe.batch_size, recipe.epochs
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: on_epoch())]
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
    return dict(history.history)
