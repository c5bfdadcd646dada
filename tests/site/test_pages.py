"""The built pages, in any profile: figures, cells, links, and nothing from elsewhere."""

import json
import math
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import bn_workbook
import nbformat
import numpy as np
import pandas as pd
import pytest

from bn_tutorial import evidence

from .conftest import ROOT, SCRIPTS, WRITTEN, Site


def test_every_figure_is_there_and_has_a_written_alternative(site: Site) -> None:
    figures = 0
    for name, page in site.pages.items():
        for image in page.select("article img"):
            source = (site.html / name).parent / unquote(str(image["src"]))
            alt = str(image.get("alt", ""))
            assert source.is_file(), f"{name} lacks {source.name}"
            assert len(alt.split()) > 3, f"{name}: {source.name} has the alternative text {alt!r}"
            figures += "sphx_glr_plot" in source.name
    assert figures >= 50


def test_figures_follow_the_colour_scheme(site: Site) -> None:
    figures = list((site.html / "_images").glob("*.svg"))
    assert len(figures) >= 50
    for file in figures:
        text = file.read_text()
        assert "prefers-color-scheme:dark" in text
        assert "var(--ink)" in text
        assert "#1f2328;" not in text.partition("</style>")[2]


def test_the_numbers_of_every_figure_can_be_taken_along(site: Site) -> None:
    figures = 0
    for name, page in site.pages.items():
        shown = [
            image
            for image in page.select("article img[src$='.svg']")
            if "thumb" not in str(image["src"])
        ]
        assert len(page.select(".figure-data")) == len(shown), name
        links = page.select(".figure-data a[download]")
        assert len(links) == len(shown) or name.startswith(
            ("learn/", "cifar10", "auto_examples/questions/plot_44")
        )  # drawings, photos
        for link in links:
            table = pd.read_csv((site.html / name).parent / str(link["href"]))
            assert {"panel", "kind"} <= set(table), f"{name}: {link['href']}"
        figures += len(links)
    assert figures >= 50


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_card_says_the_question_and_the_verdict(site: Site, script: Path) -> None:
    title = site.pages[f"auto_examples/{script.parent.name}/{script.stem}.html"].h1
    cards = [
        card
        for card in site.pages["auto_examples/index.html"].select(".sphx-glr-thumbcontainer")
        if card.select(f"a[href$='{script.stem}.html'], img[src*='{script.stem}']")
    ]
    (card,) = cards
    question = card.select_one(".sphx-glr-thumbnail-title")
    assert title is not None
    assert question is not None
    assert question.get_text().strip() == title.get_text().removesuffix("#").strip()
    assert card.select(".card-answer .verdict")
    assert card.select(".card-answer .effect-words")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_description_begins_with_the_page_s_own_words(site: Site, script: Path) -> None:
    """Search engines show it, and whatever shows links."""
    page = site.pages[f"auto_examples/{script.parent.name}/{script.stem}.html"]
    _, *parts = script.read_text().split("\n\n")
    first = next(part for part in parts if not part.startswith("..")).split()[0]
    for name in ("name=description", "property='og:description'"):
        (described,) = page.select(f"meta[{name}]")
        assert str(described["content"]).startswith(first)


def test_an_executed_page_says_how_it_was_made(site: Site) -> None:
    for name, page in site.pages.items():
        executed = (name.startswith("auto_examples/") and "/plot_" in name) or page.select(".cell")
        box = page.select_one(".made-with")
        assert (box is not None) == bool(executed), name
        if box is not None:
            terms = [term.get_text() for term in box.select("dt")]
            experiment = ["Computed"] * name.startswith("auto_examples/")
            rest = ["Profile", "Device", "Versions", "Data", "Seeds", "Seconds"]
            assert terms == ["Built", *experiment, *rest]
            assert all(value.get_text().strip() for value in box.select("dd"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_experiment_s_box_says_what_was_recorded(
    site: Site, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BN_TUTORIAL_HOME", str(site.home))
    found = evidence.recall(script.stem.split("_", 2)[2].replace("_", "-"))
    page = site.pages[f"auto_examples/{script.parent.name}/{script.stem}.html"]
    says = {row.dt.get_text(): row.dd.get_text() for row in page.select(".made-with dl > div")}  # type: ignore[union-attr]
    seeds = found["seeds"] if isinstance(found["seeds"], list) else [found["seeds"]]
    words = "0 alone" if seeds == [1] else f"{' to '.join(map(str, seeds))} of each recipe"
    assert says["Seeds"].startswith(words)
    assert f"; {found['seconds']:.0f} to train" in says["Seconds"]
    runs, elsewhere = found["computed"]["runs"], found["computed"]["elsewhere"]
    assert says["Computed"].startswith(
        f"{elsewhere} of its {runs} runs elsewhere"
        if elsewhere
        else f"here, all of its {runs} runs"
    )


@pytest.mark.parametrize("name", [name for name in WRITTEN if "{code-cell}" in WRITTEN[name]])
def test_every_cell_was_executed(site: Site, name: str) -> None:
    cells = site.pages[name].select(".cell")
    assert len(cells) == WRITTEN[name].count("{code-cell}") - WRITTEN[name].count("[remove-cell]")
    for cell in cells:
        assert cell.select(".cell_output") or "figures.inline()" in cell.get_text()


@pytest.mark.parametrize(
    "name", [name for name in WRITTEN if re.match(r"(learn|practice)/(?!index)", name)]
)
def test_a_teaching_page_says_what_it_needs_and_leads_on(site: Site, name: str) -> None:
    page = site.pages[name]
    start = page.select_one(".admonition")
    assert start is not None
    assert re.search(r"Before you start.* \d+ minutes", " ".join(start.get_text().split()))
    links = {str(link["href"]) for link in page.select("article a[href]")}
    assert any("auto_examples/" in link for link in links)


def test_what_people_ask_is_two_clicks_from_home(site: Site) -> None:
    assert site.pages["index.html"].select("a[href='practice/index.html']")
    asked = site.pages["practice/index.html"].select("#people-ask li")
    assert len(asked) >= 20
    for question in asked:
        assert "?" in question.get_text()
        assert question.select("a[href]"), question.get_text()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_experiment_leads_to_the_pages_that_explain_it(site: Site, script: Path) -> None:
    page = site.pages[f"auto_examples/{script.parent.name}/{script.stem}.html"]
    links = [str(link["href"]) for link in page.select("article a[href]")]
    assert any(link.startswith(("../../learn/", "../../practice/")) for link in links)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_experiment_can_be_predicted(site: Site, script: Path) -> None:
    name = f"auto_examples/{script.parent.name}/{script.stem}"
    (answer,) = site.pages[f"{name}.html"].select(".answer[data-predict]")
    told = json.loads(str(answer["data-predict"]))
    assert told["page"] == name
    assert math.isfinite(told["mean"])
    assert told["unit"] in ("points", "ratio", "number")
    assert told["effect"]


def test_a_list_does_not_tell_what_is_right(site: Site) -> None:
    forms = [form for page in site.pages.values() for form in page.select("form.ask:has(ul)")]
    asked = [json.loads(str(form["data-ask"])) for form in forms]
    places = [one["right"] for one in asked if one["kind"] == "choice"]
    assert all(places.count(place) < len(places) / 2 for place in places)
    orders = [one["right"] for one in asked if one["kind"] == "order"]
    assert orders
    assert all(right != sorted(right) for right in orders)


def test_every_link_within_the_site_leads_somewhere(site: Site) -> None:
    pages = site.pages
    for name, page in pages.items():
        canonical = page.select_one("link[rel=canonical]")
        root = urlsplit(str(canonical["href"])).path.removesuffix(name) if canonical else ""
        for link in page.select("a[href]"):
            url, anchor = urldefrag(str(link["href"]))
            if urlsplit(url).scheme:
                continue
            if name == "404.html":  # whose links start at the root
                url = url.removeprefix(root)
            target = (
                ((site.html / name).parent / unquote(url)).resolve() if url else site.html / name
            )
            assert target.exists(), f"{name} links to {url}"
            if anchor and target.suffix == ".html":
                other = pages[target.relative_to(site.html.resolve()).as_posix()] if url else page
                assert other.find(id=anchor), f"{name} links to {url}#{anchor}"


def test_no_page_asks_another_host_for_anything(site: Site) -> None:
    for name, page in site.pages.items():
        for tag in page.select("script[src], img[src], iframe[src], link[rel=stylesheet][href]"):
            address = str(tag.get("src") or tag.get("href"))
            assert not urlsplit(address).netloc, f"{name} asks for {address}"


def test_scaling_out_shows_what_was_measured(site: Site) -> None:
    content = json.loads((ROOT / "docs/scaling/measured.json").read_text())
    arms = pd.DataFrame(content["measured"]).groupby(["sweep", "where", "workers"])
    seconds = {arm: table.set_index("repetition")["seconds"] for arm, table in arms}
    rows = site.pages["scaling.html"].select("article table tbody tr")
    texts = [[cell.get_text() for cell in row.select("td")] for row in rows]
    assert len(texts) == len(seconds)
    shown = {(sweep, name): cells[-1] for sweep, name, *cells in texts}
    for sweep in content["sweeps"]:
        ratio = seconds[sweep, "processes", 1] / seconds[sweep, "processes", 2]
        assert shown[sweep, "--workers 2"].startswith(f"×{np.exp(np.log(ratio).mean()):.2f} (")
        assert shown[sweep, "--workers 1"] == "–"


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # in Keras, when it saves
def test_the_notebook_examines_a_model_that_lies_beside_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bn_tutorial.networks.backend import keras

    notebook = nbformat.read(site.html / "_static" / "checkup.ipynb", 4)
    nbformat.validate(notebook)
    _, install, *rest = (cell.source for cell in notebook.cells)
    assert install.startswith("%pip install -q ")
    layers = [keras.Input((4,)), keras.layers.BatchNormalization()]
    keras.Sequential(layers).save(tmp_path / "model.keras")
    np.savez(tmp_path / "images.npz", x=np.random.default_rng(0).normal(2, 3, (64, 4)))
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for code in rest:
        exec(code, namespace)  # noqa: S102
    assert namespace["report"].findings[0].kind == "statistics-not-restored"


@pytest.mark.parametrize("script", bn_workbook.SCRIPTS, ids=lambda path: path.stem)
def test_the_workbook_offers_each_notebook_open_and_solved(site: Site, script: Path) -> None:
    page = site.pages["learn/workbook.html"]
    (colab,) = page.select(f".downloads a[href*='colab'][href$='{script.stem}.ipynb']")
    for solved, ending in ((False, ".ipynb"), (True, "_solved.ipynb")):
        (link,) = page.select(f".downloads a[download][href$='{script.stem}{ending}']")
        path = site.html / "learn" / str(link["href"])
        notebook = nbformat.read(path, 4)
        nbformat.validate(notebook)
        install, *code = (cell.source for cell in notebook.cells if cell.cell_type == "code")
        assert re.fullmatch(r"%pip install -q \S+_static/wheels/bn_tutorial-\S+\.whl", install)
        assert code == bn_workbook.code_cells(script, solved=solved)
        text = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        assert "](http" in text  # names of pages have become links
        assert not re.search("`(learn|practice)-", text)
        if not solved:
            assert unquote(str(colab["href"])).endswith(f"/_static/workbook/{path.name}")
