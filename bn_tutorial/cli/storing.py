"""The command that looks after stored runs: it lists, fetches and deletes them."""

from __future__ import annotations

import click

from bn_tutorial.cli import output


@click.command()
@click.option(
    "--fetch",
    "address",
    metavar="ADDRESS",
    help="Fetch the runs that a built site publishes: the address of the site or of its runs.zip, "
    "or a file or folder here. All is verified first.",
)
@click.option("--clear", is_flag=True, help="Delete all stored runs, after asking.")
@click.option("--fetched", is_flag=True, help="With --clear: only those that were fetched.")
@click.option("--yes", is_flag=True, help="With --clear: do not ask.")
def runs(*, address: str | None, clear: bool, fetched: bool, yes: bool) -> None:
    """List the runs that are stored, fetch some, or delete them.

    Runs that were fetched stand for those that the same code would train here with the same
    recipe, seed and images. What is shown says which they are.
    """
    if address is not None and clear:
        raise click.ClickException("--fetch and --clear exclude each other: give one of them.")
    if fetched and not clear:
        raise click.ClickException("--fetched says what to delete: give it with --clear.")
    if address is not None:
        _fetch(address)
    elif clear:
        _clear(fetched, yes)
    else:
        _list()


def _fetch(address: str) -> None:
    from bn_tutorial.training import download
    from bn_tutorial.training.archive import ArchiveError
    from bn_tutorial.training.store import RunStore

    with output.users_errors(ArchiveError):
        found = download.opened(address)
        from bn_tutorial.training import fetched  # takes seconds, and a refusal needs none

        store = RunStore()
        kept = fetched.keep(found, store)
    about = found.about
    click.echo(
        f"Fetched   {_runs(kept.stored)} from {address}\n"
        f"Made      {about['created']}, profile {about['profile']}, commit {about['commit']}\n"
        f"On        {kept.machines}\n"
        f"Verified  each file matches its SHA-256; digest of all {found.digest[:16]}\n"
        f"Kept in   {store.fetched.folder}"
    )
    if kept.strange:
        click.echo(
            f"Left out  {_runs(kept.strange)} of code that this version does not have: what they "
            "stand for is computed here"
        )


def _clear(fetched: bool, yes: bool) -> None:
    from bn_tutorial.training.store import RunStore

    store = RunStore()
    doomed = store.fetched if fetched else store
    own, others = 0 if fetched else len(store.keys()), len(store.fetched.keys())
    what = _counted(own, others)
    if yes or click.confirm(f"Delete {what} in {doomed.folder}?"):
        doomed.clear()
        click.echo(f"Deleted {what}.")
    else:
        click.echo("Nothing was deleted.")


def _list() -> None:
    from bn_tutorial.training.store import RunStore

    store = RunStore()
    own, others = store.runs(), store.fetched.runs()
    found = sorted(
        [*own, *others], key=lambda run: (run.provenance.created, run.recipe.label, run.seed)
    )
    if not found:
        click.echo(f"No runs are stored in {store.folder}.")
        return
    output.show(output.inventory(found))
    click.echo(f"{_counted(len(own), len(others))} in {store.folder}")


def _counted(own: int, fetched: int) -> str:
    if not fetched:
        return _runs(own)
    others = f"{_runs(fetched)} that {'was' if fetched == 1 else 'were'} fetched"
    return f"{_runs(own)} and {others}" if own else others


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
