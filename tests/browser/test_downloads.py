"""Every downloadable file, exactly as the site serves it, works in a clean environment."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote
from urllib.request import urlopen

import bn_workbook
import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from .conftest import ADDRESS, HTML

PROFILE = os.environ.get("BN_TUTORIAL_PROFILE", "standard")
STORE = os.environ.get("BN_TUTORIAL_HOME")  # before tests have one of their own
EXPERIMENTS = sorted(path.stem for path in (HTML / "auto_examples").glob("*/plot_*.html"))
#: Scripts that print how long something took: their numbers are never the same twice.
TIMED = ("plot_23_cost",)
#: Those that train once more what the build has trained, where that is quick.
TRAINED = ("plot_02_batch_norm", "plot_11_learning_rate", "plot_32_landscape")
#: Notebooks that are run, each in a kernel of its own: the first of each ten, and those.
KERNELS = sorted({*TRAINED, *{name[:6]: name for name in reversed(EXPERIMENTS)}.values()})

#: Runs scripts one after another, and prints what each printed.
RUN_ALL = """
import contextlib, io, json, pathlib, runpy, sys
import matplotlib.pyplot as plt
found = {}
for script in map(pathlib.Path, sys.argv[1:]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        runpy.run_path(str(script), run_name="__main__")
    plt.close("all")
    found[script.stem] = out.getvalue()
print(json.dumps(found))
"""

Fetch = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def fetch(address: str, tmp_path_factory: pytest.TempPathFactory) -> Fetch:
    """Download a file that an experiment's page links to."""
    folder = tmp_path_factory.mktemp("downloads")

    def download(name: str, ending: str) -> Path:
        (page,) = (HTML / "auto_examples").glob(f"*/{name}.html")
        links = BeautifulSoup(page.read_text(), "html.parser").select(f"a[href$='{name}{ending}']")
        links_to = {str(link["href"]).rpartition("_downloads/")[2] for link in links}
        (place,) = links_to
        path = folder / f"{name}{ending}"
        path.write_bytes(urlopen(f"{address}_downloads/{place}").read())
        return path

    return download


@pytest.fixture(scope="session")
def python(fetch: Fetch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a clean environment from the requirements in a zip; return its interpreter."""
    folder = tmp_path_factory.mktemp("environment")
    with zipfile.ZipFile(fetch(EXPERIMENTS[0], ".zip")) as content:
        content.extract("requirements.txt", folder)
    python = folder / "env" / "bin" / "python"
    install: list[str | Path]
    if uv := shutil.which("uv"):  # which is quicker
        run([uv, "venv", "-q", "-p", sys.executable, folder / "env"], folder)
        install = [
            uv,
            "pip",
            "install",
            "-q",
            "--python",
            python,
            "--refresh-package",
            "bn-tutorial",
        ]
    else:
        run([sys.executable, "-m", "venv", folder / "env"], folder)
        install = [python, "-m", "pip", "install", "-q"]
    run([*install, "-r", folder / "requirements.txt"], folder)
    # what a notebook server brings along: pip for %pip, and the command that runs notebooks
    run([*install, "pip", "nbconvert"], folder)
    return python


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the storage folder of the build, or a copy of it where it is small."""
    if STORE is None:
        return tmp_path_factory.mktemp("home")
    home = Path(STORE)
    if PROFILE != "smoke":
        return home
    return Path(shutil.copytree(home, tmp_path_factory.mktemp("copy") / "home"))


def run(
    command: Sequence[str | Path],
    folder: Path,
    variables: Mapping[str, str] | None = None,
    *,
    quiet: bool = False,
) -> str:
    """Run a command outside this environment, in a folder; return what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    result = subprocess.run(
        command,
        cwd=folder,
        env={**kept, **(variables or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert not (quiet and result.stderr), result.stderr
    return result.stdout


def printed_on_page(name: str) -> list[str]:
    (page,) = (HTML / "auto_examples").glob(f"*/{name}.html")
    blocks = BeautifulSoup(page.read_text(), "html.parser").select(".sphx-glr-script-out pre")
    return comparable(name, "\n".join(block.get_text() for block in blocks))


def comparable(name: str, text: str) -> list[str]:
    """Return the words of an output, without times."""
    text = re.sub(r"(?m)^(CIFAR-10: .*|The runs behind this page took .*)$", "", text)
    if name in TIMED:
        text = re.sub(r"[−+-]?\d[\d.,]*|supported|not |contradicted|inconclusive|depends", "", text)
    return text.split()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_notebook_is_the_script(fetch: Fetch, name: str) -> None:
    cells = nbformat.reads(fetch(name, ".ipynb").read_text(), 4).cells
    assert cells[0].source.startswith(f"%pip install -q {ADDRESS}_static/wheels/bn_tutorial-")
    assert "# %env BN_TUTORIAL_PROFILE=smoke" in cells[0].source
    text = " ".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert f"]({ADDRESS}" in text  # references have become links
    assert not re.search("`(sphx_glr|learn-|practice-)", text)
    code = "\n".join(cell.source for cell in cells[1:] if cell.cell_type == "code")
    script = ast.parse(fetch(name, ".py").read_text())
    assert ast.get_docstring(script)
    assert ast.dump(ast.parse(code)) == ast.dump(ast.Module(script.body[1:], []))


@pytest.mark.parametrize("name", KERNELS)
def test_a_notebook_prints_what_the_page_shows(
    fetch: Fetch, python: Path, home: Path, tmp_path: Path, name: str
) -> None:
    expected = printed_on_page(name)
    assert len(expected) > 10
    if PROFILE == "smoke" and name in TRAINED:
        home = tmp_path / "home"
    settings = {"BN_TUTORIAL_HOME": str(home), "BN_TUTORIAL_PROFILE": PROFILE}
    notebook = fetch(name, ".ipynb")
    execute: list[str | Path] = [python, "-m", "nbconvert", "--to", "notebook", "--execute"]
    run([*execute, notebook, "--output-dir", tmp_path], tmp_path, settings)
    executed = nbformat.reads((tmp_path / notebook.name).read_text(), 4)
    outputs = [one for cell in executed.cells[1:] for one in cell.get("outputs", [])]
    text = "\n".join(one.text for one in outputs if one.get("name") == "stdout")
    assert comparable(name, text) == expected
    figures = sum("image/png" in one.get("data", {}) for one in outputs)
    (page,) = (HTML / "auto_examples").glob(f"*/{name}.html")
    shown = BeautifulSoup(page.read_text(), "html.parser").select("img.sphx-glr-single-img")
    assert figures == len(shown)


@pytest.mark.parametrize("script", bn_workbook.SCRIPTS, ids=lambda path: path.stem)
def test_a_workbook_is_open_and_its_solutions_pass(
    address: str, python: Path, tmp_path: Path, script: Path
) -> None:
    failed: dict[str, list[str]] = {}
    for name in (script.stem, f"{script.stem}_solved"):
        notebook = tmp_path / f"{name}.ipynb"
        notebook.write_bytes(urlopen(f"{address}_static/workbook/{name}.ipynb").read())
        convert: list[str | Path] = [python, "-m", "nbconvert", "--inplace", "--execute"]
        run([*convert, "--allow-errors", notebook], tmp_path)
        cells = nbformat.reads(notebook.read_text(), 4).cells
        outputs = [one for cell in cells for one in cell.get("outputs", [])]
        failed[name] = [one.ename for one in outputs if one.output_type == "error"]
    assert failed[f"{script.stem}_solved"] == []
    assert failed[script.stem].count("NotYet") == len(bn_workbook.tasks(script))
    assert {*failed[script.stem]} <= {"NotYet", "NotImplementedError"}


@pytest.fixture(scope="session")
def printed(
    fetch: Fetch, python: Path, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Run all scripts in one process, as each would load TensorFlow; return what each printed.

    There is nothing to train, so a script has nothing to say but its results.
    """
    folder = tmp_path_factory.mktemp("scripts")
    settings = {"BN_TUTORIAL_HOME": str(home), "BN_TUTORIAL_PROFILE": PROFILE, "MPLBACKEND": "agg"}
    scripts = [fetch(name, ".py") for name in EXPERIMENTS]
    text = run([python, "-W", "error", "-c", RUN_ALL, *scripts], folder, settings, quiet=True)
    assert list(folder.iterdir()) == []
    found: dict[str, str] = json.loads(text)
    return found


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_script_prints_what_the_page_shows(printed: dict[str, str], name: str) -> None:
    assert comparable(name, printed[name]) == printed_on_page(name)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_zip_holds_what_one_needs(fetch: Fetch, name: str) -> None:
    with zipfile.ZipFile(fetch(name, ".zip")) as content:
        files = {one: content.read(one) for one in content.namelist()}
    assert files[f"{name}.py"] == fetch(name, ".py").read_bytes()
    assert files[f"{name}.ipynb"] == fetch(name, ".ipynb").read_bytes()
    assert {"LICENSE", "LICENSE-TEXT"} < files.keys()
    first, *ranges = files["requirements.txt"].decode().splitlines()
    assert first.startswith(f"bn-tutorial @ {ADDRESS}")
    assert any(line.startswith("tensorflow>=") for line in ranges)
    assert not any("==" in line for line in ranges)
    assert "\ntensorflow==" in files["constraints.txt"].decode()
    (page,) = (HTML / "auto_examples").glob(f"*/{name}.html")
    links = BeautifulSoup(page.read_text(), "html.parser").select(".figure-data a[download]")
    tables = {str(link["href"]) for link in links}  # the answer's figure stands there twice
    data = sorted(one for one in files if one.startswith("data/"))
    assert len(tables) == len(data) >= 1
    for table in tables:
        beside_the_page = (page.parent / table).read_bytes()
        assert beside_the_page == files[f"data/figure-{table.rpartition('-')[2]}"]
        assert len(pd.read_csv(io.BytesIO(beside_the_page))) >= 2


def test_the_gallery_as_a_whole_can_be_taken_along(html: Path, fetch: Fetch) -> None:
    for ending, kind in ((".py", "python"), (".ipynb", "jupyter")):
        (path,) = html.glob(f"_downloads/*/auto_examples_{kind}.zip")
        with zipfile.ZipFile(path) as content:
            assert {"requirements.txt", "constraints.txt", "LICENSE"} < {*content.namelist()}
            for name in EXPERIMENTS:
                (inside,) = (one for one in content.namelist() if one.endswith(f"{name}{ending}"))
                assert content.read(inside) == fetch(name, ending).read_bytes()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_button_opens_the_notebook_in_colab(html: Path, name: str) -> None:
    (page,) = (html / "auto_examples").glob(f"*/{name}.html")
    (button,) = BeautifulSoup(page.read_text(), "html.parser").select(".downloads a[href*=colab]")
    target = unquote(str(button["href"]).partition("#fileId=")[2])
    assert target.startswith(ADDRESS)
    assert (html / target.removeprefix(ADDRESS)).name == f"{name}.ipynb"
    assert json.loads((html / target.removeprefix(ADDRESS)).read_text())["nbformat"] == 4


def test_the_ledger_can_be_read(html: Path) -> None:
    assert len(pd.read_csv(html / "ledger.csv")) >= 9
    assert len(json.loads((html / "ledger.json").read_text())["claims"]) >= 9
