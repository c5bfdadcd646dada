"""What readers take with them: scripts, notebooks and zips that work as downloaded."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

import bn_workbook
from bn_evidence import experiment, render
from bn_figures import read
from docutils import nodes
from packaging.requirements import Requirement
from sphinx import addnodes
from sphinx.application import Sphinx

import bn_tutorial
from bn_tutorial import evidence
from bn_tutorial.training import archive
from bn_tutorial.training.archive import ArchiveError
from bn_tutorial.training.store import RunStore

ROOT = Path(__file__).parents[2]
WHEEL = f"_static/wheels/bn_tutorial-{bn_tutorial.__version__}-py3-none-any.whl"
SOURCE = f"_static/wheels/bn_tutorial-{bn_tutorial.__version__}.tar.gz"
_NAMED = re.compile(r"(?s)(?:---\n.*?\n---\n\s*)?\((?P<name>[\w-]+)\)=\n# (?P<title>[^\n]+)")
_HERE = "[This page on the site, with its figures"
_REFERENCE = re.compile(r"`([\w.-]+)`")
CHECKUP = "_static/checkup.ipynb"
WORKBOOK = "_static/workbook/"
COLAB = "https://colab.research.google.com/#fileId="


def install(base: str) -> str:
    """Return the line of a notebook that fetches the project."""
    return f"%pip install -q {base}{WHEEL}"


def first_cell(base: str) -> str:
    """Return the first cell of an experiment's notebook, which offers a quick look, too."""
    return (
        f"{install(base)}\n"
        "# %env BN_TUTORIAL_PROFILE=smoke  # a quick look: seconds, small sample, no verdicts"
    )


def requirements(base: str) -> str:
    """Return what a downloaded script needs, for ``pip install -r``."""
    needed = map(Requirement, metadata.requires("bn_tutorial") or [])
    ranges = [str(one) for one in needed if one.marker is None]
    return "\n".join(
        [f"bn-tutorial @ {base}{WHEEL}", *ranges, "ipykernel>=6  # for the notebook", ""]
    )


def constraints(versions: Mapping[str, str]) -> str:
    """Return the versions that this build ran with, for ``pip install -c``."""
    pins = [f"{name}=={version}" for name, version in versions.items() if name != "python"]
    return "\n".join([f"# this build ran on Python {versions['python']}", *pins, ""])


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
    base = app.config.html_baseurl
    known = places(base)
    needed = {
        "requirements.txt": requirements(base),
        "constraints.txt": constraints(app.config.html_context["provenance"].versions),
        **{file.name: file.read_text("utf-8") for file in ROOT.glob("LICENSE*")},
    }
    for path in output.glob("*/plot_*.ipynb"):
        notebook = json.loads(path.read_text("utf-8"))
        told = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
        for cell in told:
            cell["source"] = [_linked(text, known) for text in cell["source"]]
        title = "".join(told[0]["source"]).partition(f"\n\n{_HERE}")[0]
        address = f"{base}{path.relative_to(app.srcdir).with_suffix('.html').as_posix()}"
        seconds = evidence.recall(f"{experiment(path.stem)}.seconds")
        told[0]["source"] = [
            f"{title}\n\n{_HERE}]({address}): its runs took {seconds:.0f} s there."
        ]
        path.write_text(json.dumps(notebook, indent=1), "utf-8")
    for kind, ending in (("jupyter", "ipynb"), ("python", "py")):
        files = {
            path.relative_to(output).as_posix(): path.read_text("utf-8")
            for path in sorted(output.glob(f"*/plot_*.{ending}"))
        }
        _zip(output / f"auto_examples_{kind}.zip", files | needed)
    for path in sorted(output.glob("*/plot_*.zip")):
        both = [path.with_suffix(ending) for ending in (".py", ".ipynb")]
        files = {one.name: one.read_text("utf-8") for one in both}
        for figure in sorted(path.parent.glob(f"images/sphx_glr_{path.stem}_*.svg")):
            if (table := read(figure)[1]) and table.strip():  # photographs have none
                files[f"data/figure-{int(figure.stem[-3:])}.csv"] = table
        _zip(path, files | needed)


def _zip(path: Path, files: Mapping[str, str]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as content:
        for name, text in files.items():
            content.writestr(name, text)


def _linked(text: str, known: dict[str, tuple[str, str]]) -> str:
    """Turn references, of which sphinx-gallery leaves the names, into links."""
    return _REFERENCE.sub(
        lambda found: "[{}]({})".format(*known[found[1]]) if found[1] in known else found[0], text
    )


class Bar(nodes.paragraph, nodes.Admonition):
    """An experiment's downloads: of a kind that the descriptions of pages pass over."""


def offer_downloads(app: Sphinx, doctree: nodes.document) -> None:
    """Offer an experiment's downloads below its title, and nowhere else."""
    if not experiment(app.env.docname):
        return
    for note in list(doctree.findall(nodes.note)):  # "Go to the end to download …"
        if "sphx-glr-download-link-note" in note["classes"]:
            note.parent.parent.remove(note.parent)
    names = {".ipynb": "Notebook", ".py": "Script", ".zip": "Zip with figure data"}
    links = {}
    for one in doctree.findall(addnodes.download_reference):
        ending = Path(one["filename"]).suffix
        if ending in names and ending not in links:
            links[ending] = one.copy()
            links[ending] += nodes.inline("", names[ending])
    for footer in list(doctree.findall(nodes.container)):
        if "sphx-glr-footer" in footer["classes"]:
            footer.parent.remove(footer)
    notebook = f"{app.config.html_baseurl}_downloads/{links['.ipynb']['filename']}"
    colab = nodes.reference("", "Open in Colab", refuri=COLAB + quote(notebook), internal=False)
    bar = Bar(classes=["downloads"])
    for link in (colab, *links.values()):
        bar += [link, nodes.Text(" ")]
    title = next(doctree.findall(nodes.title))
    title.parent.insert(title.parent.index(title) + 1, bar)


def build_wheel(app: Sphinx, exception: Exception | None) -> None:
    """Put the project itself beside the pages, ready to install, and with all of its source."""
    if exception is None and app.builder.format == "html":
        folder = str(Path(app.outdir, WHEEL).parent)
        command = [
            sys.executable,
            "-m",
            "hatchling",
            "build",
            "-t",
            "wheel",
            "-t",
            "sdist",
            "-d",
            folder,
        ]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def write_runs(app: Sphinx, exception: Exception | None) -> None:
    """Put the runs behind the pages beside them, for others to build from."""
    if exception is not None or app.builder.format != "html":
        return
    made = app.config.html_context["provenance"]
    names = "commit", "created", "profile"
    about = {"release": bn_tutorial.__version__, **{name: getattr(made, name) for name in names}}
    target = Path(app.outdir, archive.NAME)
    with contextlib.suppress(ArchiveError):  # there is none, or one of an older format
        if archive.unpack(target).about["created"] == made.created:  # nothing was computed since
            return
    from bn_tutorial.training import fetched  # starts TensorFlow

    fetched.export(target, RunStore(), about)


def write_checkup(app: Sphinx, exception: Exception | None) -> None:
    """Put the notebook that examines a reader's own model beside the pages."""
    if exception is None and app.builder.format == "html":
        base = app.config.html_baseurl
        page = f"{base}practice/checkup.html"
        notebook = render("checkup.ipynb", wheel=f"{base}{WHEEL}", page=page)
        Path(app.outdir, CHECKUP).write_text(notebook, "utf-8")


def workbook(base: str) -> dict[str, str]:
    """Return what the page of the workbook says of each notebook, by the name of its script."""
    found = {}
    for script in bn_workbook.SCRIPTS:
        here = f"{WORKBOOK}{script.stem}"
        found[script.stem] = render(
            "workbook.html",
            tasks=bn_workbook.tasks(script),
            colab=COLAB + quote(f"{base}{here}.ipynb"),
            here=f"../{here}",
        )
    return found


def write_workbook(app: Sphinx, exception: Exception | None) -> None:
    """Put the notebooks with open functions beside the pages, and the same ones solved."""
    if exception is None and app.builder.format == "html":
        base = app.config.html_baseurl
        known = places(base)
        Path(app.outdir, WORKBOOK).mkdir(parents=True, exist_ok=True)
        for script in bn_workbook.SCRIPTS:
            for solved, ending in ((False, ".ipynb"), (True, "_solved.ipynb")):
                made = bn_workbook.notebook(
                    script, install(base), lambda text: _linked(text, known), solved=solved
                )
                place = Path(app.outdir, f"{WORKBOOK}{script.stem}{ending}")
                place.write_text(json.dumps(made, indent=1, ensure_ascii=False), "utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_node(Bar)
    app.connect("builder-inited", finish_downloads, priority=900)  # after sphinx-gallery
    app.connect("doctree-read", offer_downloads, priority=900)  # after their addresses were found
    app.connect("build-finished", build_wheel)
    app.connect("build-finished", write_checkup)
    app.connect("build-finished", write_workbook)
    app.connect("build-finished", write_runs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
