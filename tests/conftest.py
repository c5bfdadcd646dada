from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bn_tutorial.data.dataset import Dataset

if TYPE_CHECKING:
    from bn_tutorial.engines.workbench import Workbench

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the tests ask for the same bits, so for the CPU
os.environ["BN_TUTORIAL_WORKERS"] = "1"  # worker processes have tests of their own
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell says of what it starts with &
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what starts before a test, such as a cluster, from the user's own storage folder."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("BN_TUTORIAL_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a storage folder of its own (which does not exist yet)."""
    folder = tmp_path / "home"
    monkeypatch.setenv("BN_TUTORIAL_HOME", str(folder))
    for variable in ("BN_TUTORIAL_CIFAR10", "BN_TUTORIAL_DASK", "BN_TUTORIAL_FETCHED"):
        monkeypatch.delenv(variable, raising=False)
    return folder


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Draw the weights that no recipe seeds alike in every run of the suite."""
    if keras := sys.modules.get("keras"):  # most tests of the rest do without TensorFlow
        keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def tiny() -> Dataset:
    """Return 100 training and 40 test images, noise over a pattern for each class."""
    random = np.random.default_rng(0)
    patterns = random.integers(0, 128, (10, 32, 32, 3))
    labels = np.arange(140, dtype=np.int32) % 10
    images = (patterns[labels] + random.integers(0, 128, (140, 32, 32, 3))).astype(np.uint8)
    return Dataset(images[:100], labels[:100], images[100:], labels[100:])


@pytest.fixture(scope="session")
def bench(tiny: Dataset) -> Iterator[Workbench]:
    """A bench with the tiny images, which keeps all that tests have compiled."""
    from tests.benches import Roomy  # takes seconds, and not all tests need it

    with Roomy(tiny) as bench:
        yield bench
