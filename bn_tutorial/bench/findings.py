"""What a check-up can find: what is said of each illness, and from where on it is one."""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from collections.abc import Sequence
from importlib import resources

from bn_tutorial.bench.seen import Seen

#: A layer's statistics are off if their mean distance is larger, in standard deviations, or if the
#: variances in the middle are smaller or larger by such a factor. A hundred images estimate a mean to
#: a tenth of a standard deviation.
FAR, TIMES = 0.3, 1.4
#: That matters if it changes the outputs by so much of their own spread, or costs so much accuracy.
MOVED, COST = 0.25, 0.05
#: Fewer images do not tell what ails a model.
ENOUGH = 30
#: A start that still weighs so much explains it.
START = 0.03
#: Below so many times epsilon, a variance is divided out to less than two thirds; below `LOW`, to
#: less than 98 %.
SMALL, LOW = 0.8, 20
#: A γ of less than this share of its layer's largest switches a feature off.
OFF = 1e-3
#: What companions give away, in accuracy, or as a share of the loss where there is none.
LEAK, LEAK_LOSS = 0.08, 0.3
#: Where batches of one were in the training, variances are smaller than this share of the true ones.
NARROWER = 0.95
#: With a smaller momentum, moving statistics hold the last few batches only.
SHORT = 0.5
#: Serious if another γ and β would take such a share of their variance off a regression's squared error.
MISSED = 0.25
#: So far apart, in standard deviations, two groups have statistics of their own.
APART = 0.5
STATISTICS = (
    f"means over {FAR} standard deviations off or variances by over ×{TIMES}; serious where recalibrating "
    f"changes the answers by over {MOVED:.0%} of their spread, or raises the accuracy by over {COST:.0%}"
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that a check-up found.

    Attributes
    ----------
    kind : str
        Its name, for instance ``lag``.
    serious : bool
        Whether the model should not be used or trained further as it is.
    layers : tuple of str
        The layers that it is about.
    measured : str
        What was measured, and on how much.
    threshold : str
        From where on it is reported, and why.
    sentence : str
        What it means.
    cure : str
        What to do, as code.
    sure : str
        ``certain``, ``likely`` or ``possible``.
    link : str
        Where the site says more, relative to its root.
    """

    kind: str
    serious: bool
    layers: tuple[str, ...]
    measured: str
    threshold: str
    sentence: str
    cure: str
    sure: str
    link: str


@functools.cache
def illnesses() -> dict[str, dict[str, str]]:
    """Return what is said of each kind of finding."""
    file = resources.files("bn_tutorial.bench").joinpath("illnesses.toml")
    return tomllib.loads(file.read_text("utf-8"))


def report_of(
    kind: str,
    serious: bool,
    layers: Sequence[Seen],
    measured: str,
    sure: str = "certain",
    why: str = "",
) -> Finding:
    """Return a finding of this kind; `why` is added to its sentence."""
    texts = {name: text.strip() for name, text in illnesses()[kind].items()}
    texts["threshold"] = texts["threshold"].format(**globals())
    whole = texts["sentence"].endswith(".")
    if why:
        texts["sentence"] += f" {why[0].upper()}{why[1:]}." if whole else f": {why}."
    elif not whole:
        texts["sentence"] += "."
    return Finding(kind, serious, tuple(one.name for one in layers), measured, sure=sure, **texts)
