"""An engine that asks a trained network about images that are not those of its training."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bn_tutorial.engines import single
from bn_tutorial.engines.batches import batch, hits
from bn_tutorial.engines.program import Program
from bn_tutorial.engines.rows import Row, numbered
from bn_tutorial.engines.single import TEST_METRICS
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.backend import tf
from bn_tutorial.networks.statistics import Statistics
from bn_tutorial.recipe.recipes import Recipe

Array = npt.NDArray[Any]

#: So many test images are asked about; of so many of them statistics are computed.
ASKED = 2_000
COUNTS = (1, 4, 16, 64, 256)
#: How often the images of which statistics are computed are drawn.
DRAWS = 4
#: Entropy descent: images in a batch, and the learning rate of γ and β.
TENT_BATCH, TENT_RATE = 200, 1e-2


def _noise(images: Array) -> Array:
    return np.asarray(images + np.random.default_rng(0).normal(0, 0.3, images.shape))


def _contrast(images: Array) -> Array:
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    return np.asarray(mean + 0.35 * (images - mean))


def _brightness(images: Array) -> Array:
    return images + 0.25


def _blur(images: Array) -> Array:
    for axis in (1, 2):
        for _ in range(6):
            images = np.mean([np.roll(images, by, axis) for by in (-1, 0, 1)], axis=0)
    return images


#: What is done to images from 0 to 1, before they are cut off there.
SHIFTS: dict[str, Callable[[Array], Array]] = {
    "none": lambda images: images,
    "noise": _noise,
    "contrast": _contrast,
    "brightness": _brightness,
    "blur": _blur,
}


def shift(images: Array, name: str) -> Array:
    """Return shifted images, as bytes.

    Parameters
    ----------
    images : numpy.ndarray of uint8, shape (n, rows, columns, colours)
        Images.
    name : {"none", "noise", "contrast", "brightness", "blur"}
        What is done: noise with a standard deviation of 0.3 of the whole scale is added; the contrast
        becomes 0.35 times as large; 0.25 of the scale is added; or a box of 3 × 3 pixels passes six
        times, as if the image's borders met.

    Returns
    -------
    numpy.ndarray of uint8
        Of the same shape.

    Raises
    ------
    ValueError
        If there is no shift of that name.
    """
    if name not in SHIFTS:
        *most, last = SHIFTS
        raise ValueError(f"there is no shift {name!r}: choose {', '.join(most)} or {last}.")
    changed = SHIFTS[name](images.astype(np.float32) / 255)
    return np.asarray(np.clip(changed * 255, 0, 255).round(), np.uint8)


def ask(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Train, and then ask about shifted test images, with several statistics.

    Parameters
    ----------
    bench, recipe, seed
        As in `bn_tutorial.engines.single.fit`, with ``norm="batch"``.

    Yields
    ------
    dict of str to float
        What `bn_tutorial.engines.single.ends` yields. In the last row there is, besides, the accuracy on
        `ASKED` test images for each of the `SHIFTS`, as ``accuracy/<shift>/<statistics>``. By part of these
        images: with ``training``, the population's of the training images; with those of 1, 4, …
        (`COUNTS`) shifted test images, a mean over `DRAWS` draws; and with ``all`` of them. By batch of
        `TENT_BATCH`: with its own statistics as ``batches``; and as ``entropy``, where γ and β go down the
        gradient of its answers' mean entropy after each batch (TENT, but by plain gradient descent). As a
        single number: with those of a ``class``, one after another. A network without batch
        normalisation has ``training`` alone.

    Raises
    ------
    ValueError
        If the recipe holds out no images, so that there are no others than those of validation.

    References
    ----------
    Schneider et al. (2020), Improving robustness against common corruptions by covariate shift
    adaptation; Nado et al. (2020), Evaluating prediction-time batch normalization for robustness under
    covariate shift; Wang et al. (2021), Tent: fully test-time adaptation by entropy minimization.
    """
    if not recipe.validation:
        raise ValueError("validation=0 is impossible here: it must be a whole number from 1.")
    for row in single.fit(bench, recipe, seed, kind=Asking, every=recipe.epochs):
        if TEST_METRICS[0] in row:  # the last one
            row |= numbered(_asked(bench, recipe, seed))
        yield row


def _asked(bench: Workbench, recipe: Recipe, seed: int) -> dict[str, Any]:
    program, pixels = bench.program_of(Asking, recipe), bench.pixel_statistics(recipe, seed)
    (train, _, test), trained = bench.resident(recipe, seed), program.values()
    assert test is not None
    images, labels = (part[:ASKED] for part in test)
    known, random = program.statistics(train[0], *pixels), np.random.default_rng(seed)
    every = np.arange(len(labels))
    draws = [random.permutation(every) for _ in range(DRAWS)]
    of_class = [np.flatnonzero(labels == one) for one in range(len(bench.data.classes))]
    ours: dict[str, Any] = {}

    def seen_as(name: str) -> Any:
        return tf.constant(shift(images.numpy(), name))

    for name in SHIFTS:
        changed = bench.keep(__name__, name, functools.partial(seen_as, name), len(SHIFTS))

        def right(statistics: Statistics, at: Array = every, seen: Any = changed) -> Array:
            part = tf.gather(seen, at), tf.gather(labels, at)
            return program.score(part, pixels, statistics)[:, 3]

        def of(at: Array, seen: Any = changed) -> Statistics:
            found: Statistics = program.statistics_of(len(at))(tf.gather(seen, at), *pixels)
            return found

        found: dict[str, Any] = {"training": right(known)}
        if known:
            for count in COUNTS:
                found[f"{count}"] = np.mean([right(of(order[:count])) for order in draws], axis=0)
            alone = [one[: min(map(len, of_class))] for one in of_class]
            found |= {
                "all": right(of(every)),
                "class": float(np.mean([right(of(one), one).mean() for one in alone])),
            }
            for kind, rate in (("batches", 0.0), ("entropy", TENT_RATE)):
                found[kind] = program.stream(changed, labels, rate, *pixels)
                program.load(trained)
        ours |= {f"accuracy/{name}/{kind}": value for kind, value in found.items()}
    return ours


class Asking(Program):
    """A program that can also adapt to images without labels."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # of each number of images a function of its own
        self.statistics_of = functools.cache(lambda count: self.compile(self._statistics))
        self.answer = self.compile(self._answer)

    def stream(self, images: Any, labels: Any, rate: float, *pixels: Any) -> list[float]:
        """Return the accuracy of each batch, normalised by itself and answered before its step."""
        starts = range(0, len(labels), TENT_BATCH)
        parts = [np.arange(start, min(start + TENT_BATCH, len(labels))) for start in starts]
        rates = tf.constant(rate)
        found = [self.answer(images, labels, part, rates, *pixels) for part in parts]
        return [float(right) / len(part) for right, part in zip(found, parts, strict=True)]

    def _answer(self, images: Any, labels: Any, indices: Any, rate: Any, *pixels: Any) -> Any:
        """Return how many are right, and take a step of γ and β down the answers' mean entropy."""
        affine = self.affine()
        with tf.GradientTape() as tape:
            chances = self.model(batch(images, indices, *pixels), training=True)
            logs = tf.math.log(tf.maximum(chances, 1e-12))
            entropy = -tf.reduce_mean(tf.reduce_sum(chances * logs, axis=-1))
        for variable, slope in zip(affine, tape.gradient(entropy, affine), strict=True):
            variable.assign(variable - rate * slope)
        return hits(tf.gather(labels, indices), chances)
