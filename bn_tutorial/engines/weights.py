"""An engine that averages weights, and compares the statistics with which they can be used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bn_tutorial.engines import single
from bn_tutorial.engines.program import Program
from bn_tutorial.engines.rows import Row, numbered
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.backend import tf
from bn_tutorial.networks.statistics import Statistics, batch_norms
from bn_tutorial.recipe.recipes import Recipe

#: The memory of the exponential average, as Keras's optimisers have it by default.
MOMENTUM = 0.99


def average(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Train, and keep averages of the weights beside the network; they do not influence training.

    Parameters
    ----------
    bench, recipe, seed
        As in `bn_tutorial.engines.single.fit`, with a normaliser that has moving statistics.

    Yields
    ------
    dict of str to float
        What `bn_tutorial.engines.single.ends` yields, and in the last row, on the test images by part,
        ``accuracy/<weights> <statistics>``. The weights are ``ema``, averaged exponentially from step to
        step with `MOMENTUM` (Keras's ``use_ema``), and ``swa``, the mean of those after each epoch from
        the middle of training on (Izmailov et al. 2018). The statistics are ``raw``, the moving ones of
        the weights that were trained; ``averaged``, these averaged as the weights were; and
        ``recomputed``, the population's with the averaged weights.

    References
    ----------
    Izmailov et al. (2018), Averaging weights leads to wider optima and better generalization,
    section 3.2, for recomputing.
    """
    program = bench.program_of(Averaging, recipe)
    ends: list[list[Any]] = []
    trained = single.fit(bench, recipe, seed, kind=Averaging, every=recipe.epochs)
    for epoch, row in enumerate(trained, start=1):
        if 2 * epoch > recipe.epochs:
            ends.append(program.values())
        if epoch == recipe.epochs:
            row |= numbered(_scores(bench, recipe, seed, ends))
        yield row


def _scores(bench: Workbench, recipe: Recipe, seed: int, ends: list[list[Any]]) -> dict[str, Any]:
    program, pixels = bench.program_of(Averaging, recipe), bench.pixel_statistics(recipe, seed)
    train, validation, test = bench.resident(recipe, seed)
    swa = [np.mean(parts, axis=0) for parts in zip(*ends, strict=True)]
    found = {}
    for name, values in {"ema": [one.numpy() for one in program.averaged], "swa": swa}.items():
        program.load(values)
        statistics = {
            "raw": program.moving(ends[-1]),
            "averaged": program.moving(values),
            "recomputed": program.statistics(train[0], *pixels),
        }
        for kind, known in statistics.items():
            scores = program.score(test or validation, pixels, known)
            found[f"accuracy/{name} {kind}"] = scores[:, 3]
    program.load(ends[-1])
    return found


class Averaging(Program):
    """A program whose steps keep an exponential average of all variables of the model."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.averaged = [tf.Variable(one) for one in self.values()]

    def start(self, recipe: Recipe, seed: int) -> None:
        """Put all into the state in which a run begins; what is averaged begins there, too."""
        super().start(recipe, seed)
        for average, value in zip(self.averaged, self.values(), strict=True):
            average.assign(value)

    def moving(self, values: list[Any]) -> Statistics:
        """Return the moving statistics among all variables' values."""
        known = dict(zip(map(id, self.model.variables), values, strict=True))
        return [
            (known[id(one.moving_mean)], known[id(one.moving_variance)])
            for one in batch_norms(self.model)
        ]

    def step(self, gradients: list[Any]) -> None:
        """Change the variables, and then the averages."""
        super().step(gradients)
        # as in Keras: the first step's values are what the average starts from
        momentum = MOMENTUM * tf.cast(self.optimizer.iterations > 1, tf.float32)
        for average, variable in zip(self.averaged, self.model.variables, strict=True):
            if average.dtype.is_floating:  # and no random state
                average.assign(momentum * average + (1 - momentum) * variable)
