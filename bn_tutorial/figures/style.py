"""The house style: what any figure of the project looks like, on a light and on a dark page.

The same thing looks the same everywhere: one colour per normaliser; a solid line for training and
for population statistics, a dashed one for moving statistics; thin lines or ticks for seeds, a bold
line or a dot for their mean, a band or a bar for its 95 % interval.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt

from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.recipe.tables import NORMALISERS

#: The colour of everything that is neither data nor line: the site replaces it in dark mode.
INK = "#1f2328"
INK_DARK = "#e6edf3"

#: The colour of each normaliser, as `bn_tutorial.recipe.tables.NORMALISERS` has it, and of none.
COLORS = {None: "#8a8f98"} | {norm: row.color for norm, row in NORMALISERS.items()}

#: The normalisers that use moving statistics at inference.
MOVING = tuple(norm for norm, row in NORMALISERS.items() if row.moving)

#: Three shades of batch normalisation's colour, for one thing in three degrees.
SHADES = ("#7cc4f2", COLORS["batch"], "#3f6fae")

#: The colour of what is marked within a figure, and is no normaliser.
MARK = "#ff8c1a"

#: Settings for matplotlib; the site's build starts every script with them.
STYLE: dict[Any, Any] = {
    "figure.figsize": (7.2, 4.2),
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#8a8f98",
    "grid.alpha": 0.25,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "savefig.transparent": True,
    "svg.hashsalt": "bn_tutorial",
    **dict.fromkeys(
        (
            "text.color",
            "axes.labelcolor",
            "axes.titlecolor",
            "axes.edgecolor",
            "xtick.color",
            "ytick.color",
        ),
        INK,
    ),
}

#: What a run's metrics and measures are called, if nothing is held out for validation.
NAMES = {
    "accuracy": "training accuracy",
    "loss": "training loss",
    "val_accuracy": "test accuracy",
    "val_loss": "test loss",
    "fit_accuracy": "training accuracy",
    "fit_loss": "training loss",
    "test_accuracy": "test accuracy",
    "test_loss": "test loss",
    "gradient_change": "change of the gradient, ‖g′ − g‖ / ‖g‖",
    "shift": "shift of its gradient, ‖G − G′‖ / ‖G‖",
}

#: What dashes mean, as alternative texts say it.
DASHES = "dashes for moving statistics"

#: What a recipe's fields are called on an axis, where their names will not do.
FIELDS = {"depth": "hidden layers", "init_scale": "initial weights, times"}


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Draw in the house style within a ``with`` statement."""
    # a notebook's backend switches interactive mode on when it is loaded; loaded within the context,
    # it would be switched off again at the end, and no later figure would be shown
    plt.draw_if_interactive()  # type: ignore[no-untyped-call]
    with plt.rc_context(STYLE):
        yield


def metric_name(metric: str, recipe: Recipe) -> str:
    """Return what a metric of a run of this recipe is called on an axis."""
    name = NAMES.get(metric.removesuffix("_population"), metric)
    held_out = recipe.validation and metric.startswith("val_")
    return name.replace("test", "validation") if held_out else name


def field_name(field: str) -> str:
    """Return what a field of recipes is called on an axis."""
    return FIELDS.get(field, field.replace("_", " "))


def is_moving(recipe: Recipe, metric: str) -> bool:
    """Return whether a metric was measured with moving statistics, so that its line is dashed."""
    read = metric.startswith(("val_", "test_")) and not metric.endswith("_population")
    return recipe.norm in MOVING and read


def normaliser_name(norm: str | None) -> str:
    """Return what a recipe's normaliser is called in a legend."""
    return f"{norm} norm" if norm else "without"


def statistics_name(recipe: Recipe, metric: str) -> str:
    """Return with which statistics a metric was measured, if there is a choice."""
    if is_moving(recipe, metric):
        return "moving statistics"
    has_two = recipe.norm in MOVING and metric.endswith("_population")
    return "population statistics" if has_two else ""


def percent(share: float, _: object = None) -> str:
    """Return a share in percent, as a tick label."""
    return f"{100 * share:.3g}%"
