"""The process in which replicas take their steps.

TensorFlow fixes its devices when it starts, so the replicas live in a Python process of their
own, on two GPUs or else on one CPU cut into two logical ones.
"""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from typing import IO, Any, NamedTuple

import numpy.typing as npt

from bn_tutorial.engines.batches import batch, hits
from bn_tutorial.engines.program import Images, Program, program_key
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.statistics import batch_norms, sum_over_batches
from bn_tutorial.recipe.recipes import Recipe

#: How many replicas there are.
REPLICAS = 2

#: What the other process runs. The devices must be cut before the library starts them.
SCRIPT = f"""
import tensorflow as tf
if len(tf.config.list_physical_devices("GPU")) < {REPLICAS}:
    cpu, *_ = tf.config.list_physical_devices("CPU")
    parts = {REPLICAS} * [tf.config.LogicalDeviceConfiguration()]
    tf.config.set_logical_device_configuration(cpu, parts)
from bn_tutorial.engines import replica_process
replica_process.serve()
"""

Array = npt.NDArray[Any]


class Trained(NamedTuple):
    """Where training has led: loss and accuracy on its images, and each replica's variables."""

    loss: float
    accuracy: float
    replicas: list[list[Array]]


class ReplicaProcess:
    """The process with the replicas: starts at the first question, and ends with `close`."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, task: tuple[Any, ...]) -> list[Trained]:
        """Have the replicas take steps.

        Parameters
        ----------
        task : tuple
            Recipe, training images and labels, number of classes, mean and standard deviation of
            the pixels, seed, orders, and the options of `Replicas`.

        Returns
        -------
        list of Trained
            What `take_steps` returned there.

        Raises
        ------
        RuntimeError
            If the process breaks down; the next question starts another.
        """
        process = self.process or self._start()
        try:
            pickle.dump(task, process.stdin)  # type: ignore[arg-type]
            process.stdin.flush()  # type: ignore[union-attr]
            return pickle.load(process.stdout)  # type: ignore[arg-type, no-any-return]
        except (EOFError, BrokenPipeError) as error:
            process.wait()
            self.errors.seek(0)
            *_, last = ["no message", *self.errors.read().decode(errors="replace").splitlines()]
            self.close()
            raise RuntimeError(f"the process with the replicas broke down: {last}") from error
        except BaseException:
            self.close()  # its answer would be taken for that to the next question
            raise

    def close(self) -> None:
        """End the process, if there is one."""
        if self.process:
            self._end()
            self.process = None

    def _start(self) -> subprocess.Popen[bytes]:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (stays open as long as the process)
        command, pipe = [sys.executable, "-c", SCRIPT], subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.errors)
        # at the latest when nobody can ask any more
        self._end = weakref.finalize(self, _end, self.process, self.errors)
        return self.process


def _end(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    process.kill()
    process.communicate()
    errors.close()


def take_steps(
    program: Program,
    recipe: Recipe,
    train: Images,
    pixels: tuple[Any, Any],
    seed: int,
    orders: Sequence[Array],
) -> list[Trained]:
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
            Trained(float(loss), float(accuracy), list(map(list, zip(*variables, strict=True))))
        )
    return trained


class Replicas(Program):
    """A program whose steps are taken by replicas. It must be used in its strategy's scope.

    Parameters
    ----------
    *args
        As in `bn_tutorial.engines.program.Program`.
    synchronized : bool
        Whether they share the statistics of a batch.
    by_class : bool
        Whether a batch is sorted by class before it is dealt.
    """

    def __init__(self, *args: Any, synchronized: bool, by_class: bool = False) -> None:
        super().__init__(*args)
        self.by_class = by_class
        for layer in batch_norms(self.model):
            layer.synchronized = synchronized

    def epoch(
        self,
        batch_size: int,
        images: Any,
        labels: Any,
        order: Any,
        pixel_mean: Any,
        pixel_std: Any,
    ) -> tuple[Any, Any]:
        """Train on the images in that order; return the mean loss and the accuracy on the way."""
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
            return tf.reduce_sum(losses), hits(targets[mine], outputs)

        def step(indices: Any) -> Any:
            if self.by_class:
                indices = tf.gather(indices, tf.argsort(tf.gather(labels, indices), stable=True))
            inputs = batch(images, indices, pixel_mean, pixel_std)
            sums = strategy.run(share, args=(inputs, tf.gather(labels, indices)))
            return tuple(strategy.reduce("SUM", value, axis=None) for value in sums)

        total, right = sum_over_batches(step, (0.0, 0.0), order, batch_size)
        return total / order.shape[0], right / order.shape[0]


def serve() -> None:
    """Train what is asked for on standard input, until it ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must stay out of the answers
    kind = "GPU" if len(tf.config.list_logical_devices("GPU")) >= REPLICAS else "CPU"
    strategy = tf.distribute.MirroredStrategy([f"{kind}:{index}" for index in range(REPLICAS)])
    replicas = functools.lru_cache(maxsize=4)(Replicas)
    with strategy.scope():
        while True:
            try:
                recipe, train, classes, pixels, seed, orders, how = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            program = replicas(program_key(recipe)[0], False, train[0].shape[1:], classes, **how)
            images = tf.constant(train[0]), tf.constant(train[1])
            pickle.dump(take_steps(program, recipe, images, pixels, seed, orders), answers)
            answers.flush()
