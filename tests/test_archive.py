"""Runs that travel: packed in one home, verified, found and drawn in another."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import http.server
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import lockstep, single
from bn_tutorial.experiment import Experiment
from bn_tutorial.figures import to_svg
from bn_tutorial.networks import backend
from bn_tutorial.recipe import Recipe
from bn_tutorial.settings import PROFILES
from bn_tutorial.training import archive, download, fetched, keys, sweep
from bn_tutorial.training.archive import ArchiveError
from bn_tutorial.training.provenance import Provenance
from bn_tutorial.training.runs import Run
from bn_tutorial.training.store import RunStore

from .engines import history

A, B = Recipe(epochs=3, batch_size=10), Recipe(epochs=3, batch_size=10, norm="batch")
ABOUT = {
    "commit": "abc1234",
    "created": "2026-11-30T12:00:00+00:00",
    "profile": "standard",
    "release": "0.1.0",
}
Change = Callable[[dict[str, bytes]], object]


def stored(
    tiny: Dataset, store: RunStore, engine: Any = single.fit, seeds: int = 2, shift: float = 0.0
) -> dict[tuple[Recipe, int], Run]:
    """Put runs into a store as if this process had trained them."""
    runs = {}
    for recipe in (A, B):
        for seed in range(seeds):
            made = Provenance.here(tiny, engine=keys.engine_name(engine), seconds=1.0)
            found = {
                name: [value + shift for value in values]
                for name, values in history(recipe, seed).items()
            }
            runs[recipe, seed] = Run(recipe, seed, found, made)
            store.put(keys.run_key(recipe, tiny, seed, engine), runs[recipe, seed])
    return runs


@pytest.fixture
def packed(tiny: Dataset, tmp_path: Path) -> Path:
    """Return an archive of four runs, as a site has it beside its pages."""
    store = RunStore(tmp_path / "there" / "runs")
    stored(tiny, store)
    target = tmp_path / "site" / archive.NAME
    assert fetched.export(target, store, ABOUT) == 4
    assert target.stat().st_mode & 0o444 == 0o444
    return target


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training fail, so that all runs must be found."""

    def refuse(tasks: Any, *_: Any) -> None:
        pytest.fail(f"{len(tasks)} runs were to be trained")

    monkeypatch.setattr(sweep, "_train", refuse)


def kept(address: object) -> fetched.Fetched:
    return fetched.keep(download.opened(str(address)), RunStore())


# There and back


def test_a_fetched_run_is_the_run_that_was_computed_and_says_that_it_was_fetched(
    packed: Path, tiny: Dataset, tmp_path: Path, untrained: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = stored(tiny, RunStore(tmp_path / "there" / "runs"))
    assert (kept(packed).stored, kept(packed).strange) == (4, 0)  # twice is as good as once
    for name, other in (("device", "an abacus"), ("versions", {"keras": "2.0"})):
        monkeypatch.setattr(backend, name, lambda other=other: other)  # of another machine
    runs = sweep.train([A, B], tiny, range(2))
    for run in runs:
        assert archive.as_computed(run).provenance.device == "cpu"
        assert str(run.provenance.fetched).endswith(" of 2026-11-30, commit abc1234")
        original = there[run.recipe, run.seed]
        assert (run.history, run.recipe) == (original.history, original.recipe)


def test_a_figure_of_fetched_runs_is_the_figure_that_they_came_from(
    packed: Path, tiny: Dataset, tmp_path: Path, untrained: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn() -> str:
        trial = Experiment("batch-norm", budget=PROFILES["standard"], data=tiny)
        trial.train([A, B], range(2))
        trial.curves([A, B], "loss", alt="Loss.")
        figure = plt.gcf()
        plt.close("all")
        return to_svg(figure)

    monkeypatch.setenv("BN_TUTORIAL_HOME", str(tmp_path / "there"))
    original = drawn()
    monkeypatch.setenv("BN_TUTORIAL_HOME", str(tmp_path / "here"))
    kept(packed)
    assert drawn() == original
    # and runs of one's own, which are others, do not come between if fetched ones are to be first
    stored(tiny, RunStore(), shift=1.0)
    assert drawn() != original
    monkeypatch.setenv("BN_TUTORIAL_FETCHED", "first")
    assert drawn() == original


@pytest.mark.parametrize(
    ("order", "fetched_ones", "trained"), [("rest", 2, 0), ("first", 4, 0), ("never", 0, 2)]
)
def test_what_becomes_of_fetched_runs_is_said_by_a_variable(
    order: str,
    fetched_ones: int,
    trained: int,
    packed: Path,
    tiny: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept(packed)
    stored(tiny, RunStore(), seeds=1)
    asked: list[Any] = []

    def train(tasks: list[Any], *_: Any) -> list[Run]:
        asked.extend(tasks)
        made = Provenance.here(tiny, engine="x")
        return [Run(task.recipe, task.seed, {"loss": [1.0]}, made) for task in tasks]

    monkeypatch.setattr(sweep, "_train", train)
    monkeypatch.setenv("BN_TUTORIAL_FETCHED", order)
    runs = sweep.train([A, B], tiny, range(2))
    assert sum(bool(run.provenance.fetched) for run in runs) == fetched_ones
    assert len(asked) == trained
    monkeypatch.setenv("BN_TUTORIAL_FETCHED", "perhaps")
    with pytest.raises(ValueError, match="must be first, rest, never"):
        sweep.train([A, B], tiny, range(2))


def test_other_images_code_or_engines_are_not_found(
    packed: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore()
    kept(packed)
    wanted = {(A, 0): "no key"}

    def known(data: Dataset = tiny, engine: Any = single.fit) -> dict[Any, Run]:
        return fetched.known(wanted, data, store, {A: engine}, usual=False)

    assert known()
    other = dataclasses.replace(tiny, x_train=tiny.x_train + 1)
    assert not known(other)
    assert not known(engine=single.ends)
    monkeypatch.setattr(keys, "code_digest", lambda module: "edited")
    assert not known()


def test_what_a_gpu_trained_together_stands_for_one_by_one_if_all_seeds_are_there(
    tiny: Dataset, tmp_path: Path
) -> None:
    there, store = RunStore(tmp_path / "gpu"), RunStore()
    stored(tiny, there, lockstep.fit)
    fetched.export(tmp_path / "runs.zip", there, ABOUT)
    kept(tmp_path / "runs.zip")
    for seeds, usual, found in ((2, True, 2), (3, True, 0), (2, False, 0)):
        wanted = {(A, seed): "no key" for seed in range(seeds)}
        runs = fetched.known(wanted, tiny, store, {A: single.fit}, usual=usual)
        assert len(runs) == found


def test_what_was_fetched_is_passed_on_as_it_was_computed(packed: Path, tmp_path: Path) -> None:
    kept(packed)
    again = tmp_path / "again.zip"
    assert fetched.export(again, RunStore(), ABOUT) == 4
    assert again.read_bytes() == packed.read_bytes()


def test_runs_of_other_code_or_engines_are_not_passed_on(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore()
    runs = stored(tiny, store)
    store.put("f" * 32, runs[A, 0])  # of a key that nothing here has
    foreign = dataclasses.replace(runs[A, 0].provenance, engine="of_a_user.engine")
    store.put("e" * 32, dataclasses.replace(runs[A, 0], provenance=foreign))
    assert fetched.export(tmp_path / "one.zip", store, ABOUT) == 4
    monkeypatch.setattr(backend, "device", lambda: "an abacus")
    assert fetched.export(tmp_path / "two.zip", store, ABOUT) == 0


def test_a_digest_tells_what_was_fetched(packed: Path) -> None:
    store = RunStore().fetched
    digests = [store.digest()]
    kept(packed)
    digests.append(store.digest())
    store.path(store.keys()[0]).unlink()
    digests.append(store.digest())
    assert digests[0] == ""
    assert len(set(digests)) == 3


def test_code_is_digested_alike_in_every_python() -> None:
    engines = single.__name__, lockstep.__name__
    assert len({keys.code_digest(engine) for engine in engines}) == 2
    text = "lambda x, *, y=[]: (f'{x:{y}}', None, -1.5, b'a')"
    plainly = keys._plainly(ast.parse(text, mode="eval"))
    for word in ("type_params", "posonlyargs", "kw_defaults=[]", "vararg", "lineno"):
        assert word not in plainly  # 3.12 added the first, 3.13 leaves out what is empty
    tree = ast.parse(text, mode="eval")
    for node in [*ast.walk(tree)]:
        if isinstance(node, ast.JoinedStr):
            node.values.append(ast.Constant(""))  # as 3.12.1 does
    assert keys._plainly(tree) == plainly


# Refused


def rewritten(packed: Path, change: Change) -> Path:
    """Return a copy of an archive whose files were changed."""
    with zipfile.ZipFile(packed) as content:
        files = {name: content.read(name) for name in content.namelist()}
    change(files)
    target = packed.with_name("changed.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as content:
        for name, data in files.items():
            content.writestr(name, data)
    return target


def of_manifest(**changes: Any) -> Change:
    def change(files: dict[str, bytes]) -> None:
        files["manifest.json"] = json.dumps(json.loads(files["manifest.json"]) | changes).encode()

    return change


def of_a_run(edit: Callable[[dict[str, Any]], object], *, rename: bool = True) -> Change:
    """Change a run as somebody would who knows the format: checksums and name fit again."""

    def change(files: dict[str, bytes]) -> None:
        manifest = json.loads(files["manifest.json"])
        name = next(name for name in files if name != "manifest.json")
        content = json.loads(files.pop(name))
        edit(content)
        del content["checksum"]
        inner = {one: value for one, value in content.items() if one != "format"}
        digest = hashlib.sha256(json.dumps(inner, sort_keys=True).encode()).hexdigest()
        text = json.dumps(content | {"checksum": digest}).encode()
        del manifest["sha256"][name]
        made = content["provenance"]
        if rename:
            key = archive.portable_key(
                Recipe(**content["recipe"]).digest,
                content["seed"],
                made["data"]["digest"],
                made["engine"],
                manifest["code"][made["engine"]],
            )
            name = f"runs/{key}.json"
        files[name] = text
        manifest["sha256"][name] = hashlib.sha256(text).hexdigest()
        files["manifest.json"] = json.dumps(manifest).encode()

    return change


def bomb(files: dict[str, bytes]) -> None:
    name = next(name for name in files if name != "manifest.json")
    files[name] = bytes(archive.MOST_OF_ONE + 1)


def damaged_run(files: dict[str, bytes]) -> None:
    name = next(name for name in files if name != "manifest.json")
    files[name] = files[name].replace(b"1", b"2", 1)


REFUSED: dict[str, tuple[Change, str]] = {
    "outside": (lambda files: files.update({"../evil.json": b"{}"}), "does not belong"),
    "absolute": (lambda files: files.update({"/etc/runs.json": b"{}"}), "does not belong"),
    "pickle": (lambda files: files.update({"runs/a.pkl": b"\x80"}), "does not belong"),
    "no manifest": (lambda files: files.pop("manifest.json"), "manifest"),
    "no JSON": (lambda files: files.update({"manifest.json": b"\x80\x04."}), "decode"),
    "nested": (lambda files: files.update({"manifest.json": b"[" * 99_999}), "recursion"),
    "kind": (of_manifest(kind="recipes"), "another kind"),
    "format": (of_manifest(format=2), "format is 2, and this version reads 1"),
    "list": (of_manifest(sha256={}), "lists other files"),
    "about": (of_manifest(about={**ABOUT, "commit": "<script>"}), "not a text"),
    "damaged": (damaged_run, "SHA-256 of runs/"),
    "bomb": (bomb, "larger than 4 MB"),
    "seed": (of_a_run(lambda run: run.update(seed=7), rename=False), "not the run that its name"),
    "recipe": (of_a_run(lambda run: run["recipe"].update(width=-1), rename=False), "width=-1"),
    "boolean": (of_a_run(lambda run: run["history"].update(loss=[True])), "what is no number"),
    "vast": (of_a_run(lambda run: run["history"].update(loss=[10**400])), "what is no number"),
    "empty": (of_a_run(lambda run: run["history"].update(loss=[])), "no losses"),
    "markup": (of_a_run(lambda run: run["provenance"].update(device="<b>")), "not a text"),
    "cores": (of_a_run(lambda run: run["provenance"].update(cores="<b>")), "not that of one run"),
    "claim": (of_a_run(lambda run: run["provenance"].update(fetched="x")), "to have been fetched"),
    "field": (of_a_run(lambda run: run["provenance"].update(more=1)), "more"),
    "run's format": (of_a_run(lambda run: run.update(format=1)), "another format"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_damaged_or_foreign_archive_is_refused_whole(case: str, packed: Path, home: Path) -> None:
    change, reason = REFUSED[case]
    with pytest.raises(ArchiveError, match="so nothing of it was stored: fetch it again") as error:
        kept(rewritten(packed, change))
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert not home.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"GIF89a" * 99, b"<html>404</html>"])
def test_what_is_no_zip_or_cut_off_is_refused(content: bytes, tmp_path: Path, home: Path) -> None:
    file = tmp_path / "runs.zip"
    file.write_bytes(content)
    with pytest.raises(ArchiveError, match="damaged or no archive of runs"):
        kept(file)
    assert not home.exists()


def test_what_cannot_be_read_is_not_called_damaged(tmp_path: Path, home: Path) -> None:
    (tmp_path / "runs.zip").mkdir()
    with pytest.raises(ArchiveError, match=r"cannot be read .*name the address"):
        archive.unpack(tmp_path / "runs.zip")
    assert not home.exists()


def test_a_flipped_bit_anywhere_is_refused_or_harmless(packed: Path, home: Path) -> None:
    whole = packed.read_bytes()
    for place in range(0, len(whole), len(whole) // 60):
        packed.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            found = download.opened(str(packed))
        except ArchiveError:
            continue
        assert len(found.runs) == 4  # in a date, say, or a name that zip keeps twice
    assert not home.exists()


def test_an_archive_of_other_code_is_refused(
    packed: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = download.opened(str(packed))
    monkeypatch.setattr(keys, "code_digest", lambda module: "edited")
    with pytest.raises(ArchiveError, match=r"other code \(commit abc1234\)"):
        fetched.keep(found, RunStore())
    assert not home.exists()


# From an address


@pytest.fixture
def address(packed: Path) -> Iterator[str]:
    """Return the address at which a site is served, on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    serve = functools.partial(Quiet, directory=str(packed.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_archive_comes_from_a_site_its_file_or_its_folder(address: str, packed: Path) -> None:
    found = download.opened(str(packed))
    for where in ("", "/", "/index.html", "/index.html#top", "/?from=mail", "/runs.zip"):
        assert download.opened(address + where) == found
    assert download.opened(str(packed.parent)) == found


def test_what_cannot_be_fetched_is_told_in_one_sentence(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for where in (f"{address}/elsewhere", "http://127.0.0.1:9/runs.zip", "http://", "http://[::1"):
        with pytest.raises(ArchiveError, match=r"cannot be fetched .* check the address"):
            download.opened(where)
    with pytest.raises(ArchiveError, match="there is no "):
        download.opened(str(tmp_path / "nothing"))
    monkeypatch.setattr(archive, "MOST_BYTES", 100)
    with pytest.raises(ArchiveError, match="larger than"):
        download.opened(address)
    monkeypatch.setattr(archive, "MOST_BYTES", 1 << 16)  # a chunk, which holds all of it
    assert download.opened(address).runs
