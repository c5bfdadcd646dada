"""The figures that a reader moves: their numbers are the library's, and everybody can use them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Locator, Page, expect

from bn_tutorial import scratch
from bn_tutorial.scratch.theory import batch_noise, expected_variance_ratio

from .conftest import lost

MOVE, NOISE = "learn/move_the_batch.html", "learn/noise.html"
PAGES = pytest.mark.parametrize("path", [MOVE, NOISE])
NUMBER = re.compile(r"−?\d+\.\d+")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Return a new page on which an error of a script, or a request that fails, is an error."""
    context = browser.new_context()
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.extend(lost(request)))
    yield page
    context.close()
    assert not complaints


def numbers(place: Locator) -> list[float]:
    return [float(text.replace("−", "-")) for text in NUMBER.findall(place.inner_text())]


def data(page: Page) -> dict[str, Any]:
    content = page.locator(".interactive script").text_content()
    assert content is not None
    found: dict[str, Any] = json.loads(content)
    return found


def press(control: Locator, key: str, times: int = 1) -> None:
    control.focus()
    for _ in range(times):
        control.press(key)


# Move the batch


class Mover:
    """The first figure, beside what the library makes of the same numbers."""

    def __init__(self, page: Page, address: str) -> None:
        page.goto(address + MOVE)
        self.page, self.data = page, data(page)
        self.x = np.array(self.data["x"])[:, None]
        self.gamma, self.beta = np.ones(1), np.zeros(1)
        self.moving: list[NDArray[Any]] = [np.zeros(1), np.ones(1)]

    def slider(self, name: str) -> Locator:
        return self.page.get_by_role("slider", name=name, exact=True)

    def train(self, steps: int) -> None:
        _, cache = scratch.forward(self.x, self.gamma, self.beta)
        for _ in range(steps):
            self.moving = [
                scratch.update_moving(old, new)
                for old, new in zip(self.moving, (cache.mean, cache.variance), strict=True)
            ]

    def check(self) -> None:
        """Compare every number shown with the library's, to the last digit."""
        y, cache = scratch.forward(self.x, self.gamma, self.beta)
        known = self.data["population"]
        population = np.array([known["mean"]]), np.array([known["variance"]])
        statistics = {
            "This batch": (cache.mean, cache.variance),
            "Moving": (self.moving[0], self.moving[1]),
            "Population": population,
        }
        for name, (mean, variance) in statistics.items():
            if name != "This batch":
                y = scratch.infer(self.x, self.gamma, self.beta, mean, variance)
            row = self.page.get_by_role("row", name=name)
            assert numbers(row) == pytest.approx(list(y.ravel()), abs=0.00501), name
            panel = self.page.locator(".panel", has_text=name)
            assert numbers(panel.locator("output")) == pytest.approx(
                [mean.item(), variance.item()], abs=0.00501
            )
        row = self.page.get_by_role("row", name="Input")
        assert numbers(row) == pytest.approx(list(self.x.ravel()), abs=1e-9)


@pytest.fixture
def mover(page: Page, address: str) -> Mover:
    return Mover(page, address)


def test_the_numbers_are_those_of_the_library(mover: Mover) -> None:
    mover.check()
    press(mover.slider("example 6"), "ArrowRight", 12)
    mover.x[5] += 12 * mover.data["step"]
    mover.check()
    press(mover.slider("γ"), "ArrowRight", 7)
    press(mover.slider("β"), "ArrowLeft", 13)
    mover.gamma, mover.beta = mover.gamma + 0.7, mover.beta - 1.3
    mover.check()
    for steps, button in ((1, "Update the moving statistics"), (100, "… 100 times")):
        press(mover.page.get_by_role("button", name=button), "Enter")
        mover.train(steps)
        mover.check()
    expect(mover.page.get_by_text("101 updates so far")).to_be_visible()
    press(mover.slider("example 2"), "Home")
    mover.x[1] = mover.data["range"][0]
    mover.check()


def test_the_figure_starts_again(mover: Mover) -> None:
    form = mover.page.locator(".interactive form")
    before = form.inner_html()
    for name in ("example 1", "γ", "β"):
        press(mover.slider(name), "End")
    press(mover.page.get_by_role("button", name="… 100 times"), "Space")
    assert form.inner_html() != before
    press(mover.page.get_by_role("button", name="Start again"), "Space")
    mover.check()
    assert form.inner_html() == before


def test_a_moved_example_moves_all_outputs_of_its_batch_and_no_other(mover: Mover) -> None:
    def rows() -> list[list[float]]:
        names = ("This batch", "Moving", "Population")
        return [numbers(mover.page.get_by_role("row", name=name)) for name in names]

    before = rows()
    press(mover.slider("example 6"), "End")
    changed = [
        sum(a != b for a, b in zip(*pair, strict=True)) for pair in zip(before, rows(), strict=True)
    ]
    assert changed == [6, 1, 1]


def test_a_dot_can_be_dragged(mover: Mover) -> None:
    mover.page.locator(".interactive").scroll_into_view_if_needed()
    drawing = mover.page.locator(".panel svg").nth(2)
    low, high, value = -4, 4, mover.data["x"][1]
    box = drawing.bounding_box()
    assert box is not None

    def place(value: float) -> tuple[float, float]:
        share = 0.04 + 0.92 * (value - low) / (high - low)
        return box["x"] + share * box["width"], box["y"] + 30

    mover.page.mouse.move(*place(value))
    mover.page.mouse.down()
    mover.page.mouse.move(*place(-0.5), steps=5)
    mover.page.mouse.up()
    mover.page.mouse.move(*place(1))  # the dot has been let go
    mover.x[1] = mover.slider("example 2").input_value()
    assert mover.x[1] == pytest.approx(-0.5, abs=0.051)
    mover.check()


# The noise of a batch


def test_statistics_scatter_as_theory_says(page: Page, address: str) -> None:
    page.goto(address + NOISE)
    known = data(page)
    values = np.array(known["values"])
    deviations = (values - known["population"]["mean"]) / known["population"]["std"]
    assert (deviations.mean(), deviations.std()) == pytest.approx((0, 1), abs=1e-9)
    slider = page.get_by_role("slider", name="batch size")
    press(slider, "Home")
    for size in 2 ** np.arange(1, 9):
        expect(slider).to_have_attribute("aria-valuetext", f"{size} images")
        mean_law, std_law = (law.item() for law in batch_noise(size, np.mean(deviations**4)))
        mean, std, output = (numbers(panel) for panel in page.locator("output").all())
        assert [mean[2], std[2], output[2]] == pytest.approx(
            [mean_law, std_law, mean_law], abs=0.000501
        )
        # over a thousand batches a scatter is known to some 2 %, and an average to 0.03 scatters
        assert mean[0] == pytest.approx(0, abs=0.15 * mean_law)
        assert mean[1] == pytest.approx(mean_law, rel=0.1)
        square = std[0] ** 2 + std[1] ** 2
        assert square == pytest.approx(expected_variance_ratio(size).item(), rel=0.1)
        assert output[0] == pytest.approx(0, abs=0.2 * mean_law)
        if size == 2:  # the average image with each of the others in turn
            pairs = np.array([np.full_like(values, known["population"]["mean"]), values])
            y, _ = scratch.forward(pairs, np.ones_like(values), np.zeros_like(values))
            assert output[1] == pytest.approx(y[0].std(), rel=0.1)
        if size >= 16:
            assert std[1] == pytest.approx(std_law, rel=0.1)
            assert output[1] == pytest.approx(mean_law, rel=0.1)
        press(slider, "ArrowRight")


def test_another_draw_is_another_draw(page: Page, address: str) -> None:
    page.goto(address + NOISE)
    panels = page.locator(".panels")
    first = panels.inner_html()
    press(page.get_by_role("button", name="Draw again"), "Enter")
    assert panels.inner_html() != first
    page.reload()
    assert panels.inner_html() == first  # the same for all readers


# Both


@PAGES
def test_the_keyboard_reaches_every_control_in_order(page: Page, address: str, path: str) -> None:
    page.goto(address + path)
    controls = page.locator(".interactive :is(input, button)")
    count = controls.count()
    assert count >= 2
    controls.first.focus()
    for number in range(count):
        expect(controls.nth(number)).to_be_focused()
        outline = "element => getComputedStyle(element).outlineStyle"
        page.keyboard.press("Tab")
        page.keyboard.press("Shift+Tab")
        assert controls.nth(number).evaluate(outline) == "solid"
        page.keyboard.press("Tab")


@PAGES
def test_without_javascript_the_page_is_whole(browser: Browser, address: str, path: str) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(address + path)
        still = page.locator("article .cell_output img").first
        expect(still).to_be_visible()
        box = still.bounding_box()
        assert box is not None
        assert box["height"] > 200
        assert "with JavaScript" in page.locator(".interactive").inner_text()
        assert page.locator("article :is(input, button, form:not(.ask)):visible").count() == 0


@PAGES
def test_a_page_loads_its_own_script_and_asks_nobody_else(
    page: Page, address: str, path: str
) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address + path)
    assert all(url.startswith(address) for url in requests)
    scripts = [url for url in requests if "/_static/learn/" in url]
    assert [url.partition("?")[0] for url in scripts] == [
        f"{address}_static/{path.removesuffix('.html')}.js"
    ]


@PAGES
@pytest.mark.parametrize("width", [390, 768, 1440])
def test_nothing_is_wider_than_the_window(page: Page, address: str, path: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(address + path)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    form = page.locator(".interactive form")
    assert form.evaluate("form => form.scrollWidth <= form.clientWidth")


@PAGES
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_axe_finds_nothing(
    browser: Browser, address: str, path: str, scheme: Any, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    size: Any = {"width": width, "height": 900}
    with browser.new_context(color_scheme=scheme, viewport=size) as context:
        page = context.new_page()
        page.goto(address + path)
        expect(page.locator("html")).to_have_attribute("data-theme", scheme)
        press(page.get_by_role("slider").first, "ArrowRight")
        results = axe.Axe().run(page)
        assert results.violations_count == 0, results.generate_report()
