"""Pages with code cells, executed side by side before they are read.

A kernel spends most of its time starting. myst-nb takes what is executed here from its cache, and
executes once more, and reports, what fails.
"""

from __future__ import annotations

import ast
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

from docutils import nodes
from jupyter_cache import get_cache
from jupyter_cache.executors.basic import ExecutionWorkerLocalSerial, ProcessData
from jupyter_cache.executors.utils import ExecutionResult, single_nb_execution
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxRole
from sphinx.util.logging import getLogger

import bn_tutorial
from bn_tutorial.training import pool
from bn_tutorial.training.schedule import usual_workers

#: Pages that train, the longest first; the others follow by the number of their cells.
FIRST = ("reproduce", "notebook", "clinic", "from_scratch")
#: For each kernel: kernels that use every core slow one another down.
ONE_CORE = dict.fromkeys(
    (
        *("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"),
        *("TF_NUM_INTEROP_THREADS", "BN_TUTORIAL_WORKERS"),
    ),
    "1",
)


def digest(*parts: str) -> str:
    """Return a digest of what executed pages depend on: the library, extensions, versions, `parts`."""
    packages = ("numpy", "keras", "tensorflow", "matplotlib", "sphinx-gallery")
    text = repr([parts, *map(metadata.version, packages)])
    total = hashlib.sha256(text.encode())
    for folder in (Path(bn_tutorial.__file__).parent, Path(__file__).parent):
        for file in sorted(folder.rglob("*")):
            if file.suffix in (".py", ".toml"):
                total.update(file.read_bytes())
    return total.hexdigest()[:16]


class Worker(ExecutionWorkerLocalSerial):
    """Jupyter-cache's own, without a word about encryption within one machine."""

    @staticmethod
    def execute(project_nb: Any, data: ProcessData) -> ExecutionResult:
        folder, quiet = str(Path(data.uri).parent), ["--log-level=ERROR"]
        return single_nb_execution(
            project_nb.nb, folder, data.timeout, data.allow_errors, extra_arguments=quiet
        )


def execute_pages(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Execute the pages whose cells have changed; kernels take the place of workers that trained."""
    pool.stop()
    cache, limit = get_cache(app.config.nb_execution_cache_path), app.config.nb_execution_timeout
    texts = {str(page): page.read_text("utf-8") for page in map(env.doc2path, docnames)}
    cells = {page: count for page in texts if (count := texts[page].count("{code-cell}"))}
    for page in cells:
        cache.add_nb_to_project(page, read_data={"type": "plugin", "name": "myst_nb_md"})
    changed = cache.list_unexecuted(filter_uris=[*cells])
    changed.sort(key=lambda one: (_rank(one.uri), -cells[one.uri]))
    work = [ProcessData(one.pk, one.uri, cache, limit, allow_errors=False) for one in changed]
    with ThreadPoolExecutor(usual_workers()) as threads, mock.patch.dict(os.environ, ONE_CORE):
        list(threads.map(Worker(getLogger(__name__)), work))


def _rank(page: str) -> int:
    return FIRST.index(Path(page).stem) if Path(page).stem in FIRST else len(FIRST)


def hide_checks(app: Sphinx, doctree: nodes.document) -> None:
    """Leave out the assertions that hold the text to account; in the clinic they are the proof."""
    if app.env.docname.endswith("clinic"):
        return
    for block in doctree.findall(nodes.literal_block):
        if "cell_input" in block.parent.get("classes", ()):
            shown = without_checks(block.astext())
            if shown != block.astext():
                app.env.metadata[app.env.docname]["checks_hidden"] = True
            block.rawsource, block.children = shown, [nodes.Text(shown)]


def without_checks(code: str) -> str:
    """Return code without its assertions, but for those that stand alone where a line must stand."""
    lines: list[str | None] = [*code.splitlines()]
    try:
        tree = ast.parse(code)
    except SyntaxError:  # a magic of IPython's
        return code
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):  # a lambda's is an expression
            continue
        checks = [one for one in body if isinstance(one, ast.Assert)]
        for one in checks if len(checks) < len(body) else ():
            end = one.end_lineno or one.lineno
            lines[one.lineno - 1 : end] = [None] * (end - one.lineno + 1)
    return "\n".join(line for line in lines if line is not None).rstrip("\n")


class minutes(nodes.Inline, nodes.Element):
    """How long another page takes to read; known once all are read."""


class Minutes(SphinxRole):
    """``{minutes}`page```: how many minutes the prose of another page takes to read."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        return [minutes(page=self.text)], []


def say_minutes(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put the minutes in their places."""
    for place in list(doctree.findall(minutes)):
        known = app.env.metadata[place["page"]]["wordcount"]
        place.replace_self(nodes.Text(str(known["minutes"])))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_role("minutes", Minutes())
    app.connect("doctree-resolved", say_minutes)
    app.connect("doctree-read", hide_checks)
    app.connect("env-before-read-docs", execute_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
