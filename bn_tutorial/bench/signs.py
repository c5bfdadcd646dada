"""What the measurements of a check-up show: a rule for each illness of ``illnesses.toml``."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bn_tutorial.bench.answers import normalised_output
from bn_tutorial.bench.causes import costs_more, is_off, middle, statistics
from bn_tutorial.bench.exam import Exam
from bn_tutorial.bench.findings import (
    ENOUGH,
    LEAK,
    LEAK_LOSS,
    LOW,
    NARROWER,
    OFF,
    SMALL,
    Finding,
    report_of,
)
from bn_tutorial.bench.populations import Group, populations
from bn_tutorial.networks.backend import keras
from bn_tutorial.networks.folding import unfoldable
from bn_tutorial.networks.passes import Moments


def findings(
    exam: Exam, trained_on: dict[int, Moments] | None = None, groups: Sequence[Group] = ()
) -> list[Finding]:
    """Return what an examination shows, most serious first.

    Parameters
    ----------
    exam : Exam
        What was measured.
    trained_on : dict, optional
        The moments of what normalisers are given by the images of the training, by their ``id``.
    groups : sequence of Group, optional
        What was measured of several populations.
    """
    found = [*_not_finite(exam), *_training_mode(exam)]
    apart = [*populations(exam, groups)]
    if not found:  # these two explain whatever else the statistics show
        found = [*_plain_call(exam)]
        leaks, off = [*_leak(exam)], [*statistics(exam, trained_on or {})]
        if any(one.serious for one in apart):  # batches of one group each explain both
            leaks, off = [], []
        if leaks:  # batches of a kind have narrow statistics, too
            off = [one for one in off if one.serious]
        found += [*_batches(exam), *_small_variance(exam)]
        found += off + leaks if costs_more(exam) else leaks + off
    found += [*apart, *normalised_output(exam)]
    for rule in (_frozen, _dead, _linear, _precision, _bias, _decay, _unfoldable, _unknown):
        found += rule(exam)
    known = {one.kind: one for one in reversed(found)}  # of two of a kind, the first
    return sorted(known.values(), key=lambda one: (not one.serious, found.index(one)))


def _not_finite(exam: Exam) -> Iterator[Finding]:
    broken, lost = [], []
    for one in exam.layers:
        moving = np.array([one.moving.mean, one.moving.variance])
        if not np.isfinite(moving).all() or (moving[1] < 0).any():
            broken.append(one)
        if not np.isfinite(one.population.mean).all():
            lost.append(one)
    of = f"of {len(exam.layers)} layers"
    if broken:
        what = "have a moving mean or variance that is NaN, infinite or, as a variance, negative"
        yield report_of("non-finite", True, broken, f"{len(broken)} {of} {what}")
    elif lost:
        what = f"get values that are not finite, for some of {len(exam.data)} images"
        yield report_of("non-finite", True, lost, f"{len(lost)} {of} {what}")


def _training_mode(exam: Exam) -> Iterator[Finding]:
    if found := [one for one in exam.layers if one.by_batch]:
        text = f"in use, {len(found)} of {len(exam.layers)} layers normalise by the batch"
        yield report_of("training-mode", True, found, text)


def _plain_call(exam: Exam) -> Iterator[Finding]:
    """Look for layers that train if nobody asks for a mode, though not in predict and evaluate."""
    if not (found := [one for one in exam.layers if one.by_batch_plainly]):
        return
    asked = _asks_for_training(exam.model)
    text = f"in a plain call, {len(found)} of {len(exam.layers)} layers normalise by the batch"
    why = (
        "so it is in a plain call, model(images); predict, evaluate and model(images, training=False) are "
        "not affected"
    )
    if not asked:
        why += "; an augmentation layer, whose usual mode is training, may be the cause"
    yield report_of("training-mode", asked, found, text, why=why)


def _asks_for_training(model: Any) -> bool:
    """Return whether a layer is called with ``training=True`` somewhere in a model's graph."""

    def usually(layer: Any) -> bool:  # of augmentation layers that is the default
        mode = inspect.signature(layer.call).parameters.get("training")
        return mode is not None and mode.default is True

    layers = (one for one in model._flatten_layers() if not usually(one))
    nodes = [node for one in layers for node in getattr(one, "_inbound_nodes", [])]
    return any(node.arguments.kwargs.get("training") is True for node in nodes)


def _leak(exam: Exam) -> Iterator[Finding]:
    leaked = exam.leaked()
    scores = [exam.scores[name] for name in ("batch", "mixed", "recalibrated")]
    by_loss = scores[0].accuracy is None
    if leaked and min(leaked) > (LEAK_LOSS if by_loss else LEAK):
        batch, mixed, best = (
            f"{one.loss:.3g}" if by_loss else f"{one.accuracy:.0%}" for one in scores
        )
        text = (
            f"in batches of {exam.batch_size}, {'loss' if by_loss else 'accuracy'} {batch} in the order "
            f"given and {mixed} with other companions; {best} in use, recalibrated"
        )
        yield report_of("leak", True, exam.layers, text, "likely")


def _batches(exam: Exam) -> Iterator[Finding]:
    """Look for batches of one, which leave nothing to normalise."""
    alone, sizes = [one for one in exam.layers if one.least == 1], exam.data.sizes
    left = 1 in sizes
    if not sizes and exam.given and exam.data.total is not None:
        left = exam.data.total % exam.batch_size == 1
    # these batches may be those of an evaluation: what training left behind tells
    hurt = any(is_off(one) or middle(one.ratio[one.varied]) < NARROWER for one in alone)
    sure, why = (
        ("certain", "") if hurt else ("possible", "this matters if training has such batches")
    )
    if alone and (exam.batch_size == 1 or (sizes and set(sizes) == {1})):
        text = "one example in a batch, one value of each feature"
        said = exam.given and exam.batch_size == 1
        sure, why = ("certain", "") if said else (sure, why)
        yield report_of("batch-of-one", said or hurt, alone, text, sure, why)
    elif alone and left:
        text = "a batch of one example, among larger ones"
        yield report_of("ragged-batch", hurt, alone, text, sure, why)


def _frozen(exam: Exam) -> Iterator[Finding]:
    state = getattr(exam.model, "_compiled_trainable_state", None) or {}
    changed = [
        one
        for one in exam.layers
        if state.get(one.layer, one.layer.trainable) != one.layer.trainable
    ]
    idle = [one for one in exam.layers if one.never_by_batch]
    if changed:
        text = f"trainable was changed in {len(changed)} of {len(exam.layers)} layers after compile"
        why = "a change of trainable takes effect when the model is compiled again"
        yield report_of("frozen-mismatch", True, changed, text, why=why)
    elif idle:
        text = f"{len(idle)} of {len(exam.layers)} layers are trainable, but called with training=False"
        why = "they keep their statistics, while γ and β are trained"
        yield report_of("frozen-mismatch", False, idle, text, why=why)


def _small_variance(exam: Exam) -> Iterator[Finding]:
    times = {
        one.name: one.population.variance[one.varied] / one.epsilon
        for one in exam.layers
        if one.varied.any()
    }
    ill = [one for one in exam.layers if middle(times.get(one.name, ())) < SMALL]
    low = [
        one for one in exam.layers if np.mean(times.get(one.name, (LOW,)) < np.float64(LOW)) > 0.1
    ]
    if ill or low:
        name = min(times, key=lambda name: middle(times[name]))
        typical, share = middle(times[name]), np.mean(times[name] < LOW)
        text = (
            f"{name!r}: variances {typical:.2g} times epsilon in the middle, {share:.0%} of the features "
            f"below {LOW} times; a normalised deviation is {math.sqrt(typical / (typical + 1)):.0%} of 1"
        )
        # deep depthwise layers have small variances by their usual start, and are trained all the same
        serious = exam.layers[0] in ill or len(ill) > len(exam.layers) / 2
        yield report_of("small-variance", serious, ill or low, text)


def _dead(exam: Exam) -> Iterator[Finding]:
    shares = {}
    for one in exam.layers:
        off = (one.top <= 0) & (one.images >= ENOUGH and _rectified(one.layer))
        if one.layer.scale:
            gamma = np.abs(np.asarray(one.layer.gamma, float))
            off = off | (gamma < OFF * max(gamma.max(), 1e-30))
        shares[one.name] = float(np.mean(off))
    if found := [one for one in exam.layers if shares[one.name] > 0.1]:
        worst = max(found, key=lambda one: shares[one.name]).name
        text = (
            f"{worst!r}: {shares[worst]:.0%} of the features have a γ near 0, or a rectifier that never "
            f"fires on {len(exam.data)} images"
        )
        yield report_of("dead-features", shares[worst] > 0.5, found, text)


def _linear(exam: Exam) -> Iterator[Finding]:
    found = [
        one
        for one in exam.layers
        if one.images >= ENOUGH and np.mean(one.bottom > 0) > 0.5 and _rectified(one.layer)
    ]
    if found:
        most = max(float(np.mean(one.bottom > 0)) for one in found)
        text = (
            f"up to {most:.0%} of a layer's features are positive on all of {len(exam.data)} images"
        )
        yield report_of("always-firing", False, found, text)


def _rectified(layer: Any) -> bool:
    """Return whether a rectifier, and nothing else, reads a layer."""
    nodes = getattr(layer, "_outbound_nodes", [])
    readers = {id(node.operation): node.operation for node in nodes}
    if len(readers) != 1:
        return False
    (reader,) = readers.values()
    if isinstance(reader, keras.layers.ReLU):
        return not reader.negative_slope and not reader.threshold
    if isinstance(reader, keras.layers.Activation):
        return getattr(reader.activation, "__name__", "") in ("relu", "relu6")
    return type(reader).__name__ in ("Relu", "Relu6")


def _precision(exam: Exam) -> Iterator[Finding]:
    if half := [one for one in exam.layers if "16" in str(one.layer.moving_variance.dtype)]:
        text = f"{len(half)} of {len(exam.layers)} layers keep their statistics in 16 bits"
        yield report_of("half-precision", False, half, text)


def _bias(exam: Exam) -> Iterator[Finding]:
    found = []
    for one in exam.layers:
        nodes = getattr(one.layer, "_inbound_nodes", [])
        parents = {id(one.operation): one.operation for node in nodes for one in node.parent_nodes}
        before = [*parents.values()] if len(parents) == 1 else []
        linear = getattr(getattr(before[0], "activation", None), "__name__", "") if before else ""
        if linear == "linear" and getattr(before[0], "use_bias", False):
            found.append(one)
    if found:
        text = f"a bias stands right before {len(found)} of {len(exam.layers)} layers"
        yield report_of("bias-before", False, found, text)


def _decay(exam: Exam) -> Iterator[Finding]:
    found = [
        one
        for one in exam.layers
        if one.layer.gamma_regularizer is not None or one.layer.beta_regularizer is not None
    ]
    optimizer = getattr(exam.model, "optimizer", None)
    spared = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    if getattr(optimizer, "weight_decay", None) and not spared:
        found = [one for one in exam.layers if one.layer.trainable]
    if found:
        text = f"γ and β of {len(found)} of {len(exam.layers)} layers decay"
        yield report_of("decay", False, found, text)


def _unfoldable(exam: Exam) -> Iterator[Finding]:
    if reasons := unfoldable(exam.model):
        first = next(iter(reasons.values())).rstrip(".")
        text = f"{len(reasons)} of {len(exam.layers)} layers cannot be folded; {first}"
        found = report_of("not-foldable", False, [], text)
        yield dataclasses.replace(found, layers=tuple(reasons))


def _unknown(exam: Exam) -> Iterator[Finding]:
    if exam.unknown:
        text = f"{len(exam.unknown)} of {len(exam.unknown) + len(exam.layers)} layers"
        found = report_of("not-examined", False, [], text)
        yield dataclasses.replace(found, layers=tuple(exam.unknown))
