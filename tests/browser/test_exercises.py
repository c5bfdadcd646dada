"""Exercises answer back and experiments can be predicted first, by keyboard, and only in this browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from .conftest import HTML, pages
from .test_pages import SCHEMES, Scheme, opened, violations

EXPERIMENT = "auto_examples/assignment/plot_02_batch_norm.html"
EXERCISES, OTHER = "learn/exercises.html", "learn/noise.html"
ALL_KINDS = "learn/algorithm.html"  # a number, a choice, an order
#: In a page: a browser that keeps nothing of ours (the theme would complain).
FULL = """Storage.prototype.setItem = (name) => {
  if (name.startsWith("bn-")) throw new Error("it is full");
};"""
FORBIDDEN = """for (const act of ["getItem", "setItem"]) {
  const as_ever = Storage.prototype[act];
  Storage.prototype[act] = function (name, ...value) {
    if (name.startsWith("bn-")) throw new Error("it is forbidden");
    return as_ever.call(this, name, ...value);
  };
}"""
ASKING = [name for name in pages() if '<form class="ask"' in (HTML / name).read_text("utf-8")]


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Return a new page, in a browser that remembers nothing, on which a script's error is one."""
    with browser.new_context() as context:
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    assert not errors


def told(form: Locator) -> dict[str, object]:
    found: dict[str, object] = json.loads(form.get_attribute("data-ask") or "")
    return found


def answer(form: Locator, right: bool) -> None:
    """Give an answer by keyboard, as a reader does who knows, or who does not."""
    about = told(form)
    if about["kind"] == "number":
        numbers = [float(number) for number in about["right"]]  # type: ignore[attr-defined]
        field = form.get_by_role("textbox")
        field.fill(" ".join(f"{number if right else 2 * number + 1:.6g}" for number in numbers))
        field.press("Enter")
    elif about["kind"] == "choice":
        right_one = int(about["right"])  # type: ignore[call-overload]
        form.get_by_role("radio").nth(right_one if right else (right_one + 1) % 2).check()
        form.get_by_role("button", name="Check").press("Enter")
    else:
        rows = form.locator("li")
        for place in range(rows.count() if right else 0):
            row = form.locator(f'li[data-place="{place}"]')
            for _ in range(rows.count()):
                row.get_by_role("button", name="down").press("Enter")  # to the end, one by one
        form.get_by_role("button", name="Check").press("Enter")


def test_exercises_are_met_all_over_the_site(html: Path) -> None:
    assert {name.partition("/")[0] for name in ASKING} >= {"advantages.html", "learn", "practice"}
    learn = [name for name in ASKING if name.startswith("learn/")]
    assert sum((html / name).read_text("utf-8").count('<form class="ask"') for name in learn) >= 20


@pytest.mark.parametrize("name", ASKING)
def test_a_reader_is_told_each_time(page: Page, address: str, name: str) -> None:
    page.goto(address + name)
    forms = page.locator("form.ask")
    for i in range(forms.count()):
        form, word = forms.nth(i), forms.nth(i).locator(".word")
        answer(form, right=False)
        expect(word).to_contain_text("Not yet")
        answer(form, right=True)
        expect(word).to_have_text("✓ Right.")
    expect(page.locator(".tally")).to_contain_text(f"{forms.count()} of {forms.count()}")


def test_answers_are_kept_and_forgotten(page: Page, address: str) -> None:
    word = page.locator("form.ask .word").first
    for name in (OTHER, EXERCISES):
        page.goto(address + name)
        answer(page.locator("form.ask").first, right=True)
    page.reload()
    expect(word).to_have_text("✓ Right.")
    page.get_by_role("button", name="Start again").click()
    expect(word).to_have_text("")
    page.goto(address + OTHER)  # where nobody asked to start again
    expect(word).to_have_text("✓ Right.")


def test_an_answer_stays_with_its_question(page: Page, address: str) -> None:
    page.goto(address + EXERCISES)
    forms = page.locator("form.ask")
    for i in range(forms.count()):
        answer(forms.nth(i), right=True)
    kept = page.evaluate("JSON.parse(localStorage.getItem('bn-exercises'))")
    about = [told(forms.nth(i)) for i in range(forms.count())]
    assert list(kept) == [one["name"] for one in about]
    strange = dict(zip(kept, [*[*kept.values()][1:], 7], strict=True))  # of a page that was edited
    page.evaluate("kept => localStorage.setItem('bn-exercises', kept)", json.dumps(strange))
    page.reload()
    expect(forms.last.get_by_role("button", name="Check")).to_be_visible()


@pytest.mark.parametrize("script", [FULL, FORBIDDEN], ids=["full", "forbidden"])
def test_a_browser_that_keeps_nothing_is_no_hindrance(
    page: Page, address: str, script: str
) -> None:
    page.add_init_script(script)
    page.goto(address + EXERCISES)
    answer(page.locator("form.ask").first, right=True)
    expect(page.locator(".tally")).to_contain_text("1 of")
    page.goto(address + EXPERIMENT)
    page.get_by_role("button", name="Predict first").click()
    expect(page.locator(".answer")).to_be_hidden()


@pytest.mark.parametrize(
    ("ask", "text", "said"),
    [
        ("mean and the variance", "seven", "Write a number"),
        ("mean and the variance", "7", "2 numbers are asked for"),
        ("mean and the variance", "28/4; 9,0", "✓ Right."),
        ("mean and the variance", "7 , 9", "✓ Right."),
        ("Steps for 0.9", "44, 459, 4,603", "✓ Right."),
        ("Steps for 0.9", "44, 459, 4,604", "✗ Not yet."),
        ("What comes out, four", "−6,0,0,2", "✓ Right."),
        ("What comes out, four", "−6,0,0", "4 numbers are asked for"),
        ("How many recipes", "1,234,567", "✗ Not yet."),
    ],
)
def test_numbers_are_read_as_people_write_them(
    page: Page, address: str, ask: str, text: str, said: str
) -> None:
    page.goto(address + EXERCISES)
    form = page.locator("form.ask", has_text=ask)
    form.get_by_role("textbox").fill(text)
    form.get_by_role("button", name="Check").click()
    expect(form.locator(".word")).to_contain_text(said)


@pytest.mark.parametrize("between", [" ", ","])
def test_a_typical_mistake_is_named(page: Page, address: str, between: str) -> None:
    page.goto(address + EXERCISES)
    first = page.locator("form.ask").first
    unbiased = json.loads(first.get_attribute("data-ask") or "")["mistakes"][0]
    first.get_by_role("textbox").fill(between.join(map(str, unbiased)))
    first.get_by_role("button", name="Check").click()
    expect(first.locator("[role=status] .reason:visible")).to_have_count(1)  # screen readers say it
    expect(first.locator(".reason:visible")).to_contain_text("divided by")


def test_a_thing_that_moves_says_where_it_is(page: Page, address: str) -> None:
    page.goto(address + ALL_KINDS)
    form = page.locator("form.ask", has=page.locator("li"))
    form.get_by_role("button", name="down").first.press("Enter")
    expect(form.get_by_role("status")).to_contain_text(re.compile(r"^2 of 4: \w"))
    expect(form.locator("li").nth(1).get_by_role("button", name="down")).to_be_focused()


@pytest.mark.parametrize("way", ["types", "chooses", "moves", "drags"])
def test_what_is_said_of_an_answer_is_not_said_of_the_next(
    page: Page, address: str, way: str
) -> None:
    page.goto(address + ALL_KINDS)
    forms = {str(told(form)["kind"]): form for form in page.locator("form.ask").all()}
    form = forms[{"types": "number", "chooses": "choice"}.get(way, "order")]
    for right, score in ((True, "1 of 3"), (False, "0 of 3")):
        answer(form, right)
        expect(form.locator(".word")).to_contain_text("Right" if right else "Not yet")
        expect(page.locator(".tally")).to_contain_text(score)
        if way == "types":
            form.get_by_role("textbox").press("1")
        elif way == "chooses":
            form.get_by_role("radio", checked=False).first.check()
        elif way == "moves":
            form.get_by_role("button", name="down").first.press("Enter")
        else:
            form.locator("li").first.drag_to(form.locator("li").last)
        expect(form.locator(".word")).to_have_text(
            re.compile("^2 of 4" if way == "moves" else "^$")
        )
        expect(form).to_have_class("ask")
        expect(form.locator(".reason:visible")).to_have_count(0)
        expect(page.locator(".tally")).to_contain_text("0 of 3")


def test_without_a_script_questions_are_read_and_nothing_tells_what_is_right(
    browser: Browser, address: str
) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        for name in (EXERCISES, ALL_KINDS, "learn/slides.html"):
            for media in ("screen", "print"):
                page.emulate_media(media="print" if media == "print" else "screen")
                page.goto(address + name)
                for form in page.locator("form.ask").all():
                    expect(form.locator(".reason:visible, input, button")).to_have_count(0)
                    expect(form.locator(".question")).to_be_visible()
                    count = form.locator("li").count()
                    expect(form.locator("li > p:visible")).to_have_count(count)
                    assert count >= 2 or told(form)["kind"] == "number"
        page.emulate_media(media="screen")
        page.goto(address + EXPERIMENT)
        expect(page.locator(".answer")).to_be_visible()


def test_on_paper_a_page_asks_without_what_is_pressed(page: Page, address: str) -> None:
    page.goto(address + ALL_KINDS)
    forms = page.locator("form.ask")
    expect(page.locator(".tally")).to_be_visible()
    page.emulate_media(media="print")
    expect(forms.locator(".question:visible")).to_have_count(forms.count())
    expect(forms.locator(":is(label, li):visible")).to_have_count(3 + 4)
    expect(forms.locator(":is(input, button):visible")).to_have_count(0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_answers_back_is_accessible(browser: Browser, address: str, scheme: Scheme) -> None:
    with opened(browser, scheme) as page:
        page.goto(address + ALL_KINDS)
        page.wait_for_selector(f"html[data-theme={scheme}]")
        for form in page.locator("form.ask").all():
            answer(form, right=told(form)["kind"] == "number")
        expect(page.locator(".reason:visible")).to_have_count(1)
        assert violations(page, []) == []
        page.goto(address + EXPERIMENT)
        page.get_by_role("button", name="Predict first").click()
        expect(page.get_by_label("At least")).to_be_visible()
        assert violations(page, []) == []


def test_a_prediction_is_made_before_the_answer_is_seen(page: Page, address: str) -> None:
    page.goto(address + EXPERIMENT)
    seen = page.locator(".answer"), page.locator(".key-figure"), page.locator("#found")
    page.get_by_role("button", name="Predict first").press("Enter")
    for one in seen:
        expect(one).to_be_hidden()
    about = json.loads(page.locator(".answer").get_attribute("data-predict") or "")
    measured = about["mean"]
    page.get_by_label("At least").fill(f"{100 * measured - 1:.2f}")
    page.get_by_label("At most").fill(f"{100 * measured + 1:.2f}")
    page.get_by_label("At most").press("Enter")
    for one in seen:
        expect(one).to_be_visible()
    expect(page.locator(".predict")).to_contain_text("✓ Inside your range")
    page.get_by_role("link", name="All your predictions").click()
    expect(page.locator(".calibration")).to_contain_text("1 of 1 times")
    edit(page, measured=9, effect="What was asked in another build.")
    page.locator("tbody a").click()
    expect(page.locator(".predict")).to_contain_text("✓ Inside your range")
    page.get_by_role("link", name="All your predictions").click()
    expect(page.locator(".calibration")).to_contain_text("1 of 1 times")
    expect(page.locator("tbody small")).to_have_text(about["effect"])
    edit(page, unit="ratio")  # a range of factors is none of points
    page.locator("tbody a").click()
    expect(page.get_by_label("At least")).to_be_visible()


def edit(page: Page, **values: object) -> None:
    """Let all that was predicted be as another build has left it."""
    page.evaluate(
        """values => {
          const kept = JSON.parse(localStorage.getItem("bn-predictions"));
          for (const one of Object.values(kept)) Object.assign(one, values);
          localStorage.setItem("bn-predictions", JSON.stringify(kept));
        }""",
        values,
    )


@pytest.mark.parametrize(
    ("inside", "count", "said"),
    [
        (13, 13, "That fits"),
        (14, 14, "could be narrower"),  # by chance in 4.4 % of all cases
        (0, 1, "That fits"),
        (0, 2, "too narrow"),  # in 4 %
    ],
)
def test_a_reader_is_told_how_well_ranges_fit(
    page: Page, address: str, inside: int, count: int, said: str
) -> None:
    one = {"unit": "number", "low": 0, "high": 1, "effect": "", "title": "A page", "page": "index"}
    kept = {str(i): one | {"measured": 0.5 if i < inside else 2} for i in range(count)}
    page.goto(address + "learn/predictions.html")
    page.evaluate("kept => localStorage.setItem('bn-predictions', kept)", json.dumps(kept))
    page.reload()
    expect(page.locator(".calibration")).to_contain_text(f"{inside} of {count} times. ")
    expect(page.locator(".calibration")).to_contain_text(said)


@pytest.mark.parametrize("ending", [".html", ""])
def test_what_was_predicted_is_not_hidden_again(
    page: Page, address: str, html: Path, ending: str
) -> None:
    name = EXPERIMENT.removesuffix(".html")
    kept = json.dumps({"one": {"page": name}})
    page.add_init_script(
        f"localStorage.setItem('bn-predictions', '{kept}'); localStorage.setItem('bn-predict-first', 'true')"
    )
    late: list[Route] = []
    page.route("**/predictions.js*", lambda route: late.append(route))
    page.route(address + name + ending, lambda route: route.fulfill(path=html / EXPERIMENT))
    page.goto(address + name + ending, wait_until="commit")  # some hosts leave the ending out
    expect(page.locator("footer.bd-footer")).to_be_attached()
    expect(page.locator(".answer")).to_be_visible()
    late[0].abort()


def test_what_is_to_be_predicted_is_hidden_before_the_page_is_painted(
    page: Page, address: str
) -> None:
    page.goto(address + EXPERIMENT)
    page.get_by_role("button", name="Predict first").click()
    late: list[Route] = []
    page.route("**/predictions.js*", lambda route: late.append(route))
    page.reload(wait_until="commit")
    expect(page.locator("footer.bd-footer")).to_be_attached()
    expect(page.locator(".answer")).to_be_hidden()
    late[0].continue_()
    expect(page.get_by_label("At least")).to_be_visible()
    expect(page.locator(".answer")).to_be_hidden()


def test_an_answer_is_not_hidden_for_ever_where_a_script_is_missing(
    page: Page, address: str
) -> None:
    page.goto(address + EXPERIMENT)
    page.get_by_role("button", name="Predict first").click()
    page.route("**/predictions.js*", lambda route: route.abort())
    page.reload()
    expect(page.locator(".answer")).to_be_visible()


@pytest.mark.parametrize("name", ["learn/exercises.html", EXPERIMENT])
def test_what_readers_press_and_fill_in_looks_like_the_site(
    page: Page, address: str, name: str
) -> None:
    page.goto(address + name)
    if name == EXPERIMENT:
        page.get_by_role("button", name="Predict first").click()
    looks = page.eval_on_selector_all(
        ":is(.ask, .predict, .predicted, .tally) :is(button, input:not([type='radio'], [type='checkbox']))",
        """found => found.map(one => getComputedStyle(one)).map(look =>
        [look.fontFamily === getComputedStyle(document.body).fontFamily, parseFloat(look.borderRadius) > 2])""",
    )
    assert looks
    assert all(all(one) for one in looks)
