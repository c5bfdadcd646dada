"""How far the same recipe and seed agree where sums are taken in another order."""

from __future__ import annotations

from collections.abc import Mapping

from bn_tutorial.bench.apart import apart
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import lockstep
from bn_tutorial.engines.batches import epoch_order
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.recipe.recipes import Recipe

#: By how much, relatively, the loss of the first epoch may differ between two ways.
TOLERANCE = 1e-4


def first_losses(recipe: Recipe, data: Dataset, seed: int = 0) -> dict[str, float]:
    """Train for one epoch in several ways.

    Parameters
    ----------
    recipe : Recipe
        A network that `bn_tutorial.engines.lockstep` supports.
    data : Dataset
        The images.
    seed : int
        Fixes the initial weights and the order of the images.

    Returns
    -------
    dict of str to float
        The mean loss over the first epoch: compiled by XLA, as `bn_tutorial.engines.single.fit` does
        it; without XLA; in lockstep with two other seeds; and, each in a process of its own, on the
        CPU with one and with two threads. The first three are on a GPU if there is one.

    Raises
    ------
    ValueError
        If `bn_tutorial.engines.lockstep` does not support the recipe.
    """
    one = recipe.but(epochs=1)
    with Workbench(data) as bench:
        together = dict(lockstep.fit_together(bench, one, [seed, seed + 1, seed + 2]))
        losses = {
            "compiled by XLA": first_loss(bench, recipe, seed),
            "without XLA": first_loss(bench, recipe, seed, jit=False),
            "in lockstep with two other seeds": together[seed]["loss"],
        }
    for threads, way in ((1, "on the CPU, one thread"), (2, "on the CPU, two threads")):
        losses[way] = apart(alone, recipe, data, seed, threads=threads, CUDA_VISIBLE_DEVICES="-1")
    return losses


def first_loss(bench: Workbench, recipe: Recipe, seed: int = 0, jit: bool = True) -> float:
    """Return the mean loss over the first epoch, compiled by XLA or not.

    Parameters
    ----------
    bench : Workbench
        Has the images.
    recipe, seed
        As in `first_losses`.
    jit : bool
        Whether XLA compiles the epoch.
    """
    program = bench.program(recipe, jit=jit)
    train, _, _ = bench.resident(recipe, seed)
    program.start(recipe, seed)
    order = epoch_order(seed, 0, len(train[1]))
    loss, _ = program.train(recipe.batch_size)(*train, order, *bench.pixel_statistics(recipe, seed))
    return float(loss)


def alone(recipe: Recipe, data: Dataset, seed: int) -> float:
    """Return `first_loss` with a bench of its own."""
    with Workbench(data) as bench:
        return first_loss(bench, recipe, seed)


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
