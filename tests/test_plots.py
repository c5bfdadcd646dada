"""The plots that scripts share: what they draw, and what their tables of numbers say."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from bn_tutorial import figures
from bn_tutorial.evidence import interval
from bn_tutorial.evidence.measures import at_equal_fit, gap
from bn_tutorial.figures import (
    COLORS,
    INK,
    MOVING,
    NAMES,
    NumberedFigure,
    panels,
    read_data,
    to_svg,
)
from bn_tutorial.recipe import Recipe
from bn_tutorial.training.runs import Runs

from .histories import made_up, several

PLAIN = Recipe(epochs=3, validation=10, batch_size=32)
BATCH = PLAIN.but(norm="batch")
RUNS = several(PLAIN, BATCH, *(BATCH.but(batch_size=size) for size in (64, 128, 256)))
#: A training loss that every run reaches.
COMPARED = max(run.history["fit_loss"][-1] for run in RUNS)
ALT = "What is drawn."
BATCH_MOVING, BATCH_POPULATION = (
    f"batch norm, {statistics} statistics" for statistics in ("moving", "population")
)
TEST, MOVING_TEST = "test_accuracy_population", "test_accuracy"
LAYERS = {f"shift/{layer}": [1.0 + layer, 2.0 + layer, 3.0 + layer] for layer in range(3)}
DEEP = Runs(
    made_up(
        net, seed, **{name: [(seed + 1) * one for one in values] for name, values in LAYERS.items()}
    )
    for net in (PLAIN, BATCH)
    for seed in (0, 1)
)

Draw = Callable[..., NumberedFigure]
#: Every plot that takes runs, drawn once.
PLOTS: dict[str, Draw] = {
    "against": lambda runs, alt: figures.against(
        runs, [net for net in runs.recipes if net.norm], "val_accuracy", "batch_size",
        xlabel="batch size", population=True, reference={"without": PLAIN}, levels={"guessing": 0.1}, alt=alt,
    ),
    "batch_size_grid": lambda runs, alt: figures.batch_size_grid(
        runs, [net for net in runs.recipes if net.norm], alt=alt
    ),
    "by_layer": lambda runs, alt: figures.by_layer(
        DEEP if runs is RUNS else runs, [PLAIN, BATCH], "shift", ylabel="shift", alt=alt
    ),
    "curves": lambda runs, alt: figures.curves(
        runs, [PLAIN, BATCH], ["accuracy", "val_accuracy"], population=True, alt=alt
    ),
    "dots": lambda runs, alt: figures.dots(
        runs, {"left": {"0.2": [(PLAIN, TEST), (BATCH, TEST)]}, "right": {"a": [(BATCH, MOVING_TEST)]}}, alt=alt
    ),
    "effects": lambda runs, alt: figures.effects(runs, {"gain": interval([0.01, 0.02])}, alt=alt),
    "histories": lambda runs, alt: figures.histories(
        runs, {"": {"without": (PLAIN, "loss"), "batch norm": (BATCH, "loss")}}, ylabel="loss", alt=alt
    ),
    "learning_curves": lambda runs, alt: figures.learning_curves(runs, [PLAIN, BATCH], alt=alt),
    "lines": lambda runs, alt: figures.lines(
        runs, {"": {"mean": [[1, 3], [2, 2], [4, 4]], "one": [3, 2, 1]}}, xlabel="step", ylabel="loss",
        theory={"squares": lambda x: x**2}, alt=alt,
    ),
    "ranges": lambda runs, alt: figures.ranges(
        runs, [PLAIN, BATCH], lambda one: (one.curves("loss") / 2, None, one.curves("loss")),
        ylabel="loss", log=True, alt=alt,
    ),
    "ratios": lambda runs, alt: figures.ratios(
        runs, {"training": {"MLP": {"batch norm": pd.Series([1.0, 4.0])}}}, xlabel="time", alt=alt
    ),
    "trajectories": lambda runs, alt: figures.trajectories(
        runs, [PLAIN, BATCH], {"gap": gap, "validation loss": "val_loss"}, compare=[COMPARED], alt=alt
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_window() -> Iterator[None]:
    mpl.use("agg")
    yield
    plt.close("all")


def rows(figure: NumberedFigure, series: str, kind: str = "line", **where: str) -> pd.DataFrame:
    """Return the numbers of one series."""
    data = figure.data
    found = data[(data.series == series) & (data.kind == kind)]
    for column, value in where.items():
        found = found[found[column] == value]
    return found


def legend(figure: NumberedFigure) -> list[str]:
    """Return what is named, in a legend or where lines end."""
    ends = [one for one in figure.axes[-1].texts if one.get_position()[0] > 1]
    texts = [text for one in figure.legends for text in one.get_texts()]
    return [" ".join(text.get_text().split()) for text in (*texts, *ends)]


# What holds for every plot


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_demands_an_alternative_text_and_says_what_its_marks_mean(name: str) -> None:
    with pytest.raises(ValueError, match="needs an alternative text"):
        PLOTS[name](RUNS, " ")
    alt = str(PLOTS[name](RUNS, ALT).get_label())
    assert alt.startswith(f"{ALT} A t") or name in ("lines", "ranges")
    assert alt.endswith(".")
    read_in_two_ways = ("against", "batch_size_grid", "curves", "learning_curves")
    assert ("dashes for moving statistics" in alt) == (name in read_in_two_ways)
    assert ("hollow for moving statistics" in alt) == (name == "dots")


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_marked_if_a_run_used_the_sample(name: str) -> None:
    def marks(runs: Runs) -> list[str]:
        return [text.get_text() for text in PLOTS[name](runs, ALT).texts]

    assert marks(RUNS) == []
    used = Runs([*RUNS, *DEEP])
    if name == "by_layer":
        sampled = Runs([*DEEP, made_up(PLAIN, 9, sample=True, **LAYERS)])
    else:
        sampled = used + Runs([made_up(PLAIN.but(width=3), 9, sample=True)])
        sampled = Runs(run for run in sampled if not any(name in run.history for name in LAYERS))
    assert marks(sampled) == ["bundled sample – not a result"]


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_carries_its_own_numbers_by_names_that_are_no_colours(name: str) -> None:
    figure = PLOTS[name](RUNS, ALT)
    assert not figure.data.empty
    assert set(figure.data.columns) <= set(figures.table.COLUMNS)
    assert figure.data[["panel", "kind", "series"]].notna().all(axis=None)
    assert not figure.data.series.str.contains(r"#[0-9a-f]{3}|^\w+ \d+$|^$").any()
    assert read_data(to_svg(figure)) == figure.data.to_csv(index=False)
    ranges = figure.data.series.str.removesuffix(", range")
    assert set(legend(figure)) <= {*figure.data.series, *ranges, "compared here"}


@pytest.mark.parametrize("norm", COLORS)
def test_a_series_is_named_by_its_normaliser_whatever_its_colour(norm: str | None) -> None:
    net = PLAIN.but(norm=norm, model="cnn", width=8, depth=1, batch_size=8)
    runs = several(net)
    name = f"{norm} norm" if norm else "without"
    test = (
        {f"{name}, moving statistics", f"{name}, population statistics"}
        if norm in MOVING
        else {name}
    )
    for styles in ({}, {name: {"color": COLORS["renorm"]}}):
        figure = figures.curves(
            runs, [net], "val_accuracy", population=True, styles=styles, alt=ALT
        )
        assert {re.sub(", seed .*", "", series) for series in figure.data.series} == test
    figure = figures.trajectories(
        runs, [net], {"gap": gap}, styles={name: {"color": COLORS["layer"]}}, alt=ALT
    )
    assert {re.sub(", seed .*", "", series) for series in figure.data.series} == {name}
    assert to_hex(figure.axes[0].lines[-1].get_color()) == COLORS["layer"]


# Curves


def test_what_was_measured_at_the_end_alone_is_a_dot_there() -> None:
    once = Runs(made_up(PLAIN, seed, fit_accuracy=[0.5 + seed / 10]) for seed in range(3))
    figure = figures.curves(once, [PLAIN], "fit_accuracy", alt=ALT)
    points = [np.asarray(line.get_xydata()) for line in figure.axes[0].lines]
    points = [point[np.isfinite(point).all(axis=1)] for point in points]
    expected = [[(PLAIN.epochs, value)] for value in (0.5, 0.6, 0.7, 0.6)]
    np.testing.assert_allclose([one for one in points if len(one)], expected)
    assert {line.get_marker() for line in figure.axes[0].lines} == {"o", "."}
    usual = figures.curves(RUNS, [PLAIN], "fit_accuracy", alt=ALT)
    assert {line.get_marker() for line in usual.axes[0].lines} == {"None"}


def test_curves_have_a_panel_for_each_metric() -> None:
    figure = figures.curves(RUNS, [PLAIN, BATCH], ["accuracy", "val_accuracy"], alt=ALT)
    left, right = figure.axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("training accuracy", "validation accuracy")
    assert legend(figure) == ["without", BATCH_MOVING]
    for panel, metric, series in (
        ("training accuracy", "accuracy", "batch norm"),
        ("validation accuracy", "val_accuracy", BATCH_MOVING),
    ):
        expected = RUNS.of(BATCH).curves(metric)
        seeds = [rows(figure, f"{series}, seed {seed}", panel=panel).y for seed in range(3)]
        assert np.array(seeds) == pytest.approx(expected, rel=1e-5)
        assert rows(figure, series).y.to_numpy() == pytest.approx(expected.mean(axis=0), rel=1e-5)
        assert rows(figure, series, "band").empty  # of three seeds it would be wide
    assert rows(figure, "without").x.to_list() == [1, 2, 3] * 2


def test_six_seeds_have_a_band() -> None:
    runs = several(BATCH, seeds=6)
    figure = figures.curves(runs, [BATCH], "accuracy", alt=ALT)
    bands = [interval(column) for column in runs.of(BATCH).curves("accuracy").T]
    band = rows(figure, "batch norm", "band")
    assert band.low.to_numpy() == pytest.approx([one.low for one in bands], rel=1e-5)
    assert band.high.to_numpy() == pytest.approx([one.high for one in bands], rel=1e-5)


def test_curves_show_all_that_was_trained_on_images_that_were_not_if_nothing_is_said() -> None:
    runs = several(PLAIN, BATCH)
    found = figures.curves(runs, alt=ALT).data
    expected = figures.curves(runs, [PLAIN, BATCH], "val_accuracy", alt=ALT).data
    pd.testing.assert_frame_equal(found, expected)


def test_curves_have_a_panel_for_each_title_and_both_readings() -> None:
    wide = BATCH.but(width=1024)
    runs = RUNS + several(wide)
    shown: Any = {"usual": {"net": BATCH}, "wide": {"net": wide}}
    figure = figures.curves(
        runs,
        shown,
        "val_loss",
        population=True,
        styles={"net": {"color": INK}},
        levels={"target": 0.5},
        alt=ALT,
    )
    assert legend(figure) == ["net, moving statistics", "net, population statistics", "target"]
    assert [axes.get_title("left") for axes in figure.axes] == ["usual", "wide"]
    styles = [line.get_linestyle() for line in figure.axes[0].lines]
    assert styles == ["--"] * 4 + ["-"] * 4 + [":"]
    assert {to_hex(line.get_color()) for line in figure.axes[0].lines} == {INK}
    assert rows(figure, "target").y.to_list() == [0.5, 0.5]
    expected = runs.of(wide).curves("val_loss_population").mean(axis=0)
    found = rows(figure, "net, population statistics", panel="wide").y
    assert found.to_numpy() == pytest.approx(expected, rel=1e-5)


def test_runs_stand_in_for_a_recipe() -> None:
    elsewhere = several(PLAIN, seeds=2)
    shown: dict[str, Recipe | Runs] = {"other": elsewhere, "own": PLAIN}
    figure = figures.curves(RUNS, shown, "loss", alt=ALT)
    assert "own, seed 2" in set(figure.data.series)
    assert "other, seed 2" not in set(figure.data.series)


def test_learning_curves_show_training_above_and_both_readings_below() -> None:
    figure = figures.learning_curves(
        Runs(run for run in RUNS if run.recipe in (PLAIN, BATCH)), alt=ALT
    )
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == [
        "training accuracy",
        "training loss",
        "validation accuracy",
        "validation loss",
    ]
    assert legend(figure) == ["without", BATCH_MOVING, BATCH_POPULATION]
    assert set(figure.data[figure.data.panel == "training loss"].series) == {
        "without", "batch norm", *(f"{one}, seed {n}" for one in ("without", "batch norm") for n in range(3))
    }  # fmt: skip


def test_batch_sizes_are_in_order() -> None:
    figure = PLOTS["batch_size_grid"](Runs([*RUNS][::-1]), ALT)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == 2 * [f"batch size {size}" for size in (32, 64, 128, 256)]
    assert legend(figure) == ["training", "test, moving statistics", "test, population statistics"]


def test_histories_are_drawn_over_what_they_count_beside_a_theory() -> None:
    counted = {"step": [1.0, 10.0, 100.0], "distance/0.9": [1.0, 0.5, 0.25]}
    runs = Runs([made_up(BATCH, seed, **counted) for seed in (0, 1)])
    figure = figures.histories(
        runs,
        {"frozen": {"momentum 0.9": (BATCH, "distance/0.9")}},
        ylabel="distance",
        over="step",
        log="xy",
        styles={"momentum 0.9": {"color": INK}},
        theory={"theory, 0.9": lambda step: 1 / step, "theory, 0.99": lambda step: 2 / step},
        levels={"precision": 1e-7},
        ylim=(0.02, 1.5),
        alt=ALT,
    )
    assert rows(figure, "momentum 0.9")[["x", "y"]].to_numpy().tolist() == [
        [1, 1], [10, 0.5], [100, 0.25],
    ]  # fmt: skip
    assert rows(figure, "theory, 0.99").y.iloc[[0, -1]].to_list() == pytest.approx([2, 0.02])
    assert rows(figure, "precision").y.to_list() == [1e-7]
    assert legend(figure) == ["momentum 0.9", "theory", "precision"]
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_ylim()) == ("log", "log", (0.02, 1.5))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "distance")


def test_a_history_with_a_value_more_than_epochs_begins_at_0_and_a_legend_may_have_a_title() -> (
    None
):
    figure = figures.histories(
        RUNS, {"": {"net": (PLAIN, lambda runs: np.full((3, 4), 2.0))}}, ylabel="size",
        legend="networks", alt=ALT,
    )  # fmt: skip
    assert rows(figure, "net")[["x", "y"]].to_numpy().tolist() == [[n, 2] for n in range(4)]
    assert figure.axes[0].get_xlim() == (0, 3)
    assert figure.legends[0].get_title().get_text() == "networks"


def test_histories_have_a_row_for_each_beginning_of_their_names() -> None:
    counted = {
        "step": [1.0, 10.0],
        "accuracy/0.9": [0.1, 0.2],
        "accuracy/batch": [0.3, 0.4],
        "kl/0.9": [3.0, 2.0],
    }
    runs = Runs([made_up(net, seed, **counted) for net in (PLAIN, BATCH) for seed in (0, 1)])
    figure = figures.histories(
        runs,
        {
            title: {"moving": (net, "0.9"), "training mode": (net, "batch")}
            for title, net in (("left", PLAIN), ("right", BATCH))
        },
        ylabel={"accuracy": "accuracy/", "divergence": "kl/"},
        over="step", ylim=(0, 9), alt=ALT,
    )  # fmt: skip
    found = figure.data
    for title in ("left", "right"):
        for label, kind, ys in (
            ("moving", "accuracy", [0.1, 0.2]),
            ("moving", "divergence", [3, 2]),
            ("training mode", "accuracy", [0.3, 0.4]),
            ("training mode", "divergence", []),
        ):
            one = rows(figure, label, panel=title, y_axis=kind)
            assert one.y.to_list() == pytest.approx(ys)
    assert set(found.x_axis) == {"step"}
    seen = [axes.get_title("left") for axes in figure.axes]
    assert seen == ["left", "right"] * 2
    labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]
    assert labels == [("", "accuracy"), ("", ""), ("step", "divergence"), ("step", "")]
    assert figure.axes[2].get_ylim() == figure.axes[3].get_ylim() == (0, 9)
    assert figure.axes[0].get_ylim() != (0, 9)
    assert figure.axes[0].yaxis.get_major_formatter()(0.25) == "25%"


def test_histories_of_one_measure_are_shown_as_curves_are_and_called_by_its_name() -> None:
    counted = {"gradient_change": [0.5, 0.25, 0.125]}
    runs = Runs([made_up(net, seed, **counted) for net in (PLAIN, BATCH) for seed in (0, 1)])
    figure = figures.histories(runs, {"left": [PLAIN, BATCH]}, "gradient_change", alt=ALT)
    for label in ("without", "batch norm"):
        assert rows(figure, label, panel="left").y.to_list() == counted["gradient_change"]
    assert figure.axes[0].get_ylabel() == NAMES["gradient_change"]


def test_a_geometric_mean_has_no_interval() -> None:
    shown = {"": {"loss": (PLAIN, "loss")}}
    figure = figures.histories(RUNS, shown, ylabel="loss", mean="geometric", alt=ALT)
    means = np.exp(np.log(RUNS.of(PLAIN).curves("loss")).mean(axis=0))
    assert rows(figure, "loss").y.to_numpy() == pytest.approx(means, rel=1e-5)
    assert set(figure.data.kind) == {"line"}


def test_a_range_lies_between_geometric_means_of_its_ends() -> None:
    figure = PLOTS["ranges"](RUNS, ALT)
    loss = RUNS.of(BATCH).curves("loss")
    band = rows(figure, "batch norm, range", "band")
    middle = np.exp(np.log(loss).mean(axis=0))
    assert band.low.to_numpy() == pytest.approx(middle / 2, rel=1e-5)
    assert band.high.to_numpy() == pytest.approx(middle, rel=1e-5)
    assert rows(figure, "batch norm, high, seed 2").y.to_numpy() == pytest.approx(loss[2], rel=1e-5)
    assert legend(figure) == ["without", "batch norm"]
    assert figure.axes[0].get_yscale() == "log"


def test_or_it_is_that_of_one_seed() -> None:
    figure = figures.ranges(
        RUNS, {"BN": [BATCH]}, lambda runs: [factor * runs.curves("loss") for factor in (1, 2, 3)],
        one_seed=True, ylabel="loss", alt=ALT,
    )  # fmt: skip
    loss = RUNS.of(BATCH).curves("loss")
    assert rows(figure, "batch norm, range", "band").high.to_numpy() == pytest.approx(
        3 * loss[0], rel=1e-5
    )
    for seed in range(3):
        found = rows(figure, f"batch norm, seed {seed}").y.to_numpy()
        assert found == pytest.approx(2 * loss[seed], rel=1e-5)
    assert [line.get_linewidth() for line in figure.axes[0].lines] == [2.2, 0.7, 0.7]
    assert legend(figure) == []


# Along something


def test_a_metric_against_what_was_varied() -> None:
    figure = PLOTS["against"](RUNS, ALT)
    sizes = (32, 64, 128, 256)
    finals = [RUNS.of(BATCH.but(batch_size=size)).curves("val_accuracy")[:, -1] for size in sizes]
    found = rows(figure, BATCH_MOVING)
    assert found.y.to_numpy() == pytest.approx(np.mean(finals, axis=1), rel=1e-5)
    assert found.x.to_list() == [32, 64, 128, 256]
    assert legend(figure) == [BATCH_MOVING, BATCH_POPULATION, "without"]
    across = rows(figure, "without")
    assert across.y.to_list() == pytest.approx(
        [RUNS.of(PLAIN).curves("val_accuracy")[:, -1].mean()], rel=1e-5
    )
    assert rows(figure, "guessing").y.to_list() == [0.1]
    assert figure.axes[0].get_xscale() == "log"


def test_a_legend_s_dashes_are_not_hidden_by_a_marker() -> None:
    nets = [net for net in RUNS.recipes if net.norm]
    figure = figures.against(RUNS, nets, ["val_accuracy", "val_loss"], "batch_size", alt=ALT)
    moving = figure.legends[0].get_lines()[0]
    assert (moving.get_linestyle(), moving.get_marker()) == ("--", "None")
    assert {line.get_marker() for line in figure.axes[0].lines[3:8:4]} == {"o"}  # the means


def lines_to(ends: dict[str, tuple[float, float]]) -> NumberedFigure:
    with panels(RUNS, alt=ALT) as (panel,):
        for number, (name, (x, y)) in enumerate(ends.items()):
            panel.line(name, [0, x], [0, y], color=f"C{number}")
    figure = plt.gcf()
    assert isinstance(figure, NumberedFigure)
    return figure


def test_a_few_lines_are_named_where_they_end_and_no_name_covers_another() -> None:
    figure = lines_to({"up": (1, 1.0), "nearly\nas far up": (1, 0.99), "down": (1, 0.0)})
    assert not figure.legends
    named = {" ".join(one.get_text().split()): one for one in figure.axes[0].texts}
    assert [one.get_color() for one in named.values()] == ["C0", "C1", "C2"]
    figure.draw_without_rendering()
    boxes = [named[name].get_window_extent() for name in ("down", "nearly as far up", "up")]
    for below, above in itertools.pairwise(boxes):
        assert below.y1 <= above.y0
    assert boxes[0].x0 > figure.axes[0].get_window_extent().x1 - 1


@pytest.mark.parametrize(
    "ends",
    [
        {"only": (1, 1.0)},
        {"short": (0.5, 1.0), "long": (1, 0.0)},
        {"one": (1, 1.0), "gone": (1, math.nan)},
        {str(n): (1, float(n)) for n in range(6)},
        {
            f"a name that takes a whole paragraph of its own to say {n}": (1, 0.1 * n)
            for n in range(5)
        },
    ],
    ids=["one", "another end", "no end", "too many", "no room"],
)
def test_other_lines_are_named_in_a_legend(ends: dict[str, tuple[float, float]]) -> None:
    figure = lines_to(ends)
    assert not figure.axes[0].texts
    assert [one.get_text() for one in figure.legends[0].get_texts()] == list(ends)


def test_several_metrics_have_rows_of_panels_and_x_may_be_computed() -> None:
    nets = {size: PLAIN.but(norm="ghost", norm_options={"size": size}) for size in (2, 8)}
    runs = several(*nets.values())
    figure = figures.against(
        runs,
        {"": {"ghosts": list(nets.values())}},
        [TEST, "fit_accuracy"],
        lambda net: net.norm_options["size"],
        xlabel="images together",
        styles={"ghosts": {"color": INK}},
        alt=ALT,
    )
    labels = ["test accuracy", "training accuracy"]
    assert [axes.get_ylabel() for axes in figure.axes] == labels
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "images together"]
    found = rows(figure, "ghosts", panel=labels[1])
    expected = [runs.of(net).curves("fit_accuracy")[:, -1].mean() for net in nets.values()]
    assert found.y.to_numpy() == pytest.approx(expected, rel=1e-5)
    assert to_hex(figure.axes[0].lines[0].get_color()) == INK


def test_a_run_that_diverged_counts_as_said() -> None:
    runs = Runs([made_up(PLAIN), made_up(PLAIN.but(depth=2), loss=[1.0, np.nan])])
    figure = figures.against(
        runs, runs.recipes, "fit_accuracy", "depth", xlabel="layers", diverged=0.1, alt=ALT
    )
    assert rows(figure, "without").y.to_list()[1] == 0.1


def test_few_values_stand_side_by_side_beside_a_theory() -> None:
    large = BATCH.but(batch_size=128)
    runs = Runs(
        made_up(net, seed, ratio=[0.1, base + seed])
        for net, base, seeds in ((BATCH, 1, 3), (large, 10, 2))
        for seed in range(seeds)
    )
    figure = figures.against(
        runs, {"": {"one": [BATCH, large], "other": [large]}}, "ratio", "batch_size", dots=True,
        ylabel="variance", styles={"other": {"color": INK, "marker": "s"}},
        theory={"theory": lambda size: size - 1}, alt=ALT,
    )  # fmt: skip
    assert legend(figure) == ["one", "other", "theory"]
    shift = 1.15**0.5
    means = rows(figure, "one", "points")
    assert means.x.to_list() == pytest.approx([32 / shift, 128 / shift], rel=1e-5)
    assert means.y.to_list() == [2, 10.5]
    assert rows(figure, "one, seed 1", "points").y.to_list() == [2, 11]
    assert rows(figure, "one, seed 2", "points").y.to_list() == [3]  # the other has two seeds
    assert rows(figure, "other", "points").x.to_list() == pytest.approx([128 * shift], rel=1e-5)
    theory = rows(figure, "theory")
    assert theory.y.to_numpy() == pytest.approx(theory.x.to_numpy() - 1, rel=1e-4)
    (axes,) = figure.axes
    assert (axes.get_ylabel(), axes.get_ylim()[0]) == ("variance", 0)
    assert {line.get_marker() for line in axes.lines} == {"_", "o", "s", "None"}
    assert str(figure.get_label()).endswith("A tick for each seed, a larger mark for their mean.")


def test_layers_are_averaged_over_epochs_and_seeds() -> None:
    figure = figures.by_layer(
        DEEP, {"net": PLAIN, "norm": BATCH}, "shift", ylabel="shift", names=[1, 2, "out"], alt=ALT
    )
    found = rows(figure, "net")
    assert found.y.to_list() == [3, 4.5, 6]  # of seeds 2, 3, 4 and 4, 6, 8
    assert found.x.to_list() == ["1", "2", "out"]
    assert figure.axes[0].get_yscale() == "log"
    low, high = figure.axes[0].get_ylim()
    assert low < found.y.min() < found.y.max() < high  # nothing leaves the frame


def test_growth_is_relative_to_the_last_layer_on_a_logarithmic_axis() -> None:
    figure = figures.by_layer(
        DEEP, {"ReLU": {"net": PLAIN}}, "shift", ylabel="size", relative=True,
        growth={"theory": ("ReLU", "net", 2.0)}, alt=ALT,
    )  # fmt: skip
    assert rows(figure, "net").y.to_list() == pytest.approx([0.5, 0.75, 1])
    assert rows(figure, "theory").y.to_list() == pytest.approx([1.5, 0.75, 0.375])
    assert figure.axes[0].get_yscale() == "log"


def test_points_may_have_other_seeds_and_only_their_own_runs_diverge() -> None:
    small, large = BATCH.but(batch_size=16), BATCH.but(batch_size=64)
    gone = made_up(large, 1)
    gone.history["loss"][-1] = float("nan")
    runs = Runs([*several(small, seeds=1), made_up(large, 0), gone, made_up(large, 2)])
    figure = figures.against(
        runs, [small, large], "fit_accuracy", "batch_size", diverged=0.1, alt=ALT
    )
    one = runs.of(small).curves("fit_accuracy")[0, -1]
    left = [run.history["fit_accuracy"][-1] for run in runs.of(large) if not run.diverged]
    mean = rows(figure, "batch norm").y.to_numpy()
    assert mean == pytest.approx([one, (sum(left) + 0.1) / 3], rel=1e-5)
    assert np.isnan(rows(figure, "batch norm, seed 2").y.iloc[0])


def test_trajectories_run_along_the_training_loss() -> None:
    figure = PLOTS["trajectories"](RUNS, ALT)
    losses = RUNS.of(BATCH).curves("fit_loss")
    mean, seed = (rows(figure, name, panel="gap") for name in ("batch norm", "batch norm, seed 1"))
    ends = losses[:, 0].min(), losses.min(axis=1).max()  # where all seeds have been
    assert mean.x.to_numpy()[[0, -1]] == pytest.approx(ends, rel=1e-5)
    middle = at_equal_fit(RUNS, {"b": BATCH}, gap, [mean.x.iloc[5]])["b"]
    assert mean.y.iloc[5] == pytest.approx(middle.mean(), rel=1e-4)
    assert seed.y.iloc[5] == pytest.approx(middle[1], rel=1e-4)
    there = interval(at_equal_fit(RUNS, {"b": BATCH}, gap, [COMPARED])["b"])
    bar = rows(figure, "batch norm, compared", "band", panel="gap")
    assert bar[["low", "high"]].to_numpy()[0] == pytest.approx([there.low, there.high], rel=1e-5)
    assert legend(figure) == ["without", "batch norm", "compared here"]
    assert figure.axes[0].xaxis_inverted()


def test_every_panel_of_trajectories_is_called_by_its_title_among_the_numbers() -> None:
    shown = {"few": [PLAIN], "many": [BATCH]}
    figure = figures.trajectories(RUNS, shown, {"gap": gap, "loss": "val_loss"}, alt=ALT)
    assert set(figure.data.panel) == {"few", "many"}
    seen = [axes.get_title("left") for axes in figure.axes if axes._left_title.get_visible()]  # type: ignore[attr-defined]
    assert seen == ["few", "many"]


# Dots and effects


def test_dots_stand_side_by_side_hollow_for_moving_statistics() -> None:
    group = {"a\nb": [(BATCH, MOVING_TEST), (BATCH, TEST)], "c": [(PLAIN, TEST)]}
    figure = figures.dots(RUNS, {"title": group}, names=("place",), alt=ALT)
    found = interval([run.history[MOVING_TEST][0] for run in RUNS.of(BATCH)])
    dot = rows(figure, BATCH_MOVING, "points")
    assert dot[["y", "low", "high"]].to_numpy()[0] == pytest.approx(
        [found.mean, found.low, found.high], rel=1e-5
    )
    assert dot.x.to_list() == ["a b"]
    assert rows(figure, f"{BATCH_MOVING}, seed 2", "points").y.to_list() == pytest.approx(
        [found.values[2]], rel=1e-5
    )
    assert legend(figure) == ["moving statistics", "population statistics, or none needed"]
    (axes,) = figure.axes
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() == "none" for line in dots] == [True, False, False]
    places = [float(np.asarray(line.get_xdata())[0]) for line in dots]
    assert places == pytest.approx([-0.1, 0.2, 1.05])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("place", "test accuracy")


def test_lying_dots_have_a_row_for_each_name_and_a_panel_may_lack_some() -> None:
    both = [(BATCH, MOVING_TEST), (BATCH, TEST)]
    figure = figures.dots(
        RUNS, {"few": {"one": both}, "many": {"one": both, "two": both}}, across=True, alt=ALT
    )
    assert legend(figure) == ["moving statistics", "population statistics"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["one", "two"]
    assert set(figure.data[figure.data.panel == "few"].y) == {"one"}
    assert set(figure.data[figure.data.panel == "many"].y) == {"one", "two"}
    assert figure.axes[0].yaxis_inverted()


def test_dots_may_name_what_is_read_of_everything() -> None:
    group: Any = {"one": BATCH, "other": RUNS.of(BATCH.but(batch_size=64))}
    both = {name: [(one, MOVING_TEST), (one, TEST)] for name, one in group.items()}
    short = figures.dots(RUNS, {"title": group}, (MOVING_TEST, TEST), alt=ALT)
    assert short.data.equals(figures.dots(RUNS, {"title": both}, alt=ALT).data)


def test_panels_of_lying_dots_may_have_scales_of_their_own() -> None:
    near = (
        made_up(PLAIN.but(depth=2), 0, **{TEST: [0.1]}),
        made_up(PLAIN.but(depth=2), 1, **{TEST: [0.2]}),
    )
    shown: Any = {"far": {"a": [(PLAIN, TEST)]}, "near": {"a": [(Runs(near), TEST)]}}
    for shared in (True, False):
        figure = figures.dots(RUNS, shown, across=True, shared=shared, alt=ALT)
        left, right = figure.axes
        assert (left.get_xlim() == right.get_xlim()) == shared
        assert left.get_ylim() == right.get_ylim()


def test_an_effect_is_drawn_whole_but_a_dot_s_interval_may_be_cut_off() -> None:
    wide = interval([0.1, 0.2])
    effect = figures.effects(RUNS, {"wide": wide}, alt=ALT)
    low, high = effect.axes[0].get_xlim()
    assert low < 100 * wide.low < 100 * wide.high < high
    assert rows(effect, "wide", "points")[["x", "low", "high"]].to_numpy()[0] == pytest.approx(
        [15, 100 * wide.low, 100 * wide.high], rel=1e-5
    )
    with panels(RUNS, alt=ALT) as (panel,):
        panel.dot("wide", (0, "here"), wide, color=INK)
    assert plt.gca().get_ylim()[0] > wide.low


def test_ratios_are_averaged_as_logarithms() -> None:
    figure = PLOTS["ratios"](RUNS, ALT)
    found = rows(figure, "batch norm", "points")
    assert found[["x", "y"]].to_numpy().tolist() == [[2.0, "MLP"]]


def test_ratios_are_called_what_they_are_and_coloured_by_their_normaliser() -> None:
    rounds = pd.Series([2.0, 8.0], pd.Index([5, 6], name="round"))
    names = {"layer norm": rounds, "other": rounds, "batch norm": rounds}
    figure = figures.ratios(
        RUNS, {"": {"row": names}}, xlabel="time", colors={"batch norm": INK}, alt=ALT
    )
    assert rows(figure, "layer norm, round 6", "points").x.to_list() == [8.0]
    assert "A tick for each round, " in str(figure.get_label())
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    colors = [to_hex(line.get_color()) for line in dots]
    assert colors == [COLORS["layer"], COLORS["batch"], INK]


# What was computed without runs


def test_lines_have_a_band_where_they_are_means() -> None:
    figure = PLOTS["lines"](RUNS, ALT)
    assert legend(figure) == ["mean", "one", "squares"]
    assert rows(figure, "mean").y.to_list() == [2, 2, 4]
    assert rows(figure, "one")[["x", "y"]].to_numpy().tolist() == [[1, 3], [2, 2], [3, 1]]
    assert rows(figure, "squares").y.to_list() == [1, 4, 9]
    band = rows(figure, "mean", "band")
    assert band[["low", "high"]].to_numpy()[0] == pytest.approx([1.1, 2.9])
    assert rows(figure, "one", "band").empty
    assert str(figure.get_label()).endswith("A line for a mean, a band for the middle 90 %.")
    colors = [to_hex(line.get_color()) for line in figure.axes[0].lines]
    assert colors == [COLORS["batch"], COLORS[None], INK]


def test_lines_have_a_place_a_style_and_scales() -> None:
    figure = figures.lines(
        RUNS, {"a": {"one": [1, 10]}, "b": {"one": [2, 20]}}, [1, 100], xlabel="x", ylabel="y",
        log="xy", ylim=(0.5, 50), styles={"one": {"color": COLORS["layer"], "linewidth": 5}}, alt=ALT,
    )  # fmt: skip
    assert rows(figure, "one", panel="b")[["x", "y"]].to_numpy().tolist() == [[1, 2], [100, 20]]
    left, right = figure.axes
    assert (left.get_xscale(), right.get_yscale(), left.get_ylabel()) == ("log", "log", "y")
    assert left.get_ylim() == right.get_ylim() == (0.5, 50)
    assert to_hex(left.lines[0].get_color()) == COLORS["layer"]
    assert str(figure.get_label()) == ALT


# Panels by hand


def test_panels_note_whatever_is_drawn_on_them() -> None:
    with panels(RUNS, (1, 2), alt=ALT, sharey=True) as (left, right):
        left.course(
            "step by step", RUNS.of(PLAIN), "loss", over="step", color=INK, mean="geometric"
        )
        left.line("theory", [1, 2], [3, 4], color=INK, linestyle="--")
        left.line("measured", [1, 2], [3, 5], color=INK, marker="o", linestyle="", legend=False)
        left.band("range", [1, 2], [0, 1], [2, 3], color=INK)
        right.level(0.5, series="half")
        right.level(0.7)
        right.span("between", 0.1, 0.2, color=INK)
        right.ticks("x", [1, 2, 4], log=2)
        left.axes.set(title="left", xlabel="step", ylabel="loss")
    figure = figures.canvas.finished()
    assert legend(figure) == ["step by step", "theory"]
    data = figure.data
    means = np.exp(np.log(RUNS.of(PLAIN).curves("loss")).mean(axis=0))
    assert rows(figure, "step by step").y.to_numpy() == pytest.approx(means, rel=1e-5)
    assert rows(figure, "measured", "points")[["x", "y"]].to_numpy().tolist() == [[1, 3], [2, 5]]
    assert rows(figure, "range", "band")[["low", "high"]].to_numpy().tolist() == [[0, 2], [1, 3]]
    assert data[data.panel == "panel 2"].series.to_list() == ["half", "between"]
    assert set(data[data.panel == "left"].x_axis) == {"step"}
    assert data.groupby("panel").line.max().to_dict() == {"left": 7, "panel 2": 2}


def test_a_wide_interval_does_not_squeeze_the_curves() -> None:
    with panels(RUNS, alt=ALT) as (panel,):
        panel.seeds("batch norm", [1, 2], [[0.4, 0.1], [0.5, 0.9]], color=INK, band=True)
    axes = plt.gca()
    band = axes.collections[0].get_paths()[0].get_extents()
    assert band.y0 < 0 < axes.get_ylim()[0]


def test_a_bar_that_the_axes_cut_off_has_an_arrow_head() -> None:
    with panels(RUNS, alt=ALT) as (panel,):
        panel.line("batch norm", [0, 1], [0, 1], color=INK)
        panel.bar("batch norm", 0.5, -3, 0.5, color=INK)
    figure = plt.gcf()
    heads = [
        line.get_marker() for line in panel.axes.lines if line.get_marker() in ("<", ">", "^", "v")
    ]
    assert heads == ["v"]
    assert "an arrow head where a bar goes on" in str(figure.get_label())
    assert panel.axes.get_ylim()[0] > -1


def test_one_network_has_two_scores_and_their_distance() -> None:
    recipes = [Recipe(epochs=3), Recipe(epochs=3, norm="batch")]
    runs = several(*recipes)
    figure = figures.two_scores(runs, *recipes, epochs=2, alt=ALT)
    moving, population = (
        runs.of(recipes[1]).curves(name)[:, -2:].mean()
        for name in ("val_accuracy", "val_accuracy_population")
    )
    texts = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert f"{100 * abs(population - moving):.1f} points apart" in texts
    assert "recomputed" in texts
    assert rows(figure, "as Keras reads it").y.iloc[-2:].mean() == pytest.approx(moving, rel=1e-5)


def test_ratios_have_a_logarithmic_forest_with_its_band_about_one() -> None:
    found = {"half": interval([0.4, 0.5, 0.6])}
    figure = figures.effects(RUNS, found, unit="ratio", smallest={"half": 2}, title="less", alt=ALT)
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_title("left")) == ("log", "less")
    assert axes.patches[0].get_extents().transformed(axes.transData.inverted()).x0 == pytest.approx(
        0.5
    )
    assert rows(figure, "half", "points").x.to_list() == pytest.approx([0.5])
    assert "a bar for its 95 % interval" in figure.meaning
    wide = {"half": interval([0.4, 0.5, 0.6], 0.99)}
    assert "a bar for its interval, of 95 % or more" in figures.effects(RUNS, wide, alt=ALT).meaning


@pytest.mark.parametrize(
    ("labels", "columns"),
    [
        (["without", BATCH_MOVING, BATCH_POPULATION], 3),
        (["x" * 30] * 4, 2),
        (["x" * 12] * 4, 4),
        (["x" * 18] * 4, 2),
        (["x" * 90] * 2, 1),
        (["a"], 1),
    ],
)
def test_a_legend_has_as_many_columns_as_fit(labels: list[str], columns: int) -> None:
    assert figures.canvas._columns(labels, 7.2) == columns


def test_a_short_logarithmic_axis_names_more_than_its_powers_of_ten() -> None:
    with panels(RUNS, (1, 2), alt=ALT) as (short, long):
        for panel, high in ((short, 4), (long, 1e5)):
            panel.line("line", [0, 1], [0.3, high], color=INK)
            panel.axes.set_yscale("log")
    names = [[text.get_text() for text in one.axes.get_yticklabels()] for one in (short, long)]
    assert {"0.3", "0.5", "0.7", "1", "1.5", "2", "3"} <= set(names[0])
    assert not {"0.3", "3"} & set(names[1])


def test_a_figure_that_fails_is_not_finished() -> None:
    def failing() -> Any:
        with panels(RUNS, alt=ALT):
            raise RuntimeError("no data")

    with pytest.raises(RuntimeError, match="no data"):
        failing()
