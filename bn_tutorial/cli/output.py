"""What the command line shows and writes: tables, files, errors of one sentence."""

from __future__ import annotations

import contextlib
import datetime
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from bn_tutorial import settings

# What needs pandas, SciPy or TensorFlow is imported where it is used: help and errors come at once.
if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.table import Table

    from bn_tutorial.training.runs import Run, Runs


def be_legible() -> None:
    """Write a question mark for a letter that a terminal's encoding lacks, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a closed one is None
            stream.reconfigure(errors="replace")


def complain(kind: str, message: object) -> None:
    """Say something on stderr, in one line."""
    click.echo(f"{kind}: {' '.join(str(message).split())}", err=True)


@contextlib.contextmanager
def users_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Turn exceptions that speak to the user into errors of the command line."""
    try:
        yield
    except kinds as error:
        raise click.ClickException(str(error)) from error


# Tables


def show(table: Table, least: int = 0) -> None:
    """Print a table; at least so many characters wide, whatever the terminal says."""
    from rich.console import Console

    console = Console()
    console.width = max(console.width, least)
    console.print(table)


def outcomes(runs: Runs) -> Table:
    """Return a table of one recipe's runs: a row for each seed, then mean and interval."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from bn_tutorial.evidence import interval
    from bn_tutorial.training.provenance import together

    metrics = ("accuracy", "val_accuracy", "val_accuracy_population")
    (recipe,) = runs.recipes
    made = together(run.provenance for run in runs)
    table = Table(
        box=SIMPLE_HEAD,
        title=recipe.label,
        caption=f"Accuracies in %, after {recipe.epochs} epochs; mean ± half the 95 % interval. "
        "Moving, population: the statistics with which batch normalisation tests.\n"
        f"{made.source}; {made.machine}{_elsewhere(runs)}",
        caption_justify="left",
    )
    table.add_column("seed")
    images = "validation" if recipe.validation else "test"
    for heading in ("training", f"{images},\nmoving", f"{images},\npopulation"):
        table.add_column(heading, justify="right")
    table.add_column("diverged")
    table.add_column("seconds", justify="right")
    for run in runs:
        table.add_row(
            str(run.seed),
            *("–" if run.diverged else _percent(run, name, "") for name in metrics),
            f"epoch {len(run.history['loss'])}" if run.diverged else "no",
            f"{run.provenance.seconds or 0:.1f}",
            end_section=run.seed == len(runs) - 1,
        )
    diverged = sum(run.diverged for run in runs)
    means = []
    for name in metrics:
        found = interval(runs.final(name))
        mean = "–" if diverged else f"{100 * found.mean:.2f}"
        means.append(
            mean if diverged or found.n < 2 else f"{mean} ± {100 * (found.high - found.mean):.2f}"
        )
    seconds = (made.seconds or 0) / len(runs)
    table.add_row("mean", *means, f"{diverged} of {len(runs)}", f"{seconds:.1f}")
    return table


def _elsewhere(runs: Runs) -> str:
    from bn_tutorial.training.provenance import together

    fetched = [run.provenance for run in runs if run.provenance.fetched]
    if not fetched:
        return ""
    return f"\n{len(fetched)} of {len(runs)} were computed elsewhere: {together(fetched).archives}"


def inventory(runs: Sequence[Run]) -> Table:
    """Return a table of stored runs."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    table.add_column("recipe", overflow="fold")
    for heading in ("seed", "test accuracy"):
        table.add_column(heading, justify="right")
    for heading in ("device", "data"):
        table.add_column(heading, overflow="fold")
    table.add_column("when", no_wrap=True)
    for run in runs:
        made = run.provenance
        *_, module, _ = str(made.engine).split(".")
        loop = "" if module == "single" else f" ({module})"
        images = "\n(validation)" if run.recipe.validation else ""
        when = datetime.datetime.fromisoformat(made.created).astimezone()
        table.add_row(
            run.recipe.label + loop,
            str(run.seed),
            "diverged" if run.diverged else _percent(run, "val_accuracy") + images,
            f"{made.machine}\n(fetched)" if made.fetched else made.machine,
            "bundled sample" if made.is_sample else made.data["source"],
            f"{when:%Y-%m-%d %H:%M}",
        )
    return table


def verdicts(entries: Iterable[Mapping[str, Any]]) -> Table:
    """Return a table of the ledger: a row for each claim, each of its parts, and what is beyond."""
    from bn_tutorial.evidence.ledger import effect

    table = _folded("", "on trial", "verdict", "repeats", "effect", "n")
    for entry in entries:
        if "parts" in entry:
            table.add_row(str(entry["number"]), entry["id"], entry["word"], _chance(entry), "", "")
        for part in entry.get("parts", [entry]):
            row = (f"  {part['id']}", part["word"], _chance(part), effect(part), str(part["n"]))
            table.add_row("", *row)
    return table


def replication(compared: DataFrame) -> Table:
    """Return `bn_tutorial.evidence.ledger.replication` as a table."""
    table = _folded(*compared.columns)
    for row in compared.assign(agree=compared["agree"].map({True: "yes", False: "no"})).itertuples(
        index=False
    ):
        table.add_row(*map(str, row))
    return table


def _folded(*headings: str) -> Table:
    """Return a table without rows, whose cells are folded if they are too wide."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _chance(found: Mapping[str, Any]) -> str:
    from bn_tutorial.evidence.chances import in_words

    return "" if found["repeats"] is None else in_words(found["repeats"])


def _percent(run: Run, metric: str, unit: str = " %") -> str:
    """Return a metric after the last epoch, or a dash if the engine does not measure it."""
    values = run.history.get(metric)
    return f"{100 * values[-1]:.2f}{unit}" if values else "–"


# Files


def check_targets(*targets: Path | None) -> None:
    """Refuse what could not be written at the end, before it has taken any time."""
    files = [target.resolve() for target in targets if target]
    if len(set(files)) < len(files):
        raise click.ClickException(f"cannot write {files[0]} twice: name different files.")
    for target, file in zip(filter(None, targets), files, strict=True):
        # /dev/stdout may lead to a regular file, but replacing that is not what was meant
        if (file.exists() and not file.is_file()) or target.parent == Path("/dev"):
            raise _unwritable(target, "it is not a regular file")
        try:
            with tempfile.TemporaryFile(dir=file.parent):
                pass
        except OSError as error:
            raise _unwritable(target, error.strerror or str(error)) from error


def write(target: Path, text: str) -> None:
    """Create or replace a file."""

    def fill(file: BinaryIO) -> None:
        file.write(text.encode())

    try:
        settings.write(target.resolve(), fill)
    except settings.StorageError as error:
        cause = error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) else None
        raise _unwritable(target, reason or str(cause)) from error


def _unwritable(target: Path, reason: str) -> click.ClickException:
    return click.ClickException(f"cannot write {target} ({reason}): name another file.")
