"""A dataset: labelled images, checked before anybody trains on them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int32]

#: The names of the classes of CIFAR-10, in the order of its labels.
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images for training and testing, checked on construction.

    The arrays are kept as read-only views.

    Parameters
    ----------
    x_train, x_test : ndarray of uint8, shape (n, rows, columns, colours)
        Images of one shape, with values from 0 to 255; CIFAR-10's are (n, 32, 32, 3), with red,
        green and blue.
    y_train, y_test : ndarray of integers, shape (n,)
        For each image, its position in `classes`; kept as int32.
    classes : tuple of str
        Names of the classes.
    source : str
        Where the data came from, for people to read.
    is_sample : bool
        Whether these are images of the bundled sample, on which nothing is judged; only its
        loader says so.

    Attributes
    ----------
    sha256 : str
        The SHA-256 of images, labels and class names, as 64 hexadecimal digits.
    digest : str
        The first 16 of them.

    Raises
    ------
    ValueError
        If a field is not as described; the message names it.
    """

    x_train: Pixels = field(repr=False)
    y_train: Labels = field(repr=False)
    x_test: Pixels = field(repr=False)
    y_test: Labels = field(repr=False)
    classes: tuple[str, ...] = CLASSES
    source: str = "arrays given by the caller"
    is_sample: bool = False

    def __post_init__(self) -> None:
        """Check every field."""
        classes = tuple(self.classes)
        if not all(isinstance(name, str) for name in classes) or len(set(classes)) < 2:
            raise ValueError(f"classes is {classes!r}; it must hold two or more names.")
        if len(set(classes)) < len(classes):
            raise ValueError(f"classes is {classes!r}; no name may come twice.")
        object.__setattr__(self, "classes", classes)
        for part in ("train", "test"):
            images = _checked_images(f"x_{part}", getattr(self, f"x_{part}"))
            labels = _checked_labels(f"y_{part}", getattr(self, f"y_{part}"), len(classes))
            if len(images) != len(labels):
                raise ValueError(
                    f"x_{part} has {len(images)} images and y_{part} has {len(labels)} labels; "
                    "each image needs one label."
                )
            object.__setattr__(self, f"x_{part}", images)
            object.__setattr__(self, f"y_{part}", labels)
        train, test = self.x_train.shape[1:], self.x_test.shape[1:]
        if train != test:
            raise ValueError(
                f"x_train has images of shape {train} and x_test of {test}; they must agree."
            )

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the contents, in hexadecimal digits."""
        sha = hashlib.sha256(json.dumps(self.classes).encode())
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            sha.update(repr(array.shape).encode())
            sha.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)
        return sha.hexdigest()

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the contents."""
        return self.sha256[:16]

    def subset(self, n: int) -> Dataset:
        """Return the same data with only `n` training images; the test images all stay.

        Each class keeps its share (rounded to whole images), and of each class the first
        images are taken, so the same `n` always gives the same images.

        Parameters
        ----------
        n : int
            Number of training images, from 1 to ``len(x_train)``.

        Raises
        ------
        ValueError
            If `n` is not a whole number in that range.
        """
        available = len(self.x_train)
        if not hasattr(n, "__index__") or not 1 <= n <= available:
            raise ValueError(f"n is {n!r}; it must be a whole number from 1 to {available}.")
        if n == available:
            return self
        chosen = self._stratified(self.y_train, n)
        return replace(
            self,
            x_train=self.x_train[chosen],
            y_train=self.y_train[chosen],
            source=f"{self.source}, {n} of {available} training images",
        )

    def draw(self, seed: int, n: int | None = None, held_out: int = 0) -> Dataset:
        """Return a random choice of the training images, and others in place of the test images.

        Each class keeps its share. Every seed draws anew from all training images, so what several
        seeds have in common is a property of CIFAR-10, and not of a few of its images.

        Parameters
        ----------
        seed : int
            Fixes what is drawn.
        n : int, optional
            Number of training images; all that are not held out if nothing is said.
        held_out : int
            Number of training images that take the place of the test images; with 0 these stay.

        Raises
        ------
        ValueError
            If there are not that many images.
        """
        available = len(self.x_train)
        if not hasattr(held_out, "__index__") or not 0 <= held_out < available:
            raise ValueError(
                f"held_out is {held_out!r}; it must be a whole number from 0 to {available - 1}."
            )
        left = available - held_out
        if n is not None and (not hasattr(n, "__index__") or not 1 <= n <= left):
            raise ValueError(f"n is {n!r}; it must be a whole number from 1 to {left}.")
        if not held_out and n in (None, available):
            return self
        order = np.random.default_rng([seed, *b"images"]).permutation(available)
        held = self._stratified(self.y_train[order], held_out)
        rest = np.delete(order, held)
        chosen = np.sort(rest if n is None else rest[self._stratified(self.y_train[rest], n)])
        drawn = replace(
            self,
            x_train=self.x_train[chosen],
            y_train=self.y_train[chosen],
            source=f"{self.source}, {len(chosen)} of {available} training images, draw {seed}",
        )
        if not held_out:
            return drawn
        held = np.sort(order[held])
        return replace(drawn, x_test=self.x_train[held], y_test=self.y_train[held])

    def _stratified(self, labels: Labels, n: int) -> npt.NDArray[np.intp]:
        """Return the sorted indices of the first images of each class, `n` in all."""
        counts = np.bincount(labels, minlength=len(self.classes))
        quotas, left_over = np.divmod(counts * n, len(labels))
        by_remainder = np.argsort(-left_over, kind="stable")
        quotas[by_remainder[: n - quotas.sum()]] += 1
        return np.sort(
            np.concatenate([np.flatnonzero(labels == c)[:k] for c, k in enumerate(quotas)])
        )


def _checked_images(name: str, value: npt.ArrayLike) -> Pixels:
    images = np.asarray(value)
    if np.issubdtype(images.dtype, np.inexact) and not np.isfinite(images).all():
        raise ValueError(f"{name} contains NaN or Inf; images must be uint8, from 0 to 255.")
    if images.dtype != np.uint8:
        raise ValueError(f"{name} has dtype {images.dtype}; images must be uint8, from 0 to 255.")
    if images.ndim != 4 or not all(images.shape[1:]):
        raise ValueError(
            f"{name} has shape {images.shape}; images must be (n, rows, columns, colours)."
        )
    if not len(images):
        raise ValueError(f"{name} is empty; it must hold at least one image.")
    return _read_only(images)


def _checked_labels(name: str, value: npt.ArrayLike, classes: int) -> Labels:
    labels = np.asarray(value)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{name} has dtype {labels.dtype}; labels must be integers.")
    if labels.ndim != 1:
        raise ValueError(f"{name} has shape {labels.shape}; labels must be (n,).")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise ValueError(f"{name} contains {wrong[0]}; labels must be from 0 to {classes - 1}.")
    return _read_only(labels.astype(np.int32))


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
