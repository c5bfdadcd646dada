#!/usr/bin/env -S uv run --script

# /// script
# dependencies = ["nox[uv]>=2025.2.9"]
# ///
"""Sessions: docs, tests, lint, bench. `python -m nox -s docs` builds the site."""

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

PYPROJECT = nox.project.load_toml("pyproject.toml")
HTML = Path("docs/_build/html")


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


@nox.session
def docs(session: nox.Session) -> None:
    """Train what is missing and build the site [-- --profile smoke|standard|full]."""
    parser = argparse.ArgumentParser(prog="nox -s docs --")
    parser.add_argument("--profile", default=os.environ.get("BN_TUTORIAL_PROFILE", "standard"))
    options = parser.parse_args(session.posargs)
    install(session, "docs")
    env = {"BN_TUTORIAL_PROFILE": options.profile}
    session.run("bn-tutorial", "data", env=env)
    session.run("sphinx-build", "-W", "-n", "-q", "-b", "html", "docs", str(HTML), env=env)
    session.log(f"The site is ready: open {HTML / 'index.html'}")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests [-- pytest's arguments]."""
    install(session, "docs", "test")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types and packaging."""
    install(session, "lint", "test")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("sp-repo-review", ".")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Time the library against the notebook's loop [-- options of bn-tutorial bench]."""
    install(session)
    session.run("bn-tutorial", "bench", "--json", "bench.json", *session.posargs)


if __name__ == "__main__":
    nox.main()
