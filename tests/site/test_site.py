"""The site as it is built from the sample: quoted numbers, warnings, refusals."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from bn_tutorial import evidence

from .conftest import ROOT, SCRIPTS, WRITTEN, Site, build, smoke

ROLE = re.compile(r"\{evidence\}`([^`]+)`")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_s_page_shows_figures_and_a_verdict(site: Site, script: Path) -> None:
    page = site.pages[f"auto_examples/{script.parent.name}/{script.stem}.html"]
    output = " ".join(block.get_text() for block in page.select(".sphx-glr-script-out"))
    assert page.select("img.sphx-glr-single-img")
    assert "not judged: this is the bundled sample" in output
    assert "seed 0" not in output  # progress does not belong on a page


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
