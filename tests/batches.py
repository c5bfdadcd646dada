"""Random batches: the examples of property-based tests."""

from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

examples = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
epsilons = st.sampled_from([1e-5, 1e-3, 1e-2, 0.1, 1.0])
dtypes = st.sampled_from(["float32", "float64"])


class Case(NamedTuple):
    x: Array
    gamma: Array
    beta: Array
    axis: int
    rng: np.random.Generator


def others(x: Array, axis: int) -> tuple[int, ...]:
    return tuple(a for a in range(x.ndim) if a != axis % x.ndim)


def batch(rng: np.random.Generator, shape: tuple[int, ...], axis: int, dtype: str) -> Array:
    """Draw a batch whose every feature has a mean in [-1, 1] and a spread in [0.5, 2]."""
    axes = others(np.empty(shape), axis)
    noise = rng.normal(size=shape)
    noise = (noise - noise.mean(axes, keepdims=True)) / noise.std(axes, keepdims=True)
    per_feature = np.ones(len(shape), int)
    per_feature[axis] = shape[axis]
    x: Array = rng.uniform(-1, 1, per_feature) + rng.uniform(0.5, 2, per_feature) * noise
    return x.astype(dtype)


@st.composite
def cases(draw: st.DrawFn, dtype: str | None = None) -> Case:
    """Draw a batch of 2 to 4 dimensions with at least 4 values per feature.

    With 2 values the gradient of x is all but projected out, and what is left is rounding.
    """
    dtype = dtype or draw(dtypes)
    dims = st.lists(st.integers(1, 5), min_size=2, max_size=4)
    sides, axis = draw(
        dims.flatmap(lambda s: st.tuples(st.just(s), st.integers(-len(s), len(s) - 1))).filter(
            lambda t: np.prod(t[0]) // t[0][t[1]] >= 4
        )
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = batch(rng, tuple(sides), axis, dtype)
    gamma = rng.uniform(-2, 2, sides[axis]).astype(dtype)
    beta = rng.uniform(-1, 1, sides[axis]).astype(dtype)
    return Case(x, gamma, beta, axis, rng)
