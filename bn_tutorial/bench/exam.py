"""The measurements of a check-up: passes through a model, and what its normalisers were given."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bn_tutorial.bench.scores import Score, score
from bn_tutorial.bench.seen import Seen
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.feeding import Fed, passing, spread
from bn_tutorial.networks.passes import (
    Moments,
    asked,
    at_once,
    by_batch,
    fixed_batch,
    footprint,
    is_plain,
    normalisers,
    other_axes,
    rest,
    seen,
    untouched,
    with_statistics_of,
)

Array = NDArray[Any]

#: Of images that take so many bytes on their way, in a large model, so many are looked at.
LARGE, FEW = 2e7, 160
#: So many images are enough to see what companions do.
COMPANIONS = 320
#: Sizes of batches that are tried where it is not known, and the statistics look as if they mattered.
GUESSED = [10, 20, 50]


@dataclasses.dataclass
class Exam:
    """All that was measured.

    Attributes
    ----------
    model : keras.Model
        Whose it is.
    data : Fed
        The images that were looked at.
    batch_size : int
        How many of them were normalised together.
    given : bool
        Whether that is known to be the size of the training's batches.
    layers : list of Seen
        The normalisers, in order.
    outputs : mapping of str to list of numpy.ndarray, shape (n, ...)
        ``inference``: as the model answers; ``recalibrated``: with the population's statistics.
    scores : mapping of str to Score
        Of these two, of ``batch`` (each batch normalised by itself, in the order given) and of
        ``mixed`` (the same with other companions); of the last two on `COMPANIONS` images.
    updates : int or None
        How many steps the model's optimiser has taken, if it has one.
    size : int
        So many images pass at once.
    idle : set of int
        The ``id`` of normalisers that are in inference mode in training, too.
    unknown : list of str
        Normalisers that do not say over what they normalise, and were not looked at.
    """

    model: Any
    data: Fed
    batch_size: int
    given: bool
    layers: list[Seen]
    outputs: Mapping[str, list[Array]]
    scores: Mapping[str, Score]
    updates: int | None
    size: int
    idle: set[int]
    unknown: list[str]

    def in_training(self) -> dict[int, Moments]:
        """Return the moments of what normalisers are given in training, noise and all, by their ``id``."""
        with untouched():
            return _noted(self.model, self.data, self.size, self.idle, training=True)

    @property
    def moved(self) -> float:
        """By how much recalibrating changes the outputs, in standard deviations of these."""
        return max(map(moved, self.outputs["inference"], self.outputs["recalibrated"]), default=0.0)

    def leaked(self) -> tuple[float, float] | None:
        """Return how much worse the answers are with other companions, and in use; None without targets.

        In accuracy if there is one, or else in shares of the loss in use.
        """
        batch, mixed, best = (self.scores[name] for name in ("batch", "mixed", "recalibrated"))
        if batch.accuracy is not None and mixed.accuracy is not None and best.accuracy is not None:
            return batch.accuracy - mixed.accuracy, batch.accuracy - best.accuracy
        if batch.loss is None or mixed.loss is None or not best.loss:
            return None
        scale = abs(best.loss)
        return (mixed.loss - batch.loss) / scale, (best.loss - batch.loss) / scale

    def gain(self) -> tuple[float | None, float | None]:
        """Return by how much recalibrating lowers the loss and raises the accuracy."""
        before, after = self.scores["inference"], self.scores["recalibrated"]
        loss = before.loss - after.loss if None not in (before.loss, after.loss) else None  # type: ignore[operator]
        hits = (before.accuracy, after.accuracy)
        return loss, None if None in hits else hits[1] - hits[0]  # type: ignore[operator]


def examine(model: Any, data: Fed, batch_size: int | None = None) -> Exam:
    """Pass images through a model in several ways; nothing in it changes.

    Parameters
    ----------
    model : keras.Model
        A built model with at least one normaliser.
    data : Fed
        Images, and targets if there are any.
    batch_size : int, optional
        How many were normalised together in training; the usual size of the batches that are given, or
        32, if nothing is said.

    Raises
    ------
    ValueError
        If the images do not fit the model.
    """
    given = batch_size is not None
    if batch_size is None:
        batch_size = collections.Counter(data.sizes or (32,)).most_common(1)[0][0]
    every_norm = normalisers(model)
    names = _names(model, every_norm)
    norms, fixed = list(filter(is_plain, every_norm)), fixed_batch(model)
    batch_size = fixed or batch_size
    watched = _Watched(norms)
    with passing():
        some = data.at(np.arange(min(len(data), fixed or 8)))
        watched.plainly(model, some)
        idle = {key for key, trains in watched.in_training.items() if not trains}
        taken = footprint(model, some)
        size = fixed or min(at_once(model, taken), 256)
        if not fixed and taken > LARGE:
            data = spread(data, FEW, batch_size)
        every = np.arange(len(data))
        answers = {"inference": outputs_of(watched, model, data, every, size)}
        noted = _noted(model, data, size, idle)
        known = {key: one for key, one in noted.items() if np.isfinite(one.mean).all()}
        answer = functools.partial(with_statistics_of, known=known)
        answers["recalibrated"] = outputs_of(answer, model, data, every, size)
        scores = {name: score(model, data, every, found) for name, found in answers.items()}
        sizes = [batch_size]
        if not (given or fixed or data.sizes) and _narrow(norms, noted):
            sizes += GUESSED
        tried = [_with_companions(model, data, size, idle) for size in sizes]
        lost = [_worse(one, other) for one, other in tried]
        worst = int(np.argmax(lost))
        batch_size = sizes[worst]
        scores["batch"], scores["mixed"] = tried[worst]
    layers = [
        watched.seen(norm, names[id(norm)], noted[id(norm)], len(data))
        for norm in norms
        if id(norm) in noted
    ]
    called = list(noted)
    layers.sort(key=lambda one: called.index(id(one.layer)))
    optimizer = getattr(model, "optimizer", None)
    updates = int(optimizer.iterations.numpy()) if optimizer is not None else None
    outputs = {
        name: [
            np.asarray(one, "float32") for one in keras.tree.flatten(found) if one.dtype.kind == "f"
        ]
        for name, found in answers.items()
    }
    unknown = [names[id(norm)] for norm in every_norm if not is_plain(norm)]
    return Exam(
        model, data, batch_size, given, layers, outputs, scores, updates, size, idle, unknown
    )


class _Watched:
    """A pass in inference mode in which normalisers are watched."""

    def __init__(self, norms: Sequence[Any]) -> None:
        self.norms = norms
        self.by_batch, self.by_batch_plainly = set[int](), set[int]()
        self.in_training = dict[int, bool]()
        self.least = dict[int, int]()
        self.top, self.bottom = dict[int, Array](), dict[int, Array]()

    def __call__(self, model: Any, inputs: Any) -> Any:
        rest(model)
        with seen(self.norms, self._see):
            return model(inputs, training=False)

    def _see(self, layer: Any, call: Any, inputs: Any, training: Any, mask: Any) -> Any:
        outputs = asked(call, inputs, training, mask)
        key, shape = id(layer), inputs.shape
        if training is True and layer.trainable:
            self.by_batch.add(key)
        values = int(np.prod(shape[1:])) // shape[layer.axis]
        self.least[key] = min(values, self.least.get(key, values))
        axes = other_axes(layer, len(shape))
        top, bottom = tf.reduce_max(outputs, axes).numpy(), tf.reduce_min(outputs, axes).numpy()
        self.top[key] = np.maximum(top, self.top.get(key, top))
        self.bottom[key] = np.minimum(bottom, self.bottom.get(key, bottom))
        return outputs

    def plainly(self, model: Any, inputs: Any) -> None:
        """See in which mode normalisers are if none is asked for, and if training is."""
        with keras.StatelessScope():  # what these update is not for the passes that follow
            with seen(self.norms, self._ask):
                model(inputs)
            with seen(self.norms, self._train):
                model(inputs, training=True)

    def _ask(self, layer: Any, call: Any, inputs: Any, training: Any, mask: Any) -> Any:
        if training is True and layer.trainable:
            self.by_batch_plainly.add(id(layer))
        return asked(call, inputs, training, mask)

    def _train(self, layer: Any, call: Any, inputs: Any, training: Any, mask: Any) -> Any:
        self.in_training[id(layer)] = bool(training)
        return asked(call, inputs, training, mask)

    def seen(self, norm: Any, name: str, population: Moments, images: int) -> Seen:
        """Return what was seen of a normaliser."""
        key, count = id(norm), population.count
        mean, variance = (
            np.asarray(one, float) for one in (norm.moving_mean, norm.moving_variance)
        )
        moving = Moments(count, mean, variance)
        idle = bool(norm.trainable) and not self.in_training.get(key, True)
        return Seen(
            norm, name, moving, population, key in self.by_batch, key in self.by_batch_plainly,
            idle, self.least[key], self.top[key], self.bottom[key], images,
        )  # fmt: skip


def _worse(one: Score, other: Score) -> float:
    """Return by how much the second of two scores is worse."""
    if one.accuracy is not None and other.accuracy is not None:
        return one.accuracy - other.accuracy
    return (other.loss or 0) - (one.loss or 0)


def moved(one: Array, other: Array) -> float:
    """Return how far outputs are from others, in standard deviations of these."""
    if not np.isfinite(one).all():
        return float("inf")
    spread = max(float(other.std(axis=0).mean()), 1e-7)
    return float(np.sqrt(((one - other) ** 2).mean())) / spread


def _narrow(norms: Sequence[Any], noted: Mapping[int, Moments]) -> bool:
    """Return whether moving variances are small beside the population's, as if batches were all alike."""
    pairs = [
        (norm.moving_variance.numpy(), noted[id(norm)].variance)
        for norm in norms
        if id(norm) in noted
    ]
    return any(np.median(moving / np.maximum(whole, 1e-12)) < 0.5 for moving, whole in pairs)


def _with_companions(model: Any, data: Fed, size: int, idle: set[int]) -> tuple[Score, Score]:
    """Return how well images are answered that are normalised by batches in their order, and mixed."""
    answer = functools.partial(by_batch, idle=idle)
    few = np.arange(len(data))[: max(COMPANIONS // size, 2) * size]
    orders = few, np.random.default_rng(0).permutation(few)
    one, other = (
        score(model, data, order, outputs_of(answer, model, data, order, size)) for order in orders
    )
    return one, other


def _noted(
    model: Any, data: Fed, size: int, idle: set[int], training: bool = False
) -> dict[int, Moments]:
    """Return the moments of what normalisers are given, by their ``id``."""
    noted = dict[int, Moments]()
    # sorted images would normalise each other in another way
    for part in _parts(np.random.default_rng(0).permutation(len(data)), size):
        by_batch(model, data.at(part), noted, idle, training)
    return noted


def _parts(order: Array, size: int) -> Iterator[Array]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


def outputs_of(answer: Any, model: Any, data: Fed, order: Array, size: int) -> Any:
    """Return what `answer` makes of a model's inputs in this order, so many at once: a nest of arrays."""
    found = [answer(model, data.at(part)) for part in _parts(order, size)]
    return keras.tree.map_structure(
        lambda *parts: np.concatenate([one.numpy() for one in parts]), *found
    )


def _names(model: Any, norms: Sequence[Any]) -> dict[int, str]:
    """Return the names of layers, with those of the models and layers around them, by ``id``."""
    paths: dict[int, str] = {}

    def walk(layer: Any, within: str) -> None:
        for inner in layer._layers:
            if id(inner) not in paths:
                paths[id(inner)] = f"{within}{inner.name}"
                walk(inner, f"{within}{inner.name}/")

    walk(model, "")
    return {id(norm): paths.get(id(norm), norm.name) for norm in norms}
