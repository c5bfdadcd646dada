"""A built site, served as a host would, and a browser: what `nox -s site` has prepared."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("playwright", reason="the checks in a browser run in `nox -s site`")

import uvicorn
from playwright.sync_api import Browser, Request, sync_playwright
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

#: The folder of the built site, and the address it was built for: on this machine.
HTML = Path(os.environ.get("BN_TUTORIAL_SITE", "nowhere"))
ADDRESS = os.environ.get("BN_TUTORIAL_BASEURL", "http://127.0.0.1:8765/bn_tutorial/")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]


def pages() -> list[str]:
    """Return all pages that people read, below the root of the site."""
    if not HTML.is_dir():
        return []
    found = (path.relative_to(HTML) for path in sorted(HTML.rglob("*.html")))
    return [path.as_posix() for path in found if not path.parts[0].startswith("_")]


def lost(request: Request) -> list[str]:
    """Return the address of a request that failed; leaving a page, which ends some, is no failure."""
    return [] if request.failure == "net::ERR_ABORTED" else [request.url]


@pytest.fixture(scope="session")
def html() -> Path:
    """Return the folder of the built site."""
    if not HTML.is_dir():
        pytest.skip("no site has been built for the browser: run `nox -s site`")
    return HTML


@pytest.fixture(scope="session")
def address(html: Path) -> str:
    """Return the address at which the site is served."""
    return ADDRESS


def pytest_sessionstart(session: pytest.Session) -> None:
    """Serve the site, compressed, under the sub-path it was built for, to the tests of all cores."""
    if hasattr(session.config, "workerinput") or not HTML.is_dir():
        return
    place = urlsplit(ADDRESS)
    app = Starlette(
        routes=[Mount(place.path.rstrip("/"), StaticFiles(directory=HTML, html=True))],
        middleware=[Middleware(GZipMiddleware)],
    )
    config = uvicorn.Config(app, "127.0.0.1", place.port or 80, log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            pytest.exit(f"{ADDRESS} cannot be served: is the port taken?", returncode=1)
        time.sleep(0.05)

    def stop() -> None:
        server.should_exit = True
        thread.join()

    session.config.add_cleanup(stop)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start the machine's own Chromium, or the one that playwright has installed."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()
