"""Every page in a real browser: accessible, quiet, self-contained, quick and narrow enough."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Response

from .conftest import pages

WIDTHS = {"desktop": (1440, 900), "tablet": (768, 1024), "mobile": (390, 844)}
PAGES = pages()
FIRST_PAGE, ANY_PAGE = 500_000, 1_500_000  # bytes, compressed
LARGEST_PAINT = 1.5  # seconds

_OBSERVE_PAINTS = """
window.paints = {};
new PerformanceObserver(list => {
  for (const entry of list.getEntries()) window.paints[entry.entryType] = entry.startTime;
}).observe({type: "largest-contentful-paint", buffered: true});
"""


@contextmanager
def visit(
    browser: Browser, url: str, scheme: Any = "light", width: str = "desktop", **options: Any
) -> Iterator[tuple[Page, dict[str, list[Any]]]]:
    """Open a page; give it with what it has asked for and complained about."""
    size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
    context = browser.new_context(viewport=size, color_scheme=scheme, **options)  # type: ignore[arg-type]
    context.add_init_script(_OBSERVE_PAINTS)
    page = context.new_page()
    seen: dict[str, list[Any]] = {"requests": [], "errors": [], "failed": []}
    page.on("request", lambda request: seen["requests"].append(request.url))
    page.on("pageerror", lambda error: seen["errors"].append(str(error)))

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and "404" not in message.text:  # which "failed" holds
            seen["errors"].append(message.text)

    def check(answer: Response) -> None:
        if answer.status >= 400:
            seen["failed"].append(answer.url)

    page.on("console", hear)
    page.on("response", check)
    page.goto(url, wait_until="load")
    page.wait_for_load_state("networkidle")
    yield page, seen
    context.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", ["desktop", "mobile"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_accessible(
    browser: Browser, address: str, name: str, scheme: str, width: str
) -> None:
    with visit(browser, address + name, scheme, width) as (page, _):
        found = Axe().run(page).response["violations"]
        told = [
            f"{one['id']}: {one['help']}\n  " + "\n  ".join(node["html"] for node in one["nodes"])
            for one in found
        ]
        assert not told, "\n".join(told)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", list(WIDTHS))
def test_a_page_is_quiet_self_contained_and_fits(
    browser: Browser, address: str, name: str, width: str
) -> None:
    with visit(browser, address + name, width=width) as (page, seen):
        assert seen["errors"] == []
        assert seen["failed"] == []
        assert [url for url in seen["requests"] if not url.startswith((address, "data:"))] == []
        room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert room[0] <= room[1], f"{room[0]} pixels wide"
        broken = page.evaluate(
            "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        )
        assert broken == []
        assert page.locator(".MathJax_Error, mjx-merror").count() == 0


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_light_and_quick(browser: Browser, address: str, name: str) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.add_init_script(_OBSERVE_PAINTS)
    page = context.new_page()
    client = context.new_cdp_session(page)
    client.send("Network.enable")
    urls: dict[str, str] = {}
    sizes: dict[str, int] = {}
    client.on(
        "Network.responseReceived", lambda e: urls.update({e["requestId"]: e["response"]["url"]})
    )
    client.on(
        "Network.loadingFinished",
        lambda e: sizes.update({e["requestId"]: int(e["encodedDataLength"])}),
    )
    page.goto(address + name, wait_until="networkidle")
    page.wait_for_timeout(200)
    figures = sum(size for key, size in sizes.items() if "/_images/" in urls.get(key, ""))
    total, paint = sum(sizes.values()), page.evaluate("window.paints['largest-contentful-paint']")
    context.close()
    assert total > 10_000
    print(f"{name}: {total:,} bytes, {figures:,} of them figures; largest paint {paint:.0f} ms")
    if name == "index.html":
        assert total <= FIRST_PAGE
    assert total - figures <= ANY_PAGE
    assert paint is not None
    assert paint / 1000 <= LARGEST_PAINT


@pytest.mark.parametrize("name", PAGES)
def test_a_page_works_opened_from_disk(browser: Browser, html: Path, name: str) -> None:
    if name == "404.html":
        pytest.skip("a host serves it under any address, so its own are absolute")
    with visit(browser, (html / name).as_uri()) as (page, seen):
        assert seen["errors"] == []
        assert [url for url in seen["requests"] if not url.startswith(("file:", "data:"))] == []
        styled = page.evaluate("getComputedStyle(document.querySelector('.bd-header')).position")
        assert styled == "sticky"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("toggle", ["light", "dark", None])
def test_figures_follow_the_toggle_and_the_system(
    browser: Browser, address: str, scheme: str, toggle: str | None
) -> None:
    with visit(browser, address + "index.html", scheme) as (page, _):
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
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="dark")
    page = context.new_page()
    page.goto(address + "search.html", wait_until="networkidle")
    client = context.new_cdp_session(page)
    frames: list[float] = []

    def keep(event: Any) -> None:
        frames.append(float(np.median(_pixels(base64.b64decode(event["data"])))))
        client.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})

    client.on("Page.screencastFrame", keep)
    client.send("Emulation.setCPUThrottlingRate", {"rate": 4})
    client.send("Page.startScreencast", {"format": "png", "everyNthFrame": 1})
    page.goto(address + name, wait_until="networkidle")
    page.wait_for_timeout(500)
    client.send("Page.stopScreencast")
    context.close()
    assert len(frames) >= 2
    assert max(frames) < 90, frames


def test_search_finds_the_moving_variance(browser: Browser, address: str) -> None:
    with visit(browser, address + "search.html?q=moving+variance") as (page, _):
        page.wait_for_selector("#search-results .search li a")
        page.wait_for_function(
            "document.querySelector('.search-summary').innerText.includes('found')"
        )
        links = page.eval_on_selector_all("#search-results li a", "found => found.map(a => a.href)")
        assert any("/learn/algorithm" in link or "/practice/keras" in link for link in links[:5]), (
            links
        )


def test_an_unknown_address_leads_back(browser: Browser, address: str) -> None:
    with visit(browser, address + "no/such/page.html") as (page, seen):
        assert seen["failed"] == [address + "no/such/page.html"]  # its styles were found
        page.click("article a:has-text('home')")
        assert page.url.startswith(address)
        assert page.title().startswith("Batch normalisation, by experiment")


def test_every_page_can_be_reached_by_reading_on(browser: Browser, address: str) -> None:
    reached, url = [], address + "index.html"
    with visit(browser, url) as (page, _):
        while True:
            reached.append(page.url.removeprefix(address))
            onward = page.locator("a.right-next")
            if not onward.count():
                break
            onward.click()
            assert page.url.removeprefix(address) not in reached
    written = {name for name in PAGES if name not in ("404.html", "genindex.html", "search.html")}
    assert {name for name in written if "gen_modules" not in name} <= set(reached)


def test_paper_gets_the_article_and_nothing_else(browser: Browser, address: str) -> None:
    with visit(browser, address + "auto_examples/assignment/plot_02_batch_norm.html") as (page, _):
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
        assert len(page.pdf(format="A4")) > 50_000


def test_the_host_is_told_which_pages_there_are(html: Path, address: str) -> None:
    sitemap = (html / "sitemap.xml").read_text()
    for name in PAGES:
        listed = f"<loc>{address}{name}</loc>" in sitemap
        assert listed == (name not in ("404.html", "genindex.html", "search.html")), name
        if listed:
            text = (html / name).read_text()
            assert f'<link rel="canonical" href="{address}{name}"' in text
            assert f'<meta property="og:image" content="{address}_static/hero.png"' in text
    assert (html / "_static" / "hero.png").stat().st_size > 10_000


def test_the_html_is_valid(html: Path) -> None:
    jar = os.environ.get("VNU_JAR")
    if not jar or not shutil.which("java"):
        pytest.skip("the HTML validator needs Java and npm")
    result = subprocess.run(
        ["java", "-jar", jar, "--format", "json", "--exit-zero-always", "--errors-only", "--filterpattern", "|".join(NOT_OURS), *[str(html / name) for name in PAGES]],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = [one for one in json.loads(result.stderr)["messages"] if one["type"] == "error"]
    assert not found, "\n".join(
        f"{one['url']}:{one['lastLine']}: {one['message']}\n  {one['extract']}" for one in found
    )


#: What the theme and the extensions write themselves, by the validator's words.
NOT_OURS: list[str] = []


def _pixels(png: bytes) -> npt.NDArray[np.int_]:
    """Return the brightness of each pixel, from 0 to 255."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"), int)
