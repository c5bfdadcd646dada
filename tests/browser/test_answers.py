"""A reader sees the answer: early on each experiment's page, whole, legible, the same everywhere."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, Page

from bn_tutorial.evidence import claims

from .conftest import pages

EXPERIMENTS = [name for name in pages() if "/plot_" in name]
#: Pages whose figures a reader with a phone should be able to read.
LEGIBLE = ["index.html", "auto_examples/index.html", *EXPERIMENTS]
SHOWN = "article .highlight-Python pre"


@pytest.fixture(scope="module")
def desktop(browser: Browser) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1440, "height": 900}) as context:
        yield context.new_page()


@pytest.fixture(scope="module")
def phone(browser: Browser) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 390, "height": 844}) as context:
        yield context.new_page()


def top(page: Page, selector: str) -> float:
    found: float = page.locator(selector).first.evaluate(
        "element => element.getBoundingClientRect().top + scrollY"
    )
    return found


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_answers_on_its_first_screen(desktop: Page, address: str, name: str) -> None:
    desktop.goto(address + name)
    answer = desktop.locator(".answer")
    box = answer.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 900
    assert answer.locator(".effect-words").inner_text().strip() not in ("", "–")
    assert answer.locator("p:not(.answer-others) .verdict").count() == 1
    assert answer.locator("svg.effect").count() == 1
    assert top(desktop, "article img[src$='.svg']") < 1600
    for link in answer.locator(".answer-links a").all():
        assert desktop.locator(str(link.get_attribute("href"))).count() == 1


def visible(page: Page, selector: str) -> list[list[int]]:
    """Return lines, widths and heights of the boxes that are open: shown, and there."""
    found: list[list[int]] = page.eval_on_selector_all(
        selector,
        """found => found.filter(one => one.checkVisibility() && !one.closest("details:not([open])"))
        .map(one => [one.innerText.split("\\n").filter(line => line.trim()).length,
                     one.scrollWidth - one.clientWidth, one.scrollHeight - one.clientHeight])""",
    )
    return found


def test_little_code_is_shown_and_nothing_is_cut(desktop: Page, address: str) -> None:
    counts = []
    for name in EXPERIMENTS:
        desktop.goto(address + name)
        boxes = visible(desktop, SHOWN)
        assert [wide for _, wide, _ in boxes if wide > 0] == [], name
        counts.append(sum(lines for lines, _, _ in boxes))
        outputs = visible(desktop, ".sphx-glr-script-out pre")
        assert [one for one in outputs if one[1] > 0 or one[2] > 0] == [], name
    print("lines shown:", sorted(counts))
    assert 0 < statistics.median(counts) <= 60
    assert max(counts) <= 110


def test_no_line_of_the_notebook_is_cut(desktop: Page, address: str) -> None:
    desktop.goto(address + "notebook.html")
    boxes = visible(desktop, "article .side-by-side pre")
    assert boxes
    assert [wide for _, wide, _ in boxes if wide > 0] == []


@pytest.mark.parametrize("name", pages())
def test_no_article_slides_sideways_on_a_phone(phone: Page, address: str, name: str) -> None:
    phone.goto(address + name)
    over = phone.eval_on_selector_all(
        ".bd-article-container, .bd-article",
        "found => found.map(a => a.scrollWidth - a.clientWidth)",
    )
    assert max(over) <= 0


def smallest_text(svg: str) -> tuple[float, float]:
    """Return the size of the smallest text of a figure, and its width, in the drawing's own units."""
    width = re.search(r'viewBox="0 0 ([\d.]+) ', svg)
    texts = re.findall(r'<g id="text_\d+">.*?scale\(([\d.]+) -[\d.]+\)', svg, re.DOTALL)
    assert width is not None
    return 100 * min(map(float, texts)), float(width[1])


@pytest.mark.parametrize("name", LEGIBLE)
def test_figures_can_be_read_on_a_phone(phone: Page, address: str, html: Path, name: str) -> None:
    phone.goto(address + name)
    pictures = "article img[src*='sphx_glr']" + (".key-figure" if name in EXPERIMENTS else "")
    shown = phone.eval_on_selector_all(
        pictures, "found => found.map(one => [one.src, one.getBoundingClientRect().width])"
    )
    assert shown
    for source, width in shown:
        size, drawn = smallest_text((html / source.removeprefix(address)).read_text())
        assert size * width / drawn >= 10, source


def test_the_verdicts_are_not_endless_on_a_phone(phone: Page, address: str) -> None:
    phone.goto(address + "verdicts.html")
    assert top(phone, ".bd-footer") <= 10_000


def test_a_claim_has_one_word_wherever_it_stands(html: Path) -> None:
    def said(name: str) -> BeautifulSoup:
        return BeautifulSoup((html / name).read_text(), "html.parser")

    ledger = said("verdicts.html").select("table.ledger")[0].select("tbody tr")
    expected = {claim.id: "" for claim in claims().values()}
    for row in ledger:
        link, word = row.select_one("a[href^='#claim-']"), row.select_one("td:last-child .verdict")
        assert link is not None
        assert word is not None
        expected[str(link["href"]).removeprefix("#claim-")] = word.get_text()
    assert all(expected.values())
    found = 0
    for name in ("index.html", "advantages.html", "limitations.html", "learn/debate.html"):
        for link in said(name).select("a[href*='verdicts.html#claim-']"):
            place = link.find_parent(("li", "p"))
            word = place and place.select_one(".verdict")
            if word is None:
                continue
            assert word.get_text() == expected[str(link["href"]).partition("#claim-")[2]], name
            found += 1
    assert found >= 2 * len(expected)
