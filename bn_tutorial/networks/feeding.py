"""What a model is fed: examples and targets, taken from whatever `fit` would take."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.passes import fixed_batch, untouched

#: At most so many batches are taken from what gives batches by itself, if nobody says how many examples.
MOST_BATCHES = 500
#: So many examples are read, to take some from everywhere; of more, the first are taken.
READ = 50_000
#: How many neighbours stay together where it is not known how many were in a batch.
STRETCH = 96


@dataclasses.dataclass(frozen=True)
class Fed:
    """Examples that a model can be given.

    Parameters
    ----------
    inputs : nest of numpy.ndarray, shape (n, ...)
        What the model is called with: an array, or a list, tuple or dict of arrays.
    targets : nest of numpy.ndarray or None
        What it should answer.
    sizes : tuple of int
        The sizes of the batches in which a dataset gave them; none for arrays.
    total : int or None
        How many there are, of which this may be a part, if they were given as arrays.
    rows : numpy.ndarray of int, shape (n,), or None
        Which of them these are, if they were given as arrays.
    """

    inputs: Any
    targets: Any = None
    sizes: tuple[int, ...] = ()
    total: int | None = None
    rows: Any = None

    def __len__(self) -> int:
        """Return how many examples there are."""
        return len(keras.tree.flatten(self.inputs)[0])

    def at(self, indices: Any) -> Any:
        """Return the inputs at these indices."""
        return keras.tree.map_structure(lambda part: part[indices], self.inputs)

    def answers(self, indices: Any) -> Any:
        """Return the targets at these indices, None without targets."""
        if self.targets is None:
            return None
        return keras.tree.map_structure(lambda part: part[indices], self.targets)


def fed(
    model: keras.Model,
    x: Any,
    y: Any = None,
    most: int | None = None,
    together: int | None = None,
) -> Fed:
    """Take examples from what `fit` would take.

    Parameters
    ----------
    model : keras.Model
        Whose inputs they are.
    x : array_like, list, tuple or dict of these, tf.data.Dataset, PyDataset, or iterable of batches
        Inputs; what gives batches may give targets (and weights) with them.
    y : array_like, or list, tuple or dict of these, optional
        The targets of inputs that are arrays.
    most : int, optional
        So many examples will do. They are spread evenly over all, in their order, unless there are
        more than `READ` in batches.
    together : int, optional
        How many neighbours in arrays were in a batch, and stay together.

    Returns
    -------
    Fed
        The examples.

    Raises
    ------
    ValueError
        If there are none, or they are not of equal number.
    """
    if most is not None and most < 1:
        raise ValueError(f"most={most} is impossible: it must be at least 1.")
    if _gives_batches(x):
        _check_batched(model, x)
        found = _collected(x, y, most)
    else:
        found = _sliced(model, x, y)
        found = found if most is None else spread(found, most, together or STRETCH)
    fixed = fixed_batch(model) or 1
    if len(found) < fixed:
        raise ValueError(f"the model takes {fixed} images at a time, and these are {len(found)}.")
    whole = len(found) - len(found) % fixed
    if whole == len(found):
        return found
    return _taken(found, np.arange(whole))


def _checked(found: Fed) -> Fed:
    """Return examples of which there are some, with as many targets."""
    parts = keras.tree.flatten((found.inputs, found.targets))
    lengths = sorted({len(part) for part in parts if part is not None})
    if len(lengths) > 1:
        raise ValueError(f"inputs and targets differ in number: {lengths} examples.")
    if not lengths or not lengths[0]:
        raise ValueError("there are no images: give at least one batch.")
    return found


@contextlib.contextmanager
def passing() -> Iterator[None]:
    """Pass inputs through a model within a ``with`` statement: nothing in it changes.

    Raises
    ------
    ValueError
        If the model raises anything; it says so in a sentence.
    """
    with untouched():
        try:
            yield
        except Exception as error:  # whatever layers of anybody raise
            raise _misfit(error) from error


def _misfit(error: Exception) -> ValueError:
    lines = re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()
    said = [
        line for line in lines if line and not line.startswith(("Exception encounter", "Argument"))
    ]
    reason = said[0][:300] if said else type(error).__name__
    return ValueError(f"the images do not fit the model: {reason}")


def _gives_batches(x: Any) -> bool:
    if isinstance(x, (tf.data.Dataset, keras.utils.PyDataset)) or hasattr(x, "__next__"):
        return True
    nest = isinstance(x, (np.ndarray, list, tuple, dict)) or hasattr(x, "__array__")
    return not nest and hasattr(x, "__iter__")


def _collected(x: Any, y: Any, most: int | None) -> Fed:
    """Collect batches until there are enough."""
    if y is not None:
        raise ValueError("what gives batches gives their targets as well: leave y out.")
    batches = []
    for batch in _batches(x, most):
        inputs, targets = (*batch, None)[:2] if isinstance(batch, (tuple, list)) else (batch, None)
        batches.append(keras.tree.map_structure(_array, (inputs, targets)))
    if not batches:
        raise ValueError("there are no images: give at least one batch.")
    try:
        inputs, targets = keras.tree.map_structure(lambda *parts: _joined(parts), *batches)
    except ValueError as error:
        raise ValueError(f"the batches do not fit together: {error}") from None
    sizes = tuple(len(keras.tree.flatten(one)[0]) for one in batches)
    return _checked(Fed(inputs, targets, sizes))


def _batches(x: Any, most: int | None) -> Iterator[Any]:
    """Yield batches until there are enough; if their number is known, spread evenly over all."""
    source, indexed = iter(x), isinstance(x, keras.utils.PyDataset)
    first = next(source, None)
    if first is None:
        return
    size = len(keras.tree.flatten(first)[0])
    wanted = MOST_BATCHES if most is None else -(-most // max(size, 1))
    number = int(x.cardinality()) if isinstance(x, tf.data.Dataset) else 0  # negative if unknown
    number = (x.num_batches or 0) if indexed else number
    if not wanted < number or (number * size > READ and not indexed):
        yield from itertools.islice(itertools.chain([first], source), wanted)
        return
    chosen = np.unique(np.linspace(0, number - 1, wanted).astype(int))
    if indexed:
        yield from (x[int(index)] for index in chosen)
    else:
        every = enumerate(itertools.chain([first], source))
        yield from (batch for index, batch in every if index in chosen)


def _joined(parts: Any) -> Any:
    return None if parts[0] is None else np.concatenate(parts)


def _check_batched(model: keras.Model, x: Any) -> None:
    """Check that a dataset's elements are batches, and not examples."""
    inputs = getattr(model, "inputs", None)
    if not isinstance(x, tf.data.Dataset) or not inputs:
        return
    first = keras.tree.flatten(x.element_spec)[0].shape
    if first.rank == len(inputs[0].shape) - 1:
        raise ValueError("the dataset gives one example at a time: give dataset.batch(32).")


def _sliced(model: keras.Model, x: Any, y: Any) -> Fed:
    """Take arrays."""
    several = isinstance(x, dict) or (isinstance(x, (list, tuple)) and _has_several(model, x))
    inputs = keras.tree.map_structure(_array, x) if several else _array(x)
    if isinstance(inputs, (list, tuple)) and len(inputs) == 1:
        (inputs,) = inputs
    if y is None:
        targets = None
    elif isinstance(y, dict) or (isinstance(y, (list, tuple)) and hasattr(y[0], "shape")):
        targets = keras.tree.map_structure(_array, y)
    else:
        targets = _array(y)
    found = _checked(Fed(inputs, targets))
    return dataclasses.replace(found, total=len(found), rows=np.arange(len(found)))


def spread(found: Fed, most: int, together: int) -> Fed:
    """Return at most so many of some examples, from everywhere: so many neighbours stay together."""
    if len(found) <= most:
        return found
    stretch = min(most, together * -(-32 // together))  # whole batches, and not too few images
    places = np.linspace(0, len(found) // stretch - 1, max(most // stretch, 1))
    starts = np.unique(places.astype(int)) * stretch
    return _taken(found, (starts[:, None] + np.arange(stretch)).ravel())


def _taken(found: Fed, at: Any) -> Fed:
    """Return some of the examples."""
    rows = None if found.rows is None else found.rows[at]
    return dataclasses.replace(found, inputs=found.at(at), targets=found.answers(at), rows=rows)


def _has_several(model: keras.Model, x: Any) -> bool:
    """Return whether a list holds an input for each of the model's, and not examples."""
    wanted = len(getattr(model, "inputs", None) or x)  # a subclass does not say
    return len(x) == wanted and all(hasattr(part, "shape") and len(part.shape) for part in x)


def _array(part: Any) -> Any:
    if part is None:
        return None
    try:
        found = np.asarray(part)
    except (TypeError, ValueError):
        found = np.asarray(None)
    if found.dtype == object and found.size and isinstance(found.flat[0], (str, bytes)):
        found = found.astype(type(found.flat[0]))  # words
    if found.dtype == object or not found.ndim:
        raise ValueError(f"inputs and targets must be arrays, and this is a {type(part).__name__}.")
    return found
