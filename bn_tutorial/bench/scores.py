"""How well a model's outputs answer, by its own loss and by the share of right classes."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bn_tutorial.networks.backend import keras
from bn_tutorial.networks.feeding import Fed

Array = NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Score:
    """How well outputs answer.

    Attributes
    ----------
    loss : float or None
        By the loss that the model was compiled with, else cross-entropy or the squared error.
    accuracy : float or None
        The share of right answers, if outputs are classes.
    n : int
        Over so many examples.
    """

    loss: float | None
    accuracy: float | None
    n: int


def first(nest: Any) -> Any:
    """Return the first array of a nest."""
    return keras.tree.flatten(nest)[0]


def score(model: Any, data: Fed, order: Array, answers: Any) -> Score:
    """Return how well a model's outputs answer; accuracy is that of the first of several."""
    if data.targets is None:
        return Score(None, None, len(order))
    targets, outputs = data.answers(order), np.asarray(first(answers), "float32")
    if isinstance(targets, dict) and not isinstance(answers, dict):  # by names, as fit takes them
        names = getattr(model, "output_names", [])
        targets = [targets[name] for name in names] if {*names} == {*targets} else targets
    target = np.asarray(first(targets))
    labels = _labels(target, outputs)
    accuracy = None if labels is None else float((_classes(outputs) == labels).mean())
    own = getattr(model, "_compile_loss", None)
    loss: float | None = None
    if own is not None:
        with contextlib.suppress(Exception):  # a loss of anybody's may want what is not here
            fresh = type(own)(own._user_loss, own._user_loss_weights, output_names=own.output_names)
            loss = float(fresh(targets, answers))  # which builds itself
    elif len(keras.tree.flatten(answers)) > 1:
        pass  # nobody has said what the others are to answer
    elif labels is not None:
        loss = _cross_entropy(outputs, labels)
    elif target.size == outputs.size:
        loss = float(((outputs - target.reshape(outputs.shape)) ** 2).mean())
    return Score(loss, accuracy, len(order))


def _labels(target: Array, outputs: Array) -> Array | None:
    """Return the right class of each example, if outputs are classes."""
    if outputs.ndim != 2:
        return None
    binary = bool(np.isin(target, (0, 1)).all())
    if outputs.shape[1] == 1:
        return target.reshape(-1).astype(int) if binary and target.size == len(outputs) else None
    if target.shape == outputs.shape:
        return target.argmax(-1) if binary and (target.sum(-1) == 1).all() else None
    if target.size != len(outputs) or target.dtype.kind not in "biuf":
        return None
    found: Array = target.reshape(-1)
    whole = (found == np.round(found)).all() and found.min() >= 0 and found.max() < outputs.shape[1]
    return found.astype(int) if whole else None


def _classes(outputs: Array) -> Array:
    if outputs.shape[1] > 1:
        return np.asarray(outputs.argmax(-1))
    return np.asarray(outputs[:, 0] > (0.5 if _are_chances(outputs) else 0)).astype(int)


def _are_chances(outputs: Array) -> bool:
    return bool((outputs >= 0).all() and (outputs <= 1).all())


def _cross_entropy(outputs: Array, labels: Array) -> float:
    """Return the mean cross-entropy of probabilities, or of logits."""
    outputs = outputs.astype(float)
    if outputs.shape[1] == 1:
        one = outputs if _are_chances(outputs) else 1 / (1 + np.exp(-outputs))
        outputs = np.concatenate([1 - one, one], axis=1)
    if (outputs >= 0).all() and np.allclose(outputs.sum(-1), 1, atol=1e-2):
        chances = outputs
    else:
        chances = np.exp(outputs - outputs.max(-1, keepdims=True))
        chances /= chances.sum(-1, keepdims=True)
    right = np.take_along_axis(chances, labels[..., None].astype(int), -1)
    return float(-np.log(np.maximum(right, 1e-7)).mean())
