"""The site as a whole: quoted numbers, what is said of the sample, refusals."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from bn_tutorial import evidence
from bn_tutorial.training import download, fetched
from bn_tutorial.training.store import RunStore

from .conftest import ROOT, SCRIPTS, WRITTEN, Site

ROLE = re.compile(r"\{evidence\}`([^`]+)`")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_s_page_shows_figures_and_a_verdict(site: Site, script: Path) -> None:
    page = site.pages[f"auto_examples/{script.parent.name}/{script.stem}.html"]
    output = " ".join(block.get_text() for block in page.select(".sphx-glr-script-out"))
    assert page.select("img.sphx-glr-single-img")
    assert "Verdict   " in output
    assert page.select_one(".answer .effect-words")
    assert page.select("table.found .verdict")
    assert "seed 0" not in output  # progress does not belong on a page


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_nothing_is_judged_on_the_sample(sample_site: Site, script: Path) -> None:
    page = sample_site.pages[f"auto_examples/{script.parent.name}/{script.stem}.html"]
    output = " ".join(block.get_text() for block in page.select(".sphx-glr-script-out"))
    assert "not judged: this is the bundled sample" in output


def test_every_quoted_number_stands_in_the_evidence(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BN_TUTORIAL_HOME", str(site.home))
    quoted = 0
    for name, text in WRITTEN.items():
        expected = [evidence.quote(*role.partition(":")[::2]) for role in ROLE.findall(text)]
        found = [span.get_text() for span in site.pages[name].select("span.evidence")]
        assert [text.replace("’", "'") for text in found] == expected
        quoted += len(expected)
    assert quoted >= 10


def test_every_page_says_that_it_was_built_from_the_sample(sample_site: Site) -> None:
    for name, page in sample_site.pages.items():
        if name.startswith(("genindex", "search", "py-modindex")):
            continue
        assert page.select_one(".bd-header-announcement"), name
        assert "smoke" in page.select_one(".provenance").get_text(), name  # type: ignore[union-attr]


def test_the_runs_behind_the_pages_travel_with_them(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = download.opened(str(site.html))
    assert fetched.keep(found, RunStore(tmp_path / "runs")).strange == 0
    monkeypatch.setenv("BN_TUTORIAL_HOME", str(site.home))
    names = [script.stem.split("_", 2)[2].replace("_", "-") for script in SCRIPTS]
    computed = [evidence.recall(f"{name}.computed") for name in names]
    foot = site.pages["reproduce.html"].select_one(".provenance").get_text()  # type: ignore[union-attr]
    runs = {run: one for name in names for run, one in evidence.recall(f"{name}.fetched").items()}
    total, elsewhere = len(runs), sum(runs.values())
    assert max(one["runs"] for one in computed) <= total <= len(found.runs)
    assert (f"{elsewhere} of the {total} runs" if elsewhere else f"The {total} runs") in foot


def build(html: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Try to build the site from this checkout."""
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "docs", str(html)],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_second_build_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = ROOT / "docs" / "_build"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "building.lock"):
        result = build(tmp_path)
    assert result.returncode == 2
    assert "another build of this folder is running" in result.stderr
    assert "programmable error" not in result.stderr


def test_an_unknown_profile_is_refused(tmp_path: Path) -> None:
    result = build(tmp_path, BN_TUTORIAL_PROFILE="huge")
    assert result.returncode == 2
    assert "there is no profile 'huge': choose smoke, standard, full." in result.stderr
    assert "programmable error" not in result.stderr


def test_a_name_without_evidence_fails_the_build(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    source.joinpath("conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'docs' / '_ext')!r})\n"
        "extensions = ['myst_parser', 'bn_evidence']\n"
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
