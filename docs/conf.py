"""Sphinx configuration."""

import os
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit

from filelock import FileLock, Timeout
from sphinx.errors import ConfigError

import bn_tutorial
from bn_tutorial import DataError, load_cifar10, profile, settings
from bn_tutorial.training import archive, executors

HERE = Path(__file__).resolve().parent
(HERE / "_build").mkdir(exist_ok=True)
_lock = FileLock(HERE / "_build" / "building.lock")  # until this process ends
try:
    _lock.acquire(blocking=False)
    PROFILE = profile()
    DATA = load_cifar10(PROFILE.source)
    FETCHED = settings.fetched()
    executors.check()  # whoever trains should answer before anything is built
except Timeout:
    raise ConfigError("another build of this folder is running: wait until it ends.") from None
except (ValueError, DataError, executors.WorkerError) as error:
    raise ConfigError(str(error)) from None
sys.path.insert(0, str(HERE / "_ext"))

import bn_downloads
import bn_pages
import bn_provenance

project, author, release = "Batch normalisation", "the bn_tutorial authors", bn_tutorial.__version__
copyright, language = "2026, the bn_tutorial authors", "en"
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
    "myst_nb",
    "numpydoc",
    "bn_citations",
    "sphinxcontrib.bibtex",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinxext.opengraph",
    "sphinx_sitemap",
    "notfound.extension",
    "bn_evidence",
    "bn_ledger",
    "bn_editions",
    "bn_figures",
    "bn_pages",
    "bn_provenance",
    "bn_downloads",
    "bn_answers",
    "bn_exercises",
    "bn_improve",
    "bn_markdown",
    "bn_lab",
    "bn_slides",
    "bn_theme",
    "bn_light",
    "bn_book",
]
# sphinx-gallery's notebooks are downloads, and the table is a part of a page
exclude_patterns = ["_build", "_search", "**/*.ipynb", "scaling/measured.md"]
nitpicky = numfig = True
suppress_warnings = ["sphinx_gallery.space_in_filename"]  # of a folder around the checkout
nitpick_ignore = [("py:class", f"collections.abc.{name}") for name in ("Callable", "Mapping")]
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style, bibtex_default_style = "author_year", "author-year"
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "substitution"]
myst_words_per_minute = 90  # of prose: formulas, code and figures stand between them
copybutton_exclude = ".linenos, .gp"

# --- what the pages are computed from
html_baseurl = (
    os.environ.get("BN_TUTORIAL_BASEURL", "https://example.org/bn_tutorial").rstrip("/") + "/"
)
myst_substitutions = {
    "install": f"`pip install {html_baseurl}{bn_downloads.WHEEL}`",
    "checkup_in_colab": f"[Open it in Colab]({bn_downloads.COLAB}"
    f"{quote(html_baseurl + bn_downloads.CHECKUP)})",
    "runs": f'<a href="{archive.NAME}" download><code>{archive.NAME}</code></a>',
    "source": f'<a href="{bn_downloads.SOURCE}" download>The source</a>',
    **bn_downloads.workbook(html_baseurl),
}
DIGEST = bn_pages.digest(PROFILE.name, DATA.digest, *bn_provenance.fetched(FETCHED))
SERVING = bool(os.environ.get("BN_TUTORIAL_SERVE"))
BUILD = f"{DIGEST} {html_baseurl}"
MADE = bn_provenance.kept(BUILD)  # None if something must be computed anew

sphinx_gallery_conf = {
    "examples_dirs": "../gallery",
    "gallery_dirs": "auto_examples",
    "backreferences_dir": "gen_modules/backreferences",
    "doc_module": ("bn_tutorial",),
    "image_scrapers": ("bn_figures.scraper",),
    "reset_modules": ("bn_figures.reset",),
    "subsection_order": [
        f"../gallery/{group}"
        for group in ("assignment", "advantages", "limitations", "why", "questions")
    ],
    "within_subsection_order": "FileNameSortKey",
    "first_notebook_cell": bn_downloads.first_cell(html_baseurl),
    "notebook_images": True,
    "remove_config_comments": True,
    "show_signature": False,
    "write_computation_times": False,  # its page loads scripts from other hosts
    # else only scripts that changed themselves; while prose is edited, no others either
    "run_stale_examples": MADE is None and not SERVING,
    "capture_repr": ("_repr_html_",),  # no <matplotlib ... object at 0x7f...> under the code
}
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "cells" / DIGEST)
nb_output_stderr = "remove"  # progress
nb_merge_streams = True
nb_code_prompt_show, nb_code_prompt_hide = "Show the code", "Hide the code"
nb_execution_raise_on_error, nb_execution_timeout = True, 1800

# --- the reference
autosummary_generate = False  # nothing to list; looking for it would import TensorFlow
autodoc_preserve_defaults = True  # as they are written
autodoc_typehints = "none"  # numpydoc's docstrings carry the types
numpydoc_show_class_members = False

# --- HTML
mathjax_path = "mathjax/tex-chtml.js"  # a local copy, see bn_theme.copy_mathjax
html_theme, html_title = "pydata_sphinx_theme", project
html_theme_options = {
    "collapse_navigation": True,
    "header_links_before_dropdown": 5,
    "navbar_center": ["navbar-nav", "clinic"],
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc", "improve"],
    "footer_start": ["copyright"],
    "footer_end": ["provenance"],
}
if DATA.is_sample:
    html_theme_options["announcement"] = (
        "Built from the small sample of CIFAR-10 that ships with the library: "
        "the figures show how the site works, not how batch normalisation does."
    )
html_static_path, templates_path = ["_static"], ["_templates"]
html_search_scorer = str(HERE / "_search" / "scorer.js")
html_css_files, html_js_files = ["custom.css"], ["theme-gaps.js"]
html_sidebars = {  # these pages have no subpages to list
    page: [] for page in ("index", "notebook", "cifar10", "reproduce", "scaling", "references")
}
html_favicon = "_static/favicon.svg"
html_show_sourcelink = html_domain_indices = False
html_last_updated_fmt, html_last_updated_use_utc = "%Y-%m-%d %H:%M UTC", True
MADE = MADE or bn_provenance.here(PROFILE, DATA)
ledger_provenance = MADE.asdict()
sitemap_url_scheme, sitemap_excludes = "{link}", ["404.html", "genindex.html", "search.html"]
notfound_urls_prefix = urlsplit(html_baseurl).path
ogp_site_url, ogp_image = html_baseurl, f"{html_baseurl}_static/hero.png"
ogp_image_alt = "Test accuracy of a network with and without batch normalisation."
ogp_social_cards = {"enable": False}  # a drawing of the title; our hero figure says more
html_context = {"default_mode": "auto", "provenance": MADE}
# a build that served what it should have computed anew stands for no other
provenance_digest = "" if SERVING and MADE is None else BUILD
del DATA  # the scripts load their own: no need for twice the memory
