"""A check-up, which says whether batch normalisation ails a model."""

from __future__ import annotations

import dataclasses
import html
import textwrap
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bn_tutorial.bench.causes import far, middle
from bn_tutorial.bench.exam import Exam, examine
from bn_tutorial.bench.findings import Finding
from bn_tutorial.bench.populations import examine_groups
from bn_tutorial.bench.scores import Score
from bn_tutorial.bench.signs import findings
from bn_tutorial.figures import COLORS, INK, to_svg
from bn_tutorial.figures.style import house_style
from bn_tutorial.networks.backend import keras
from bn_tutorial.networks.feeding import fed
from bn_tutorial.networks.passes import normalisers
from bn_tutorial.networks.recalibration import population

#: So many images are looked at, if there are more.
MOST = 512
#: The findings that are about moving statistics.
OF_STATISTICS = {"lag", "statistics-not-restored", "shifted-data", "variance-shift"}


@dataclasses.dataclass(frozen=True)
class Checkup:
    """What a check-up found. Printed, it is a report; a notebook shows it with a figure.

    Attributes
    ----------
    model : str
        The model's name.
    findings : list of Finding
        What was found, most serious first.
    layers : list of dict
        For each normaliser its ``name``, ``distance`` (of the moving means from the population's, in
        standard deviations, in the mean) and ``ratio`` (of the variances, in the middle).
    scores : dict of str to Score
        How well the model answers: ``inference``, ``recalibrated``, and by ``batch``.
    images : int
        On how many images that was measured.
    """

    model: str
    findings: list[Finding]
    layers: list[dict[str, Any]]
    scores: dict[str, Score]
    images: int

    @property
    def serious(self) -> bool:
        """Whether anything serious was found."""
        return any(one.serious for one in self.findings)

    @property
    def sentence(self) -> str:
        """The report in a sentence."""
        if not self.layers and self.findings:
            return f"The model {self.model!r} has no normaliser that a check-up can look into."
        if not self.layers:
            return f"The model {self.model!r} has no batch normalisation: there is nothing to find."
        seen = f"{_count(len(self.layers), 'normaliser')} on {_count(self.images, 'image')}"
        ill = [one.kind for one in self.findings if one.serious]
        if ill:
            return f"The model {self.model!r} is ill: {', '.join(ill)} ({seen})."
        if {one.kind for one in self.findings} & OF_STATISTICS:
            return (
                f"The statistics of {self.model!r} are not quite those of these images, which does little "
                f"harm ({seen})."
            )
        return (
            f"The batch normalisation of {self.model!r} is healthy: its statistics fit these images, and "
            f"it answers as it would with fresh ones ({seen})."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as what JSON can hold."""
        found: dict[str, Any] = dataclasses.asdict(self)
        return {"sentence": self.sentence, "serious": self.serious, **found}

    def __str__(self) -> str:
        """Return the report as text."""
        parts = [self.sentence]
        for number, one in enumerate(self.findings, 1):
            head = f"{number}. {one.kind}" + (" (serious)" if one.serious else "")
            lines = [
                f"{one.sentence}",
                f"Measured: {one.measured}.",
                f"Reported {'if' if one.threshold != 'any' else 'wherever there is'} {one.threshold}.",
                f"Layers: {_listed(one.layers)}. How sure: {one.sure}. See {one.link}.",
            ]
            text = "\n".join(textwrap.fill(line, 88, break_on_hyphens=False) for line in lines)
            parts.append(f"{head}\n{text}\n\n{textwrap.indent(one.cure, '    ')}")
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        """Return the report as HTML, with a figure for light and dark pages."""
        parts = [f"<p><strong>{html.escape(self.sentence)}</strong></p>"]
        for one in self.findings:
            mark = "serious" if one.serious else "to know"
            parts.append(
                f"<details{' open' if one.serious else ''}><summary><strong>{html.escape(one.kind)}"
                f"</strong> ({mark}): {html.escape(one.sentence)}</summary>"
                f"<p>Measured: {html.escape(one.measured)}.<br>Threshold: {html.escape(one.threshold)}.<br>"
                f"Layers: {html.escape(_listed(one.layers))}. How sure: {one.sure}.</p>"
                f"<pre>{html.escape(one.cure)}</pre></details>"
            )
        if self.layers:
            parts.append(to_svg(self.figure()))
        return "\n".join(parts)

    def figure(self) -> Any:
        """Draw how far each layer's moving statistics are from those of the images.

        Returns
        -------
        matplotlib.figure.Figure
            A bar for each layer, of the means and of the variances.
        """
        from matplotlib.figure import Figure

        names = [one["name"] for one in self.layers]
        with house_style():
            size = (7.2, 1.2 + 0.28 * max(len(names), 2))
            figure = Figure(figsize=size, layout="constrained")
            left, right = figure.subplots(1, 2, sharey=True)
            places = np.arange(len(names))
            left.barh(places, [one["distance"] for one in self.layers], color=COLORS["batch"])
            logs = np.log2([max(one["ratio"], 2.0**-10) for one in self.layers])
            right.barh(places, logs, color=COLORS["batch"])
            right.axvline(0, color=INK, linewidth=0.8)
            left.set(yticks=places, xlabel="moving mean off, in standard deviations")
            left.set_yticklabels(names)
            left.invert_yaxis()
            right.set_xlabel("moving variance over the true one, powers of 2")
        figure.set_label(
            "How far each layer's moving mean and variance are from those of the images."
        )
        return figure


def checkup(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    batch_size: int | None = None,
    trained_on: Any = None,
    groups: ArrayLike | None = None,
    most: int = MOST,
) -> Checkup:
    """Examine a model, and say whether batch normalisation makes it worse than it could be.

    The images pass through the model several times: as it answers, normalised by their own batches, with
    other companions, and with recalibrated statistics. Nothing in the model changes: neither weights,
    moving statistics and optimiser nor random states.

    Parameters
    ----------
    model : keras.Model
        Any built Keras model; normalisers may lie in inner models and in layers.
    x : array_like, list, tuple or dict of these, tf.data.Dataset, PyDataset, or iterable of batches
        Images (or whatever it takes) as the model gets them, in the order of the training.
    y : array_like, optional
        Their targets; what gives batches gives these as well.
    batch_size : int, optional
        The size of the training's batches, if it is known.
    trained_on : as x, optional
        Images of the training, if `x` are others.
    groups : array_like of shape (n,), optional
        To which of several populations each image belongs: real and generated ones, for instance.
    most : int
        So many images are looked at.

    Returns
    -------
    Checkup
        Its ``findings``, most serious first; none if all is well.

    Raises
    ------
    ValueError
        If the images do not fit the model, or it has no weights yet.
    TypeError
        If it is no Keras model.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"a check-up needs a Keras model, and this is a {type(model).__name__}.")
    if not model.built:
        raise ValueError("the model has no weights yet: call it on a batch first.")
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise ValueError(
            f"batch_size={batch_size} is impossible: it must be a whole number from 1."
        )
    if not normalisers(model):
        return Checkup(model.name, [], [], {}, 0)
    data = fed(model, x, y, most, batch_size)
    exam = examine(model, data, batch_size)
    known = None
    if trained_on is not None:
        known = population(model, fed(model, trained_on, most=most), exam.size)
    apart = [] if groups is None else examine_groups(exam, groups)
    return _report(exam, findings(exam, known, apart))


def _report(exam: Exam, found: list[Finding]) -> Checkup:
    layers = [
        {
            "name": one.name,
            "distance": _finite(far(one)),
            "ratio": _finite(middle(one.ratio[one.varied])) if one.varied.any() else 1.0,
        }
        for one in exam.layers
    ]
    return Checkup(exam.model.name, found, layers, dict(exam.scores), len(exam.data))


def _finite(value: Any) -> float:
    return float(value) if np.isfinite(value) else 1e6


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
