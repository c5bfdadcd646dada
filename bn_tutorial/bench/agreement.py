"""How far the same recipe and seed agree where sums are taken in another order."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import lockstep
from bn_tutorial.engines.batches import epoch_order
from bn_tutorial.engines.program import Workbench
from bn_tutorial.recipe import Recipe

#: What a process runs to compute a loss for another one.
_SCRIPT = """
import pickle, sys
from bn_tutorial.bench.agreement import first_loss
from bn_tutorial.engines.program import Workbench
recipe, data, seed = pickle.load(sys.stdin.buffer)
print(first_loss(Workbench(data), recipe, seed))
"""

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
        # TensorFlow reads these only when it starts
        variables = {"TF_NUM_INTRAOP_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": "-1"}
        answer = subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            check=True,
            env={**os.environ, **variables},
            input=pickle.dumps((recipe, data, seed)),
            stdout=subprocess.PIPE,
        )
        losses[way] = float(answer.stdout.split()[-1])
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
    train, _, _ = bench.resident(recipe)
    program.start(recipe, seed)
    order = epoch_order(seed, 0, len(train[1]))
    loss, _ = program.train(recipe.batch_size)(*train, order, *bench.pixel_statistics(recipe))
    return float(loss)


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
