"""Time `bn-tutorial train` with and without workers; write `measured.json` for *Scaling out*.

Run it on a Linux machine that has nothing else to do: ``python docs/scaling/measure.py --workers
2 4``. It needs ``bn-tutorial[dask]``. All arms take turns, in an order drawn anew for each
repetition, and each starts with an empty store and new workers. On the Dask cluster, each worker is
kept to one core of its own, as if it were a machine. Arms that should give the same numbers and do
not are an error.
"""

import argparse
import datetime
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import distributed

from bn_tutorial import data
from bn_tutorial.networks import backend
from bn_tutorial.training.runs import RunStore

HERE = Path(__file__).parent
COMMAND = "from bn_tutorial.cli import main; main()"
SWEEPS = {
    "dense": "--norm batch --batch-size 64 --train-size 10000 --epochs 10 --seeds 4",
    "convolutional": "--norm batch --batch-size 128 --train-size 4000 --epochs 5 --seeds 4 "
    "--model cnn --width 16 --depth 2",
}


class Arm(NamedTuple):
    """A sweep, and what trains it: no workers, ``processes`` or a ``cluster``."""

    sweep: str
    where: str
    workers: int


def timed(arm: Arm) -> tuple[dict[str, float], list[object]]:
    """Return what the sweep cost, and its histories."""
    with tempfile.TemporaryDirectory() as home:
        Path(home, "data").symlink_to(data.store_path().parent)
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
            cost = command(arm, home, *(["--workers", str(arm.workers)] if arm.workers else []))
        runs = sorted(RunStore(Path(home, "runs")).runs(), key=lambda run: run.seed)
    # a worker trains one run at a time
    cost["training_seconds"] = sum(run.provenance["seconds"] for run in runs) / max(1, arm.workers)
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
    """Return all arms. A cluster is tried with one network only, from one worker on."""
    cores = os.cpu_count() or 1
    return [
        *(Arm(sweep, "here", 0) for sweep in SWEEPS),
        *(Arm(sweep, "processes", count) for sweep in SWEEPS for count in workers),
        *(Arm("dense", "cluster", count) for count in (1, *workers) if count <= cores),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--repetitions", type=int, default=4)
    options = parser.parse_args()
    git = shutil.which("git") or "git"
    commit = subprocess.run(
        [git, "describe", "--always", "--dirty"], check=True, cwd=HERE, capture_output=True, text=True
    ).stdout.strip()  # fmt: skip
    tried = arms(options.workers)
    measured: list[dict[str, Any]] = []
    found: dict[tuple[str, bool], list[object]] = {}
    for repetition in range(options.repetitions):
        for arm in random.sample(tried, len(tried)):
            cost, histories = timed(arm)
            # with one core, sums are taken in another order than with several
            if found.setdefault((arm.sweep, arm.where == "cluster"), histories) != histories:
                raise SystemExit(f"{arm} does not give the same runs")
            measured.append({**arm._asdict(), "repetition": repetition, **cost})
            print(measured[-1], flush=True)
    made = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit,
        "device": backend.device(),
        "cores": os.cpu_count(),
        "versions": {**backend.versions(), "distributed": distributed.__version__},
    }
    content = {"made": made, "sweeps": SWEEPS, "measured": measured}
    (HERE / "measured.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
