"""Engines that train one network on two replicas, each with its share of every batch.

The steps are taken in a process of their own (`bn_tutorial.engines.replica_process`); where they
have led is measured here, as for any other engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bn_tutorial.engines.batches import batch, epoch_order
from bn_tutorial.engines.replica_process import (
    REPLICAS,
    Array,
    ReplicaProcess,
    Trained,
    take_steps,
)
from bn_tutorial.engines.rows import Row, takes
from bn_tutorial.engines.single import epoch_row
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.models import build
from bn_tutorial.recipe.recipes import Recipe


@takes(REPLICAS)
def synchronised(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Train on two replicas that share the statistics of a batch.

    The layers are Keras's own with ``synchronized=True``. The gradient is that of the whole
    batch, whether its statistics are shared or not.

    Parameters
    ----------
    bench, recipe, seed
        As in `bn_tutorial.engines.single.fit`, with ``norm="batch"``. Each replica gets one half of a
        batch, in order; of an odd last batch the first replica gets one image more.

    Yields
    ------
    dict of str to float
        As `bn_tutorial.engines.single.fit` does, but for what it measures in inference mode on
        training images. Moving statistics are those of the first replica, which Keras saves.

    Raises
    ------
    ValueError
        If there is no batch normalisation, or the batches cannot be dealt to the replicas.
    RuntimeError
        If the process with the replicas breaks down.
    """
    return _fit(bench, recipe, seed, synchronized=True)


@takes(REPLICAS)
def separate(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Do as `synchronised`, but let each replica normalise by its own images: Keras's default."""
    return _fit(bench, recipe, seed, synchronized=False)


@takes(REPLICAS)
def separate_by_class(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Do as `separate`, but sort each batch by class before it is dealt to the replicas."""
    return _fit(bench, recipe, seed, synchronized=False, by_class=True)


def _fit(bench: Workbench, recipe: Recipe, seed: int, **how: bool) -> Iterator[Row]:
    resident, pixels = bench.resident(recipe, seed), bench.pixel_statistics(recipe, seed)
    count = len(resident[0][1])
    orders = [epoch_order(seed, epoch, count) for epoch in range(recipe.epochs)]
    trained = on_replicas(bench, recipe, seed, orders, **how)
    program = bench.program(recipe)
    for epoch, (loss, accuracy, (first, *_)) in enumerate(trained):
        _load(program.model, first)
        yield epoch_row(program, recipe, resident, pixels, (loss, accuracy), epoch)


@takes(REPLICAS)
def compare(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Take the same steps on two replicas and on one device; measure how far apart they lead.

    Parameters
    ----------
    bench, recipe, seed
        As in `synchronised`.

    Yields
    ------
    dict of str to float
        A row for each step. ``loss`` and ``accuracy`` are those of synchronised replicas
        on the step's batch, in training mode; ``val_loss`` and ``val_accuracy`` theirs on the
        validation images (the test images if none are held out) after the step, in inference
        mode. Names with a slash are differences, ``<quantity>/<way> <normaliser>``, between
        two replicas and one device. A way is ``synchronised``, ``separate``, or ``by class``,
        which is synchronised with each batch sorted by class; a normaliser is ``batch`` or
        ``ghost``, with as many images together as a replica has. The quantities are ``loss``;
        ``update``, the change of all weights in the step; ``moving``, the moving statistics
        after it; ``averaged``, the same averaged over replicas instead of the first one's;
        and ``output``, the probabilities of the validation images after it, in inference mode.
        Each is the distance ‖a − b‖ / ‖b‖. ``replicas/<way>`` is that between the outputs with
        the statistics of the last replica and of the first.

    Raises
    ------
    ValueError, RuntimeError
        As in `synchronised`.
    """
    train, validation, _ = bench.resident(recipe, seed)
    size, count = recipe.batch_size, len(train[1])
    batches = [
        epoch_order(seed, epoch, count)[start : start + size]
        for epoch in range(recipe.epochs)
        for start in range(0, count, size)
    ]
    ways = {
        "synchronised": on_replicas(bench, recipe, seed, batches, synchronized=True),
        "separate": on_replicas(bench, recipe, seed, batches, synchronized=False),
        "by class": on_replicas(bench, recipe, seed, batches, synchronized=True, by_class=True),
    }
    ghost = recipe.but(norm="ghost", norm_options={**recipe.norm_options, "size": size // REPLICAS})
    alone = {"batch": recipe, "ghost": ghost}
    look = _Look(bench, recipe, seed)
    theirs = {
        norm: look.after_each(on_one_device(bench, one, seed, batches))
        for norm, one in alone.items()
    }
    ours = {way: look.after_each(steps) for way, steps in ways.items()}
    for index in range(len(batches)):
        row: Row = {}
        for way, seen in ours.items():
            mine = seen[index]
            row[f"replicas/{way}"] = _distance(mine.last_output, mine.output)
            for norm, others in theirs.items():
                for name in ("loss", "update", "moving", "averaged", "output"):
                    distance = _distance(getattr(mine, name), getattr(others[index], name))
                    row[f"{name}/{way} {norm}"] = distance
        step = ways["synchronised"][index]
        output, labels = ours["synchronised"][index].output, validation[1].numpy()
        likelihoods = np.maximum(output[np.arange(len(labels)), labels], 1e-7)
        yield row | {
            "loss": step.loss,
            "accuracy": step.accuracy,
            "val_loss": float(-np.log(likelihoods).mean()),
            "val_accuracy": float((output.argmax(axis=1) == labels).mean()),
        }


class _Seen(NamedTuple):
    """What is compared after a step."""

    loss: float
    update: Array
    moving: Array
    averaged: Array
    output: Array
    last_output: Array


class _Look:
    """Looks at a network as it is after each step."""

    def __init__(self, bench: Workbench, recipe: Recipe, seed: int) -> None:
        data = bench.data
        shape, classes = data.x_train.shape[1:], len(data.classes)
        self.model = build(recipe, seed, shape=shape, classes=classes)
        _, (images, labels), _ = bench.resident(recipe, seed)
        self.inputs = batch(images, tf.range(len(labels)), *bench.pixel_statistics(recipe, seed))
        self.weights = np.array([variable.trainable for variable in self.model.variables])
        values = [variable.numpy() for variable in self.model.variables]
        self.start = _vector(values, self.weights)

    def after_each(self, steps: Sequence[Trained]) -> list[_Seen]:
        """Return what is compared, after each step of a training from the start."""
        seen, before = [], self.start
        for loss, _, replicas in steps:
            outputs = []
            for state in replicas:
                _load(self.model, state)
                outputs.append(self.model(self.inputs, training=False).numpy())
            moving = [_vector(state, ~self.weights) for state in replicas]
            after = _vector(replicas[0], self.weights)
            averaged = np.mean(moving, axis=0)
            seen.append(_Seen(loss, after - before, moving[0], averaged, outputs[0], outputs[-1]))
            before = after
        return seen


def on_replicas(
    bench: Workbench, recipe: Recipe, seed: int, orders: Sequence[Array], **how: bool
) -> list[Trained]:
    """Have the replicas trained on the images that the recipe uses.

    Parameters
    ----------
    bench, recipe, seed
        As in `synchronised`.
    orders : sequence of ndarray of int32
        Orders of images, one after the other; each is gone through in batches.
    **how
        As in `bn_tutorial.engines.replica_process.Replicas`.

    Returns
    -------
    list of Trained
        Where it has led after each of the orders.

    Raises
    ------
    ValueError, RuntimeError
        As in `synchronised`.
    """
    if recipe.norm != "batch":
        raise ValueError(f"norm={recipe.norm!r} is impossible on replicas: it must be 'batch'.")
    if recipe.batch_size % REPLICAS:
        raise ValueError(
            f"batch_size={recipe.batch_size} is impossible on replicas: "
            f"it must be a multiple of {REPLICAS}, so that all get the same number of images."
        )
    (images, labels), _, _ = bench.resident(recipe, seed)
    if 0 < len(labels) % recipe.batch_size < REPLICAS:
        raise ValueError(
            f"train_size={len(labels)} is impossible on replicas with "
            f"batch_size={recipe.batch_size}: the last batch must have at least {REPLICAS} images."
        )
    train, classes = (images.numpy(), labels.numpy()), len(bench.data.classes)
    task = recipe, train, classes, bench.pixel_statistics(recipe, seed), seed, orders, how
    return bench.keep(__name__, None, ReplicaProcess).ask(task)


def on_one_device(
    bench: Workbench, recipe: Recipe, seed: int, orders: Sequence[Array]
) -> list[Trained]:
    """Do as `on_replicas` here, on one device, with any recipe."""
    train, _, _ = bench.resident(recipe, seed)
    program = bench.program(recipe)
    return take_steps(program, recipe, train, bench.pixel_statistics(recipe, seed), seed, orders)


def _load(model: keras.Model, values: Sequence[Array]) -> None:
    for variable, value in zip(model.variables, values, strict=True):
        variable.assign(value)


def _vector(values: Sequence[Array], chosen: Array) -> Array:
    return np.concatenate(
        [value.ravel() for value, wanted in zip(values, chosen, strict=True) if wanted]
    )


def _distance(a: Any, b: Any) -> float:
    return float(np.linalg.norm(np.subtract(a, b)) / np.linalg.norm(b))
