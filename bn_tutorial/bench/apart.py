"""Another process, as TensorFlow reads the number of its threads only when it starts."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

_SCRIPT = """
import pickle, sys
answers, sys.stdout = sys.stdout.buffer, sys.stderr
function, arguments = pickle.load(sys.stdin.buffer)
pickle.dump(function(*arguments), answers)
"""


def apart(function: Callable[..., Any], *arguments: Any, threads: int, **environment: str) -> Any:
    """Return what a function returns in a process of its own.

    Parameters
    ----------
    function : callable
        Can be imported; its arguments and what it returns can be pickled.
    *arguments
        Are given to it.
    threads : int
        How many threads TensorFlow may use for one operation.
    **environment : str
        More environment variables.

    Raises
    ------
    subprocess.CalledProcessError
        If the process fails; it has said why on the standard error stream.
    """
    answer = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        check=True,
        env={**os.environ, "TF_NUM_INTRAOP_THREADS": str(threads), **environment},
        input=pickle.dumps((function, arguments)),
        stdout=subprocess.PIPE,
    )
    return pickle.loads(answer.stdout)
