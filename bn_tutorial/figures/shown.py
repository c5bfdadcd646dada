"""What is drawn in which panel, and what it is called."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bn_tutorial.evidence.measures import Drawn, Trained, runs_of
from bn_tutorial.figures.style import COLORS, is_moving, normaliser_name, statistics_name
from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.training.runs import Runs

#: What is drawn in one panel; labels are the normalisers' names where none are given.
Group = Iterable[Drawn] | Mapping[str, Drawn]

#: One panel's worth, or several by their titles.
Shown = Group | Mapping[str, Group]

#: Whose value is drawn, and which.
Reading = tuple[Drawn, str]

#: Properties of lines by their labels.
Styles = Mapping[str, Mapping[str, Any]]

#: What `against` draws: recipes that make a line for each normaliser, or lists of them by label,
#: in one panel or in several by their titles.
Lines = Iterable[Drawn] | Mapping[str, Iterable[Drawn] | Mapping[str, Iterable[Drawn]]]


def panels_of(shown: Shown) -> dict[str, Group]:
    """Return the groups to be drawn by their titles, of which a single one has none."""
    if isinstance(shown, Mapping):
        first = next(iter(shown.values()))
        if not isinstance(first, (Recipe, Runs)):
            return dict(shown)
    return {"": shown}  # type: ignore[dict-item]


def labelled(trial: Trained, group: Group) -> list[tuple[str, Recipe, Runs]]:
    """Return what is to be drawn with its label ("" where none is given), recipe and runs."""
    pairs = group.items() if isinstance(group, Mapping) else (("", one) for one in group)
    found = [(label, runs_of(trial, one)) for label, one in pairs]
    return [(label, runs.recipes[0], runs) for label, runs in found]


def named(trial: Trained, group: Group) -> list[tuple[str, Recipe, Runs]]:
    """Return what `labelled` does, with the normaliser's name where no label is given."""
    found = labelled(trial, group)
    return [(label or normaliser_name(recipe.norm), recipe, runs) for label, recipe, runs in found]


def look_of(recipe: Recipe, label: str, styles: Styles | None) -> dict[str, Any]:
    """Return the properties of a label's lines: its normaliser's colour where nothing is said."""
    return {"color": COLORS[recipe.norm], **(styles or {}).get(label, {})}


def readings_of(recipe: Recipe, metric: str, population: bool) -> Iterator[str]:
    """Return under which names a metric is drawn."""
    yield metric
    if population and is_moving(recipe, metric):
        yield f"{metric}_population"


def series_name(label: str, recipe: Recipe, metric: str, population: bool) -> str:
    """Return what is drawn: its label or its normaliser, and with which statistics."""
    statistics = statistics_name(recipe, metric) if population or not label else ""
    return ", ".join(filter(None, (label or normaliser_name(recipe.norm), statistics)))


def lines_of(shown: Lines) -> dict[str, dict[str, list[Drawn]]]:
    """Return lists of recipes by title and label; unlabelled ones by their normaliser."""
    if isinstance(shown, Mapping):
        return {title: _by_label(group) for title, group in shown.items()}
    return {"": _by_label(shown)}


def _by_label(group: object) -> dict[str, list[Drawn]]:
    if isinstance(group, Mapping):
        return {label: list(drawn) for label, drawn in group.items()}
    lines: dict[str, list[Drawn]] = {}
    for drawn in group:  # type: ignore[attr-defined]
        recipe = drawn if isinstance(drawn, Recipe) else drawn.recipes[0]
        lines.setdefault(normaliser_name(recipe.norm), []).append(drawn)
    return lines
