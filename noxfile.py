# /// script
# dependencies = ["nox[uv]"]
# ///
"""Sessions: docs, tests, lint, bench. `python -m nox -s docs` builds the site."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["lint", "tests", "docs"]

HTML = Path("docs/_build/html")


def has_gpu() -> bool:
    """Say whether an NVIDIA driver answers."""
    smi = shutil.which("nvidia-smi")
    return bool(smi) and subprocess.run([smi, "-L"], capture_output=True).returncode == 0


def install(session: nox.Session, *extras: str) -> None:
    if has_gpu() and sys.platform == "linux":
        extras = (*extras, "gpu")
    session.install("--quiet", "-e", f".[{','.join(extras)}]" if extras else ".")


@nox.session
def docs(session: nox.Session) -> None:
    """Train what is missing and build the site: nox -s docs [-- --profile smoke|standard|full]."""
    parser = argparse.ArgumentParser(prog="nox -s docs --")
    parser.add_argument("--profile", default=os.environ.get("BN_TUTORIAL_PROFILE", "standard"))
    options = parser.parse_args(session.posargs)
    install(session, "docs")
    env = {"BN_TUTORIAL_PROFILE": options.profile, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    session.run("python", "-c", "import bn_tutorial; bn_tutorial.profile()", env=env)
    session.run("sphinx-build", "-W", "-n", "-q", "-b", "html", "docs", str(HTML), env=env)
    session.log(f"The site is ready: open {HTML / 'index.html'}")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests: nox -s tests [-- pytest's arguments]."""
    install(session, "docs", "test")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types and packaging."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("sp-repo-review", ".")


@nox.session
def bench(session: nox.Session) -> None:
    """Time the library against the notebook's loop: nox -s bench [-- bn-tutorial bench's options]."""
    install(session)
    session.run("bn-tutorial", "bench", "--json", "bench.json", *session.posargs)


if __name__ == "__main__":
    nox.main()
