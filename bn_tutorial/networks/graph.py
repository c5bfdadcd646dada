"""What feeds what in a model."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, NamedTuple

from bn_tutorial.networks.backend import keras
from bn_tutorial.networks.layers import kind
from bn_tutorial.recipe import NORMALISERS


class Inexact(Exception):
    """A layer has no neighbour of its own; the message says why."""


class Call(NamedTuple):
    """A call in a model's graph."""

    name: str  # of what is called
    inputs: list[Any]
    outputs: list[Any]
    trains: bool  # whatever the mode of the model


class Graph:
    """What feeds what in a model: the calls of a copy of it.

    Parameters
    ----------
    model : keras.Model
        A sequential or functional model.

    Raises
    ------
    ValueError
        If the model is none of these, has a normaliser inside a layer or of a class of somebody's
        own, or cannot be copied. The message names the layer.
    """

    def __init__(self, model: keras.Model) -> None:
        if not getattr(model, "inputs", None):
            raise ValueError(
                "the model must be sequential or functional, with a known input shape."
            )
        self.layers = {layer.name: layer for layer in model.layers}
        # a subclass may compute something else, so these types are meant exactly
        kinds = {kind(row) for row in NORMALISERS.values() if row.moving}
        self.norms = [layer for layer in model.layers if type(layer) in kinds]
        for layer in model.layers:
            moving = any(variable.name == "moving_mean" for variable in layer.variables)
            if not moving or type(layer) in kinds:
                continue
            if isinstance(layer, keras.layers.BatchNormalization):
                why = "is of a subclass of BatchNormalization, which may compute something else"
            else:
                why = (
                    "has batch normalisation inside, where it cannot be treated: treat an inner "
                    "model by itself, or build one flat model"
                )
            raise ValueError(f"the layer {layer.name!r} {why}.")
        self.calls: list[Call] = []
        self.outputs = clone(model, self._record).outputs

    def _record(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        result = operation(*args, **kwargs)
        flat = keras.tree.flatten
        trains = any(one is True for one in (*args[1:], kwargs.get("training")))
        self.calls.append(Call(operation.name, flat((args, kwargs)), flat(result), trains))
        return result

    def before(self, norm: Any) -> str:
        """Return the name of what feeds a layer, and nothing else; Dropout does not count."""
        call = self._only_call(norm.name)
        while True:
            tensor = next(filter(keras.backend.is_keras_tensor, call.inputs))  # then masks
            self._check_single_reader(tensor)
            feeding = [one for one in self.calls if among(tensor, one.outputs)]
            if not feeding:
                raise Inexact("no layer stands before it")
            call = self._only_call(feeding[0].name)
            if type(self.layers.get(call.name)) is not keras.layers.Dropout:
                return call.name

    def after(self, norm: Any) -> str:
        """Return the name of what is fed by a layer, and nothing else; Dropout does not count."""
        call = self._only_call(norm.name)
        while True:
            (tensor,) = call.outputs
            call = self._only_call(self._check_single_reader(tensor).name)
            if type(self.layers.get(call.name)) is not keras.layers.Dropout:
                return call.name

    def calls_of(self, name: str) -> list[Call]:
        """Return the calls of a layer."""
        return [call for call in self.calls if call.name == name]

    def _only_call(self, name: str) -> Call:
        calls = self.calls_of(name)
        if len(calls) > 1:
            raise Inexact(f"the layer {name!r} is shared: it is called {len(calls)} times")
        if calls[0].trains:
            raise Inexact(f"the layer {name!r} is called with training=True")
        return calls[0]

    def _check_single_reader(self, tensor: Any) -> Call:
        readers = [call for call in self.calls if among(tensor, call.inputs)]
        if among(tensor, self.outputs):
            raise Inexact("what lies between it and its neighbour is an output of the model")
        if len(readers) != 1:
            raise Inexact("what lies between it and its neighbour goes elsewhere, too")
        return readers[0]


def clone(model: keras.Model, call: Callable[..., Any], biased: Container[str] = ()) -> Any:
    """Return a functional copy, with weights of its own; `call` calls each operation."""

    def fresh(operation: Any) -> Any:
        if not isinstance(operation, keras.layers.Layer):
            return operation
        try:
            config = operation.get_config()
            if operation.name in biased:
                config["use_bias"] = True
            return type(operation).from_config(config)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise ValueError(f"the layer {operation.name!r} cannot be copied: {error}") from error

    if isinstance(model, keras.Sequential):
        functional, kind = keras.Model(model.inputs[0], model.outputs[0]), keras.Sequential
    else:
        functional = keras.Model(model.input, model.output)
        kind = type(functional)
    if type(model).call is not kind.call:
        raise ValueError(f"the model {model.name!r} has a call method of its own.")
    return keras.models.clone_model(functional, clone_function=fresh, call_function=call)


def among(tensor: Any, tensors: list[Any]) -> bool:
    """Return whether a tensor is one of these, and not only equal to one."""
    return any(one is tensor for one in tensors)
