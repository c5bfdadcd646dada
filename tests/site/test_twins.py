"""What the site offers beside its pages: twins in Markdown, llms.txt, a feed, links to improve it."""

import importlib
import os
import re
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest

from bn_tutorial.evidence.editions import Change, Edition

from .conftest import DOCS, ROOT, Site

ATOM = "{http://www.w3.org/2005/Atom}"


def extension(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    return importlib.import_module(name)


# Twins


def test_a_twin_keeps_formulas_code_tables_and_links(monkeypatch: pytest.MonkeyPatch) -> None:
    page = """<h1>A title<a class="headerlink" href="#x">#</a></h1>
    <p>See <a href="../learn/why.html#x">why</a>, <a href="https://a.b/c.html">out</a>,
    <span class="math notranslate">\\(\\gamma_i x^*\\)</span>.</p>
    <div class="math notranslate">\n\\[y = a_b\\]</div>
    <div class="math notranslate" id="e"><span class="eqno">(7)<a class="headerlink" href="#e">#</a></span>\\[z\n\\]</div>
    <div class="highlight-ipython3"><div class="highlight"><pre><span>a_b</span> = 2\n</pre></div></div>
    <details class="admonition hide above-input"><summary><p>Show evil</p><p>Hide evil</p></summary></details>
    <div class="highlight-myst-ansi"><div class="highlight"><pre>3\n</pre></div></div>
    <table><tr><th>a</th><th>b</th></tr><tr><td>1 | 2</td><td><code>x</code></td></tr></table>
    <script>evil()</script><form><label>evil</label></form>
    <form class="ask"><p>How many?</p><p class="reason">evil</p></form>
    <form class="ask"><p>Which?</p><ul><li><p>This.</p><div class="reason">evil</div></li>
    <li><p>That.</p><div class="reason">evil</div></li></ul><div class="said"></div></form>"""
    text = extension("bn_markdown", monkeypatch).markdown(page)
    for part in (
        "# A title\n",
        "[why](../learn/why.html.md#x)",
        "[out](https://a.b/c.html)",
        r"$\gamma_i x^*$",
        "$$\ny = a_b\n$$",
        "$$\nz \\tag{7}\n$$",
        "```python\na_b = 2\n",
        "```\n3\n```",
        r"| 1 \| 2 | `x` |",
        "How many?\n\nWhich?\n\n- This.\n- That.\n",
    ):
        assert part in text
    assert "evil" not in text


def test_every_page_has_its_twin_and_llms_txt_lists_it(site: Site) -> None:
    listed = site.html.joinpath("llms.txt").read_text("utf-8")
    addresses = set(re.findall(r"\]\((\S+)\.html\.md\)", listed))
    paths = {urlsplit(one).path for one in addresses}
    for name, page in site.pages.items():
        if not (DOCS / name).with_suffix(".md").exists():
            continue
        if name in ("404.html", "index.html"):
            continue
        twin = site.html.joinpath(f"{name}.md").read_text("utf-8")
        title = page.select_one("h1")
        assert title is not None
        assert twin.startswith(f"# {title.get_text().removesuffix('#').strip()[:20]}"), name
        assert any(path.endswith("/" + name.removesuffix(".html")) for path in paths), name
    for link in re.findall(r"\]\((\S+)\)", listed):
        *_, rest = link.partition("/bn_tutorial/")
        assert site.html.joinpath(rest).is_file(), link


def test_links_of_twins_lead_to_files(site: Site) -> None:
    for twin in site.html.rglob("*.html.md"):
        for link in re.findall(r"\]\((?!\w+:|#)([^)\s#]+\.md)[#)]", twin.read_text("utf-8")):
            assert (twin.parent / link).is_file(), (twin.name, link)


# The feed


def test_the_feed_tells_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    bn_editions = extension("bn_editions", monkeypatch)

    def edition(name: str, keras: str, word: str) -> Edition:
        claim = {"id": "big", "statement": "It is <big>.", "sentence": f"So: {word}.", "word": word}
        made = {
            "data": {"digest": "0", "source": "s", "sample": False},
            "device": "cpu",
            "versions": {"keras": keras},
            "created": f"2026-0{name}-01T00:00:00+00:00",
            "commit": "abc",
        }
        return Edition.of(name, {"provenance": made, "claims": [{**claim, "parts": []}]})

    one, two = edition("1", "3.14", "supported"), edition("2", "3.15", "inconclusive")
    changes = [Change(one.entries["big"], None, one), Change(two.entries["big"], one, two)]
    root = ElementTree.fromstring(bn_editions.feed("https://example.org/bn/", "BN", changes))
    last, first = root.findall(f"{ATOM}entry")
    assert root.findtext(f"{ATOM}updated") == "2026-02-01T00:00:00+00:00"
    assert last.findtext(f"{ATOM}title") == "It is <big>. supported → inconclusive"
    assert "keras 3.15, and before 3.14" in str(last.findtext(f"{ATOM}summary"))
    assert "first verdict" in str(first.findtext(f"{ATOM}summary"))
    assert len({one.findtext(f"{ATOM}id") for one in (root, last, first)}) == 3


def test_the_site_has_a_feed_that_pages_name(site: Site) -> None:
    root = ElementTree.parse(site.html / "verdicts.atom").getroot()
    assert root.tag == f"{ATOM}feed"
    assert root.findall(f"{ATOM}entry")
    for name in ("index.html", "learn/why.html"):
        link = site.pages[name].select_one('link[type="application/atom+xml"]')
        assert link is not None
        assert (site.html / name).parent.joinpath(str(link["href"])).is_file()
    (link,) = site.pages["404.html"].select('link[type="application/atom+xml"]')
    assert re.fullmatch(r"/.*/verdicts\.atom", str(link["href"]))  # it is shown anywhere


# Links to improve a page


@pytest.mark.parametrize(
    ("page", "suffix", "file"),
    [
        ("learn/why", ".md", "docs/learn/why.md"),
        ("auto_examples/why/plot_32_landscape", ".rst", "gallery/why/plot_32_landscape.py"),
        ("auto_examples/why/index", ".rst", "gallery/why/GALLERY_HEADER.rst"),
        ("auto_examples/index", ".rst", "gallery/GALLERY_HEADER.rst"),
    ],
)
def test_a_page_s_links_lead_to_its_source_and_to_a_report_that_knows_it(
    page: str, suffix: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bn_improve = extension("bn_improve", monkeypatch)
    env = SimpleNamespace(found_docs={page}, doc2path=lambda one: f"{one}{suffix}")
    monkeypatch.setenv("BN_TUTORIAL_REPOSITORY", "https://example.org/us/bn/")
    config = SimpleNamespace(repository=bn_improve.repository())
    app: Any = SimpleNamespace(env=env, config=config)
    context = {"provenance": SimpleNamespace(commit="abc1234")}
    bn_improve.add_links(app, page, "page.html", context, None)
    assert context["edit_url"] == f"https://example.org/us/bn/edit/main/{file}"
    assert (ROOT / file).is_file()
    query = parse_qs(urlsplit(str(context["report_url"])).query)
    assert query == {"template": ["mistake.yml"], "page": [page], "commit": ["abc1234"]}
    form = ROOT.joinpath(".github/ISSUE_TEMPLATE/mistake.yml").read_text("utf-8")
    assert all(f"id: {field}\n" in form for field in ("page", "commit"))


def test_without_a_repository_there_are_no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    bn_improve = extension("bn_improve", monkeypatch)
    monkeypatch.delenv("BN_TUTORIAL_REPOSITORY", raising=False)
    env = SimpleNamespace(found_docs={"a"}, doc2path=lambda one: one)
    context: dict[str, Any] = {}
    app = SimpleNamespace(env=env, config=SimpleNamespace(repository=bn_improve.repository()))
    bn_improve.add_links(app, "a", "page.html", context, None)
    assert (context["edit_url"], context["report_url"]) == ("", "")
    monkeypatch.setenv("BN_TUTORIAL_REPOSITORY", "our repository")
    with pytest.raises(bn_improve.ConfigError, match="must be the address"):
        bn_improve.repository()


def test_the_site_s_links_are_those_of_its_setting(site: Site) -> None:
    links = [link for page in site.pages.values() for link in page.select(".improve a")]
    assert bool(links) == bool(os.environ.get("BN_TUTORIAL_REPOSITORY"))
