from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bn_tutorial.recipe import (
    DEFAULT_GROUPS,
    MAX_CNN_DEPTH,
    NORMALISERS,
    OPTIMISERS,
    STEPWISE,
    Recipe,
    choices,
)

NAN, INFINITE = math.nan, math.inf
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
FIELDS = [field.name for field in dataclasses.fields(Recipe)]
#: What the fields may be that name something.
NAMED = {field: values for field in FIELDS if (values := choices(field))}
UNCOUNTABLE = (0, -1, 2.0, 0.5, True, NAN, INFINITE, "8", None, [8])
NOT_POSITIVE = (0, 0.0, -1e-3, True, NAN, INFINITE, -INFINITE, 10**400, "fast", None)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Draw from all possible recipes (with small sizes)."""
    named: dict[str, Any] = {
        field: draw(st.sampled_from(values)) for field, values in NAMED.items() if field != "norm"
    }
    model = named["model"]
    if model != "mlp":  # which alone has them
        named |= {"residual": None, "kernel": "free"}
    alone = [norm for norm, row in NORMALISERS.items() if row.over == "channel"]
    norms = [norm for norm in NORMALISERS if norm not in alone or model == "cnn"]
    norm: Any = draw(st.none() | st.sampled_from(norms))
    row = NORMALISERS.get(norm or "")
    options = row.options if row else ()
    groups = draw(st.integers(1, 16))
    ghost = draw(st.integers(1, 16))
    # so many features, or images, in each group
    width = draw(st.integers(2, 8)) * (groups if "groups" in options else 1)
    batch_size = draw(st.integers(1, 8)) * (ghost if "size" in options else 1)
    values: dict[str, st.SearchStrategy[float]] = {
        "momentum": st.floats(0, 1, exclude_max=True) | st.just(0),
        "epsilon": st.floats(0, 1) | st.integers(0, 1),
        "center": st.booleans(),
        "scale": st.booleans(),
        "groups": st.just(groups),
        "size": st.just(ghost),
        "max_shift": st.floats(0, 3) | st.integers(0, 3),
        "max_scale": st.floats(1, 3) | st.integers(1, 3),
        "by_example": st.booleans(),
        "mean": st.booleans(),
        "variance": st.booleans(),
        "alpha": st.floats(0, 3) | st.integers(0, 3),
        **dict.fromkeys(STEPWISE, st.booleans()),
    }
    stepwise = model == "gru" and named["norm_position"] == "before"
    optional = {name: values[name] for name in options if stepwise or name not in STEPWISE}
    chosen = draw(st.fixed_dictionaries({}, optional=optional))
    if "groups" in options and "groups" not in chosen:
        width *= DEFAULT_GROUPS
    positive = st.floats(0, exclude_min=True, allow_infinity=False) | st.integers(1, 10**6)
    return Recipe(
        **named,
        width=width,
        depth=draw(st.integers(1, MAX_CNN_DEPTH)),
        norm=norm,
        norm_options=chosen,
        dropout=draw(st.floats(0, 1, exclude_max=True) | st.just(0) | st.just(-0.0)),
        init_scale=draw(positive),
        learning_rate=draw(positive),
        weight_decay=draw(st.floats(0, 1) | st.integers(0, 1)),
        batch_size=batch_size,
        epochs=draw(st.integers(1, 100)),
        train_size=draw(st.none() | st.integers(batch_size, 10**5)),
        validation=draw(st.integers(0, 10**4)),
    )


@given(recipes())
@unhurried
def test_a_recipe_survives_a_round_trip(recipe: Recipe) -> None:
    read = Recipe(**json.loads(json.dumps(recipe.asdict())))
    for copy in (read, recipe.but(), Recipe().but(**recipe.asdict())):
        assert copy == recipe
        assert (copy.digest, copy.label) == (recipe.digest, recipe.label)
        assert hash(copy) == hash(recipe)
    assert list(recipe.asdict()) == FIELDS


@given(recipes(), recipes(), st.sampled_from(FIELDS))
@unhurried
def test_digest_and_label_differ_exactly_when_recipes_do(
    recipe: Recipe, other: Recipe, field: str
) -> None:
    try:
        changed = recipe.but(**{field: getattr(other, field)})
    except ValueError:
        assume(False)
    for one in (changed, other):
        assert (one.digest == recipe.digest) == (one == recipe)
        assert (one.label == recipe.label) == (one == recipe)
        assert one != recipe or hash(one) == hash(recipe)


@given(recipes())
@unhurried
def test_the_label_names_what_differs_from_the_baseline(recipe: Recipe) -> None:
    words = recipe.label.split(", ")
    expected = set()
    for field, value in recipe.asdict().items():
        if field == "norm_options":
            expected |= {f"{name} {option}" for name, option in value.items()}
        elif value != getattr(Recipe(), field):
            expected.add(
                f"{value} norm" if field == "norm" else f"{field.replace('_', ' ')} {value}"
            )
    assert sorted(words) == sorted(expected or {"baseline"})


def test_a_label_for_a_legend() -> None:
    assert Recipe().label == "baseline"
    recipe = Recipe(norm="batch", norm_options={"momentum": 0.9, "center": False}, batch_size=256)
    assert recipe.label == "batch norm, center False, momentum 0.9, batch size 256"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"learning_rate": 1}, {"learning_rate": 1.0}),
        ({"init_scale": 2}, {"init_scale": 2.0}),
        ({"dropout": 0}, {"dropout": -0.0}),
        (
            {"norm": "batch", "norm_options": {"momentum": 0, "epsilon": 1}},
            {"norm": "batch", "norm_options": {"epsilon": 1.0, "momentum": 0.0}},
        ),
    ],
)
def test_the_way_a_number_is_written_makes_no_difference(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    one, other = Recipe(**first), Recipe(**second)
    assert one == other
    assert one.digest == other.digest
    assert {one: "found"}[other] == "found"


def test_a_digest_stays_the_same_on_every_machine() -> None:
    # of the JSON of all fields, whose order does not matter
    text = json.dumps(dict(sorted(Recipe(norm="batch").asdict().items())))
    assert Recipe(norm="batch").digest == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_a_recipe_keeps_a_copy_of_its_options_and_cannot_be_changed() -> None:
    options = {"momentum": 0.9}
    recipe = Recipe(norm="batch", norm_options=options)
    options["momentum"] = 0.5
    assert recipe.norm_options == {"momentum": 0.9}
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.width = 4  # type: ignore[misc]


IMPOSSIBLE: list[tuple[str, Any, str, dict[str, Any]]] = [
    *(
        (field, value, f"one of {', '.join(map(repr, allowed))}", {})
        for field, allowed in NAMED.items()
        for value in (
            "unheard of",
            "",
            1,
            True,
            NAN,
            ["batch"],
            *([] if None in allowed else [None]),
        )
    ),
    *(
        (field, value, "a whole number from 1", {})
        for field in ("width", "depth", "batch_size", "epochs")
        for value in UNCOUNTABLE
    ),
    *(
        ("train_size", value, "None or a whole number from 1", {})
        for value in UNCOUNTABLE
        if value is not None
    ),
    *(
        (field, value, "a positive number", {})
        for field in ("learning_rate", "init_scale")
        for value in NOT_POSITIVE
    ),
    *(
        ("dropout", value, "a number from 0 up to, but not including, 1", {})
        for value in (1, 1.0, 1.5, -0.1, True, False, NAN, INFINITE, "0.5", None)
    ),
    *(
        ("weight_decay", value, "a number of 0 or more", {})
        for value in (-0.1, True, NAN, INFINITE, "0.5", None)
    ),
    *(
        ("validation", value, "a whole number from 0", {})
        for value in (-1, 0.0, 2.0, True, False, NAN, "8", None)
    ),
    ("batch_size", 64, "at most train_size, which is 63", {"train_size": 63}),
    ("depth", 6, "at most 5 for model='cnn'", {"model": "cnn"}),
    ("norm", "instance", "another one for model='mlp'", {}),
    ("norm", "instance", "another one for model='gru'", {"model": "gru"}),
    ("norm", "layer", "spans more of the width, which is 1", {"width": 1}),
    ("norm", "rms", "spans more of the width, which is 1", {"width": 1}),
    ("norm", "group", "spans more of the width, which is 8", {"width": 8}),
    *(
        (field, value, f"{usual!r} for model={model!r}", {"model": model})
        for field, value, usual in (
            ("residual", "sum", None),
            ("residual", "skipinit", None),
            ("kernel", "standardized", "free"),
        )
        for model in ("cnn", "gru")
    ),
    *(
        ("norm_options", value, "a mapping from options to values", {"norm": "batch"})
        for value in (None, 3, "momentum", ["momentum"], {0: 1, "momentum": 0.9})
    ),
    ("norm_options", {"momentum": 0.9}, "no options for norm=None", {}),
    (
        "norm_options",
        {"momentum": 0.9},
        "'epsilon', 'center', 'scale', 'recurrent' for",
        {"norm": "layer"},
    ),
    ("norm_options", {"size": 8, "rate": 1}, "not ['rate', 'size']", {"norm": "batch"}),
    *(
        ("norm_options", {name: value}, f"a number for {name!r}", {"norm": norm})
        for norm, name in (
            ("batch", "momentum"),
            ("renorm", "epsilon"),
            ("group", "groups"),
            ("ghost", "size"),
            ("dyt", "alpha"),
        )
        for value in (NAN, INFINITE, True, "1", None)
    ),
    *(
        ("norm_options", {name: value}, f"True or False for {name!r}", {"norm": "partial"})
        for name in ("center", "scale", "mean", "variance")
        for value in (0, 1, 0.5, NAN, "no", None)
    ),
    *(
        ("norm_options", {"momentum": value}, "a momentum from 0 up to", {"norm": "batch"})
        for value in (1, 1.0, -0.1)
    ),
    ("norm_options", {"epsilon": -1e-9}, "an epsilon of 0 or more", {"norm": "layer"}),
    ("norm_options", {"max_shift": -0.1}, "a max_shift of 0 or more", {"norm": "noisy"}),
    ("norm_options", {"max_scale": 0.9}, "a max_scale of 1 or more", {"norm": "noisy"}),
    *(
        ("norm_options", {"groups": value}, "divide the width, which is 512", {"norm": "group"})
        for value in (0, -1, 3, 1024, 2.0)
    ),
    ("norm_options", {}, "divide the width, which is 12", {"norm": "group", "width": 12}),
    *(
        ("norm_options", {"size": value}, "divides batch_size, which is 32", {"norm": "ghost"})
        for value in (0, -1, 5, 64, 8.0)
    ),
]


@pytest.mark.parametrize(("field", "value", "allowed", "others"), IMPOSSIBLE)
def test_an_impossible_recipe_is_refused(
    field: str, value: Any, allowed: str, others: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="is impossible: it must be ") as refusal:
        Recipe(**{field: value, **others})
    assert str(refusal.value).startswith(f"{field}={value!r} ")
    assert allowed in str(refusal.value)


def test_every_field_is_among_those_refused() -> None:
    assert {field for field, *_ in IMPOSSIBLE} == set(FIELDS)


def test_but_refuses_what_a_recipe_does_not_have() -> None:
    with pytest.raises(ValueError, match=r"^a recipe has no field 'batchsize', 'lr'\.$"):
        Recipe().but(lr=0.1, batchsize=3, width=4)
    with pytest.raises(ValueError, match="epochs=0 is impossible"):
        Recipe().but(epochs=0)


# Types and tables


def test_what_a_field_may_be_is_read_from_its_type() -> None:
    words = {field.name for field in dataclasses.fields(Recipe) if isinstance(field.default, str)}
    assert set(NAMED) == words | {"norm", "residual"}
    assert NAMED["dropout_position"] == ("after", "before")
    for field, allowed in NAMED.items():
        for value in allowed:
            one = Recipe(model="cnn") if value == "instance" else Recipe()  # which allows it
            assert getattr(one.but(**{field: value}), field) == value
    assert choices("width") is None


def test_each_normaliser_and_optimiser_has_a_row() -> None:
    assert choices("norm") == (None, *NORMALISERS)
    assert choices("optimizer") == (*OPTIMISERS,)


def test_the_documentation_of_a_field_lists_what_it_may_be() -> None:
    described = str(Recipe.__doc__)
    listing = ("norm_position", "dropout_position", "inputs", "optimizer", "residual", "kernel")
    for field in ("model", "norm", *listing):
        line = next(one for one in described.splitlines() if one.startswith(f"    {field} : "))
        listed = {one.strip() for one in line.partition("{")[2].rstrip("}").split(",")}
        assert listed == {"None" if one is None else f'"{one}"' for one in NAMED[field]}, field
