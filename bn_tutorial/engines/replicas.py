"""Engines that train one network on two replicas, each with its share of every batch.

TensorFlow fixes its devices when it starts, so the replicas live in a Python process of their
own, on two GPUs or else on one CPU cut into two logical ones. There the steps are taken; where
they have led is measured here, as for any other engine.
"""

from __future__ import annotations

import atexit
import functools
import math
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import single
from bn_tutorial.engines.single import METRICS, TEST_METRICS, History, epoch_order
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.models import build
from bn_tutorial.networks.statistics import batch_norms, sum_over_batches
from bn_tutorial.recipe import Recipe

#: How many replicas there are.
REPLICAS = 2

#: What the other process runs. The devices must be cut before the library starts them.
_SCRIPT = f"""
import tensorflow as tf
if len(tf.config.list_physical_devices("GPU")) < {REPLICAS}:
    cpu, *_ = tf.config.list_physical_devices("CPU")
    parts = {REPLICAS} * [tf.config.LogicalDeviceConfiguration()]
    tf.config.set_logical_device_configuration(cpu, parts)
from bn_tutorial.engines import replicas
replicas._serve()
"""

_Array = npt.NDArray[Any]


class _Trained(NamedTuple):
    """Where training has led: loss and accuracy on its images, and each replica's variables."""

    loss: float
    accuracy: float
    replicas: list[list[_Array]]


def synchronised(
    recipe: Recipe, data: Dataset, seed: int, on_epoch: Callable[[], object] = lambda: None
) -> History:
    """Train on two replicas that share the statistics of a batch.

    The layers are Keras's own with ``synchronized=True``. The gradient is that of the whole
    batch, whether its statistics are shared or not.

    Parameters
    ----------
    recipe, data, seed
        As in `bn_tutorial.engines.single.fit`, with ``norm="batch"``. Each replica gets one half of a
        batch, in order; of an odd last batch the first replica gets one image more.
    on_epoch : callable
        Is called once for each epoch.

    Returns
    -------
    dict of str to list of float
        As `bn_tutorial.engines.single.fit` returns, but for what it measures in inference mode on
        training images. Moving statistics are those of the first replica, which Keras saves.

    Raises
    ------
    ValueError
        If there is no batch normalisation, or the batches cannot be dealt to the replicas.
    RuntimeError
        If the process with the replicas breaks down.
    """
    return _fit(recipe, data, seed, on_epoch, synchronized=True)


def separate(
    recipe: Recipe, data: Dataset, seed: int, on_epoch: Callable[[], object] = lambda: None
) -> History:
    """Do as `synchronised`, but let each replica normalise by its own images: Keras's default."""
    return _fit(recipe, data, seed, on_epoch, synchronized=False)


def separate_by_class(
    recipe: Recipe, data: Dataset, seed: int, on_epoch: Callable[[], object] = lambda: None
) -> History:
    """Do as `separate`, but sort each batch by class before it is dealt to the replicas."""
    return _fit(recipe, data, seed, on_epoch, synchronized=False, by_class=True)


def _fit(
    recipe: Recipe, data: Dataset, seed: int, on_epoch: Callable[[], object], **how: bool
) -> History:
    program = _program(recipe, data)
    train, validation, test = single._resident(data, recipe.train_size, recipe.validation)
    pixels, count = single.scaling(recipe, data), len(train[1])
    orders = [epoch_order(seed, epoch, count) for epoch in range(recipe.epochs)]
    history: History = {}

    def note(names: Sequence[str], values: Sequence[float]) -> None:
        for name, value in zip(names, values, strict=True):
            history.setdefault(name, []).append(float(value))

    for loss, accuracy, (first, *_) in _on_replicas(recipe, data, seed, orders, **how):
        _load(program.model, first)
        statistics = program.statistics(train[0], *pixels)
        note(METRICS, [loss, accuracy, *program.score(validation, pixels, statistics)])
        on_epoch()
        if not all(math.isfinite(history[name][-1]) for name in ("loss", "val_loss")):
            break
    if test is not None:
        note(TEST_METRICS, program.score(test, pixels, statistics, len(validation[1])))
    return history


def compare(
    recipe: Recipe, data: Dataset, seed: int, on_epoch: Callable[[], object] = lambda: None
) -> History:
    """Take the same steps on two replicas and on one device; measure how far apart they lead.

    Parameters
    ----------
    recipe, data, seed, on_epoch
        As in `synchronised`.

    Returns
    -------
    dict of str to list of float
        One value for each step. ``loss`` and ``accuracy`` are those of synchronised replicas
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
    train, (images, labels), _ = single._resident(data, recipe.train_size, recipe.validation)
    pixels, size, count = single.scaling(recipe, data), recipe.batch_size, len(train[1])
    batches = [
        epoch_order(seed, epoch, count)[start : start + size]
        for epoch in range(recipe.epochs)
        for start in range(0, count, size)
    ]
    ways = {
        "synchronised": _on_replicas(recipe, data, seed, batches, synchronized=True),
        "separate": _on_replicas(recipe, data, seed, batches, synchronized=False),
        "by class": _on_replicas(recipe, data, seed, batches, synchronized=True, by_class=True),
    }
    options = {**recipe.norm_options, "size": size // REPLICAS}
    ghost = recipe.but(norm="ghost", norm_options=options)
    devices = {
        norm: _take(_program(one, data), one, train, pixels, seed, batches)
        for norm, one in (("batch", recipe), ("ghost", ghost))
    }
    model = build(recipe, seed, shape=data.x_train.shape[1:], classes=len(data.classes))
    inputs = single._batch(images, tf.range(len(labels)), *pixels)
    weights = np.array([variable.trainable for variable in model.variables])
    start = _vector([variable.numpy() for variable in model.variables], weights)

    def quantities(steps: list[_Trained]) -> list[dict[str, Any]]:
        """Return what is compared, after each step."""
        found, before = [], start
        for loss, _, replicas in steps:
            outputs = []
            for state in replicas:
                _load(model, state)
                outputs.append(model(inputs, training=False).numpy())
            moving = [_vector(state, ~weights) for state in replicas]
            after = _vector(replicas[0], weights)
            found.append(
                {
                    "loss": loss,
                    "update": after - before,
                    "moving": moving[0],
                    "averaged": np.mean(moving, axis=0),
                    "output": outputs[0],
                    "last output": outputs[-1],
                }
            )
            before = after
        return found

    history: History = {}

    def note(name: str, value: Any) -> None:
        history.setdefault(name, []).append(float(value))

    alone = {norm: quantities(steps) for norm, steps in devices.items()}
    for way, steps in ways.items():
        for index, mine in enumerate(quantities(steps)):
            note(f"replicas/{way}", _distance(mine["last output"], mine["output"]))
            for norm, others in alone.items():
                for name in ("loss", "update", "moving", "averaged", "output"):
                    note(f"{name}/{way} {norm}", _distance(mine[name], others[index][name]))
            if way == "synchronised":
                right = labels.numpy()
                likelihood = mine["output"][np.arange(len(right)), right]
                note("loss", steps[index].loss)
                note("accuracy", steps[index].accuracy)
                note("val_loss", -np.log(np.maximum(likelihood, 1e-7)).mean())
                note("val_accuracy", (mine["output"].argmax(axis=1) == right).mean())
    for _ in range(recipe.epochs):
        on_epoch()
    return history


def _program(recipe: Recipe, data: Dataset) -> single._Program:
    return single._program(*single.signature(recipe), data.x_train.shape[1:], len(data.classes))


def _load(model: keras.Model, values: Sequence[_Array]) -> None:
    for variable, value in zip(model.variables, values, strict=True):
        variable.assign(value)


def _vector(values: Sequence[_Array], chosen: Sequence[bool] | _Array) -> _Array:
    return np.concatenate(
        [value.ravel() for value, wanted in zip(values, chosen, strict=True) if wanted]
    )


def _distance(a: Any, b: Any) -> float:
    return float(np.linalg.norm(np.subtract(a, b)) / np.linalg.norm(b))


# Steps


def _take(
    program: single._Program,
    recipe: Recipe,
    train: tuple[Any, Any],
    pixels: tuple[Any, Any],
    seed: int,
    orders: Sequence[_Array],
) -> list[_Trained]:
    """Train from the start, and look at the variables after each of some orders of images."""
    program.start(recipe, seed)
    run = program.train(recipe.batch_size)
    values = tf.distribute.get_strategy().experimental_local_results
    trained = []
    for order in orders:
        loss, accuracy = run(*train, order, *pixels)
        variables = [
            [value.numpy() for value in values(variable.value)]
            for variable in program.model.variables
        ]
        trained.append(
            _Trained(float(loss), float(accuracy), list(map(list, zip(*variables, strict=True))))
        )
    return trained


class _Replicas(single._Program):
    """A program whose steps are taken by replicas. It must be used in its strategy's scope."""

    def __init__(self, *args: Any, synchronized: bool, by_class: bool = False) -> None:
        super().__init__(*args)
        self.by_class = by_class
        for layer in batch_norms(self.model):
            layer.synchronized = synchronized

    def _train(
        self, batch_size: int, images: Any, labels: Any, order: Any, shift: Any, scale: Any
    ) -> Any:
        strategy = tf.distribute.get_strategy()

        def share(inputs: Any, targets: Any) -> Any:
            context = tf.distribute.get_replica_context()
            replica = tf.get_static_value(context.replica_id_in_sync_group)
            count = targets.shape[0]
            size = -(-count // REPLICAS)
            mine = slice(replica * size, (replica + 1) * size)
            with tf.GradientTape() as tape:
                outputs = self.model(inputs[mine], training=True)
                losses = keras.losses.sparse_categorical_crossentropy(targets[mine], outputs)
                loss = tf.reduce_sum(losses) / count  # Keras adds up the replicas' gradients
            variables = self.model.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            return tf.reduce_sum(losses), single._hits(targets[mine], outputs)

        def step(indices: Any) -> Any:
            if self.by_class:
                indices = tf.gather(indices, tf.argsort(tf.gather(labels, indices), stable=True))
            batch = single._batch(images, indices, shift, scale), tf.gather(labels, indices)
            sums = strategy.run(share, args=batch)
            return tuple(strategy.reduce("SUM", value, axis=None) for value in sums)

        total, hits = sum_over_batches(step, (0.0, 0.0), order, batch_size)
        return total / order.shape[0], hits / order.shape[0]


# The other process


def _on_replicas(
    recipe: Recipe, data: Dataset, seed: int, orders: Sequence[_Array], **how: bool
) -> list[_Trained]:
    """Have the replicas trained, on the images that the recipe uses."""
    if recipe.norm != "batch":
        raise ValueError(f"norm={recipe.norm!r} is impossible on replicas: it must be 'batch'.")
    if recipe.batch_size % REPLICAS:
        raise ValueError(
            f"batch_size={recipe.batch_size} is impossible on replicas: "
            f"it must be a multiple of {REPLICAS}, so that all get the same number of images."
        )
    used = single._used(data, recipe.train_size, recipe.validation)
    if 0 < len(used.x_train) % recipe.batch_size < REPLICAS:
        raise ValueError(
            f"train_size={len(used.x_train)} is impossible on replicas with "
            f"batch_size={recipe.batch_size}: the last batch must have at least {REPLICAS} images."
        )
    train, pixels = (used.x_train, used.y_train), single.scaling(recipe, data)
    task = recipe, train, len(data.classes), pixels, seed, orders, how
    process, errors = _process()
    try:
        pickle.dump(task, process.stdin)  # type: ignore[arg-type]
        process.stdin.flush()  # type: ignore[union-attr]
        return pickle.load(process.stdout)  # type: ignore[arg-type, no-any-return]
    except (EOFError, BrokenPipeError) as error:
        process.wait()
        errors.seek(0)
        *_, last = ["no message", *errors.read().decode(errors="replace").splitlines()]
        stop()
        raise RuntimeError(f"the process with the replicas broke down: {last}") from error
    except BaseException:
        stop()  # its answer would be taken for that to the next question
        raise


@functools.cache
def _process() -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """Return the process with the replicas, and the file with what it has to complain of."""
    errors = tempfile.TemporaryFile()  # noqa: SIM115 (stays open as long as the process)
    command = [sys.executable, "-c", _SCRIPT]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors), errors


@atexit.register
def stop() -> None:
    """End the process with the replicas, if there is one; the next training starts another."""
    if _process.cache_info().currsize:
        process, errors = _process()
        _process.cache_clear()
        process.kill()
        process.communicate()
        errors.close()


def _serve() -> None:
    """Train what is asked for on standard input, until it ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must stay out of the answers
    kind = "GPU" if len(tf.config.list_logical_devices("GPU")) >= REPLICAS else "CPU"
    strategy = tf.distribute.MirroredStrategy([f"{kind}:{index}" for index in range(REPLICAS)])
    replicas = functools.lru_cache(maxsize=4)(_Replicas)
    with strategy.scope():
        while True:
            try:
                recipe, train, classes, pixels, seed, orders, how = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            shape = train[0].shape[1:]
            program = replicas(single.signature(recipe)[0], False, shape, classes, **how)
            train = tuple(map(tf.constant, train))
            pickle.dump(_take(program, recipe, train, pixels, seed, orders), answers)
            answers.flush()
