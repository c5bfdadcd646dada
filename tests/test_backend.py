"""TensorFlow as this library starts it, or as it finds it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.networks.backend import keras
from bn_tutorial.recipe import Recipe
from bn_tutorial.training.store import RunStore
from bn_tutorial.training.sweep import train

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


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_another_backend_is_refused_with_a_sentence(backend: str) -> None:
    code = "import bn_tutorial.networks.backend"
    environment = os.environ | {"KERAS_BACKEND": backend}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert f"KERAS_BACKEND says {backend!r}: unset it, or say tensorflow." in result.stderr
    command = [sys.executable, "-m", "bn_tutorial.cli", "train", "--source", "sample"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "Error: bn_tutorial computes with TensorFlow" in result.stderr


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_recipe_is_trained_alike_whatever_keras_is_set_to(
    tiny: Dataset, tmp_path: Path, model: Literal["mlp", "cnn"]
) -> None:
    recipe = Recipe(model=model, norm="batch", width=4, epochs=1, batch_size=10)

    def trained(name: str) -> dict[str, Any]:
        (run,) = train(recipe, tiny, [0], store=RunStore(tmp_path / name))
        return run.history

    expected = trained("usual")
    config = keras.config
    changes: list[tuple[Any, Any, Any]] = [
        (config.set_image_data_format, "channels_first", "channels_last"),
        (config.set_dtype_policy, "mixed_float16", "float32"),
        (config.set_floatx, "float64", "float32"),
    ]
    for change, value, usual in changes:
        change(value)
        try:
            assert trained(str(value)) == expected
        finally:
            change(usual)
    assert trained("again") == expected
