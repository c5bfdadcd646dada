"""The slides: a figure of the site and a page behind each, no number typed, and plans that add up."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from bn_slides import MINUTES, PLANS

from .conftest import WRITTEN, Site

PAGE, PLAN = "learn/slides.html", "learn/lecture.html"
SOURCE = WRITTEN[PAGE]
#: What may hold a digit: cells, options, roles, formulas, the names of figures.
NO_PROSE = re.compile(
    r"(?ms)\A---.*?^---$|^```\{code-cell\}.*?^```$|^```\{(?:slide|shown)\}.*?$|^:\w+: \d+$|^---$.*?^---$"
    r"|\{[\w:]+\}`[^`]*`|\$\$.*?\$\$|\$[^$\n]+\$|^:::+$"
)


def test_no_number_is_typed_into_a_slide() -> None:
    prose = NO_PROSE.sub("", SOURCE)
    assert len(prose.split()) > 1000
    assert not re.findall(r".*\d.*", prose)


@pytest.mark.parametrize("plan", PLANS)
def test_each_lecture_fills_its_time(plan: str) -> None:
    minutes = [int(found) for found in re.findall(rf"(?m)^:{plan}: (\d+)$", SOURCE)]
    assert len(minutes) >= 10
    assert sum(minutes) == MINUTES


def test_a_slide_has_what_it_announces(site: Site) -> None:
    slides = site.pages[PAGE].select("section.slide")
    parts = re.split(r"(?m)^## ", SOURCE)[1:]
    assert len(slides) == len(parts) >= 40
    for slide, part in zip(slides, parts, strict=True):
        title = part.partition("\n")[0]
        assert slide.h2 is not None
        assert slide.h2.get_text().removesuffix("#").strip() == title
        images = slide.select(".figure-box img")
        assert len(images) == part.count("```{shown}"), title
        for image in images:
            file = site.html / Path(PAGE).parent / unquote(str(image["src"]))
            assert file.is_file(), title
            assert len(str(image["alt"]).split()) > 3, title
        (link,) = slide.select(".slide-foot a")
        assert (site.html / Path(PAGE).parent / str(link["href"])).resolve().is_file(), title
        assert len(slide.select("details.speaker")) == 1, title
        assert len(slide.select(".slide-ask")) == 1, title


def test_a_plan_lists_its_slides(site: Site) -> None:
    tables = site.pages[PLAN].select("table.plan")
    assert len(tables) == len(PLANS)
    for name, table in zip(PLANS, tables, strict=True):
        rows = [row.select("td") for row in table.select("tbody tr")]
        slides = site.pages[PAGE].select(f".slide.in-{name}")
        shown = [f"slides.html#{slide['id']}" for slide in slides]
        assert [cells[1].a["href"] for cells in rows] == shown  # type: ignore[index]
        minutes = [int(cells[0].get_text()) for cells in rows]
        assert minutes == sorted(set(minutes))
        asked = [slide.select(".slide-ask")[0].get_text() for slide in slides]
        assert [cells[3].get_text() for cells in rows] == asked


def test_home_leads_to_the_lecture(site: Site) -> None:
    assert site.pages["index.html"].select(f"a[href='{PLAN}']")
