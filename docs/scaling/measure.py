"""Time `bn-tutorial train` with and without workers; write `measured.json` for *Scaling out*.

Run it on a machine that has nothing else to do: ``python docs/scaling/measure.py --workers 2 4``.
All arms take turns, in an order drawn anew for each repetition, and each starts with an empty store.
A sweep whose arms give different numbers is an error.
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
from pathlib import Path

from bn_tutorial import backend, data
from bn_tutorial.runs import RunStore

HERE = Path(__file__).parent
COMMAND = "from bn_tutorial.cli import main; main()"
SWEEPS = {
    "dense": "--norm batch --batch-size 64 --train-size 10000 --epochs 10 --seeds 4",
    "convolutional": "--norm batch --batch-size 128 --train-size 4000 --epochs 5 --seeds 4 "
    "--model cnn --width 16 --depth 2",
}


def timed(sweep: str, workers: int) -> tuple[dict[str, float], list[object]]:
    """Return what a sweep cost, and its histories; 0 workers are the command's own process."""
    option = ["--workers", str(workers)] if workers else []
    with tempfile.TemporaryDirectory() as home:
        Path(home, "data").symlink_to(data.store_path().parent)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", COMMAND, "train", *SWEEPS[sweep].split(), *option],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "BN_TUTORIAL_HOME": home},
        )
        seconds = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        runs = sorted(RunStore(Path(home, "runs")).runs(), key=lambda run: run.seed)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 2), "cpu_seconds": round(busy, 2)}, [
        run.history for run in runs
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
    arms = [(sweep, workers) for sweep in SWEEPS for workers in (0, *options.workers)]
    measured, found = [], {}
    for repetition in range(options.repetitions):
        for sweep, workers in random.sample(arms, len(arms)):
            cost, histories = timed(sweep, workers)
            if found.setdefault(sweep, histories) != histories:
                raise SystemExit(f"{sweep}: {workers} workers do not give the same runs")
            measured.append({"sweep": sweep, "workers": workers, "repetition": repetition, **cost})
            print(measured[-1], flush=True)
    made = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit,
        "device": backend.device(),
        "cores": os.cpu_count(),
        "versions": backend.versions(),
    }
    content = {"made": made, "sweeps": SWEEPS, "measured": measured}
    (HERE / "measured.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
