"""How far the same recipe and seed agree where sums are taken in another order."""

from __future__ import annotations

import os
from collections.abc import Mapping
from unittest import mock

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import lockstep, single
from bn_tutorial.recipe import Recipe
from bn_tutorial.training.pool import Workers

#: By how much, relatively, the loss of the first epoch may differ between two ways.
TOLERANCE = 1e-4


def first_losses(recipe: Recipe, data: Dataset, seed: int = 0) -> dict[str, float]:
    """Train for one epoch in several ways.

    Parameters
    ----------
    recipe : Recipe
        A network that suits `bn_tutorial.engines.lockstep`.
    data : Dataset
        The images.
    seed : int
        Fixes the initial weights and the order of the images.

    Returns
    -------
    dict of str to float
        The mean loss over the first epoch: compiled by XLA, as `bn_tutorial.engines.single.fit` does
        it; without XLA; in lockstep with two other seeds; and, each in a process of its own (as of
        `bn_tutorial.training.pool`), on the CPU with one and with two threads. The first
        three are on a GPU if there is one.

    Raises
    ------
    ValueError
        If the recipe does not suit lockstep.
    """
    company = [seed, seed + 1, seed + 2]
    together = lockstep.fit_together(recipe.but(epochs=1), data, company)
    losses = {
        "compiled by XLA": _first_loss(recipe, data, seed),
        "without XLA": _first_loss(recipe, data, seed, jit=False),
        "in lockstep with two other seeds": together[0]["loss"][0],
    }
    for threads, way in ((1, "on the CPU, one thread"), (2, "on the CPU, two threads")):
        # TensorFlow reads these only when it starts
        variables = {"TF_NUM_INTRAOP_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": "-1"}
        with mock.patch.dict(os.environ, variables), Workers(1) as pool:
            losses[way] = pool.submit(_first_loss, recipe, data, seed).result()
    return losses


def differences(losses: Mapping[str, float]) -> dict[str, float]:
    """Return by how much each loss differs from the first one, relatively.

    Parameters
    ----------
    losses : mapping of str to float
        What `first_losses` returns.

    Returns
    -------
    dict of str to float
        The absolute value of loss / first loss − 1.
    """
    first = next(iter(losses.values()))
    return {way: abs(loss / first - 1) for way, loss in losses.items()}


def _first_loss(recipe: Recipe, data: Dataset, seed: int, jit: bool = True) -> float:
    shape, classes = data.x_train.shape[1:], len(data.classes)
    program = single._Program(single.signature(recipe)[0], jit, shape, classes)
    train, _, _ = single._resident(data, recipe.train_size, recipe.validation)
    program.start(recipe, seed)
    order = single.epoch_order(seed, 0, len(train[1]))
    loss, _ = program.train(recipe.batch_size)(*train, order, *single.scaling(recipe, data))
    return float(loss)
