"""What the tables of normalisers and optimisers say, against what layers and rules do."""

from __future__ import annotations

from typing import Any

import click
import numpy as np
import pytest

from bn_tutorial import cli
from bn_tutorial.engines.lockstep import supports
from bn_tutorial.figures import COLORS
from bn_tutorial.figures.style import MOVING
from bn_tutorial.networks.backend import keras
from bn_tutorial.networks.folding import fold
from bn_tutorial.networks.layers import kind, normalization
from bn_tutorial.networks.recalibration import recalibrate
from bn_tutorial.networks.statistics import batch_norms, deterministic
from bn_tutorial.recipe import NORMALISERS, OPTIMISERS, Recipe, choices

OPTIONS: dict[str, dict[str, Any]] = {
    "ghost": {"size": 4},
    "group": {"groups": 2},
    "partial": {"variance": False},
}
WITH_MOVING = [name for name, row in NORMALISERS.items() if row.moving]


def numbers(*shape: int) -> Any:
    return np.random.default_rng(0).normal(2.0, 3.0, shape).astype(np.float32)


def layer(norm: str) -> Any:
    made = normalization(norm, **OPTIONS.get(norm, {}))
    made.build((12, 8))
    return made


def network(norm: str) -> Any:
    """Return a network of a dense layer and a normaliser, with weights of no special values."""
    model = keras.Sequential([keras.Input((5,), 12), keras.layers.Dense(8), layer(norm)])
    random = np.random.default_rng(1)
    for weight in model.weights:
        if "seed" not in weight.path:
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return model


def variables(norm: str) -> set[str]:
    return {variable.name for variable in layer(norm).variables}


# Normalisers


@pytest.mark.parametrize("norm", NORMALISERS)
def test_the_factory_makes_the_layer_of_the_table(norm: str) -> None:
    row = NORMALISERS[norm]
    made = normalization(norm)
    assert type(made) is kind(row)
    assert all(made.get_config()[name] == value for name, value in row.fixed.items())


@pytest.mark.parametrize("norm", NORMALISERS)
def test_what_has_moving_statistics_is_known_to_all_who_ask(norm: str) -> None:
    moving = "moving_mean" in variables(norm)
    assert NORMALISERS[norm].moving == moving
    assert (norm in MOVING) == moving
    assert bool(batch_norms(network(norm))) == moving


@pytest.mark.parametrize("norm", NORMALISERS)
def test_what_draws_at_random_is_not_trained_vectorised(norm: str) -> None:
    one, values = layer(norm), numbers(12, 8)
    first, second = (one(values, training=True).numpy() for _ in range(2))
    # renormalisation changes with its moving statistics, but draws nothing
    draws = not np.array_equal(first, second) and "seed_generator_state" in variables(norm)
    assert NORMALISERS[norm].random == draws
    if NORMALISERS[norm].over != "channel":  # dense networks refuse those
        assert supports(Recipe().but(norm=norm)) == (not draws)


@pytest.mark.parametrize("norm", NORMALISERS)
def test_statistics_are_shared_by_what_the_table_says(norm: str) -> None:
    with_plain = keras.Sequential([keras.Input((8,), 12), layer(norm)])
    values = numbers(12, 8)
    with deterministic(with_plain):
        before = with_plain(values, training=True).numpy()
        values[0, 0] += 1
        after = with_plain(values, training=True).numpy()
    together: dict[str, Any] = {
        "batch": np.s_[:, 0],
        "layer": np.s_[0, :],
        "group": np.s_[0, :4],
        "channel": np.s_[:0, 0],  # a number by itself is always 0
        "number": np.s_[0, 0],
    }
    changed = np.zeros((12, 8), bool)
    changed[together[NORMALISERS[norm].over]] = True
    np.testing.assert_array_equal(before != after, changed)


@pytest.mark.parametrize("norm", [norm for norm in WITH_MOVING if norm != "partial"])
def test_what_is_made_plain_is_batch_normalisation(norm: str) -> None:
    model, values = network(norm), numbers(12, 5)
    plain = network("batch")
    for name in ("gamma", "beta"):
        getattr(plain.layers[-1], name).assign(getattr(model.layers[-1], name))
    plain.layers[0].set_weights(model.layers[0].get_weights())
    expected = plain(values, training=True)
    with deterministic(model):
        np.testing.assert_allclose(model(values, training=True), expected, rtol=1e-4, atol=1e-5)
    if norm != "batch":
        usual = model(values, training=True).numpy()
        assert not np.allclose(usual, expected, atol=1e-3)


@pytest.mark.parametrize("norm", WITH_MOVING)
def test_every_batch_normalisation_can_be_folded(norm: str) -> None:
    model, values = network(norm), numbers(12, 5)
    folded = fold(model)
    assert not batch_norms(folded)
    np.testing.assert_allclose(folded(values), model(values), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", WITH_MOVING)
def test_every_batch_normalisation_can_be_recalibrated_or_is_refused(norm: str) -> None:
    model, values = network(norm), numbers(12, 5)
    if NORMALISERS[norm].fixed.get("renorm"):
        with pytest.raises(ValueError, match="batch renormalisation keeps more"):
            recalibrate(model, values)
        return
    recalibrate(model, values)
    hidden = model.layers[0](values).numpy()
    np.testing.assert_allclose(model.layers[1].moving_mean, hidden.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(model.layers[1].moving_variance, hidden.var(axis=0), rtol=1e-4)


def test_each_normaliser_has_a_colour_of_its_own_but_four_that_share_one() -> None:
    assert set(COLORS) == {None, *NORMALISERS}
    assert all(COLORS[norm] == row.color for norm, row in NORMALISERS.items())
    sharing: dict[str, list[str | None]] = {}
    for norm, color in COLORS.items():
        sharing.setdefault(color, []).append(norm)
    assert sorted(norms for norms in sharing.values() if len(norms) > 1) == [
        ["ghost", "partial"], ["noise", "dyt"], ["noisy", "derf"], ["renorm", "rms"],
    ]  # fmt: skip


# Optimisers


@pytest.mark.parametrize("name", OPTIMISERS)
def test_what_is_elementwise_updates_a_stack_as_its_parts(name: str) -> None:
    start, slopes = numbers(2, 4, 3), numbers(3, 2, 4, 3)

    def trained(parts: list[Any], gradients: Any) -> Any:
        rule, weights = keras.optimizers.get(name), [keras.Variable(part) for part in parts]
        rule.build(weights)
        for step in gradients:
            rule.apply([keras.ops.convert_to_tensor(one) for one in step], weights)
        return np.stack([weight.numpy() for weight in weights])

    (stack,) = trained([start], slopes[:, None])
    apart = np.stack([trained([start[i]], slopes[:, i : i + 1])[0] for i in range(2)])
    assert OPTIMISERS[name].elementwise == np.allclose(stack, apart, rtol=1e-5)
    assert supports(Recipe().but(optimizer=name)) == OPTIMISERS[name].elementwise


@pytest.mark.parametrize("name", OPTIMISERS)
def test_what_decays_by_itself_is_known(name: str) -> None:
    assert OPTIMISERS[name].decays == bool(keras.optimizers.get(name).weight_decay)


# The command line


def test_the_command_line_takes_what_a_recipe_takes() -> None:
    context = click.Context(cli.main.commands["train"])
    options = {option.name: option for option in context.command.params}
    for field in Recipe.__dataclass_fields__:
        if allowed := choices(field):
            for value in allowed:
                assert options[field].type_cast_value(context, value or "none") == value, field
            with pytest.raises(click.BadParameter):
                options[field].type_cast_value(context, "unheard of")
