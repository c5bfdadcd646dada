from __future__ import annotations

import threading
from typing import Any

import pytest

from bn_tutorial.engines import notebook
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.recipe import Recipe
from tests.benches import run


def test_no_global_seed_makes_every_epoch_the_same(bench: Workbench) -> None:
    keras.utils.set_random_seed(3)
    assert tf.compat.v1.get_seed(None) != (None, None)
    history = run(notebook.fit, bench, Recipe(epochs=1))
    assert tf.compat.v1.get_seed(None) == (None, None)
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note which epochs Keras has begun."""
    epochs: list[int] = []

    def noted(self: Any, epoch: int, logs: object = None) -> None:
        epochs.append(epoch)

    monkeypatch.setattr(keras.callbacks.Callback, "on_epoch_begin", noted)
    return epochs


def test_it_trains_an_epoch_when_a_row_is_asked_for(bench: Workbench, begun: list[int]) -> None:
    rows = notebook.fit(bench, Recipe(epochs=3), 0)
    assert begun == []
    for epoch in range(3):
        row = next(rows)
        assert {type(value) for value in row.values()} == {float}
        assert set(begun) == set(range(epoch + 1))
    assert next(rows, None) is None


def test_it_ends_when_it_is_closed(bench: Workbench, begun: list[int]) -> None:
    before = threading.active_count()
    rows = notebook.fit(bench, Recipe(epochs=100), 0)
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    assert set(begun) == {0}
    assert threading.active_count() == before


def test_an_error_of_keras_is_raised(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(notebook, "prepare", broken)
    with pytest.raises(ZeroDivisionError):
        run(notebook.fit, bench, Recipe())


@pytest.mark.parametrize("recipe", [Recipe(norm="layer"), Recipe(width=8), Recipe(model="cnn")])
def test_it_knows_two_networks(recipe: Recipe, bench: Workbench) -> None:
    with pytest.raises(ValueError, match="the notebook trains no network with"):
        run(notebook.fit, bench, recipe)
