from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a storage folder of its own (which does not exist yet)."""
    folder = tmp_path / "home"
    monkeypatch.setenv("BN_TUTORIAL_HOME", str(folder))
    monkeypatch.delenv("BN_TUTORIAL_CIFAR10", raising=False)
    return folder
