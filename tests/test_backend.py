"""TensorFlow as this library starts it, or as it finds it."""

from __future__ import annotations

import subprocess
import sys

import pytest

FIRST = "from bn_tutorial import fold; import tensorflow as tf"
SECOND = "import tensorflow as tf; tf.zeros(1); from bn_tutorial import fold"
THEN = "from bn_tutorial.networks import backend; print(backend.device())"


@pytest.mark.parametrize(
    ("begin", "threads", "device"),
    [(FIRST, "", "cpu"), (FIRST, "3", "cpu, 3 threads"), (SECOND, "", "cpu")],
    ids=["alone", "asked for threads", "begun before"],
)
def test_a_library_that_comes_second_takes_tensorflow_as_it_is(
    begin: str, threads: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    if threads:
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", threads)
    told = subprocess.run(
        [sys.executable, "-c", f"{begin}; {THEN}"], check=True, capture_output=True, text=True
    ).stdout.strip()
    if begin == SECOND:
        assert told.startswith(device)  # and how many threads it has, if more than one
    else:
        assert told == device
