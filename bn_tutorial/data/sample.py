"""The bundled sample: 1000 training and 500 test images of CIFAR-10.

Two PNG files hold the images one below the other, and in each the classes 0 to 9 over and over,
so the labels need no file. Red and blue are kept as differences from green (modulo 256), which
makes the files 16 % smaller.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bn_tutorial.data.dataset import CLASSES, Dataset
from bn_tutorial.data.formats import UNREADABLE
from bn_tutorial.data.sources import DataError

FOLDER = Path(__file__).with_name("sample")
SHA256 = "234ad8fb76f098c8157eee0451a46ce15ce777b35f0b98140ffb9a67a243e0c7"


def load() -> Dataset:
    """Return the sample, verified; raise `DataError` if it is damaged."""
    images = {}
    try:
        for part in ("train", "test"):
            with Image.open(FOLDER / f"{part}.png", formats=["PNG"]) as stacked:
                images[part] = np.array(stacked).reshape(-1, 32, 32, 3)
            images[part][..., [0, 2]] += images[part][..., 1:2]
        labels = {part: np.arange(len(x), dtype=np.int32) % 10 for part, x in images.items()}
        dataset = Dataset(
            *(images["train"], labels["train"], images["test"], labels["test"]),
            source=f"bundled sample of {len(images['train'])} training and "
            f"{len(images['test'])} test images",
            is_sample=True,
        )
        if dataset.sha256 != SHA256:
            raise ValueError("wrong SHA-256")
    except UNREADABLE as error:
        raise DataError(f"the bundled sample is damaged ({error}): install again.") from error
    return dataset


def write(full: Dataset, folder: Path) -> None:
    """Make the sample: the first 100 (training) and 50 (test) images of each class."""
    for part, images, labels, each in (
        ("train", full.x_train, full.y_train, 100),
        ("test", full.x_test, full.y_test, 50),
    ):
        of_class = [np.flatnonzero(labels == c)[:each] for c in range(len(CLASSES))]
        stacked = images[np.stack(of_class, axis=1).ravel()]
        stacked[..., [0, 2]] -= stacked[..., 1:2]
        Image.fromarray(stacked.reshape(-1, 32, 3)).save(folder / f"{part}.png", optimize=True)
