"""One run: a compiled epoch over data that stays on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bn_tutorial.engines.batches import epoch_order
from bn_tutorial.engines.program import Images, Probe, Program
from bn_tutorial.engines.rows import Row, numbered
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.recipe.recipes import Recipe

#: What is measured after each epoch.
METRICS = (
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "val_loss_population",
    "val_accuracy_population",
)

#: What is measured besides if some training images are held out: in inference mode with
#: population statistics on training images (after each epoch), and on the test images (once).
FIT_METRICS = ("fit_loss", "fit_accuracy")
TEST_METRICS = ("test_loss", "test_accuracy", "test_loss_population", "test_accuracy_population")


def fit(
    bench: Workbench,
    recipe: Recipe,
    seed: int,
    probe: Probe | None = None,
    kind: type[Program] = Program,
    every: int = 1,
) -> Iterator[Row]:
    """Train one network.

    Parameters
    ----------
    bench : Workbench
        Has the images.
    recipe : Recipe
        What to train.
    seed : int
        Fixes the initial weights, which images are used and their order, and the dropout stream.
    probe : callable, optional
        What else to measure after each epoch. It is given the model, the batch that would be
        next (shape (batch size, rows, columns, colours)), its targets and the learning rate, and
        is compiled; the values of a vector are kept as ``name/0``, ``name/1`` and so on.
    kind : type
        The class of the program that trains.
    every : int
        After how many epochs the network is measured each time; after the last one it always is.

    Yields
    ------
    dict of str to float
        The `METRICS` after each epoch: ``loss`` and ``accuracy`` are averages over the epoch
        in training mode, as Keras reports them; ``val_loss`` and ``val_accuracy`` are measured
        on the test images in inference mode with the moving statistics;
        ``val_loss_population`` and ``val_accuracy_population`` likewise with population
        statistics, computed anew and then forgotten. If the recipe holds out validation
        images, these are measured on them, and there are `FIT_METRICS` and, after the last
        epoch, `TEST_METRICS`, too. Accuracies on the test images are there by part, besides:
        ``val_accuracy/0`` … or ``test_accuracy/0`` …, and so on, of each 500 of them.
    """
    program, resident = bench.program_of(kind, recipe), bench.resident(recipe, seed)
    train, pixels = resident[0], bench.pixel_statistics(recipe, seed)
    program.start(recipe, seed)
    run_epoch = program.train(recipe.batch_size)
    for epoch in range(recipe.epochs):
        order = epoch_order(seed, epoch, len(train[1]))
        measured = [float(value) for value in run_epoch(*train, order, *pixels)]
        row = dict(zip(METRICS, measured, strict=False))
        if (epoch + 1) % every == 0 or epoch + 1 == recipe.epochs:
            row = epoch_row(program, recipe, resident, pixels, measured, epoch)
        if probe:
            following = epoch_order(seed, epoch + 1, len(train[1]))[: recipe.batch_size]
            row |= numbered(program.probe(probe)(*train, following, *pixels))
        yield row


def ends(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Train one network as `fit` does, and measure it at the end alone, which saves half of the time.

    Parameters
    ----------
    bench, recipe, seed
        As in `fit`.

    Yields
    ------
    dict of str to float
        After each epoch ``loss`` and ``accuracy``, and after the last one all that `fit` yields then.
    """
    yield from fit(bench, recipe, seed, every=recipe.epochs)


def epoch_row(
    program: Program,
    recipe: Recipe,
    resident: tuple[Images, Images, Images | None],
    pixels: tuple[Any, Any],
    measured: Iterable[float],
    epoch: int,
) -> Row:
    """Return the row of an epoch (from 0), after which the program's network is as it is.

    Parameters
    ----------
    program, recipe
        The network, and what it is trained by.
    resident, pixels
        As the workbench returns them.
    measured : iterable of float
        Loss and accuracy in training.
    epoch : int
        Whether it is the last one decides if there are `TEST_METRICS`.
    """
    train, validation, test = resident
    statistics = program.statistics(train[0], *pixels)
    scores = program.score(validation, pixels, statistics)
    row = dict(zip(METRICS, [*measured, *scores.mean(axis=0).tolist()], strict=True))
    if test is None:
        return row | _by_part("val", scores)
    held_in = train[0][: recipe.validation], train[1][: recipe.validation]
    found = program.score(held_in, pixels, statistics).mean(axis=0).tolist()
    row |= zip(FIT_METRICS, found[2:], strict=True)
    if epoch + 1 == recipe.epochs:
        scores = program.score(test, pixels, statistics)
        row |= zip(TEST_METRICS, scores.mean(axis=0).tolist(), strict=True)
        row |= _by_part("test", scores)
    return row


def _by_part(kind: str, scores: npt.NDArray[np.float64]) -> Row:
    """Return the accuracies of each part of the test images, which all runs have in common."""
    moving, population = scores[:, 1], scores[:, 3]
    return numbered({f"{kind}_accuracy": moving, f"{kind}_accuracy_population": population})
