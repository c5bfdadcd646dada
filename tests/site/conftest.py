"""The built site, for all tests of it: `nox -s site` has built it."""

import dataclasses
import functools
import os
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from bn_tutorial import settings

ROOT = Path(__file__).parents[2]
HOME = settings.home()  # before any test has one of its own
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
def site() -> Site:
    """Return the built site, whatever its profile."""
    if "BN_TUTORIAL_SITE" not in os.environ:
        pytest.skip("no site has been built to be checked: run `nox -s site`")
    return Site(Path(os.environ["BN_TUTORIAL_SITE"]), HOME)


@pytest.fixture(scope="session")
def sample_site(site: Site) -> Site:
    """Return the built site, if it was built from the sample."""
    if settings.profile().source != "sample":
        pytest.skip("this site was not built from the sample")
    return site
