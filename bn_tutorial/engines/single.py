"""One run: a compiled epoch over data that stays on the device."""

from __future__ import annotations

from collections.abc import Iterator

from bn_tutorial.engines.batches import epoch_order
from bn_tutorial.engines.program import Probe
from bn_tutorial.engines.rows import Row, numbered
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.recipe import Recipe

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


def fit(bench: Workbench, recipe: Recipe, seed: int, probe: Probe | None = None) -> Iterator[Row]:
    """Train one network.

    Parameters
    ----------
    bench : Workbench
        Has the images; ``recipe.train_size`` of the training ones are used.
    recipe : Recipe
        What to train.
    seed : int
        Fixes the initial weights, the order of the images and the dropout stream.
    probe : callable, optional
        What else to measure after each epoch. It is given the model, the batch that would be
        next (shape (batch size, rows, columns, colours)), its targets and the learning rate, and
        is compiled; the values of a vector are kept as ``name/0``, ``name/1`` and so on.

    Yields
    ------
    dict of str to float
        The `METRICS` after each epoch: ``loss`` and ``accuracy`` are averages over the epoch
        in training mode, as Keras reports them; ``val_loss`` and ``val_accuracy`` are measured
        on the test images in inference mode with the moving statistics;
        ``val_loss_population`` and ``val_accuracy_population`` likewise with population
        statistics, computed anew and then forgotten. If the recipe holds out validation
        images, these are measured on them, and there are `FIT_METRICS` and, after the last
        epoch, `TEST_METRICS`, too.
    """
    program = bench.program(recipe)
    train, validation, test = bench.resident(recipe)
    pixels = bench.pixel_statistics(recipe)
    program.start(recipe, seed)
    run_epoch = program.train(recipe.batch_size)
    for epoch in range(recipe.epochs):
        order = epoch_order(seed, epoch, len(train[1]))
        measured = [float(value) for value in run_epoch(*train, order, *pixels)]
        statistics = program.statistics(train[0], *pixels)
        measured += program.score(validation, pixels, statistics)
        row = dict(zip(METRICS, measured, strict=True))
        if recipe.validation:
            images, labels = train
            part = images[: recipe.validation], labels[: recipe.validation]
            row |= zip(FIT_METRICS, program.score(part, pixels, statistics)[2:], strict=True)
        if probe:
            following = epoch_order(seed, epoch + 1, len(train[1]))[: recipe.batch_size]
            row |= numbered(program.probe(probe)(*train, following, *pixels))
        if test is not None and epoch + 1 == recipe.epochs:
            found = program.score(test, pixels, statistics, len(validation[1]))
            row |= zip(TEST_METRICS, found, strict=True)
        yield row
