"""The bench on which runs are made: what outlives a single run, and who may use it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines.batches import pixel_statistics
from bn_tutorial.engines.program import Images, Program, program_key
from bn_tutorial.engines.rows import Row
from bn_tutorial.networks.backend import tf
from bn_tutorial.recipe.recipes import Recipe

#: Shelves of a bench that are no engine's own.
_COMMON = ("images", "pixels")

T = TypeVar("T")
P = TypeVar("P", bound=Program)


class Engine(Protocol):
    """What trains one network: `bn_tutorial.engines.single.fit`, or what can replace it."""

    __name__: str
    __qualname__: str

    def __call__(self, bench: Workbench, recipe: Recipe, seed: int, /) -> Iterator[Row]:
        """Train one network; yield a row after each epoch (or each point that it measures).

        What is measured once is in the last row. Whether the run diverges is the business of
        whoever collects the rows.
        """


class Workbench:
    """What outlives a single run, and ends with the bench: programs, and images on the device.

    A context manager; at its end, or with `close`, all is let go.

    Parameters
    ----------
    data : Dataset
        The images.
    """

    def __init__(self, data: Dataset) -> None:
        self.data = data
        self._kept: dict[object, dict[Hashable, Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all; what has a ``close`` of its own is closed. The bench can be used again."""
        for shelf in [*self._kept]:
            self._clear(shelf)

    def turn_to(self, engine: Engine) -> None:
        """Let go of what engines of other modules keep under these modules' names."""
        for shelf in [one for one in self._kept if isinstance(one, str)]:
            if shelf not in (*_COMMON, engine.__module__):
                self._clear(shelf)

    def _clear(self, shelf: object) -> None:
        for thing in self._kept.pop(shelf).values():
            _close(thing)

    def keep(self, shelf: object, key: Hashable, make: Callable[[], T], most: int = 1) -> T:
        """Return what is kept by that name, or make it.

        Parameters
        ----------
        shelf, key : hashable objects
            Where it lies, and its name there. An engine gives its module's name as the shelf: then
            it is kept until the bench turns to an engine of another module.
        make : callable
            Makes it, if it is not there.
        most : int
            For how many there is room; what has not been asked for the longest makes room, and
            is closed if it has a ``close``.

        Returns
        -------
        object
            What `make` returned, now or then.
        """
        kept = self._kept.setdefault(shelf, {})
        if key in kept:
            kept[key] = kept.pop(key)  # now it is the latest
            return kept[key]  # type: ignore[no-any-return]
        while len(kept) >= most:
            _close(kept.pop(next(iter(kept))))
        kept[key] = make()
        return kept[key]  # type: ignore[no-any-return]

    def program(self, recipe: Recipe, *, jit: bool | None = None) -> Program:
        """Return the compiled functions for a recipe; the latest two are kept.

        Parameters
        ----------
        recipe : Recipe
            What is to be trained.
        jit : bool, optional
            Whether XLA compiles them; by default, what `program_key` says.
        """
        return self.program_of(Program, recipe, jit=jit)

    def program_of(
        self, kind: type[P], recipe: Recipe, *, jit: bool | None = None, **options: Any
    ) -> P:
        """Return what `program` does, of a class derived from `Program` that is given `options`."""
        one, usual = program_key(recipe)
        shape, classes = self.data.x_train.shape[1:], len(self.data.classes)
        given = (one, usual if jit is None else jit, shape, classes)
        key = (*given, *sorted(options.items()))
        return self.keep(kind, key, lambda: kind(*given, **options), most=2)

    def resident(self, recipe: Recipe, seed: int) -> tuple[Images, Images, Images | None]:
        """Return, each as (images, labels) on the device, what to train, validate and test on.

        The seed draws the images that a recipe trains on, and those that it holds out, if it does
        not use all. Without a held-out part, validation is on the test images, and there are no
        others.
        """

        def load() -> tuple[Images, Images, Images | None]:
            used = self.data.draw(seed, recipe.train_size, recipe.validation)
            train = tf.constant(used.x_train), tf.constant(used.y_train)
            validation = tf.constant(used.x_test), tf.constant(used.y_test)
            if not recipe.validation:
                return train, validation, None
            return train, validation, (tf.constant(self.data.x_test), tf.constant(self.data.y_test))

        return self.keep("images", _draw(recipe, seed), load)

    def pixel_statistics(self, recipe: Recipe, seed: int) -> tuple[Any, Any]:
        """Return what is taken from pixels, and what they are then divided by.

        Parameters
        ----------
        recipe : Recipe
            Its ``inputs``, ``train_size`` and ``validation`` decide.
        seed : int
            Draws the images, as for `resident`.

        Returns
        -------
        pixel_mean, pixel_std : ndarray of float32, shape (colours,)
            0 and 255, or mean and standard deviation of the training images that the run uses.
        """
        if recipe.inputs == "unit":
            colours = self.data.x_train.shape[-1]
            return np.zeros(colours, np.float32), np.full(colours, 255.0, np.float32)
        return self.keep(
            "pixels",
            _draw(recipe, seed),
            lambda: pixel_statistics(self.resident(recipe, seed)[0][0].numpy()),
        )


def _draw(recipe: Recipe, seed: int) -> tuple[int | None, ...]:
    """Return what decides which images a run uses; all runs on all images use the same."""
    partly = recipe.train_size is not None or recipe.validation > 0
    return recipe.train_size, recipe.validation, seed if partly else None


def _close(thing: object) -> None:
    if close := getattr(thing, "close", None):
        close()
