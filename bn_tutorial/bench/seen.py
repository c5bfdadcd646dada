"""What a check-up has seen of one normaliser."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bn_tutorial.networks.passes import Moments

Array = NDArray[Any]


@dataclasses.dataclass
class Seen:
    """What was seen of one normaliser.

    Attributes
    ----------
    layer : keras.layers.Layer
        The layer.
    name : str
        Its name, with those of the models around it.
    moving, population : Moments
        Its moving statistics, and those of what it is given, each batch normalised by its own.
    by_batch, by_batch_plainly : bool
        Whether it normalises by the batch in inference mode, and if no mode is asked for.
    never_by_batch : bool
        Whether it is in inference mode in a training pass, although it is trainable.
    least : int
        The fewest values of a feature in a batch of one example.
    top, bottom : numpy.ndarray, shape (features,)
        The largest and the smallest output of each feature in inference mode.
    images : int
        On how many images.
    """

    layer: Any
    name: str
    moving: Moments
    population: Moments
    by_batch: bool
    by_batch_plainly: bool
    never_by_batch: bool
    least: int
    top: Array
    bottom: Array
    images: int

    @property
    def frozen(self) -> bool:
        """Whether its statistics stay as they are in training."""
        return self.never_by_batch or not self.layer.trainable

    @property
    def epsilon(self) -> float:
        """What the layer adds to a variance."""
        return float(self.layer.epsilon)

    @functools.cached_property
    def varied(self) -> Array:
        """Which features are not constant up to rounding."""
        rounding = 1e-6 * np.maximum(np.abs(self.population.mean), 1e-3)
        varied: Array = np.sqrt(self.population.variance) > rounding
        return varied

    @functools.cached_property
    def distance(self) -> Array:
        """How far each moving mean is from the population's, in standard deviations."""
        apart = np.abs(self.moving.mean - self.population.mean)
        return np.asarray(apart / np.sqrt(self.population.variance + self.epsilon))

    @functools.cached_property
    def ratio(self) -> Array:
        """Each moving variance over the population's, both with epsilon."""
        scale = self.population.variance + self.epsilon
        return np.asarray((self.moving.variance + self.epsilon) / scale)

    @property
    def at_start(self) -> bool:
        """Whether no update has ever reached the moving statistics."""
        mean, variance = self.moving.mean, self.moving.variance
        return bool((mean == 0).all() and (variance == 1).all())

    @functools.cached_property
    def start(self) -> float:
        """The weight that the start, mean 0 and variance 1, has in the moving statistics.

        It is fitted to all features. NaN where another line does not fit: then they are no mixture of
        the start and the population.
        """
        scale = np.sqrt(self.population.variance + self.epsilon)
        at = np.concatenate([self.population.mean / scale, 1 - 1 / scale**2])[
            np.tile(self.varied, 2)
        ]
        found = np.concatenate([self.moving.mean / scale, (self.moving.variance - 1) / scale**2])
        found = found[np.tile(self.varied, 2)]
        if not len(at) or not np.isfinite([*at, *found]).all() or not at @ at:
            return float("nan")
        share = at @ found / (at @ at)
        left = found - share * at
        fits = left @ left < 0.15 * (found - at) @ (found - at)
        # a variance cannot be smaller than what is left of the start's, which is 1
        fits &= np.mean(self.moving.variance[self.varied] < 0.8 * (1 - share)) < 0.1
        return float(1 - share) if fits and -0.05 < share < 1 else float("nan")
