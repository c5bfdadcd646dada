"""Make a trained model ready for use: no normaliser is left to compute."""

from __future__ import annotations

from typing import Any

import numpy as np

from bn_tutorial.networks import affine
from bn_tutorial.networks.affine import AFFINE, Inexact, Map
from bn_tutorial.networks.backend import keras
from bn_tutorial.networks.comparing import check_same
from bn_tutorial.networks.graph import Call, Graph, clone, copy_state
from bn_tutorial.networks.layers import kind
from bn_tutorial.networks.passes import normalisers, same_draws
from bn_tutorial.recipe.tables import NORMALISERS

# a subclass may compute something else, so these types are meant exactly
KINDS = {kind(row) for row in NORMALISERS.values() if row.moving}


def fold(model: keras.Model, images: Any = None, *, strict: bool = True) -> keras.Model:
    """Return a model without batch normalisation that predicts the same.

    In inference mode a batch normalisation layer is one multiplication and one addition per
    feature. They go into the weights of the dense or convolutional layer before it, or else of the one
    after it. Whatever treats all features alike may lie in between: dropout, cropping, pooling that
    averages, another normaliser. Both models are then compared on images.

    Parameters
    ----------
    model : keras.Model
        A sequential or functional model, trained; models inside it are folded as well.
    images : array_like, or list, tuple or dict of these, optional
        What both models are compared on; random numbers where nothing is given.
    strict : bool
        Whether every normaliser must go. Otherwise those that can do; a line that is printed counts
        them, and the attribute ``stayed`` of the new model has the others' reasons by their names, with
        those of the models around them.

    Returns
    -------
    keras.Model
        A new, functional model. In inference mode its outputs are those of `model`, up to the
        rounding of its dtype; it is not meant to be trained. Its attribute ``folded`` counts the
        normalisers that are gone.

    Raises
    ------
    ValueError
        If a layer cannot be folded exactly: for an activation in between, a neighbour that
        serves others, too, the zeros that a convolution pads with, features on an axis that is not its
        neighbour's, or a layer that the graph calls with ``training=True``. Some neighbours are
        refused because they are not dealt with here: quantised ones, and subclasses. So is a model
        whose copy does not answer as it does. The message names the layer and the reasons.

    References
    ----------
    Jacob et al. (2018), Quantization and training of neural networks for efficient
    integer-arithmetic-only inference, section 3.2, for the layer before.
    """
    folding = _Folding(model)
    if strict and folding.stayed:
        raise ValueError(next(iter(folding.stayed.values())))
    new = folding.copied()
    check_same(model, new, images)
    new.folded, new.stayed = folding.count, dict(folding.stayed)
    for reason in [*folding.stayed.values()][:1]:
        others = len(folding.stayed) - 1
        more = f" So it is with {others} more: see .stayed." if others else ""
        print(f"Folded {folding.count} of {folding.count + 1 + others}; {reason}{more}")
    return new


def unfoldable(model: keras.Model) -> dict[str, str]:
    """Return why normalisers of a model cannot be folded, by their names; the model stays as it is.

    Parameters
    ----------
    model : keras.Model
        Any model.

    Returns
    -------
    dict of str to str
        None of a model in which `fold` cannot see what feeds what.
    """
    try:
        with same_draws(), np.errstate(invalid="ignore"):  # of statistics that are broken
            return _Folding(model).stayed
    except ValueError:
        return {}


class _Folding:
    """What becomes of the normalisers of a model.

    Attributes
    ----------
    stayed : dict of str to str
        Why others cannot, by their names.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model, self.graph = model, Graph(model)
        self.weights: dict[str, list[Any]] = {}  # of layers that take normalisers in
        self.maps: dict[str, Map] = {}  # what normalisers do
        self.taking: set[str] = set()  # normalisers that take others in
        self.dropped: set[str] = set()
        self.inner: dict[str, _Folding] = {}
        self.stayed: dict[str, str] = {}
        left = [layer for layer in model.layers if self._is_ours(layer)]
        self.maps = {norm.name: affine.of(norm) for norm in left}
        while left:  # one may open the way for another
            reasons = {norm.name: self._absorb(norm) for norm in left}
            tried, left = left, [norm for norm in left if reasons[norm.name]]
            if len(tried) == len(left):
                self.stayed |= reasons
                break
        for name, one in self.inner.items():
            self.stayed |= {f"{name}/{norm}": reason for norm, reason in one.stayed.items()}

    @property
    def count(self) -> int:
        """How many can go."""
        return len(self.dropped) + sum(one.count for one in self.inner.values())

    def _is_ours(self, layer: Any) -> bool:
        """Return whether a layer is a normaliser; look after those that are inside of it."""
        if type(layer) in KINDS:
            return True
        if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
            if normalisers(layer):
                self.inner[layer.name] = _Folding(layer)
        else:
            for norm in normalisers(layer):
                if norm is layer:
                    why = "it is of a class of its own, which may compute something else"
                else:
                    why = f"it lies inside the layer {layer.name!r}, where it cannot be treated"
                self.stayed[norm.name] = f"the layer {norm.name!r} cannot be folded: {why}."
        return False

    def copied(self) -> Any:
        """Return the copy of the model, without those normalisers that can go."""

        def without(operation: Any, *args: Any, **kwargs: Any) -> Any:
            if operation.name in self.dropped:
                return args[0] if args else kwargs["inputs"]
            return operation(*args, **kwargs)

        taking = self.taking - self.dropped
        changes: dict[str, dict[str, Any]] = {name: {"use_bias": True} for name in self.weights}
        changes |= {name: {"scale": True, "center": True} for name in taking}
        inner = {name: one.copied() for name, one in self.inner.items()}
        new = clone(self.model, without, changes, inner)
        for layer in self.model.layers:
            known = layer.name in self.dropped or layer.name in inner
            if known or isinstance(layer, keras.layers.InputLayer):
                continue
            copy = new.get_layer(layer.name)
            if layer.name in self.weights:
                copy.set_weights(self.weights[layer.name])
            elif layer.name in taking:
                for variable, value in _taken(layer, self.maps[layer.name]).items():
                    getattr(copy, variable).assign(value)
            else:
                copy_state(layer, copy)
        return new

    def _absorb(self, norm: Any) -> str:
        """Let a neighbour take a normaliser in; return why none can, or nothing."""
        reasons = []
        for into in (self._into_previous, self._into_next):
            try:
                into(norm)
            except Inexact as reason:
                reasons.append(str(reason))
            else:
                self.dropped.add(norm.name)
                return ""
        return (
            f"the layer {norm.name!r} cannot be folded. Into the layer before: {reasons[0]}. "
            f"Into the layer after: {reasons[1]}."
        )

    def _into_previous(self, norm: Any) -> None:
        calls, found = self.graph.calls_of(norm.name), set()
        for call in calls:
            axis, at = norm.axis % norm.input_spec.ndim, self.graph.feeding(call)
            while self._passes(at, axis):
                axis, at = _axis_before(self._layer(at), at, axis), self.graph.feeding(at)
            found.add((at.name, axis))
        if len(found) > 1:
            raise Inexact("it is shared, and follows several layers")
        ((name, axis),) = found
        change = self.maps[norm.name]
        if len(self.graph.calls_of(name)) != len(calls):
            times = len(self.graph.calls_of(name))
            raise Inexact(f"the layer {name!r} is shared: it is called {times} times")
        layer: Any = self.graph.layers.get(name)
        if name in self.maps and layer.axis % norm.input_spec.ndim == axis:
            before = self.maps[name]  # another normaliser
            factor = before.factor * change.factor
            self.maps[name] = Map(factor, before.shift * change.factor + change.shift)
            self.taking.add(name)
            return
        self._check_takes(layer, name, norm, axis)
        if layer.activation is not keras.activations.linear:
            called = getattr(layer.activation, "__name__", type(layer.activation).__name__)
            raise Inexact(f"the activation of {name!r}, {called}, is in between")
        weights = self.weights.get(name) or affine.weights_of(layer)
        self.weights[name] = affine.applied_after(layer, weights, change)

    def _into_next(self, norm: Any) -> None:
        calls = self.graph.calls_of(norm.name)
        if len(calls) > 1:
            raise Inexact(f"it is shared: it is called {len(calls)} times")
        change, axis = self.maps[norm.name], norm.axis % norm.input_spec.ndim
        given, at = calls[0].outputs[0], self.graph.fed_by(calls[0])
        while self._passes(at, axis, forwards=True):
            if at.name not in self.dropped:
                moved = affine.passed(self._layer(at), change, given.shape, axis)
                assert moved is not None
                axis = (
                    len(at.outputs[0].shape) - 1
                    if given.shape != at.outputs[0].shape and axis > 1
                    else axis
                )
                change = moved
            given, at = at.outputs[0], self.graph.fed_by(at)
        layer = self._layer(at)
        self._check_takes(layer, at.name, norm, axis)
        if len(self.graph.calls_of(at.name)) > 1:
            raise Inexact(f"the layer {at.name!r} is shared")
        weights = self.weights.get(at.name) or affine.weights_of(layer)
        self.weights[at.name] = affine.applied_before(layer, weights, change)

    def _layer(self, call: Call) -> Any:
        return self.graph.layers.get(call.name)

    def _passes(self, call: Call, axis: int, forwards: bool = False) -> bool:
        """Return whether an affine map of features passes what is called."""
        self.graph.calls_of(call.name)  # which must not train
        if call.name in self.dropped:
            return True
        layer = self._layer(call)
        if layer is None or (not forwards and type(layer) is keras.layers.Flatten):
            return False
        tensor = next(filter(keras.backend.is_keras_tensor, call.inputs))
        if not forwards:
            axis = _axis_before(layer, call, axis)
        one = Map(np.ones(tensor.shape[axis] or 1), np.zeros(tensor.shape[axis] or 1))
        return affine.passed(layer, one, tensor.shape, axis) is not None

    def _check_takes(self, layer: Any, name: str, norm: Any, axis: int) -> None:
        """Check that a layer's weights can take a normaliser in."""
        if type(layer) not in AFFINE:
            raise Inexact(f"{name!r} is neither a dense nor a convolutional layer")
        rank = len(self.graph.calls_of(name)[0].outputs[0].shape)
        if affine.features_on(layer, rank) != axis:
            raise Inexact(f"the features are on axis {axis}, not on that of {name!r}")
        if layer.quantization_mode or getattr(layer, "lora_enabled", False):
            raise Inexact(f"{name!r} is quantised or has LoRA weights")
        if layer.compute_dtype != norm.compute_dtype:
            raise Inexact(f"{name!r} computes in {layer.compute_dtype}")


def _axis_before(layer: Any, call: Call, axis: int) -> int:
    """Return on which axis the features are before a layer that pools them globally."""
    tensor = next(filter(keras.backend.is_keras_tensor, call.inputs))
    if len(tensor.shape) == len(call.outputs[0].shape):
        return axis
    return affine.features_on(layer, len(tensor.shape))


def _taken(norm: Any, change: Map) -> dict[str, Any]:
    """Return the weights of a normaliser that does what a map says, by their names."""
    mean, variance = (np.asarray(one, float) for one in (norm.moving_mean, norm.moving_variance))
    gamma = change.factor * np.sqrt(variance + norm.epsilon)
    beta = change.shift + change.factor * mean
    return {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_variance": variance}
