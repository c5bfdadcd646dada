"""Groups that share normalisers, each with statistics of its own."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from bn_tutorial.bench.causes import is_off, middle
from bn_tutorial.bench.exam import Exam, moved, outputs_of
from bn_tutorial.bench.findings import APART, ENOUGH, LEAK, LEAK_LOSS, MOVED, Finding, report_of
from bn_tutorial.bench.scores import Score, first, score
from bn_tutorial.bench.seen import Seen
from bn_tutorial.networks.feeding import Fed, passing
from bn_tutorial.networks.passes import Moments, by_batch, fixed_batch, with_statistics_of


@dataclasses.dataclass(frozen=True)
class Group:
    """What was measured of one of several populations.

    Attributes
    ----------
    own : dict of int to Moments
        Of what normalisers are given if the group has batches to itself, by their ``id``.
    alone, shared : Score
        How well the group is answered in such batches, and by the statistics of all groups together.
    moved : float
        How far apart these answers are, in standard deviations.
    size : int
        Of how many images it is.
    """

    own: dict[int, Moments]
    alone: Score
    shared: Score
    moved: float
    size: int


def examine_groups(exam: Exam, groups: ArrayLike) -> list[Group]:
    """Pass each of several groups through a model by itself.

    Parameters
    ----------
    exam : Exam
        What was measured of all of them together.
    groups : array_like, shape (n,)
        To which group each image belongs, of all that were given.

    Raises
    ------
    ValueError
        If the images are no arrays, or there is not a label for each.
    """
    labels, data = np.asarray(groups), exam.data
    if data.rows is None or labels.shape != (data.total,):
        raise ValueError("groups= needs images in arrays, and a label for each of them.")
    labels, whole = labels[data.rows], fixed_batch(exam.model) or 1
    rows = [np.flatnonzero(labels == one) for one in np.unique(labels)]
    rows = [one[: len(one) - len(one) % whole] for one in rows]
    return [_examine(exam, Fed(data.at(one), data.answers(one))) for one in rows if len(one) > 1]


def _examine(exam: Exam, data: Fed) -> Group:
    model, own = exam.model, dict[int, Moments]()
    known = {
        id(one.layer): one.population
        for one in exam.layers
        if np.isfinite(one.population.mean).all()
    }
    order = np.random.default_rng(0).permutation(len(data))
    # of nearly equal size: a last batch of a single image would have no variance
    size = fixed_batch(model) or -(-len(data) // -(-len(data) // exam.size))
    with passing():
        alone = functools.partial(by_batch, noted=own, idle=exam.idle)
        shared = functools.partial(with_statistics_of, known=known)
        found = [outputs_of(answer, model, data, order, size) for answer in (alone, shared)]
        one, other = (score(model, data, order, answers) for answers in found)
    apart = moved(*(np.asarray(first(answers), "float32") for answers in found))
    return Group(own, one, other, apart, len(data))


def populations(exam: Exam, groups: Sequence[Group]) -> Iterator[Finding]:
    """Tell whether groups are far apart, and whether each had batches to itself in training."""
    found, worst = [], 0.0
    for one in exam.layers:
        apart = _apart(one, groups)
        if apart > APART:
            found.append(one)
            worst = max(worst, apart)
    if found:
        text = f"means of {len(groups)} groups {worst:.2g} standard deviations apart in the middle"
        serious = _is_of_none(found[0], groups) and _harms(groups)
        why = (
            "in training each group had batches to itself: the moving variances are those within the "
            "groups, and the moving means those of none"
            if serious
            else "this does harm if groups have batches to themselves in training"
        )
        sure = "likely" if serious else "certain"
        yield report_of("two-populations", serious, found, text + _in_words(groups), sure, why)


def _of(one: Seen, groups: Sequence[Group]) -> list[Moments]:
    return [group.own[id(one.layer)] for group in groups if id(one.layer) in group.own]


def _apart(one: Seen, groups: Sequence[Group]) -> float:
    """Return how far the groups' means are apart, in standard deviations within them."""
    own = _of(one, groups)
    if len(own) < 2:
        return 0.0
    within = np.mean([group.variance for group in own], axis=0) + one.epsilon
    return middle(np.ptp([group.mean for group in own], axis=0) / np.sqrt(within))


def _is_of_none(one: Seen, groups: Sequence[Group]) -> bool:
    """Return whether moving statistics are means over batches of one group each.

    Then they are off for each group, and the variances are those within the groups; batches of all of
    them have the variance between the groups as well.
    """
    if one.at_start or one.frozen:
        return False
    own = _of(one, groups)
    if not all(is_off(dataclasses.replace(one, population=group)) for group in own):
        return False
    within = np.mean([group.variance for group in own], axis=0)
    total = within + np.var([group.mean for group in own], axis=0)
    moving = np.maximum(one.moving.variance, 0) + one.epsilon
    inside, whole = (np.abs(np.log(moving / (part + one.epsilon))) for part in (within, total))
    return middle(inside[one.varied]) < middle(whole[one.varied])


def _harms(groups: Sequence[Group]) -> bool:
    """Return whether groups are answered better in batches of their own, on the whole."""
    if sum(group.size for group in groups) < ENOUGH:
        return False
    if hits := _scores(groups, "accuracy"):
        return _mean(groups, hits[0]) - _mean(groups, hits[1]) > LEAK
    if losses := _scores(groups, "loss"):
        alone, shared = (_mean(groups, side) for side in losses)
        return shared - alone > LEAK_LOSS * abs(shared)
    return _mean(groups, [group.moved for group in groups]) > 2 * MOVED


def _mean(groups: Sequence[Group], values: Sequence[float]) -> float:
    return float(np.average(values, weights=[group.size for group in groups]))


def _scores(groups: Sequence[Group], what: str) -> tuple[list[float], list[float]] | None:
    """Return accuracies, or losses, of groups alone and of all together; None if one has none."""
    pairs = [(getattr(group.alone, what), getattr(group.shared, what)) for group in groups]
    if any(None in pair for pair in pairs):
        return None
    return [alone for alone, _ in pairs], [shared for _, shared in pairs]


def _in_words(groups: Sequence[Group]) -> str:
    """Return how well groups are answered, in words."""
    for what, form in (("accuracy", "{:.0%}"), ("loss", "{:.3g}")):
        if found := _scores(groups, what):
            alone, shared = (" and ".join(map(form.format, side)) for side in found)
            return (
                f"; {what} {alone} in batches of their own, {shared} by statistics of all together"
            )
    return ""
