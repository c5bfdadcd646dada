#!/usr/bin/env -S uv run --script

# /// script
# dependencies = ["nox[uv]>=2025.2.9"]
# ///
"""Sessions: docs, book, tests, lint, site, replicate, release, bench. `python -m nox -s docs` builds the site."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True
os.environ.setdefault("UV_COMPILE_BYTECODE", "1")  # once, not in each of many processes
nox.options.reuse_venv = "yes"  # an environment of yesterday is brought up to date in a second

PYPROJECT = nox.project.load_toml("pyproject.toml")
HTML = Path("docs/_build/html")
#: Runs scripts in one process, whose workers keep what they have compiled.
RUN_ALL = """
import runpy, sys
from matplotlib import pyplot
for script in sys.argv[1:]:
    runpy.run_path(script)
    pyplot.close("all")
"""
#: Keeps a ledger as that of this version, or says in one sentence why not.
RELEASE = """
import sys
from pathlib import Path
from bn_tutorial import __version__
from bn_tutorial.evidence import editions
from bn_tutorial.training.provenance import commit_of
try:
    print("Kept as", editions.release(*map(Path, sys.argv[1:]), __version__, commit_of(Path())))
except (ValueError, OSError) as error:
    sys.exit(f"No ledger was kept: {error}")
"""
SIDE_BY_SIDE = ("-n", "auto", "--dist", "loadfile")  # a file keeps its fixtures to itself


def has_gpu() -> bool:
    """Say whether an NVIDIA driver answers."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return False
    return subprocess.run([smi, "-L"], check=False, capture_output=True).returncode == 0


def install(session: nox.Session, *groups: str) -> None:
    """Install the project, for a GPU or a Dask cluster if there is one, and the groups."""
    extras = ["gpu"] if has_gpu() and sys.platform == "linux" else []
    if os.environ.get("BN_TUTORIAL_DASK"):
        extras.append("dask")
    project = f".[{','.join(extras)}]" if extras else "."
    session.install("-q", "-e", project, *nox.project.dependency_groups(PYPROJECT, *groups))


def chosen(
    session: nox.Session, *flags: str, runs: bool = False
) -> tuple[argparse.Namespace, list[str]]:
    """Read the session's own options, `--profile` and `flags`; return them and the rest."""
    parser = argparse.ArgumentParser(prog=f"nox -s {session.name} --")
    parser.add_argument("--profile", default=os.environ.get("BN_TUTORIAL_PROFILE", "standard"))
    for flag in flags:
        parser.add_argument(flag, action="store_true")
    if runs:
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--runs", metavar="ADDRESS")
        which.add_argument("--retrain", action="store_true")
    return parser.parse_known_args(session.posargs)


def build(session: nox.Session, html: Path, env: dict[str, str]) -> None:
    """Fetch the data, train what is missing and build the site."""
    trees = f"{html}-doctrees"  # beside the pages, not among them
    two = ("-j", "2")  # processes that read and write pages, once all cells have been executed
    session.run("sphinx-build", "-W", "-n", "-q", *two, "-d", trees, "docs", str(html), env=env)


def build_here(
    session: nox.Session, options: argparse.Namespace, rest: list[str], **more: str
) -> dict[str, str]:
    """Build the site as the options say; return the variables that the build was given."""
    if rest:
        session.error(f"nox -s {session.name} does not know {' '.join(rest)}.")
    env = {"BN_TUTORIAL_PROFILE": options.profile, **more}
    if options.runs:
        session.run("bn-tutorial", "runs", "--fetch", options.runs)
        env["BN_TUTORIAL_FETCHED"] = "first"
    elif options.retrain:
        env["BN_TUTORIAL_FETCHED"] = "never"
    build(session, HTML, env)
    session.log(f"The site is ready: open {HTML / 'index.html'}")
    return env


def install_browser(session: nox.Session) -> None:
    """Fetch Chromium, unless the machine has one."""
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        session.run("playwright", "install", "chromium")


@nox.session
def docs(session: nox.Session) -> None:
    """Train what is missing and build the site.

    [-- --profile smoke|standard|full] [--serve]
    [--runs ADDRESS: use the runs that a built site publishes | --retrain: use no fetched runs]
    """
    options, rest = chosen(session, "--serve", runs=True)
    install(session, "docs", *["serve"] * options.serve)
    env = build_here(session, options, rest)
    if options.serve:
        generated = [f"--ignore={folder}/*" for folder in ("*/auto_examples", "*/gen_modules")]
        env["BN_TUTORIAL_SERVE"] = "1"
        trees = f"{HTML}-doctrees"
        session.run("sphinx-autobuild", *generated, "-d", trees, "docs", str(HTML), env=env)


@nox.session(default=False)
def book(session: nox.Session) -> None:
    """Build the site, and the book of it that its home page then offers: an EPUB and a PDF.

    [-- --profile smoke|standard|full] [--runs ADDRESS | --retrain, as for docs]
    """
    options, rest = chosen(session, runs=True)
    install(session, "docs", "book")
    install_browser(session)
    build_here(session, options, rest, BN_TUTORIAL_BOOK="1")
    session.log(f"The book is ready: {HTML / 'book'}")


@nox.session(default=False)
def site(session: nox.Session) -> None:
    """Build the site for this machine's own address, with its book, and check it in a browser.

    [-- --profile smoke|standard|full] [--no-browser] [pytest's arguments]
    """
    options, rest = chosen(session, "--no-browser")
    env = {
        "BN_TUTORIAL_PROFILE": options.profile,
        "BN_TUTORIAL_BASEURL": "http://127.0.0.1:8765/bn_tutorial/",
        "BN_TUTORIAL_SITE": str(Path("docs/_build/site").absolute()),
    }
    install(session, "docs", "site")
    checks = ["tests/site", "tests/browser"]
    if options.no_browser:
        checks[1] += "/test_downloads.py"
    else:
        install_browser(session)
        env["BN_TUTORIAL_BOOK"] = "1"
    build(session, Path(env["BN_TUTORIAL_SITE"]), env)
    if not options.no_browser and shutil.which("npm") and shutil.which("java"):
        tools = session.create_tmp()
        session.run("npm", "install", "--silent", "--prefix", tools, "vnu-jar@26", external=True)
        env["VNU_JAR"] = str(Path(tools, "node_modules/vnu-jar/build/dist/vnu.jar"))
    session.run("pytest", *SIDE_BY_SIDE, "-m", "not alone", *checks, *rest, env=env)
    if not options.no_browser:
        session.run("pytest", "-m", "alone", *checks, *rest, env=env, success_codes=[0, 5])


@nox.session(default=False)
def replicate(session: nox.Session) -> None:
    """Run all experiments with other seeds, without the site; compare with the reference.

    [-- --seeds-from 100] [--profile standard|full]
    """
    parser = argparse.ArgumentParser(prog="nox -s replicate --")
    parser.add_argument("--seeds-from", type=int, default=100)
    options, rest = chosen(session)
    env = {
        "BN_TUTORIAL_PROFILE": options.profile,
        "BN_TUTORIAL_SEEDS_FROM": str(parser.parse_args(rest).seeds_from),
        "MPLBACKEND": "agg",
    }
    install(session)
    scripts = sorted(map(str, Path("gallery").glob("*/plot_*.py")))
    session.run("python", "-c", RUN_ALL, *scripts, env=env)
    reference = "docs/ledger/reference.json"
    session.run("bn-tutorial", "evidence", "--against", reference, env=env)


@nox.session(default=False)
def release(session: nox.Session) -> None:
    """Keep the ledger of the site that was built as that of this version, for the page *What has held*."""
    install(session)
    session.run("python", "-c", RELEASE, str(HTML / "ledger.json"), "docs/ledger/released")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, but for those of the built site [-- pytest's arguments]."""
    install(session, "test")
    apart = ("--ignore=tests/site", "--ignore=tests/browser")
    session.run("pytest", *SIDE_BY_SIDE, *apart, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types and packaging."""
    install(session, "lint", "docs", "test", "site")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("sp-repo-review", ".")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Time the library, or builds of the site [-- --builds | options of bn-tutorial bench]."""
    if "--builds" in session.posargs:
        install(session, "docs", "bench")
        session.run("python", "tests/builds.py")
        return
    install(session)
    session.run("bn-tutorial", "bench", "--json", "bench.json", *session.posargs)


if __name__ == "__main__":
    nox.main()
