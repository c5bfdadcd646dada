"""The book of the site: what becomes of a page in it. The built book is checked by `tests/site`."""

from __future__ import annotations

from xml.etree import ElementTree

import bn_chapters
import matplotlib.pyplot as plt
import pytest
from bn_chapters import Chapter

from bn_tutorial import figures

PAGE = r"""<html><body><header>Search</header><article class="bd-article">
<section id="one"><h1>One &amp; two<a class="headerlink" href="#one">#</a></h1>
<p>A mean <span class="math">\(\mu &lt; 1\)</span>, <a href="two.html#there">there</a>, <a href="two.html#gone">gone</a>,
<a href="../reference/x.html#f">f</a>, <a href="https://example.com/a#b" data-x="1">elsewhere</a>, <a href="#one">here</a>.</p>
<div class="math" id="equation-e"><span class="eqno">(1)</span>\[\begin{split}a &amp;= b\\
c &amp;= d\end{split}\]</div>
<form class="ask" data-ask="{}"><p class="question">How many?</p><input type="text"><p class="reason">Wrong.</p></form>
<form class="ask" data-ask="{}"><p class="question">Which?</p><ul><li><p>This.</p><div class="reason">Wrong.</div></li></ul>
<div class="said"></div></form>
<details class="sd-dropdown"><summary>Answer</summary><p>7 and 9<br></p></details>
<details class="fold"><summary>Show the code</summary><pre>draw()</pre></details>
<svg class="effect" viewBox="0 0 150 16"><circle r="4"/></svg>
<img alt="A curve." src="../_images/curve.svg"></section>
</article><footer>Foot</footer></body></html>"""
OTHER = '<article class="bd-article"><h1 id="there">Two</h1></article>'
SITE = "https://example.com/bn/"


def chapters(site: str = "") -> list[Chapter]:
    """Return two pages as chapters, the first below the second."""
    found = [
        bn_chapters.read(OTHER, "learn/two", 0, site),
        bn_chapters.read(PAGE, "learn/one", 1, site),
    ]
    bn_chapters.connect(found, site)
    return found


def links(chapter: Chapter) -> dict[str, str]:
    return {link.get_text(): str(link["href"]) for link in chapter.body.select("a")}


def test_links_lead_to_chapters_and_to_the_site_if_its_address_is_known() -> None:
    inside = {
        "there": "learn-two.xhtml#learn-two--there",
        "gone": "learn-two.xhtml#learn-two",
        "here": "learn-one.xhtml#learn-one--one",
        "elsewhere": "https://example.com/a#b",
    }
    assert links(chapters()[1]) == inside
    to_the_site = {"f": f"{SITE}reference/x.html#f", "on the site": f"{SITE}learn/one.html"}
    assert links(chapters(SITE)[1]) == inside | to_the_site


def test_a_chapter_for_an_e_reader_is_xml_with_questions_answers_and_mathml() -> None:
    _, one = chapters()
    assert (one.name, one.title, one.depth) == ("learn-one", "One & two", 1)
    found = {(tex, display) for _, tex, display in bn_chapters.formulas([one])}
    split = "\\begin{split}a &= b\\\\\nc &= d\\end{split}"
    assert found == {("\\mu < 1", False), (split, True)}
    mathml = dict.fromkeys(
        found, '<math xmlns="http://www.w3.org/1998/Math/MathML"><mi>x</mi></math>'
    )
    text = bn_chapters.xhtml(one, mathml)
    root = ElementTree.fromstring(text)
    assert len(root.findall(".//{http://www.w3.org/1998/Math/MathML}mi")) == 2
    (drawing,) = root.findall(".//{http://www.w3.org/2000/svg}svg")
    assert drawing.get("viewBox") == "0 0 150 16"
    assert root.find(".//h2") is not None
    assert root.find(".//h1") is None
    assert "7 and 9" in text
    assert '<p class="question">How many?</p>' in text
    assert '<p class="question">Which?</p><ul><li><p>This.</p></li></ul>' in text
    assert "draw()" in text
    assert text.count(bn_chapters.ALIVE["form.ask"]) == 1
    for gone in ("<form", "<input", "data-", "Search", "Foot", "headerlink", "Wrong."):
        assert gone not in text


def test_on_paper_everything_is_open_and_links_stay_in_the_document() -> None:
    text = bn_chapters.printed(chapters()[1])
    assert '<details class="sd-dropdown" open="">' in text
    assert "draw()" not in text
    assert 'href="#learn-two--there"' in text
    assert ".xhtml" not in text
    assert r"\(\mu &lt; 1\)" in text  # MathJax sets it


def test_a_page_of_another_theme_is_refused() -> None:
    with pytest.raises(ValueError, match="learn/one has no article"):
        bn_chapters.read("<main>One</main>", "learn/one", 0, "")


def test_a_figure_has_one_rendering_and_no_numbers_to_carry() -> None:
    with plt.rc_context(figures.STYLE):
        figure, axes = plt.subplots(label="A line.")
        axes.plot([1, 2], label="the line")
        svg = figures.to_svg(figure)
        plt.close(figure)
    light = bn_chapters.light(svg)
    assert "--ink" in svg
    assert "the line" in svg
    for gone in ("--ink", "prefers-color-scheme", "<metadata"):
        assert gone not in light
    ElementTree.fromstring(light)


def test_pages_stand_in_the_order_of_the_site() -> None:
    tree = {"learn/index": ["learn/a", "learn/b"], "learn/a": ["learn/c"]}
    found = list(bn_chapters.below("learn/index", lambda page: tree.get(page, [])))
    assert found == [("learn/index", 0), ("learn/a", 1), ("learn/c", 2), ("learn/b", 1)]
