"""What feeds what in a model, and a copy of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bn_tutorial.networks.affine import Inexact
from bn_tutorial.networks.backend import keras


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
        If the model is none of these, or cannot be copied. The message names the layer.
    """

    def __init__(self, model: keras.Model) -> None:
        if not getattr(model, "inputs", None):
            raise ValueError(
                "the model must be sequential or functional, with a known input shape."
            )
        self.layers = {layer.name: layer for layer in model.layers}
        self.calls: list[Call] = []
        self.outputs = clone(model, self._record).outputs

    def _record(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        result = operation(*args, **kwargs)
        flat = keras.tree.flatten
        trains = any(one is True for one in (*args[1:], kwargs.get("training")))
        self.calls.append(Call(operation.name, flat((args, kwargs)), flat(result), trains))
        return result

    def calls_of(self, name: str) -> list[Call]:
        """Return the calls of a layer."""
        calls = [call for call in self.calls if call.name == name]
        if any(call.trains for call in calls):
            raise Inexact(f"the layer {name!r} is called with training=True")
        return calls

    def feeding(self, call: Call) -> Call:
        """Return the call that feeds another one, and nothing else."""
        tensor = next(filter(keras.backend.is_keras_tensor, call.inputs))  # then masks
        self.reading(tensor)
        feeding = [one for one in self.calls if among(tensor, one.outputs)]
        if not feeding:
            raise Inexact("no layer stands before it")
        return feeding[0]

    def fed_by(self, call: Call) -> Call:
        """Return the only call that reads what a call gives."""
        (tensor,) = call.outputs
        return self.reading(tensor)

    def reading(self, tensor: Any) -> Call:
        """Return the only call that reads a tensor."""
        readers = [call for call in self.calls if among(tensor, call.inputs)]
        if among(tensor, self.outputs):
            raise Inexact("what lies between it and its neighbour is an output of the model")
        if len(readers) != 1:
            raise Inexact("what lies between it and its neighbour goes elsewhere, too")
        return readers[0]


def clone(
    model: keras.Model,
    call: Callable[..., Any],
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    replaced: Mapping[str, Any] | None = None,
) -> Any:
    """Return a functional copy, with weights of its own.

    Parameters
    ----------
    model : keras.Model
        A sequential or functional model.
    call : callable
        Calls each operation of the copy.
    changes : mapping of str to mapping, optional
        What is changed in the configuration of layers, by their names.
    replaced : mapping of str to keras.layers.Layer, optional
        What stands in the copy for layers of these names.
    """

    def fresh(operation: Any) -> Any:
        if operation.name in (replaced or {}):
            return (replaced or {})[operation.name]
        if not isinstance(operation, keras.layers.Layer):
            return operation
        try:
            config = operation.get_config() | dict((changes or {}).get(operation.name, {}))
            copy = type(operation).from_config(config)
        except (TypeError, ValueError, NotImplementedError) as error:
            if not operation.variables and not operation._layers:  # there is nothing to be copied
                return operation
            raise ValueError(f"the layer {operation.name!r} cannot be copied: {error}") from error
        copy.name = operation.name  # which a configuration may leave out
        return copy

    if isinstance(model, keras.Sequential):
        functional, kind = (
            keras.Model(model.inputs[0], model.outputs[0], name=model.name),
            keras.Sequential,
        )
    else:
        functional = keras.Model(model.input, model.output, name=model.name)
        kind = type(functional)
    if type(model).call is not kind.call:
        raise ValueError(f"the model {model.name!r} has a call method of its own.")
    return keras.models.clone_model(functional, clone_function=fresh, call_function=call)


def copy_state(layer: Any, copy: Any) -> None:
    """Give a copy of a layer all that the layer would write into a file: weights, vocabularies."""
    pairs = zip(layer._flatten_layers(), copy._flatten_layers(), strict=True)
    for one, other in pairs:
        store: dict[str, Any] = {}
        one.save_own_variables(store)
        if store:
            other.load_own_variables(store)
        if hasattr(one, "save_assets") and hasattr(one, "get_vocabulary"):
            with tempfile.TemporaryDirectory() as folder:
                one.save_assets(folder)
                other.load_assets(folder)


def among(tensor: Any, tensors: list[Any]) -> bool:
    """Return whether a tensor is one of these, and not only equal to one."""
    return any(one is tensor for one in tensors)
