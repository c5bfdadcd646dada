"""Time builds of the site, in units of the notebook's runs, and weigh their memory.

``nox -s bench -- --builds`` prints a line for each build as it ends, with its bar. It builds a clone
of the last commit with a home of its own: from nothing (but for the images), once more with nothing
changed, once more after a sentence has changed; then another clone from the runs that the first one
publishes, whose figures must be the same; at last the quick look, from nothing. The first of these is
halted now and then, so that the unit is measured at the same hour: machines have their moods. This
takes an hour and a quarter on two cores. The machine should have nothing else to do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from bn_tutorial.bench.unit import unit
from bn_tutorial.data import load_cifar10, store_path
from bn_tutorial.training.archive import NAME
from bn_tutorial.training.schedule import cores

ROOT = Path(__file__).parents[1]
GB = 1e9
#: So many seconds of a build lie between two measurements of the unit.
BETWEEN = 480
#: At most so many units, seconds, and bytes in one process and in all together.
UNITS, UNCHANGED, SENTENCE, FETCHED, SMOKE, ONE, ALL = 3.0, 60, 15, 240, 240, 2.5 * GB, 4 * GB


@contextlib.contextmanager
def weighed(process: psutil.Process, every: float = 1.0) -> Iterator[list[float]]:
    """Weigh a process and its children every second; yield the most of one and of all together.

    What several share is divided among them (Linux's *proportional set size*).
    """
    most, done = [0.0, 0.0], threading.Event()

    def weigh() -> None:
        while not done.wait(every):
            sizes = []
            with contextlib.suppress(psutil.Error):
                for one in [process, *process.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        info = one.memory_full_info()
                        sizes.append(getattr(info, "pss", info.rss))
            if sizes:
                most[:] = max(most[0], *sizes), max(most[1], sum(sizes))

    watch = threading.Thread(target=weigh)
    watch.start()
    try:
        yield most
    finally:
        done.set()
        watch.join()


@contextlib.contextmanager
def halted(process: psutil.Process) -> Iterator[None]:
    """Let a process and its children rest."""
    resting = [process, *process.children(recursive=True)]
    for one in resting:
        one.suspend()
    try:
        yield
    finally:
        for one in resting:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.resume()


def build(
    checkout: Path, env: dict[str, str], html: Path, meanwhile: Callable[[], object] | None = None
) -> tuple[float, float, float]:
    """Build the site; return the seconds, and the most bytes of one process and of all.

    It rests while `meanwhile` is called, which is not counted.
    """
    started = time.perf_counter()
    sphinx = subprocess.Popen(
        [
            *(sys.executable, "-m", "sphinx", "-W", "-n", "-q", "-j", "2"),
            *("-d", f"{html}-doctrees", "docs", html),
        ],
        cwd=checkout,
        env=env,
    )
    with weighed(psutil.Process(sphinx.pid)) as most:
        while sphinx.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                sphinx.wait(BETWEEN)
            if meanwhile and sphinx.poll() is None:
                with halted(psutil.Process(sphinx.pid)):
                    since = time.perf_counter()
                    meanwhile()
                    started += time.perf_counter() - since
        seconds = time.perf_counter() - started
    if sphinx.returncode:
        raise SystemExit(f"The build failed with exit code {sphinx.returncode}.")
    return seconds, most[0], most[1]


def main() -> None:
    """Measure the unit and all builds, and print each beside its bar."""
    data = load_cifar10()
    units: list[float] = []

    def measure() -> None:
        units.append(unit(data))
        print(f"The unit on {cores()} cores: {units[-1]:.0f} s", flush=True)

    measure()
    with tempfile.TemporaryDirectory() as folder:

        def begin(name: str, profile: str, **more: str) -> tuple[Path, dict[str, str], Path]:
            """Clone the project and give it a home; return where it builds, and with which variables."""
            checkout, home = Path(folder, name), Path(folder, f"{name}-home")
            subprocess.run(["git", "clone", "-q", ROOT, checkout], check=True)
            shutil.copytree(store_path().parent, home / "data")
            env = {**os.environ, "BN_TUTORIAL_HOME": str(home), "BN_TUTORIAL_PROFILE": profile}
            return (
                checkout,
                {**env, "PYTHONPATH": str(checkout), **more},
                checkout / "docs/_build/html",
            )

        def tell(name: str, place: tuple[Path, dict[str, str], Path], bar: float | None) -> None:
            whole = bar is None
            seconds, biggest, together = build(*place, measure if whole else None)
            if whole:
                measure()
            one = sum(units) / len(units)
            bar = bar or UNITS * one
            kept = seconds <= bar and biggest <= ONE and together <= ALL
            print(
                f"{name}: {seconds:.0f} s = {seconds / one:.2f} units (bar {bar:.0f} s), at most "
                f"{biggest / GB:.2f} GB in a process (bar {ONE / GB:g}), {together / GB:.2f} GB in "
                f"all (bar {ALL / GB:g}){'' if kept else '  MISSED'}",
                flush=True,
            )

        own = begin("own", "standard")
        tell("The standard site from nothing", own, None)
        published, first = own[2] / NAME, figures(own[2])
        other = begin("other", "standard", BN_TUTORIAL_FETCHED="first")
        fetch = ["bn-tutorial", "runs", "--fetch", shutil.copy(published, folder)]
        subprocess.run(fetch, check=True, env=other[1])
        tell("The same, unchanged", own, UNCHANGED)
        with Path(own[0], "docs/advantages.md").open("a") as page:
            page.write("\nA sentence that is here to be measured.\n")
        tell("The same, with one sentence more", own, SENTENCE)
        tell("Another one from its runs", other, FETCHED)
        same = sum(first.get(name) == drawing for name, drawing in figures(other[2]).items())
        print(f"{same} of {len(first)} figures are the same", flush=True)
        tell("The quick look from nothing", begin("quick", "smoke"), SMOKE)
    if same < len(first):
        raise SystemExit("A site built from another one's runs has other figures.")


def figures(html: Path) -> dict[str, bytes]:
    """Return the figures of a built site, by their name."""
    return {path.name: path.read_bytes() for path in Path(html, "_images").glob("*.svg")}


if __name__ == "__main__":
    main()
