"""Why moving statistics are not those of the images that a model is given."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bn_tutorial.bench.exam import Exam
from bn_tutorial.bench.findings import (
    COST,
    ENOUGH,
    FAR,
    MOVED,
    SHORT,
    START,
    TIMES,
    Finding,
    report_of,
)
from bn_tutorial.bench.seen import Seen
from bn_tutorial.networks.passes import Moments


def middle(values: Any) -> float:
    """Return the median; NaN of nothing."""
    return float(np.median(values)) if len(values) else math.nan


def far(one: Seen) -> float:
    """Return how far a layer's moving means are off, in standard deviations, in the mean."""
    return float(np.mean(one.distance[one.varied])) if one.varied.any() else 0.0


def is_off(one: Seen) -> bool:
    """Return whether moving statistics are not those of the population, beyond what few images explain."""
    ratio, chance = middle(one.ratio[one.varied]), 1 / math.sqrt(one.images)
    times = max(ratio, 1 / max(ratio, 1e-9))
    return bool(one.varied.any()) and (far(one) > FAR + chance or times > TIMES + 3 * chance)


def matters(exam: Exam) -> bool:
    """Return whether recalibrating changes the answers, and makes them no worse."""
    if len(exam.data) < ENOUGH:  # of few images, fresh statistics are no better
        return False
    loss, hits = exam.gain()
    if hits is not None and len(exam.outputs["inference"]) == 1:
        return gains(exam) or (hits >= 0 and exam.moved > 2 * MOVED)
    return exam.moved > MOVED and (loss is None or loss > 0)


def gains(exam: Exam, times: float = 1) -> bool:
    """Return whether recalibrating makes the answers better, by so many times what can be measured."""
    loss, hits = exam.gain()
    if hits is not None:
        return hits > times * max(COST, 1 / math.sqrt(len(exam.data)))
    before = exam.scores["inference"].loss
    return loss is not None and before is not None and loss > times * 0.2 * abs(before)


def costs_more(exam: Exam) -> bool:
    """Return whether the statistics cost more accuracy than a leak pretends."""
    hits, leaked = exam.gain()[1], exam.leaked()
    return hits is not None and leaked is not None and hits > leaked[1]


def statistics(exam: Exam, trained_on: dict[int, Moments]) -> Iterator[Finding]:
    """Tell why moving statistics are not those of these images."""
    off = [one for one in exam.layers if is_off(one)]
    if not any(one.at_start for one in off) and not gains(exam):
        # what is frozen need not fit: the layers behind it have learnt from what it gives
        off = [one for one in off if not one.frozen]
    serious = matters(exam)
    if not off and gains(exam):  # what is a little off in many features may matter as much
        off, serious = [max(exam.layers, key=far)], gains(exam, 2)
    if off:
        kind, sure, why = _cause(exam, off, trained_on)
        yield report_of(kind, serious, off, _in_words(exam, off), sure, why)


def _in_words(exam: Exam, off: Sequence[Seen]) -> str:
    """Return how far statistics are off, and what recalibrating changes, in words."""
    worst = max(off, key=far)
    text = (
        f"on {len(exam.data)} images, the moving means of {worst.name!r} are off by {far(worst):.2g} "
        f"standard deviations in the mean, its variances by ×{middle(worst.ratio[worst.varied]):.2g} in "
        f"the middle; recalibrating moves the outputs by {exam.moved:.0%} of their spread"
    )
    before, after = exam.scores["inference"], exam.scores["recalibrated"]
    if before.accuracy is not None:
        text += f", and the accuracy from {before.accuracy:.0%} to {after.accuracy:.0%}"
    if before.loss is not None:
        text += f", the loss from {before.loss:.3g} to {after.loss:.3g}"
    return text


def _cause(exam: Exam, off: list[Seen], trained_on: dict[int, Moments]) -> tuple[str, str, str]:
    """Return the kind of wrong statistics, how sure that is, and what more there is to say."""
    if any(one.at_start for one in off):
        return "statistics-not-restored", "certain", ""
    if trained_on and _fits(off, trained_on):
        return "shifted-data", "certain", ""
    if _fits(off, exam.in_training()):
        return "variance-shift", "certain", ""
    for factor in filter(None, map(_common_factor, off)):
        kind = "batch-of-one" if factor < 0.1 else "ragged-batch"
        return kind, "likely", f"all variances are ×{factor:.2g} of the true ones"
    updates, momentum = exam.updates, max(one.layer.momentum for one in off)
    most = momentum**updates if updates else 1.0  # of the start can be left, since it was compiled
    starts = [one.start for one in off if not math.isnan(one.start)]
    if starts and START < max(starts) < 2 * most:
        left = f"{max(starts):.0%} of them is still the start, mean 0 and variance 1"
        return "lag", "likely", left
    if updates and most > START:
        return "lag", "likely", f"there were only {updates} updates"
    if momentum < SHORT:
        few = f"with a momentum of {momentum:g} they hold the last few batches only"
        return "lag", "likely", few
    if not any(map(is_off, off)):
        if off[0].frozen:
            return "shifted-data", "possible", ""
        return "lag", "possible", "the weights have moved on since"
    if trained_on:
        return "lag", "likely", "they do not fit the images of the training, either"
    first, *deeper = exam.layers
    if deeper and first in off and np.mean([is_off(one) for one in deeper]) < 0.5:
        return "shifted-data", "likely", ""
    scale = middle(off[0].ratio[off[0].varied])
    if far(off[0]) > 1 or not 0.1 < scale < 10 or not updates:
        return "shifted-data", "possible", ""
    return "lag", "possible", "the weights have moved on since"


def _fits(off: list[Seen], others: dict[int, Moments]) -> bool:
    """Return whether moving statistics that are off are these, by the ``id`` of layers."""
    known = [one for one in off if id(one.layer) in others and is_off(one)]
    there = [dataclasses.replace(one, population=others[id(one.layer)]) for one in known]
    return bool(there) and not any(map(is_off, there))


def _common_factor(one: Seen) -> float | None:
    """Return by what all variances are too small, if means fit and the start does not explain it."""
    if one.least > 1 or far(one) > FAR:
        return None
    logs = np.log(np.maximum(one.ratio[one.varied], 1e-9))
    factor = float(np.exp(np.median(logs)))
    if factor > 1 / TIMES:
        return None
    if factor < 0.1 or math.isnan(one.start):
        return factor if factor < 0.1 or float(np.std(logs)) < 0.5 else None
    scale = one.population.variance + one.epsilon
    mixed = np.log(np.maximum(one.moving.variance, 1e-12) / (one.start + (1 - one.start) * scale))
    return factor if np.std(logs) < np.std(mixed[one.varied]) else None
