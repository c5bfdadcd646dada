"""What readers take with them: scripts, notebooks and zips that work as downloaded."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

from bn_evidence import experiment
from bn_figures import read
from docutils import nodes
from packaging.requirements import Requirement
from sphinx import addnodes
from sphinx.application import Sphinx

import bn_tutorial

ROOT = Path(__file__).parents[2]
WHEEL = f"_static/wheels/bn_tutorial-{bn_tutorial.__version__}-py3-none-any.whl"
_NAMED = re.compile(r"(?s)(?:---\n.*?\n---\n\s*)?\((?P<name>[\w-]+)\)=\n# (?P<title>[^\n]+)")
_REFERENCE = re.compile(r"`([\w.-]+)`")
COLAB = "https://colab.research.google.com/#fileId="


def install_line(base: str) -> str:
    """Return the first cell of a notebook: it fetches the project from the site."""
    return f"%pip install -q {base}{WHEEL}"


def requirements(base: str) -> str:
    """Return what a downloaded script needs, for ``pip install -r``."""
    needed = map(Requirement, metadata.requires("bn_tutorial") or [])
    ranges = [str(one) for one in needed if one.marker is None]
    return "\n".join(
        [f"bn-tutorial @ {base}{WHEEL}", *ranges, "ipykernel>=6  # for the notebook", ""]
    )


def places(base: str) -> dict[str, tuple[str, str]]:
    """Return title and address of each page and script, by the name that a reference gives."""
    found = {}
    for page in (ROOT / "docs").glob("*/*.md"):
        if named := _NAMED.match(page.read_text("utf-8")):
            address = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
            found[named["name"]] = named["title"], base + address
    for script in (ROOT / "gallery").glob("*/plot_*.py"):
        _, title, *_ = script.read_text("utf-8").splitlines()
        group = script.parent.name
        address = f"auto_examples/{group}/{script.stem}.html"
        found[f"sphx_glr_auto_examples_{group}_{script.name}"] = title, base + address
    return found


def finish_downloads(app: Sphinx) -> None:
    """Give the notebooks links, and the zips what one needs to run them."""
    output = Path(app.srcdir, app.config.sphinx_gallery_conf["gallery_dirs"])
    known = places(app.config.html_baseurl)
    notebooks = sorted(output.glob("*/plot_*.ipynb"))
    for path in notebooks:
        notebook = json.loads(path.read_text("utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = [_linked(text, known) for text in cell["source"]]
        path.write_text(json.dumps(notebook, indent=1), "utf-8")
    with zipfile.ZipFile(
        output / "auto_examples_jupyter.zip", "w", zipfile.ZIP_DEFLATED
    ) as content:
        for path in notebooks:
            content.write(path, path.relative_to(output))
    for path in sorted(output.glob("*/plot_*.zip")):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as content:
            for ending in (".py", ".ipynb"):
                content.write(path.with_suffix(ending), path.stem + ending)
            content.writestr("requirements.txt", requirements(app.config.html_baseurl))
            for file in ROOT.glob("LICENSE*"):
                content.write(file, file.name)
            for figure in sorted(path.parent.glob(f"images/sphx_glr_{path.stem}_*.svg")):
                content.writestr(f"data/figure-{int(figure.stem[-3:])}.csv", read(figure)[1] or "")


def _linked(text: str, known: dict[str, tuple[str, str]]) -> str:
    """Turn references, of which sphinx-gallery leaves the names, into links."""
    return _REFERENCE.sub(
        lambda found: "[{}]({})".format(*known[found[1]]) if found[1] in known else found[0], text
    )


def offer_downloads(app: Sphinx, doctree: nodes.document) -> None:
    """Offer an experiment's downloads below its title, beside those at its end."""
    if not experiment(app.env.docname):
        return
    for note in list(doctree.findall(nodes.note)):  # "Go to the end to download …"
        if "sphx-glr-download-link-note" in note["classes"]:
            note.parent.parent.remove(note.parent)
    names = {".ipynb": "Notebook", ".py": "Script", ".zip": "Zip with data"}
    links = {}
    for one in doctree.findall(addnodes.download_reference):
        ending = Path(one["filename"]).suffix
        if ending in names and ending not in links:
            links[ending] = one.copy()
            links[ending] += nodes.inline("", names[ending])
    notebook = f"{app.config.html_baseurl}_downloads/{links['.ipynb']['filename']}"
    colab = nodes.reference("", "Open in Colab", refuri=COLAB + quote(notebook), internal=False)
    bar = nodes.paragraph(classes=["downloads"])
    for link in (colab, *links.values()):
        bar += [link, nodes.Text(" ")]
    title = next(doctree.findall(nodes.title))
    title.parent.insert(title.parent.index(title) + 1, bar)


def build_wheel(app: Sphinx, exception: Exception | None) -> None:
    """Put the project itself beside the pages."""
    if exception is None and app.builder.format == "html":
        folder = Path(app.outdir, WHEEL).parent
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", finish_downloads, priority=900)  # after sphinx-gallery
    app.connect("doctree-read", offer_downloads, priority=900)  # after their addresses were found
    app.connect("build-finished", build_wheel)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
