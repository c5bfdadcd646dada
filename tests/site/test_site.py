"""The built pages: figures, quoted numbers, links, and nothing from elsewhere."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from filelock import FileLock

from bn_tutorial import evidence

from .conftest import ROOT, Site, build, smoke

SCRIPTS = sorted((ROOT / "gallery").rglob("plot_*.py"))
ROLE = re.compile(r"\{evidence\}`([^`]+)`")
DOCS = ROOT / "docs"
WRITTEN = {  # pages by the path of their HTML
    path.relative_to(DOCS).with_suffix(".html").as_posix(): path.read_text()
    for folder in (DOCS, DOCS / "learn", DOCS / "practice")
    for path in sorted(folder.glob("*.md"))
}


def test_every_figure_is_there_and_has_a_written_alternative(site: Site) -> None:
    figures = 0
    for name, page in site.pages.items():
        for image in page.select("article img"):
            source = (site.html / name).parent / unquote(str(image["src"]))
            alt = str(image.get("alt", ""))
            assert source.is_file(), f"{name} lacks {source.name}"
            if "thumb" in source.name:  # its link says in words where it leads
                continue
            assert len(alt.split()) > 3, f"{name}: {source.name} has the alternative text {alt!r}"
            figures += "sphx_glr_plot" in source.name
    assert figures >= 10


def test_figures_follow_the_colour_scheme(site: Site) -> None:
    figures = list((site.html / "_images").glob("*.svg"))
    assert len(figures) >= 50
    for file in figures:
        text = file.read_text()
        assert "prefers-color-scheme:dark" in text
        assert "var(--ink)" in text
        assert "#1f2328;" not in text.partition("</style>")[2]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_s_page_shows_figures_and_a_verdict(site: Site, script: Path) -> None:
    page = site.pages[f"auto_examples/{script.parent.name}/{script.stem}.html"]
    output = " ".join(block.get_text() for block in page.select(".sphx-glr-script-out"))
    assert page.select("img.sphx-glr-single-img")
    assert "not judged: this is the bundled sample" in output
    assert "seed 0" not in output  # progress does not belong on a page


@pytest.mark.parametrize("name", [name for name in WRITTEN if "{code-cell}" in WRITTEN[name]])
def test_every_cell_was_executed(site: Site, name: str) -> None:
    cells = site.pages[name].select(".cell")
    assert len(cells) == WRITTEN[name].count("{code-cell}") - WRITTEN[name].count("[remove-cell]")
    assert all(cell.select(".cell_output") for cell in cells)


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


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_experiment_leads_to_the_pages_that_explain_it(site: Site, script: Path) -> None:
    page = site.pages[f"auto_examples/{script.parent.name}/{script.stem}.html"]
    links = [str(link["href"]) for link in page.select("article a[href]")]
    assert any(link.startswith(("../../learn/", "../../practice/")) for link in links)


def test_every_quoted_number_stands_in_the_evidence(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BN_TUTORIAL_HOME", str(site.home))
    monkeypatch.setenv("BN_TUTORIAL_PROFILE", "smoke")
    quoted = 0
    for name, text in WRITTEN.items():
        expected = [evidence.quote(*role.partition(":")[::2]) for role in ROLE.findall(text)]
        found = [span.get_text() for span in site.pages[name].select("span.evidence")]
        assert [text.replace("’", "'") for text in found] == expected
        quoted += len(expected)
    assert quoted >= 10


def test_every_link_within_the_site_leads_somewhere(site: Site) -> None:
    pages = site.pages
    for name, page in pages.items():
        for link in page.select("a[href]"):
            url, anchor = urldefrag(str(link["href"]))
            if urlsplit(url).scheme:
                continue
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


def test_every_page_says_that_it_was_built_from_the_sample(site: Site) -> None:
    for name, page in site.pages.items():
        if name.startswith(("genindex", "search", "py-modindex")):
            continue
        assert page.select_one(".bd-header-announcement"), name
        assert "smoke" in page.select_one(".provenance").get_text(), name  # type: ignore[union-attr]


def test_a_downloaded_script_runs_by_itself(site: Site, tmp_path: Path) -> None:
    def run(script: Path) -> None:
        (download,) = (site.html / "_downloads").rglob(script.name)
        folder = tmp_path / script.stem
        folder.mkdir()
        result = subprocess.run(
            [sys.executable, "-W", "error", str(download)],
            cwd=folder,
            env={**smoke(site.home), "MPLBACKEND": "agg"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert "not judged" in result.stdout, script
        assert result.stderr == "", script  # nothing to train, and no chatter
        assert list(folder.iterdir()) == []

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, SCRIPTS))


def test_a_second_build_of_the_folder_is_refused(site: Site) -> None:
    with FileLock(site.html.parent / "docs" / "_build" / "building.lock"):
        result = build(site)
    assert result.returncode == 2
    assert "another build of this folder is running" in result.stderr
    assert "programmable error" not in result.stderr


def test_an_unknown_profile_is_refused(site: Site) -> None:
    result = build(site, BN_TUTORIAL_PROFILE="huge")
    assert result.returncode == 2
    assert "there is no profile 'huge': choose smoke, standard, full." in result.stderr
    assert "programmable error" not in result.stderr


def test_a_name_without_evidence_fails_the_build(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    source.joinpath("conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'docs' / '_ext')!r})\n"
        "extensions = ['myst_parser']\n"
        "def setup(app):\n    import bn_site\n    app.add_role('evidence', bn_site.Evidence())\n"
    )
    source.joinpath("index.md").write_text(
        "# Title\n\nA number: {evidence}`batch-norm.nothing:.1f`.\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", str(source), str(tmp_path / "html")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "no evidence 'batch-norm.nothing:.1f'" in result.stderr
