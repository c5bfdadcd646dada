"""Pages load little: styles that are used, icons that are shown, and each word about itself once."""

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import DOCS, Site

bn_light = pytest.importorskip("bn_light", reason="it needs what builds the site")
import pydata_sphinx_theme
import tinycss2
from fontTools.ttLib import TTFont

OURS = sorted(path.relative_to(DOCS / "_static") for path in (DOCS / "_static").rglob("*.css"))
ICON = re.compile(r'\.(fa-[a-z-]+)\{--fa:"(.)"')


def rules(style: str) -> Iterator[Any]:
    """Yield the rules of a style sheet as a browser reads it, those of media queries too."""
    for rule in tinycss2.parse_stylesheet(style, True, True):
        assert rule.type != "error", rule.message
        if rule.type == "qualified-rule":
            yield rule
        elif rule.type == "at-rule" and rule.lower_at_keyword == "media":
            yield from tinycss2.parse_rule_list(rule.content, True, True)


def selectors(style: str) -> set[str]:
    """Return all selectors of a style sheet."""
    found = (text for rule in rules(style) for text in bn_light.selectors(rule.prelude))
    return {" ".join(text.split()) for text in found}


def defined(style: str) -> set[str]:
    """Return the variables that a style sheet defines."""
    told = (tinycss2.parse_blocks_contents(rule.content, True, True) for rule in rules(style))
    names = {getattr(one, "name", "") for inside in told for one in inside}
    return {name for name in names if name.startswith("--")}


@pytest.mark.parametrize("sheet", OURS, ids=str)
def test_no_rule_of_ours_is_for_nothing(site: Site, sheet: Path) -> None:
    written = selectors((DOCS / "_static" / sheet).read_text())
    assert written
    unused = written - selectors((site.html / "_static" / sheet).read_text())
    assert unused <= {".figure-finding"}  # which figures of the sample have not


def test_what_no_page_uses_is_left_out() -> None:
    style = """
        .card:hover, .modal > .card { color: var(--a) }  .modal .x { color: red }
        .shown .card:not(.gone) { --a: 1; --b: url("data:x;y") ; --c: "a;}" }  @media print { #away { color: red } #top { top: 0 } }
        @media screen { .modal { color: red } }  /*! whose it is */
    """
    page, script = '<div id="top" class="a card">', "element.classList.add('shown')"
    (kept,) = bn_light.without_unused([style], [page], [script])
    assert " ".join(kept.split()) == (
        ".card:hover{color: var(--a)} .shown .card:not(.gone){--a: 1; } "
        "@media print {#top{top: 0} } /*! whose it is */"
    )


def test_rules_for_names_that_a_script_makes_are_kept(site: Site) -> None:
    style = (site.html / "_static/styles/pydata-sphinx-theme.css").read_text()
    script = (site.html / "_static/scripts/bootstrap.js").read_text()
    assert script.count("`bs-${") == 1
    for name in bn_light.MADE:
        assert name not in script
        assert f".{name}[" in style


def test_a_page_names_what_it_loads_by_what_is_in_it(site: Site) -> None:
    named = re.compile(r"([\w.-]+\.(?:css|woff2))\?v=(\w+)")
    texts = [str(page.head) for page in site.pages.values()]
    texts.append((site.html / "_static/styles/pydata-sphinx-theme.css").read_text())
    found = {one for text in texts for one in named.findall(text)}
    files = {path.name: path for path in (site.html / "_static").rglob("*.*")}
    assert {name for name, _ in found} >= {"custom.css", "fa-solid-900.woff2"}
    for name, told in found:
        assert hashlib.sha256(files[name].read_bytes()).hexdigest().startswith(told), name


def test_no_variable_of_the_theme_is_missed(site: Site) -> None:
    sheet = Path("static", "styles", "pydata-sphinx-theme.css")
    theme = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme"
    style = (site.html / "_static" / sheet.relative_to("static")).read_text()
    files = [one for kind in ("css", "js") for one in (site.html / "_static").rglob(f"*.{kind}")]
    used = {
        name
        for one in files
        for name in re.findall(r"var\(\s*(--pst-[\w-]+)", one.read_text("utf-8"))
    }
    assert len(style) < 150_000
    assert len(used) > 50
    assert used & defined((theme / sheet).read_text()) - defined(style) == set()


def test_the_icons_that_are_shown_are_there(site: Site) -> None:
    styles = (site.html / "_static/styles/pydata-sphinx-theme.css").read_text()
    known = dict(ICON.findall(styles))
    shown = {
        name
        for page in site.pages.values()
        for icon in page.select(".fa-solid")
        for name in icon["class"]
        if name.startswith("fa-") and name not in ("fa-solid", "fa-lg")
    }
    assert "fa-magnifying-glass" in shown
    file = site.html / "_static/vendor/fontawesome/webfonts/fa-solid-900.woff2"
    assert file.stat().st_size < 10_000
    with TTFont(file) as font:
        there = set(font.getBestCmap())
    assert {name for name in shown if ord(known[name]) not in there} == set()


def test_figures_do_not_carry_the_numbers_that_are_linked_below_them(site: Site) -> None:
    figures = {path: path.read_text() for path in (site.html / "_images").glob("*.svg")}
    assert len(figures) >= 50
    assert [path.name for path, text in figures.items() if '<metadata id="data">' in text] == []


def test_a_page_says_once_how_wide_it_is(site: Site) -> None:
    for name, page in site.pages.items():
        assert len(page.select("meta[name=viewport]")) == 1, name


def test_a_second_build_finds_the_first_ones_styles(tmp_path: Path) -> None:
    source, built = tmp_path / "source", tmp_path / "html"
    source.mkdir()
    source.joinpath("conf.py").write_text(
        f"import sys; sys.path.append({str(DOCS / '_ext')!r})\n"
        "extensions = ['myst_nb', 'bn_light']\nnb_execution_mode = 'off'\n"
        "html_theme = 'pydata_sphinx_theme'\nmyst_enable_extensions = ['colon_fence']\n"
    )
    sphinx = [sys.executable, "-m", "sphinx", "-W", "-q", str(source), str(built)]
    sheets, names = [], []
    for text in ("# A page\n", None, "# A page\n\n:::{versionadded} 1\n:::\n"):
        if text:
            source.joinpath("index.md").write_text(text)
        subprocess.run(sphinx, check=True)
        sheets.append((built / "_static/styles/pydata-sphinx-theme.css").read_text())
        names.append(
            re.findall(r"pydata-sphinx-theme\.css\?v=\w+", (built / "index.html").read_text())
        )
    assert sheets[0] == sheets[1]
    assert names[0] == names[1] != names[2]  # so that no browser shows a page in an older style
    assert len(names[0]) == len(names[2]) == 1
    assert "versionadded" not in sheets[1]
    assert "versionadded" in sheets[2]
