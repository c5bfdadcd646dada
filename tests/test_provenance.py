from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.networks import backend
from bn_tutorial.training.provenance import Provenance, commit_of, together

IMAGES = {"digest": "0a", "source": "CIFAR-10 from a disk", "sample": False}
ONE = Provenance(
    data=IMAGES,
    device="cpu",
    versions={"python": "3.11.7", "keras": "3.15.1"},
    created="2026-11-29T12:00:00+00:00",
    engine="bn_tutorial.engines.single.fit",
    seconds=1.25,
)


def test_here_tells_of_this_process_and_the_images(tiny: Dataset) -> None:
    made = Provenance.here(tiny, engine="a.b", seconds=3.0, versions={"dask": "1"})
    assert made.data == {
        "digest": tiny.digest,
        "source": "arrays given by the caller",
        "sample": False,
    }
    assert made.device == backend.device()
    assert list(made.versions) == ["python", "keras", "tensorflow", "numpy", "dask"]
    assert made.versions["python"] == sys.version.split()[0]
    assert made.created.endswith("+00:00")
    assert (made.engine, made.seconds, made.cores) == ("a.b", 3.0, None)


def test_it_goes_through_json_and_leaves_out_what_is_not_known() -> None:
    text = json.dumps(ONE.asdict())
    assert "profile" not in text
    assert Provenance(**json.loads(text)) == ONE


def test_in_words() -> None:
    assert str(ONE) == "CIFAR-10 from a disk, digest 0a; cpu; python 3.11.7, keras 3.15.1"
    assert dataclasses.replace(ONE, cores=2).machine == "cpu, 2 cores"
    assert not ONE.is_sample


def test_together_what_is_shared_stays_and_seconds_are_summed() -> None:
    later = dataclasses.replace(ONE, seconds=2.5, created="2026-11-30T12:00:00+00:00")
    assert together([later, ONE]) == dataclasses.replace(later, seconds=3.75)
    assert together([ONE]) == ONE


def test_together_what_differs_becomes_a_list() -> None:
    sample = {"digest": "0b", "source": "bundled sample", "sample": True}
    other = dataclasses.replace(
        ONE, data=sample, device="abacus", engine=None, versions={"python": "3.12.1"}, cores=8
    )
    both = together([ONE, other, ONE])
    assert both.data == [IMAGES, sample]
    assert both.device == ["cpu", "abacus"]
    assert both.versions == {"python": ["3.11.7", "3.12.1"], "keras": "3.15.1"}
    assert (both.engine, both.profile, both.cores) == (ONE.engine, None, 8)
    assert both.is_sample
    assert str(both) == (
        "CIFAR-10 from a disk, digest 0a; bundled sample, digest 0b; cpu and abacus, 8 cores; "
        "python 3.11.7 and 3.12.1, keras 3.15.1"
    )
    assert together([both, ONE]).device == ["cpu", "abacus"]  # and so on
    with pytest.raises(ValueError, match="at least one"):
        together([])


def test_readers_of_provenance_do_not_start_tensorflow() -> None:
    code = (
        "import sys; from bn_tutorial.training.provenance import Provenance; "
        "assert not {'tensorflow', 'keras', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_commit_of_a_folder(tmp_path: Path) -> None:
    assert commit_of(tmp_path) == "unknown commit"
    for command in (
        "init -q",
        "-c user.name=n -c user.email=e commit -q --allow-empty -m m",
        "-c user.name=n -c user.email=e tag -a -m m 0.1.0",  # a tag leaves it what it is
    ):
        subprocess.run(["git", *command.split()], check=True, cwd=tmp_path)
    assert re.fullmatch("[0-9a-f]{7,}", commit_of(tmp_path))
