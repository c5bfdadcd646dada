"""How long a step takes with and without a normaliser: in training, and at inference.

All contestants take turns, call by call in one process, so that whatever else the machine does
hits them alike; what is compared is always of the same round.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import single
from bn_tutorial.engines.single import History
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.folding import fold
from bn_tutorial.recipe import Recipe

#: Calls of each contestant in a round. The fastest counts, as disturbances only ever add time.
CALLS = 5


def steps(
    recipe: Recipe, data: Dataset, seed: int, on_epoch: Callable[[], object] = lambda: None
) -> History:
    """Time steps of a network without normaliser, with others, and with a folded one.

    It is compiled as `bn_tutorial.engines.single.fit` compiles it: by XLA, except that a convolutional
    network is a TensorFlow graph where there is no GPU. Compilation is not part of any time.

    Parameters
    ----------
    recipe : Recipe
        The network, without a normaliser. ``epochs`` is the number of rounds, and
        ``train_size`` the number of images that each call of a contestant goes through, in
        batches of ``batch_size``; images left over are skipped.
    data : Dataset
        The images.
    seed : int
        Fixes the initial weights, and in which order the contestants take their turns.
    on_epoch : callable
        Is called after each round.

    Returns
    -------
    dict of str to list of float
        For each contestant its milliseconds per step, in the fastest of `CALLS` calls of a round.
        ``train/none``, ``train/batch`` and ``train/layer`` are training steps with no, batch
        and layer normalisation: gathering and scaling the batch, both passes, the update.
        ``infer/none``, ``infer/batch`` and ``infer/folded`` are predictions for a batch of
        scaled images; the last is what `bn_tutorial.networks.folding.fold` returns. Of the batch-normalised network there
        are ``loss`` and ``accuracy`` on the batches of a round's last call in training; and
        once, when it is folded after the first call, ``val_loss`` and ``val_accuracy`` in
        inference mode, and ``difference``, the largest between a probability that it
        predicts and what the folded one does.

    Raises
    ------
    ValueError
        If the recipe has a normaliser, or it cannot be folded where it would stand.
    """
    return _time(recipe, data, seed, on_epoch, jit=single.suits_xla(recipe))


def steps_without_xla(
    recipe: Recipe, data: Dataset, seed: int, on_epoch: Callable[[], object] = lambda: None
) -> History:
    """Do as `steps`, but with TensorFlow graphs in all cases."""
    return _time(recipe, data, seed, on_epoch, jit=False)


def _time(
    recipe: Recipe, data: Dataset, seed: int, on_epoch: Callable[[], object], jit: bool
) -> History:
    if recipe.norm is not None:
        raise ValueError(
            f"norm={recipe.norm!r} is impossible: it is None that others are held against."
        )
    shape, classes, size = data.x_train.shape[1:], len(data.classes), recipe.batch_size
    train, (images, labels), _ = single._resident(data, recipe.train_size, recipe.validation)
    pixels = single.scaling(recipe, data)
    count = len(train[1]) // size * size

    contestants: dict[str, Callable[[], Any]] = {}
    models = {}
    order = single.epoch_order(seed, 0, len(train[1]))[:count]
    for norm in (None, "batch", "layer"):
        one = recipe.but(norm=norm)
        program = single._Program(single.signature(one)[0], jit, shape, classes)
        program.start(one, seed)
        name = norm or "none"
        models[name] = program.model
        contestants[f"train/{name}"] = functools.partial(
            program.train(size), *train, order, *pixels
        )
        contestants[f"train/{name}"]()  # compiles, and moves the moving statistics
    models["folded"] = fold(models["batch"])

    positions = np.arange(count, dtype=np.int32) % len(labels)
    batches = tf.reshape(single._batch(images, positions, *pixels), (-1, size, *shape))
    outputs = {}
    for name in ("none", "batch", "folded"):
        predict = tf.function(
            functools.partial(_predict, models[name]), jit_compile=jit, autograph=False
        )
        contestants[f"infer/{name}"] = functools.partial(predict, batches)
        outputs[name] = predict(batches).numpy().reshape(count, classes)

    targets = labels.numpy()[positions]
    likelihoods = np.maximum(outputs["batch"][np.arange(count), targets], 1e-7)
    history: History = {
        "val_loss": [float(-np.log(likelihoods).mean())],
        "val_accuracy": [float((outputs["batch"].argmax(axis=1) == targets).mean())],
        "difference": [float(np.abs(outputs["folded"] - outputs["batch"]).max())],
    }
    random = np.random.default_rng(seed)
    for _ in range(recipe.epochs):
        seconds, results = _round(contestants, random)
        loss, accuracy = results["train/batch"]
        values = {name: 1000 * value / (count // size) for name, value in seconds.items()}
        for name, value in {**values, "loss": loss, "accuracy": accuracy}.items():
            history.setdefault(name, []).append(float(value))
        on_epoch()
    return history


def _round(
    contestants: Mapping[str, Callable[[], Any]], random: np.random.Generator
) -> tuple[dict[str, float], dict[str, Any]]:
    """Let all take `CALLS` turns, in random order; return the least seconds and last results."""
    seconds = dict.fromkeys(contestants, math.inf)
    results = {}
    for _ in range(CALLS):
        for name in random.permutation(list(contestants)):
            started = time.perf_counter()
            results[name] = tf.nest.map_structure(np.asarray, contestants[name]())  # waits
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    return seconds, results


def _predict(model: keras.Model, batches: Any) -> Any:
    """Predict one batch after the other, shape (batches, batch size, classes)."""
    return tf.map_fn(
        lambda inputs: model(inputs, training=False),
        batches,
        fn_output_signature=tf.float32,
        parallel_iterations=1,
    )
