"""How long a step takes with and without a normaliser: in training, and at inference.

All candidates take turns, call by call in one process, so that whatever else the machine does
hits them alike; what is compared is always of the same round.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from bn_tutorial.engines.batches import batch, epoch_order
from bn_tutorial.engines.program import suits_xla
from bn_tutorial.engines.rows import Row, takes
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.folding import fold
from bn_tutorial.recipe.recipes import Recipe

#: What each does in a turn, by name.
Candidates = Mapping[str, Callable[[], Any]]

#: Calls of each candidate in a round. The fastest counts, as disturbances only ever add time.
CALLS = 5


@takes(math.inf)
def steps(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Time steps of a network without normaliser, with others, and with a folded one.

    It is compiled as `bn_tutorial.engines.single.fit` compiles it: by XLA, except that a convolutional
    network is a TensorFlow graph where there is no GPU. Compilation is not part of any time.

    Parameters
    ----------
    bench : Workbench
        Has the images.
    recipe : Recipe
        The network, without a normaliser. ``epochs`` is the number of rounds, and
        ``train_size`` the number of images that each call of a candidate goes through, in
        batches of ``batch_size``; images left over are skipped.
    seed : int
        Fixes the initial weights, and in which order the candidates take their turns.

    Yields
    ------
    dict of str to float
        After each round, for each candidate its milliseconds per step in the fastest of `CALLS`
        calls.
        ``train/none``, ``train/batch`` and ``train/layer`` are training steps with no, batch
        and layer normalisation: gathering and scaling the batch, both passes, the update.
        ``infer/none``, ``infer/batch`` and ``infer/folded`` are predictions for a batch of
        scaled images; the last is what `bn_tutorial.networks.folding.fold` returns. Of the
        batch-normalised network there are ``loss`` and ``accuracy`` on the batches of a round's
        last call in training; and once, of when it is folded after the first call, ``val_loss``
        and ``val_accuracy`` in inference mode, and ``difference``, the largest between a
        probability that it predicts and what the folded one does.

    Raises
    ------
    ValueError
        If the recipe has a normaliser, or it cannot be folded where it would stand.
    """
    return _time(bench, recipe, seed, jit=suits_xla(recipe))


@takes(math.inf)
def steps_without_xla(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Do as `steps`, but with TensorFlow graphs in all cases."""
    return _time(bench, recipe, seed, jit=False)


def _time(bench: Workbench, recipe: Recipe, seed: int, jit: bool) -> Iterator[Row]:
    if recipe.norm is not None:
        raise ValueError(
            f"norm={recipe.norm!r} is impossible: it is None that others are held against."
        )
    train, validation, _ = bench.resident(recipe, seed)
    count = len(train[1]) // recipe.batch_size
    indices = np.arange(count * recipe.batch_size, dtype=np.int32) % len(validation[1])
    images = batch(validation[0], indices, *bench.pixel_statistics(recipe, seed))
    batches = tf.reshape(images, (count, recipe.batch_size, *images.shape[1:]))
    labels = validation[1].numpy()[indices]

    training, models = _training(bench, recipe, seed, jit)
    models["folded"] = fold(models["batch"])
    predicting = _predicting(models, batches, jit)
    outputs = {
        name: predicting[f"infer/{name}"]().numpy().reshape(len(labels), -1)
        for name in ("batch", "folded")
    }
    once = _outcome(outputs["batch"], labels)
    once["difference"] = float(np.abs(outputs["folded"] - outputs["batch"]).max())

    random = np.random.default_rng(seed)
    for index in range(recipe.epochs):
        seconds, results = take_turns({**training, **predicting}, random)
        loss, accuracy = results["train/batch"]
        row = {name: 1000 * value / count for name, value in seconds.items()}
        row |= {"loss": float(loss), "accuracy": float(accuracy)}
        yield row | once if index + 1 == recipe.epochs else row


def _training(
    bench: Workbench, recipe: Recipe, seed: int, jit: bool
) -> tuple[Candidates, dict[str, keras.Model]]:
    """Return what trains with each normaliser, compiled and called once, and the networks."""
    train, _, _ = bench.resident(recipe, seed)
    pixels = bench.pixel_statistics(recipe, seed)
    count = len(train[1]) // recipe.batch_size * recipe.batch_size
    order = epoch_order(seed, 0, len(train[1]))[:count]
    candidates, models = dict[str, Callable[[], Any]](), {}
    for norm in (None, "batch", "layer"):
        one, name = recipe.but(norm=norm), norm or "none"
        program = bench.program(one, jit=jit)
        program.start(one, seed)
        run = functools.partial(program.train(recipe.batch_size), *train, order, *pixels)
        run()  # compiles, and moves the moving statistics
        candidates[f"train/{name}"], models[name] = run, program.model
    return candidates, models


def _predicting(models: Mapping[str, keras.Model], batches: Any, jit: bool) -> Candidates:
    """Return what predicts with each network, compiled and called once."""
    candidates = dict[str, Callable[[], Any]]()
    for name in ("none", "batch", "folded"):
        predict = functools.partial(_predict, models[name])
        compiled = tf.function(predict, jit_compile=jit, autograph=False)
        compiled(batches)
        candidates[f"infer/{name}"] = functools.partial(compiled, batches)
    return candidates


def _outcome(outputs: Any, labels: Any) -> Row:
    likelihoods = np.maximum(outputs[np.arange(len(labels)), labels], 1e-7)
    return {
        "val_loss": float(-np.log(likelihoods).mean()),
        "val_accuracy": float((outputs.argmax(axis=1) == labels).mean()),
    }


def take_turns(
    candidates: Candidates,
    random: np.random.Generator,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Let all take `CALLS` turns, in random order.

    Parameters
    ----------
    candidates : mapping of str to callable
        What each does in a turn.
    random : numpy.random.Generator
        Draws the order.
    clock : callable
        Tells the seconds.

    Returns
    -------
    seconds : dict of str to float
        The least that each needed.
    results : dict of str to object
        What each returned last.
    """
    seconds = dict.fromkeys(candidates, math.inf)
    results = {}
    for _ in range(CALLS):
        for name in random.permutation(list(candidates)):
            started = clock()
            results[name] = tf.nest.map_structure(np.asarray, candidates[name]())  # waits
            seconds[name] = min(seconds[name], clock() - started)
    return seconds, results


def _predict(model: keras.Model, batches: Any) -> Any:
    """Predict one batch after the other, shape (batches, batch size, classes)."""
    return tf.map_fn(
        lambda inputs: model(inputs, training=False),
        batches,
        fn_output_signature=tf.float32,
        parallel_iterations=1,
    )
