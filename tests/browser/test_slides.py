"""The slides, one by one: by keyboard, on a projector, on a phone, on paper, with a second window."""

from __future__ import annotations

import io
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from pypdf import PdfReader

SLIDES = "learn/slides.html"


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """Return the page of the slides, on which a script's error is one."""
    with browser.new_context(
        viewport={"width": 1280, "height": 720}, reduced_motion="reduce"
    ) as context:
        page = context.new_page()
        errors: list[str] = []
        hosts: set[str] = set()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.goto(address + SLIDES, wait_until="networkidle")
        yield page
    assert not errors
    assert hosts <= {urlsplit(address).netloc, ""}


def present(page: Page, plan: str = "short") -> int:
    """Choose a plan and begin; return how many slides it has."""
    page.get_by_label("Show", exact=True).select_option(plan)
    page.get_by_role("button", name="Present").click()
    expect(page.locator("section.slide:visible")).to_have_count(1)
    return page.locator(f"section.slide.in-{plan}").count()


def test_keys_lead_through_the_lecture_and_out_of_it(page: Page) -> None:
    count, seen = present(page), []
    expect(page.locator(".bd-header")).to_have_js_property("inert", True)
    while True:
        now = page.locator("section.slide.now")
        seen.append(now.get_attribute("id"))
        expect(now.locator("h2")).to_be_focused()
        if "veiled" in (now.get_attribute("class") or ""):
            expect(now.locator(".slide-ask")).to_be_visible()
            shown = now.locator(":scope > :not(h2, .slide-ask, .slide-foot, .speaker)").first
            expect(shown).to_be_hidden()
            page.keyboard.press("ArrowRight")
            expect(shown).to_be_visible()
        if len(seen) == count:
            break
        page.keyboard.press("PageDown" if len(seen) % 2 else "ArrowRight")
    assert len(set(seen)) == count >= 20
    page.keyboard.press("ArrowRight")  # the last one stays
    for key, slide in {"ArrowLeft": seen[-2], "Shift+Space": seen[-3]}.items():
        page.keyboard.press(key)
        expect(page.locator("section.slide.now")).to_have_id(str(slide))
    page.keyboard.press("n")
    expect(page.locator("section.slide.now details.speaker p").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".bd-header")).to_be_visible()
    expect(page.locator("section.slide:visible")).to_have_count(count)


def test_keys_work_while_a_button_has_the_focus(page: Page) -> None:
    count = present(page)
    now = page.locator("section.slide.now")
    on, back = (page.get_by_role("button", name=name, exact=True) for name in ("On", "Back"))
    number = page.locator(".on-the-wall span")
    for _ in range(count):
        if "veiled" in (now.get_attribute("class") or ""):
            break
        on.click()
    veiled = int(number.inner_text().split()[0])
    on.click()  # which only shows what was held back
    expect(on).to_be_focused()
    for key, slide in {
        "ArrowRight": veiled + 1,
        "Home": 1,
        "End": count,
        "Space": count - 1,
    }.items():
        page.keyboard.press(key)  # the last one is the button's own
        expect(number).to_have_text(f"{slide} / {count}")
        back.focus()
    page.keyboard.press("n")
    expect(now.locator("details.speaker p").first).to_be_visible()


def test_a_plan_can_be_linked(page: Page, address: str) -> None:
    page.goto(f"{address}learn/lecture.html")
    page.locator("a[href='slides.html#plan-two']").click()
    expect(page.get_by_label("Show", exact=True)).to_have_value("two")
    expect(page.locator("section.slide:visible")).to_have_count(
        page.locator("section.slide.in-two").count()
    )


@pytest.mark.parametrize("size", [(1280, 720), (1024, 768), (1920, 1080)])
def test_a_slide_fits_the_projector(page: Page, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.get_by_role("button", name="Present").click()
    cut = []
    for _ in range(page.locator("section.slide").count()):
        now = page.locator("section.slide.now")
        if now.evaluate("one => one.scrollHeight > one.clientHeight + 1"):
            cut.append(now.get_attribute("id"))
        now.evaluate("one => one.classList.remove('veiled')")
        page.keyboard.press("PageDown")
    assert cut == []


def test_on_a_phone_nothing_moves_sideways(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for showing in (False, True):
        if showing:
            page.get_by_role("button", name="Present").click()
        room = page.evaluate(
            "[...document.querySelectorAll('html, section.slide')].filter(one => one.offsetParent || one.matches('html, .now')).map(one => [one.scrollWidth, one.clientWidth])"
        )
        assert all(needed <= width for needed, width in room)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_slides_on_the_wall_are_accessible(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.wait_for_selector(f"html[data-theme={scheme}]")
    count, looked = present(page), 0
    page.keyboard.press("n")
    for _ in range(count):
        now = page.locator("section.slide.now")
        now.evaluate("one => one.classList.remove('veiled')")
        new = now.locator("form.ask, table, .math, .verdict").count()
        if looked == 0 or (new and looked < 6):
            looked += 1
            found = Axe().run(page, options={"preload": False}).response["violations"]
            assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
        page.keyboard.press("PageDown")
    assert looked >= 4


def test_on_paper_each_slide_has_a_sheet(page: Page) -> None:
    page.get_by_label("Show", exact=True).select_option("three")
    titles = page.locator("section.slide.in-three > h2").all_inner_texts()
    sheets = PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True))).pages
    assert len(sheets) == len(titles)
    for sheet, title in zip(sheets, titles, strict=True):
        assert sheet.mediabox.width > sheet.mediabox.height
        words = sheet.extract_text().split()
        assert title.removesuffix("#").split()[0] in words[:4]
        assert "CC" in words
        assert "speaker" not in words


def test_a_second_window_follows_with_the_notes(page: Page) -> None:
    with page.expect_popup() as opened:
        page.get_by_role("button", name="Notes in a second window").click()
    second = opened.value
    second.wait_for_load_state("networkidle")
    present(page)
    page.keyboard.press("PageDown")
    name = page.locator("section.slide.now").get_attribute("id")
    follows = second.locator("section.slide.now")
    expect(follows).to_have_id(str(name))
    expect(follows).to_be_in_viewport()
    expect(follows.locator("details.speaker p").first).to_be_visible()
