"""Engines that train a part of a batch-normalised network, or hold its statistics.

Each is given what `bn_tutorial.engines.single.fit` is given, and yields its rows.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from bn_tutorial.engines import single
from bn_tutorial.engines.batches import epoch_order
from bn_tutorial.engines.program import Program
from bn_tutorial.engines.rows import Row, numbered
from bn_tutorial.engines.single import METRICS
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.passes import asked, seen
from bn_tutorial.networks.statistics import batch_norms
from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.recipe.tables import NORMALISERS


def whole(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Train all of the network.

    Parameters
    ----------
    bench, recipe, seed
        As in `bn_tutorial.engines.single.fit`.

    Yields
    ------
    dict of str to float
        What `bn_tutorial.engines.single.ends` yields, and in the last row ``gamma/0`` … and ``beta/0``
        …: those of all layers, in order.
    """
    return _fit(bench, recipe, seed, Held, after=recipe.epochs)


def held_from_the_start(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Train with the statistics of the new network, held: γ and β are trained, and nothing is normalised.

    Parameters
    ----------
    bench, recipe, seed
        As in `bn_tutorial.engines.single.fit`, with a normaliser that has moving statistics.

    Yields
    ------
    dict of str to float
        What `whole` yields. All that is measured with population statistics is measured with those that
        are held, as the network was trained.

    Raises
    ------
    ValueError
        If the recipe's normaliser has no moving statistics.
    """
    return _fit(bench, recipe, seed, Held, after=0)


def held_after_an_epoch(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Train for an epoch as usual, and then with the statistics of that moment, held.

    Parameters
    ----------
    bench, recipe, seed
        As in `bn_tutorial.engines.single.fit`, with a normaliser that has moving statistics.

    Yields
    ------
    dict of str to float
        What `held_from_the_start` yields.

    Raises
    ------
    ValueError
        If the recipe's normaliser has no moving statistics.
    """
    return _fit(bench, recipe, seed, Held, after=1)


def affine_alone(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Train γ and β, and leave all kernels and biases at their random start.

    Parameters
    ----------
    bench, recipe, seed
        As in `bn_tutorial.engines.single.fit`, with a normaliser that has γ or β.

    Yields
    ------
    dict of str to float
        What `whole` yields.

    Raises
    ------
    ValueError
        If the network has neither γ nor β.

    References
    ----------
    Frankle, Schwab & Morcos (2021), Training BatchNorm and only BatchNorm.
    """
    return _fit(bench, recipe, seed, AffineAlone, after=recipe.epochs)


def shift_at_64(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Train all of the network, β at 64 times the learning rate.

    Parameters
    ----------
    bench, recipe, seed
        As in `bn_tutorial.engines.single.fit`, with ``optimizer="sgd"``, for which a gradient 64 times as
        large is a rate 64 times as high.

    Yields
    ------
    dict of str to float
        What `bn_tutorial.engines.single.ends` yields.

    Raises
    ------
    ValueError
        If the optimiser is another one.
    """
    if recipe.optimizer != "sgd":
        raise ValueError(f"optimizer={recipe.optimizer!r} is impossible here: it must be 'sgd'.")
    yield from single.fit(bench, recipe, seed, kind=ShiftAt64, every=recipe.epochs)


def _fit(
    bench: Workbench, recipe: Recipe, seed: int, kind: type[Held], after: int
) -> Iterator[Row]:
    if after < recipe.epochs and not (recipe.norm and NORMALISERS[recipe.norm].moving):
        raise ValueError(
            f"norm={recipe.norm!r} is impossible here: it must be one that has moving statistics."
        )
    program, resident = bench.program_of(kind, recipe), bench.resident(recipe, seed)
    if not program.variables:
        raise ValueError("there is nothing to train: the network has neither γ nor β.")
    train, pixels = resident[0], bench.pixel_statistics(recipe, seed)
    program.start(recipe, seed)
    for epoch in range(recipe.epochs):
        if epoch == after:
            program.hold(program.statistics(train[0], *pixels))
        run_epoch = (program.train if epoch < after else program.train_held)(recipe.batch_size)
        order = epoch_order(seed, epoch, len(train[1]))
        measured = [float(value) for value in run_epoch(*train, order, *pixels)]
        row = dict(zip(METRICS, measured, strict=False))
        if epoch + 1 == recipe.epochs:
            row = single.epoch_row(program, recipe, resident, pixels, measured, epoch)
            row |= numbered({name: program.all_of(name) for name in ("gamma", "beta")})
        yield row


class Held(Program):
    """A program that can also train with batch normalisation in inference mode."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.recomputed = self.statistics
        self.train_held = functools.cache(self._train_held)

    def start(self, recipe: Recipe, seed: int) -> None:
        """Put the model and the optimiser into the state in which a run begins; nothing is held."""
        super().start(recipe, seed)
        self.statistics = self.recomputed

    def hold(self, statistics: Any) -> None:
        """Make these the statistics, moving and of the population, from here on."""
        self.statistics = lambda *_: statistics
        for layer, (mean, variance) in zip(batch_norms(self.model), statistics, strict=True):
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)

    def all_of(self, name: str) -> Any:
        """Return a variable of all normalisers, one after another."""
        found = [getattr(layer, name, None) for layer in self.model.layers]
        return np.concatenate([[], *(one.numpy() for one in found if one is not None)])

    def _train_held(self, batch_size: int) -> Any:
        return self.compile(functools.partial(self._held_epoch, batch_size))

    def _held_epoch(self, *args: Any) -> Any:
        def see(layer: Any, call: Any, inputs: Any, training: Any, mask: Any) -> Any:
            return asked(call, inputs, False, mask)

        with seen(batch_norms(self.model), see):
            return self.epoch(*args)


class AffineAlone(Held):
    """A program that trains γ and β alone."""

    def trainable(self) -> list[Any]:
        """Return the γ and β of all layers."""
        return self.affine()


class ShiftAt64(Program):
    """A program that gives β 64 times the learning rate."""

    def step(self, gradients: list[Any]) -> None:
        """Change the variables."""
        faster = [64.0 if one.name == "beta" else 1.0 for one in self.variables]
        super().step([rate * one for rate, one in zip(faster, gradients, strict=True)])
