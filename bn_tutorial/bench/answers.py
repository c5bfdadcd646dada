"""Normalisers that give a regression's answers their mean and their spread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bn_tutorial.bench.exam import Exam
from bn_tutorial.bench.findings import ENOUGH, MISSED, Finding, report_of
from bn_tutorial.bench.scores import first, score
from bn_tutorial.bench.seen import Seen
from bn_tutorial.networks.backend import keras
from bn_tutorial.networks.feeding import passing
from bn_tutorial.networks.passes import asked, other_axes, rest, seen

Array = NDArray[Any]


def normalised_output(exam: Exam) -> Iterator[Finding]:
    """Look for a normaliser whose output is the answer to a regression."""
    targets, answers = _only(exam.data.targets), _only(exam.outputs["recalibrated"])
    if targets is None or answers is None or targets.size != answers.size:
        return
    if exam.scores["inference"].accuracy is not None or np.isin(targets, (0, 1)).all():
        return  # classes
    if (last := _last(exam)) is None:
        return
    one, shape = last
    axes = tuple(other_axes(one.layer, len(shape) + 1))
    given, wanted = (part.reshape(-1, *shape) for part in (answers, targets))
    variance = wanted.var(axes)
    if not (variance.all() and np.isfinite(given).all() and np.isfinite(wanted).all()):
        return
    better = _fitted(given, wanted, axes)
    error, best = (((part - wanted) ** 2).mean(axes) / variance for part in (given, better))
    missed = float(np.minimum(error - best, 1).mean()) > MISSED
    serious = missed and len(exam.data) >= ENOUGH and _pays(exam, better.reshape(answers.shape))
    at = int(np.argmax(error - best))
    text = (
        f"answers have mean {given.mean(axes)[at]:.3g} and standard deviation {given.std(axes)[at]:.3g}, "
        f"targets {wanted.mean(axes)[at]:.3g} and {wanted.std(axes)[at]:.3g}; the squared error is "
        f"{error[at]:.2g} times the targets' variance, and would be {best[at]:.2g} times with the γ and β "
        "that fit them best"
    )
    yield report_of("normalised-output", serious, [one], text)


def _last(exam: Exam) -> tuple[Seen, tuple[int, ...]] | None:
    """Return the normaliser whose output a model gives as its own, and that output's shape."""
    given: dict[int, Any] = {}

    def see(layer: Any, call: Any, inputs: Any, training: Any, mask: Any) -> Any:
        given[id(layer)] = asked(call, inputs, training, mask)
        return given[id(layer)]

    some = exam.data.at(np.arange(min(len(exam.data), exam.size, 8)))
    with passing(), seen([one.layer for one in exam.layers], see):
        rest(exam.model)
        answers = np.asarray(first(exam.model(some, training=False)))
    for one in exam.layers:
        found = np.asarray(given.get(id(one.layer), ()), answers.dtype)
        same = found.size == answers.size and np.array_equal(found.ravel(), answers.ravel())
        if same and not one.frozen:
            return one, found.shape[1:]
    return None


def _only(nest: Any) -> Array | None:
    """Return the array of a nest of one, if it holds numbers."""
    parts = [np.asarray(part) for part in keras.tree.flatten(nest) if part is not None]
    numbers = len(parts) == 1 and parts[0].dtype.kind in "biuf"
    return parts[0].astype(float) if numbers else None


def _fitted(given: Array, wanted: Array, axes: tuple[int, ...]) -> Array:
    """Return answers with the γ and β of each feature that fit the targets best."""
    mean = given.mean(axes, keepdims=True)
    product = ((given - mean) * wanted).mean(axes, keepdims=True)
    slope = product / np.maximum(given.var(axes, keepdims=True), 1e-30)
    return np.asarray(wanted.mean(axes, keepdims=True) + slope * (given - mean))


def _pays(exam: Exam, better: Array) -> bool:
    """Return whether answers that fit the targets better are better by the model's own loss, too."""
    order = np.arange(len(exam.data))
    before = exam.scores["recalibrated"].loss
    after = score(exam.model, exam.data, order, better.astype("float32")).loss
    return before is None or after is None or before - after > 0.2 * abs(before)
