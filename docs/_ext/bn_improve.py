"""Links with which a reader improves a page: to its source, and to a report that knows the page."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sphinx.application import Sphinx
from sphinx.errors import ConfigError

VARIABLE = "BN_TUTORIAL_REPOSITORY"
BRANCH, FORM = "main", "mistake.yml"


def repository() -> str:
    """Return the address of the project's repository; empty if nobody named it.

    Raises
    ------
    ConfigError
        If it is no address.
    """
    named = os.environ.get(VARIABLE, "").strip().rstrip("/")
    if named and not re.fullmatch(r"https?://[^\s\"'<>?#]+", named):
        raise ConfigError(f"{VARIABLE} is {named!r}: it must be the address of a repository.")
    return named


def source(page: str, suffix: str) -> str:
    """Return the file that a page is written in: a text of docs, or a script of the gallery."""
    generated, _, rest = page.partition("auto_examples/")
    if generated or not rest:
        return f"docs/{page}{suffix}"
    if rest.endswith("index"):
        return f"gallery/{rest.removesuffix('index')}GALLERY_HEADER.rst"
    return f"gallery/{rest}.py"


def add_links(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Hand the two addresses to the template of the sidebar; pages that nobody wrote get none."""
    base = app.config.repository
    written = base and page in app.env.found_docs and page != "404"
    context["edit_url"] = context["report_url"] = ""
    if written:
        suffix = Path(app.env.doc2path(page)).suffix
        fields = {"template": FORM, "page": page, "commit": context["provenance"].commit}
        context["edit_url"] = f"{base}/edit/{BRANCH}/{source(page, suffix)}"
        context["report_url"] = f"{base}/issues/new?{urlencode(fields)}"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("repository", repository(), "html", str)  # another one: pages anew
    app.connect("html-page-context", add_links, priority=400)  # before the theme drops empty boxes
    return {"parallel_read_safe": True, "parallel_write_safe": True}
