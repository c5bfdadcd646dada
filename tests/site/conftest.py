"""The site for all tests of it: built once in the profile `smoke`, or the one of `nox -s site`."""

import dataclasses
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from bn_tutorial import settings

ROOT = Path(__file__).parents[2]
#: Where finished runs may lie already, for instance those of `nox -s docs -- --profile smoke`.
STORED = Path(os.environ.get("BN_TUTORIAL_HOME", "nowhere"), "runs")


SCRIPTS = sorted((ROOT / "gallery").rglob("plot_*.py"))
DOCS = ROOT / "docs"
WRITTEN = {  # pages by the path of their HTML
    path.relative_to(DOCS).with_suffix(".html").as_posix(): path.read_text()
    for folder in (DOCS, DOCS / "learn", DOCS / "practice")
    for path in sorted(folder.glob("*.md"))
}


@dataclasses.dataclass(frozen=True)
class Site:
    """A built site.

    Parameters
    ----------
    html : Path
        Its root.
    home : Path
        The storage folder that the build used.
    """

    html: Path
    home: Path

    @functools.cached_property
    def pages(self) -> dict[str, BeautifulSoup]:
        """Return all pages that people read, by their path below the root."""
        return {
            path.relative_to(self.html).as_posix(): BeautifulSoup(path.read_text(), "html.parser")
            for path in sorted(self.html.rglob("*.html"))
            if "_static" not in path.parts
        }


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    if finished := os.environ.get("BN_TUTORIAL_SITE"):
        return Site(Path(finished), settings.home())
    folder = tmp_path_factory.mktemp("site")
    for part in ("docs", "gallery", "bn_tutorial"):  # so that nothing is written into the checkout
        shutil.copytree(
            ROOT / part,
            folder / part,
            ignore=shutil.ignore_patterns("_build", "auto_examples", "gen_modules", "__pycache__"),
        )
    for file in (*ROOT.glob("*.md"), *ROOT.glob("LICENSE*"), ROOT / "pyproject.toml"):
        shutil.copy(file, folder)
    built = Site(folder / "html", folder / "home")
    if STORED.is_dir():
        shutil.copytree(STORED, built.home / "runs")
    result = build(built)
    assert result.returncode == 0, result.stdout + result.stderr
    return built


def build(site: Site, **variables: str) -> subprocess.CompletedProcess[str]:
    """Build the site as `nox -s docs` does, in the profile `smoke` if `variables` name no other."""
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-n", "-q", "-b", "html", "docs", str(site.html)],
        cwd=site.html.parent,
        env={**smoke(site.home), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def smoke(home: Path) -> dict[str, str]:
    """Return the environment of a process that runs in the profile `smoke`."""
    return {**os.environ, "BN_TUTORIAL_PROFILE": "smoke", "BN_TUTORIAL_HOME": str(home)}
