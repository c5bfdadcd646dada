"""Every page in a real browser: accessible, quiet, self-contained, quick and narrow enough."""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote_plus

import numpy as np
import numpy.typing as npt
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize
from pypdf import PdfReader

from .conftest import pages

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
WIDTHS: dict[str, ViewportSize] = {
    "desktop": {"width": 1440, "height": 900},
    "tablet": {"width": 768, "height": 1024},
    "mobile": {"width": 390, "height": 844},
}
PAGES, FRONT = pages(), "index.html"
COLOURS = ["color-contrast", "link-in-text-block"]
#: What depends on a window's width, but for what a narrow one has of the theme, the same on every page.
NARROW = ["scrollable-region-focusable", "aria-hidden-focus", "nested-interactive"]
APART = ("404.html", "genindex.html", "search.html")  # nobody reads on to them
#: What people type, and the pages of which one should be among the first that are found.
SEARCHES = {
    "before or after": ("/practice/keras", "_placement"),  # nothing but stop words
    "residual": ("_residual", "/practice/"),
    "EMA": ("/practice/keras", "_averaged"),
    "AdaBN": ("/practice/recipes", "_shifted"),
    "gradient accumulation": ("/practice/keras",),
    "regression": ("/practice/clinic",),
    "PyTorch weights": ("/practice/keras",),
    "moving variance": ("/learn/algorithm", "/practice/keras"),
    "two populations": ("/practice/clinic",),
    "GAN": ("/practice/clinic",),
}
FIRST_PAGE = 500_000  # bytes of all files that the home page needs, as they lie there
ANY_PAGE = 1_500_000  # bytes, compressed
COMPUTED = 1.5  # seconds of the processor, which other work on the machine does not lengthen much
#: Of elements, on how many lines each stands; one of several colours has several boxes on a line.
LINES = "all => all.map(a => new Set([...a.getClientRects()].map(box => Math.round(box.top))).size)"


@dataclasses.dataclass
class Visit:
    """What a page asks for, complains about and looks like."""

    requests: list[str] = dataclasses.field(default_factory=list)
    failed: list[str] = dataclasses.field(default_factory=list)
    errors: list[str] = dataclasses.field(default_factory=list)
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)  # bytes, as they travelled
    whole: int = 0  # bytes, as they lie there
    computed: float = 0.0  # seconds of the processor, until the page was there
    broken: list[str] = dataclasses.field(default_factory=list)
    too_wide: list[str] = dataclasses.field(default_factory=list)
    violations: dict[str, list[str]] = dataclasses.field(default_factory=dict)


def listen(page: Page) -> Visit:
    """Note what a page asks for and complains about from now on."""
    visit, urls = Visit(), {}

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and "404" not in message.text:  # which "failed" has
            visit.errors.append(message.text)

    def answered(event: Any) -> None:
        urls[event["requestId"]] = event["response"]["url"]
        if event["response"]["status"] >= 400:
            visit.failed.append(event["response"]["url"])

    def finished(event: Any) -> None:
        url = urls.get(event["requestId"], "")
        visit.sizes[url] = visit.sizes.get(url, 0) + int(event["encodedDataLength"])

    def arrived(event: Any) -> None:
        visit.whole += int(event["dataLength"])

    page.on("console", hear)
    page.on("pageerror", lambda error: visit.errors.append(str(error)))
    page.on("request", lambda request: visit.requests.append(request.url))
    client = page.context.new_cdp_session(page)
    client.send("Network.enable")
    client.on("Network.responseReceived", answered)
    client.on("Network.loadingFinished", finished)
    client.on("Network.dataReceived", arrived)
    return visit


@pytest.fixture(scope="session")
def visited(browser: Browser, address: str) -> Callable[[str], Visit]:
    """Visit a page once, and look at it in all widths and modes."""

    @functools.cache
    def visit_page(name: str) -> Visit:
        with opened(browser) as page:
            visit = listen(page)
            client = page.context.new_cdp_session(page)
            client.send("Performance.enable", {"timeDomain": "threadTicks"})
            page.goto(address + name, wait_until="networkidle")
            metrics = client.send("Performance.getMetrics")["metrics"]
            visit.computed = {one["name"]: one["value"] for one in metrics}["TaskDuration"]
            visit.broken = page.evaluate(
                "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
            )
            if page.locator("mjx-merror").count():
                visit.errors.append("a formula that cannot be set")
            for width, size in WIDTHS.items():
                page.set_viewport_size(size)
                page.wait_for_timeout(400)  # the theme then sees which boxes can be scrolled
                room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
                if room[0] > room[1]:
                    visit.too_wide.append(f"{width}: {room[0]}")
                for scheme in SCHEMES if width != "tablet" else ():
                    if width == "mobile" and scheme == "dark" and name != FRONT:
                        continue
                    page.emulate_media(color_scheme=scheme)
                    page.wait_for_selector(f"html[data-theme={scheme}]")
                    rules = COLOURS if scheme == "dark" else NARROW  # nothing else differs
                    if scheme == "light" and (width == "desktop" or name == FRONT):
                        rules = []
                    visit.violations[f"{width}, {scheme}"] = violations(page, rules)
            return visit

    return visit_page


def violations(page: Page, rules: Sequence[str]) -> list[str]:
    """Return what axe finds by some rules, or by all if none are named."""
    options: dict[str, Any] = {"preload": False, "resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = {"type": "rule", "values": rules}
    return [
        f"{one['id']}: {one['help']}: " + " ".join(node["html"] for node in one["nodes"])
        for one in Axe().run(page, options=options).response["violations"]
    ]


@contextmanager
def opened(browser: Browser, scheme: Scheme = "light") -> Iterator[Page]:
    """Open an empty page on a desktop."""
    context = browser.new_context(
        viewport=WIDTHS["desktop"], color_scheme=scheme, reduced_motion="reduce"
    )
    context.set_default_timeout(120_000)  # of a machine that has other work
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible(visited: Callable[[str], Visit], name: str) -> None:
    found = visited(name).violations
    assert len(found) == (4 if name == FRONT else 3)
    assert {mode: told for mode, told in found.items() if told} == {}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_quiet_and_self_contained(
    visited: Callable[[str], Visit], address: str, name: str
) -> None:
    visit = visited(name)
    assert visit.errors == []
    assert visit.failed == []
    assert visit.broken == []
    assert [url for url in visit.requests if not url.startswith((address, "data:"))] == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_the_screen(visited: Callable[[str], Visit], name: str) -> None:
    assert visited(name).too_wide == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_light_and_quick(visited: Callable[[str], Visit], name: str) -> None:
    visit = visited(name)
    total = sum(visit.sizes.values())
    figures = sum(size for url, size in visit.sizes.items() if "/_images/" in url)
    print(f"{total:,} bytes, {figures:,} of them figures; {visit.whole:,} uncompressed;")
    print(f"computed for {visit.computed:.2f} s")
    assert visit.whole > total > 50_000
    assert visit.whole <= FIRST_PAGE or name != FRONT
    assert total - figures <= ANY_PAGE
    assert 0 < visit.computed <= COMPUTED


@pytest.mark.parametrize("name", PAGES)
def test_a_page_works_opened_from_disk(browser: Browser, html: Path, name: str) -> None:
    if name == "404.html":
        pytest.skip("a host serves it under any address, so its own are absolute")
    with opened(browser) as page:
        visit = listen(page)
        page.goto((html / name).as_uri(), wait_until="load")
        assert visit.errors == []
        assert [url for url in visit.requests if not url.startswith(("file:", "data:"))] == []
        styled = page.evaluate("getComputedStyle(document.querySelector('.bd-header')).position")
        assert styled == "sticky"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("toggle", [*SCHEMES, None])
def test_figures_follow_the_toggle_and_the_system(
    browser: Browser, address: str, scheme: Scheme, toggle: str | None
) -> None:
    with opened(browser, scheme) as page:
        page.goto(address + "index.html", wait_until="networkidle")
        if toggle:
            page.evaluate("mode => localStorage.setItem('mode', mode)", toggle)
            page.reload(wait_until="networkidle")
        dark = (toggle or scheme) == "dark"
        assert page.get_attribute("html", "data-theme") == ("dark" if dark else "light")
        figure = page.locator("article img[src*='sphx_glr']").first
        figure.scroll_into_view_if_needed()
        pixels = _pixels(figure.screenshot())
        assert pixels.max() - pixels.min() > 150  # ink stands out against the paper
        assert (np.median(pixels) < 90) == dark


@pytest.mark.parametrize("name", ["index.html", "auto_examples/index.html", "learn/why.html"])
def test_a_dark_page_does_not_flash_white(browser: Browser, address: str, name: str) -> None:
    frames: list[float] = []

    def keep(event: Any) -> None:
        frames.append(float(np.median(_pixels(base64.b64decode(event["data"])))))
        client.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})

    with opened(browser, "dark") as page:
        page.goto(address + "search.html", wait_until="networkidle")
        client = page.context.new_cdp_session(page)
        client.on("Page.screencastFrame", keep)
        client.send("Emulation.setCPUThrottlingRate", {"rate": 4})
        client.send("Page.startScreencast", {"format": "png", "everyNthFrame": 1})
        page.goto(address + name, wait_until="networkidle")
    assert len(frames) >= 2
    assert max(frames) < 90, frames


def test_an_unknown_address_leads_back(browser: Browser, address: str) -> None:
    with opened(browser) as page:
        visit = listen(page)
        page.goto(address + "no/such/page.html", wait_until="networkidle")
        assert visit.failed == [address + "no/such/page.html"]  # its style sheets were found
        page.click("article a:has-text('home')")
        page.wait_for_url(address + "index.html")
        assert page.title().startswith("Batch normalisation, by experiment")


@pytest.mark.parametrize(("query", "pages"), SEARCHES.items(), ids=SEARCHES)
def test_search_leads_to_what_people_ask(
    browser: Browser, address: str, query: str, pages: tuple[str, ...]
) -> None:
    with opened(browser) as page:
        page.goto(address + "search.html?q=" + quote_plus(query))
        page.wait_for_selector("#search-results .search li a")
        page.wait_for_function(
            "document.querySelector('.search-summary').innerText.includes('found')"
        )
        links = page.eval_on_selector_all("#search-results li a", "found => found.map(a => a.href)")
        assert any(one in link for link in links[:5] for one in pages), links


def test_a_phone_keeps_lines_of_code_and_names_of_columns(browser: Browser, address: str) -> None:
    with opened(browser) as page:
        page.set_viewport_size(WIDTHS["mobile"])
        page.goto(address + "auto_examples/assignment/plot_02_batch_norm.html")
        names = page.locator(".highlight pre a:visible")  # what is folded has no lines
        assert names.count() > 0
        assert max(names.evaluate_all(LINES)) == 1
        page.goto(address + "held.html")
        cells = page.locator("table.builds td")
        assert cells.count() > 0
        told = "all => all.map(one => getComputedStyle(one, '::before').content)"
        assert "none" not in cells.evaluate_all(told)


def test_the_choice_of_a_normaliser_fits_one_screen(browser: Browser, address: str) -> None:
    with opened(browser) as page:
        page.goto(address + "practice/decide.html", wait_until="networkidle")
        bottom = page.evaluate("document.querySelector('.decide').getBoundingClientRect().bottom")
        assert bottom <= WIDTHS["desktop"]["height"]


def test_every_page_can_be_reached_by_reading_on(browser: Browser, address: str) -> None:
    reached: list[str] = []
    with opened(browser) as page:
        page.goto(address + "index.html")
        while (name := page.url.removeprefix(address)) not in reached:
            reached.append(name)
            for onward in page.locator("a.right-next").all():
                page.goto(onward.evaluate("link => link.href"))
    assert set(reached) == {name for name in PAGES if name not in APART}


def test_paper_gets_the_article_and_nothing_else(browser: Browser, address: str) -> None:
    with opened(browser) as page:
        page.goto(address + "auto_examples/assignment/plot_02_batch_norm.html")
        page.emulate_media(media="print")
        for part in (
            ".bd-header",
            ".bd-sidebar-primary",
            ".prev-next-area",
            ".copybtn",
            ".downloads",
        ):
            for found in page.locator(part).all():
                assert not found.is_visible(), part
        assert page.locator("h1").is_visible()
        assert page.locator("img.sphx-glr-single-img").first.is_visible()
        assert page.locator(".made-with").is_visible()
        sheets = PdfReader(io.BytesIO(page.pdf(format="A4"))).pages
    text = " ".join(" ".join(sheet.extract_text() for sheet in sheets).split())
    for first_and_last in (
        "One more layer",
        "What this does not show",
        "executed when the site was",
    ):
        assert first_and_last in text


def test_the_host_is_told_which_pages_there_are(html: Path, address: str) -> None:
    sitemap = (html / "sitemap.xml").read_text()
    for name in PAGES:
        listed = f"<loc>{address}{name}</loc>" in sitemap
        assert listed == (name not in APART), name
        if listed:
            text = (html / name).read_text()
            assert f'<link rel="canonical" href="{address}{name}"' in text
            assert f'<meta property="og:image" content="{address}_static/hero.png"' in text
    assert (html / "_static" / "hero.png").stat().st_size > 10_000


#: What others write, by the validator's words: myst-nb in the title of a folded cell, and numpydoc,
#: which counts the references of each docstring from 1.
NOT_OURS = (
    "Element .p. not allowed as child.*",
    r"Duplicate ID .id\d+..",
)


def test_the_html_is_valid(html: Path) -> None:
    jar = os.environ.get("VNU_JAR")
    if not jar or not shutil.which("java"):
        pytest.skip("the HTML validator needs Java and npm")
    validate = ["java", "-jar", jar, "--format", "json", "--exit-zero-always", "--errors-only"]
    command = [
        *validate,
        "--filterpattern",
        "|".join(NOT_OURS),
        *(str(html / name) for name in PAGES),
    ]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    found = [one for one in json.loads(result.stderr)["messages"] if one["type"] == "error"]
    assert not found, "\n".join(
        f"{one['url']}:{one['lastLine']}: {one['message']}\n  {one['extract']}" for one in found
    )


def _pixels(png: bytes) -> npt.NDArray[np.int_]:
    """Return the brightness of each pixel, from 0 to 255."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"), int)
