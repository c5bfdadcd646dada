"""The unit in which builds are timed: the notebook's own six runs, on the same machine."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.recipe import Recipe

#: The notebook's runs: the baseline, and with batch normalisation once more at 32 and at three sizes.
RUNS = ((None, 32), ("batch", 32), ("batch", 32), ("batch", 64), ("batch", 128), ("batch", 256))

#: What another process does, as only there TensorFlow has all cores.
_SCRIPT = """
import json, pickle, sys, time
from bn_tutorial.engines import notebook
from bn_tutorial.engines.program import Workbench
recipe, data = pickle.load(sys.stdin.buffer)
seconds, started = [], time.perf_counter()
for row in notebook.fit(Workbench(data), recipe, 0):
    seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
print(json.dumps(seconds))
"""


def unit(data: Dataset, report: Callable[[str], object] = lambda line: None) -> float:
    """Time two epochs of each of the notebook's runs, with all cores, and add up to ten of each.

    Parameters
    ----------
    data : Dataset
        The images.
    report : callable
        Is given a line of text after each run.

    Returns
    -------
    float
        The seconds that the six runs would take: of each what comes before the first epoch ends, and
        nine times the second epoch.
    """
    total = 0.0
    for (norm, size), times in Counter(RUNS).items():
        recipe = Recipe(batch_size=size, epochs=2).but(norm=norm)
        answer = subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            check=True,
            env={**os.environ, "TF_NUM_INTRAOP_THREADS": str(os.cpu_count() or 1)},
            input=pickle.dumps((recipe, data)),
            stdout=subprocess.PIPE,
        )
        first, second = json.loads(answer.stdout.splitlines()[-1])
        report(f"the notebook, {recipe.label}: {first:.2f} s, then {second:.2f} s an epoch")
        total += times * (first + 9 * second)
    return total
