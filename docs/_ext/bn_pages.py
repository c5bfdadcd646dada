"""Pages with code cells, executed side by side."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution
from myst_nb.core.read import read_myst_markdown_notebook
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

# for NumPy in each kernel: kernels that use every core slow one another down
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def execute_pages(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Execute the pages that changed side by side: a kernel spends most of its time starting.

    They go into the cache from which myst-nb takes them. What fails here is executed there once
    more, and reported.
    """
    cache = get_cache(app.config.nb_execution_cache_path)
    notebooks = {}
    for page in (env.doc2path(name) for name in docnames):
        text = page.read_text("utf-8")
        if "{code-cell}" not in text:
            continue
        notebook = read_myst_markdown_notebook(text, path=page)
        try:
            cache.match_cache_notebook(notebook)
        except KeyError:
            notebooks[page] = notebook

    def execute(page: Path) -> Any:
        seconds = app.config.nb_execution_timeout
        return single_nb_execution(
            notebooks[page],
            page.parent,
            seconds,
            allow_errors=False,
            extra_arguments=["--log-level=ERROR"],  # no word about encryption within one machine
        )

    longest_first = sorted(notebooks, key=lambda page: -len(notebooks[page].cells))
    with ThreadPoolExecutor(os.cpu_count()) as pool, mock.patch.dict(os.environ, ONE_THREAD):
        for page, result in zip(longest_first, pool.map(execute, longest_first), strict=True):
            if result.err is None:
                spent = {"execution_seconds": result.time}
                bundle = CacheBundleIn(notebooks[page], str(page), data=spent)
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("env-before-read-docs", execute_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
