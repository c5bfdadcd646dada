"""Time `bn-tutorial train` with workers; write what *Scaling out* shows.

Run it on a Linux machine that has nothing else to do: ``python docs/scaling/measure.py --workers
1 2 4``. It needs ``bn-tutorial[dask]`` and the images (``bn-tutorial data``). All arms take turns,
in an order drawn anew for each repetition, and each starts with an empty store and new workers. On
the Dask cluster, each worker is kept to one core of its own, as if it were a machine. All arms of a
sweep must give the same numbers, bit for bit. ``measured.json`` gets the measurements, and
``measured.md`` the table.
"""

import argparse
import json
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import distributed

from bn_tutorial.data import load_cifar10, store_path
from bn_tutorial.evidence import interval
from bn_tutorial.training import Provenance, RunStore
from bn_tutorial.training.provenance import commit_of
from bn_tutorial.training.schedule import cores

HERE = Path(__file__).parent
COMMAND = "from bn_tutorial.cli import main; main()"
SWEEPS = {
    "dense": "--norm batch --batch-size 64 --train-size 10000 --epochs 10 --seeds 4",
    "convolutional": "--norm batch --batch-size 128 --train-size 4000 --epochs 5 --seeds 4 "
    "--model cnn --width 16 --depth 2",
}


class Arm(NamedTuple):
    """A sweep, and what trains it: ``processes`` (one is the command's own) or a ``cluster``."""

    sweep: str
    where: str
    workers: int


def timed(arm: Arm) -> tuple[dict[str, float], list[object]]:
    """Return what the sweep cost, and its histories."""
    with tempfile.TemporaryDirectory() as home:
        Path(home, "data").symlink_to(store_path().parent)
        if arm.where == "cluster":
            with distributed.LocalCluster(
                n_workers=arm.workers, threads_per_worker=1, processes=True, dashboard_address=":0"
            ) as cluster, cluster.get_client() as client:  # fmt: skip
                for core, worker in zip(range(arm.workers), cluster.scheduler.workers, strict=True):
                    client.run(keep_to, core, workers=[worker])
                before = sum(client.run(time.process_time).values())
                cost = command(arm, home, "--dask", cluster.scheduler_address)
                cost["cpu_seconds"] += sum(client.run(time.process_time).values()) - before
        else:
            cost = command(arm, home, "--workers", str(arm.workers))
        runs = sorted(RunStore(Path(home, "runs")).runs(), key=lambda run: run.seed)
    # a worker trains one run at a time
    cost["training_seconds"] = sum(run.provenance.seconds or 0 for run in runs) / arm.workers
    return {name: round(value, 2) for name, value in cost.items()}, [run.history for run in runs]


def command(arm: Arm, home: str, *options: str) -> dict[str, float]:
    """Run the command line, and return its seconds and those of the cores that it used."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", COMMAND, "train", *SWEEPS[arm.sweep].split(), *options],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "BN_TUTORIAL_HOME": home},
    )
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": busy}


def keep_to(core: int) -> None:
    """Let this process run on one core only; threads and processes to come inherit that."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def arms(workers: Sequence[int]) -> list[Arm]:
    """Return all arms. A cluster is tried with one network only."""
    return [
        *(Arm(sweep, "processes", count) for sweep in SWEEPS for count in workers),
        *(Arm("dense", "cluster", count) for count in workers if count <= cores()),
    ]


def table(content: dict[str, Any]) -> str:
    """Return what was measured as Markdown."""
    made = Provenance(**content["provenance"])
    lines = [
        f"Measured on {made.created[:10]} from commit `{made.commit}`: {made.machine}; {made.software}.",
        "",
        "| sweep | trained by | seconds | training | busy cores | speed-up (95 % interval) |",
        "|---|---|---:|---:|---:|---:|",
        *_rows(content["measured"]),
        "",
        *(f"- {name}: `bn-tutorial train {args}`" for name, args in content["sweeps"].items()),
    ]
    return "\n".join(lines) + "\n"


def _rows(measured: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a row for each arm; a speed-up is over a single worker in the same repetition."""
    found: dict[Arm, dict[int, dict[str, Any]]] = {}
    for one in measured:
        arm = Arm(one["sweep"], one["where"], one["workers"])
        found.setdefault(arm, {})[one["repetition"]] = one
    for arm in sorted(found, key=lambda arm: (arm.sweep != "dense", arm.where != "processes", arm)):
        runs = found[arm].values()
        seconds, training, busy = (
            statistics.mean(values)
            for values in (
                [run["seconds"] for run in runs],
                [run["training_seconds"] for run in runs],
                [run["cpu_seconds"] / run["seconds"] for run in runs],
            )
        )
        gained = "–"
        if arm.workers > 1:
            base = found[arm._replace(workers=1)]
            ratios = [base[at]["seconds"] / run["seconds"] for at, run in found[arm].items()]
            gained = f"×{speed_up(ratios)}"
        name = f"`--workers {arm.workers}`"
        if arm.where == "cluster":
            name = f"{arm.workers} Dask worker{'s' * (arm.workers > 1)}, a core each"
        yield f"| {arm.sweep} | {name} | {seconds:.0f} | {training:.0f} | {busy:.2f} | {gained} |"


def speed_up(ratios: Sequence[float]) -> str:
    """Return the geometric mean of ratios, with its interval."""
    found = interval(map(math.log, ratios))
    mean, low, high = (math.exp(value) for value in (found.mean, found.low, found.high))
    return f"{mean:.2f} ({low:.2f} to {high:.2f}, n = {found.n})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--repetitions", type=int, default=4)
    options = parser.parse_args()
    made = Provenance.here(
        load_cifar10("store"),
        commit=commit_of(HERE),
        cores=cores(),
        versions={"distributed": distributed.__version__},
    )
    tried = arms(sorted({1, *options.workers}))
    measured: list[dict[str, Any]] = []
    found: dict[str, list[object]] = {}
    for repetition in range(options.repetitions):
        for arm in random.sample(tried, len(tried)):
            cost, histories = timed(arm)
            if found.setdefault(arm.sweep, histories) != histories:
                raise SystemExit(f"{arm} does not give the same runs")
            measured.append({**arm._asdict(), "repetition": repetition, **cost})
            print(measured[-1], flush=True)
    content = {"provenance": made.asdict(), "sweeps": SWEEPS, "measured": measured}
    (HERE / "measured.json").write_text(json.dumps(content, indent=1) + "\n")
    (HERE / "measured.md").write_text(table(content))


if __name__ == "__main__":
    main()
