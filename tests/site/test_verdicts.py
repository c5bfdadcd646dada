"""The pages say what the evidence says: a verdict that flips changes them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup

from bn_tutorial.evidence import Verdict, interval, ledger, record
from bn_tutorial.evidence.intervals import exponential
from bn_tutorial.evidence.registry import Hypothesis, claims, hypotheses
from bn_tutorial.settings import profile

from .conftest import ROOT, SCRIPTS, Site

CONF = f"""
import sys
sys.path.insert(0, {str(ROOT / "docs" / "_ext")!r})
extensions = ["myst_parser", "sphinxcontrib.bibtex", "sphinx_design", "bn_evidence", "bn_ledger"]
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
bibtex_bibfiles = ["references.bib"]
suppress_warnings = ["ref", "myst", "toc", "image", "bibtex", "docutils"]
"""


def believe(words: dict[str, str], missing: str = "") -> None:
    """Record verdicts on all hypotheses, "supported" where `words` say nothing else."""
    everything = hypotheses().values()

    def found(one: Hypothesis) -> Verdict:
        if one.estimate:
            return Verdict(one, interval([0.1, 0.2, 0.3]), "estimated")
        word = words.get(one.id, "supported")
        size = one.direction * (-1 if word == "contradicted" else 1) * (1 + 2 * abs(one.bound))
        effect = interval(size * np.array([0.98, 1, 1.02]))
        return Verdict(one, exponential(effect) if one.unit == "ratio" else effect, word)

    for experiment in {one.experiment for one in everything} - {missing}:
        verdicts = {one.id: found(one) for one in everything if one.experiment == experiment}
        record(experiment, verdicts, seconds=1.0)


@pytest.fixture
def pages(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a small project that holds the pages which depend on the ledger."""
    monkeypatch.setenv("BN_TUTORIAL_PROFILE", "standard")
    source = tmp_path / "docs"
    (source / "ledger").mkdir(parents=True)
    source.joinpath("conf.py").write_text(CONF)
    source.joinpath("index.md").write_text("# Home\n\n```{marks}\n```\n")
    for name in ("verdicts.md", "advantages.md", "limitations.md", "references.bib"):
        shutil.copy(ROOT / "docs" / name, source)
    return source


def build(source: Path) -> dict[str, str]:
    """Build, or build again what has changed; return the pages' text, with plain apostrophes."""
    result = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", str(source), str(source.parent / "html")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return {
        path.stem: " ".join(
            BeautifulSoup(path.read_text(), "html.parser").get_text().replace("’", "'").split()
        )
        for path in (source.parent / "html").glob("*.html")
    }


def test_a_verdict_that_flips_changes_the_pages(pages: Path) -> None:
    claim, flipped = claims()["stabilises"], hypotheses()["landscape-loss"]
    believe({})
    reference = {"provenance": PROVENANCE, "claims": ledger.ledger()}
    pages.joinpath("ledger", "reference.json").write_text(json.dumps(reference))
    before = build(pages)
    believe({flipped.id: "contradicted"})
    after = build(pages)

    for page in ("advantages", "verdicts"):
        assert claim.wording["supported"] in before[page]
        assert claim.wording["supported"] not in after[page]
        assert claim.wording["depends"] in after[page]
    assert flipped.wording["supported"] in before["advantages"]
    assert flipped.wording["contradicted"] in after["advantages"]
    assert f"▲ supported {claim.statement}" in before["index"]
    assert f"◆ depends {claim.statement}" in after["index"]
    assert before["limitations"] == after["limitations"]
    assert "this build agrees with it" in before["verdicts"]
    differs = "What differs between the two builds: nothing but chance, or the machine."
    assert f"Here {claim.statement}{differs} supported– depends–" in after["verdicts"]
    assert f"{flipped.statement}{differs} supported×" in after["verdicts"]
    assert "made on 2026-01-02 from commit abc" in after["verdicts"]
    written = json.loads((pages.parent / "html" / "ledger.json").read_text())
    assert written["claims"] == ledger.ledger()
    table = (pages.parent / "html" / "ledger.csv").read_text()
    assert f",{flipped.id}," in table


PROVENANCE = {
    "profile": "full",
    "commit": "abc",
    "device": "cpu",
    "created": "2026-01-02T03:04:05+00:00",
    "versions": {"keras": "3"},
    "data": {"digest": "0"},
}


def test_an_experiment_that_has_not_run_is_shown_as_such(pages: Path) -> None:
    believe({}, missing="landscape")
    found = build(pages)
    assert "its experiment has not been run" in found["verdicts"]
    assert hypotheses()["landscape-loss"].wording["not judged"] in found["advantages"]
    assert "No reference build has been committed yet" in found["verdicts"]


def test_the_built_site_shows_every_claim(site: Site) -> None:
    rows = site.pages["verdicts.html"].select("table.ledger tbody tr")
    assert len(rows) == len(claims()) + sum(len(claim.parts) for claim in claims().values())
    for row in rows[: len(claims())]:
        assert row.select_one("svg[role=img][aria-label]")
    entries = json.loads(site.html.joinpath("ledger.json").read_text())["claims"]
    assert [entry["id"] for entry in entries] == list(claims())
    measured = [part for entry in entries for part in entry["parts"] if part["mean"] is not None]
    assert len(measured) > 20  # every experiment has run, and left its effects


def test_a_real_build_judges_everything(site: Site) -> None:
    """What was measured with other seeds than its rival, for instance, would be judged by none."""
    if profile().source == "sample":
        pytest.skip("this site was built from the sample")
    words = ".verdict:not(.legend *)"
    judged = {n: page.select(words) for n, page in site.pages.items() if "/plot_" in n}
    assert sum(map(len, judged.values())) >= len(hypotheses())
    for name, told in judged.items():
        assert "verdict-not-judged" not in str(told), name


def test_the_ledger_judges_nothing_on_the_sample(sample_site: Site) -> None:
    rows = sample_site.pages["verdicts.html"].select("table.ledger tbody tr")
    assert rows
    assert all("not judged" in row.get_text() for row in rows)


def test_a_finding_stands_above_the_figure_that_shows_it(site: Site) -> None:
    found = 0
    for name, page in site.pages.items():
        if not (script := re.search(r"/plot_\d\d_(\w+)\.html$", name)):
            continue
        known = [one for one in hypotheses().values() if one.figure]
        for one in (one for one in known if one.experiment == script[1].replace("_", "-")):
            assert page.select_one(f"img[src$='_{one.figure:03}.svg']"), one.id
        for title in page.select(".figure-finding"):
            image = title.find_next("img")
            assert image is not None
            number = int(str(image["src"])[-7:-4])
            told = title.get_text().partition(" (")[0].partition(" is estimated at ")[0]
            wordings = [w for one in known if one.figure == number for w in one.wording.values()]
            assert any(wording.startswith(told) for wording in wordings), told
            found += 1
    assert found >= len(SCRIPTS) or profile().source == "sample"  # of which nothing is judged
