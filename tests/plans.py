"""Plan how many seeds hypotheses need, from pilot runs; print what belongs into their files.

``nox -s replicate -- --seeds-from 900`` runs the pilots. Then, with ``BN_TUTORIAL_SEEDS_FROM=900``,
``python tests/plans.py`` prints for each hypothesis a line ``plan = {...}`` with the smallest number of
seeds with which its word repeats as often as `ENOUGH` says, by two reckonings: if the effect is the pilots'
and the spread the upper 80 % limit of theirs (the power that the plan states), and if both are only as well
known as the pilots tell (`bn_tutorial.evidence.chances`). Where `MOST` seeds are too few, the question is better
asked as an estimate. Pilot seeds are not used again.
"""

from __future__ import annotations

import math
import operator
import statistics
from collections import Counter
from typing import Any

from scipy import special

from bn_tutorial.evidence import hypotheses, interval, power, recall
from bn_tutorial.evidence.chances import chances, level
from bn_tutorial.evidence.registry import Hypothesis, Plan

DECISIVE = ("supported", "contradicted", "not supported")

#: No hypothesis gets fewer seeds (with three, a verdict is provisional), or more.
LEAST, MOST = 4, 20

#: How often the word repeats, at least, by either reckoning, of primary hypotheses and of others.
ENOUGH = {True: (0.97, 0.95), False: (0.9, 0.9)}


def plan(one: Hypothesis, effect: dict[str, Any], family: int) -> Plan | None:
    """Return the plan with the fewest seeds, if there is one."""
    ratio, values = one.unit == "ratio", effect["values"]
    values = [math.log(value) for value in values] if ratio else values
    count, mean, seen = len(values), statistics.fmean(values), statistics.stdev(values)
    spread = seen * math.sqrt((count - 1) / special.chdtri(count - 1, 0.8))
    shared = math.sqrt(max(effect["shared"] ** 2 - one.resolution**2, 0))
    pilots = interval(values, level(one, family), math.hypot(shared, one.resolution))
    for n in range(LEAST, MOST + 1):
        tried = Plan(effect=math.exp(mean) if ratio else mean, spread=spread, shared=shared, n=n)
        found = power(one, tried, family)
        repeats = max(
            chance for word, chance in chances(one, pilots, n=n).items() if word in DECISIVE
        )
        if all(map(operator.ge, (found, repeats), ENOUGH[one.primary])):
            return Plan(**{**vars(tried), "power": found})
    return None


def main() -> None:
    """Print a plan for everything that was recorded."""
    everything = hypotheses()
    families = Counter(one.experiment for one in everything.values() if one.primary)
    for name, one in everything.items():
        try:
            found = recall(f"{one.experiment}.{name}")
        except KeyError:
            continue
        if one.estimate or found["n"] < 2:
            continue
        planned = plan(one, found["effect"], families[one.experiment])
        print(f"[{name}]  # {found['word']}, n = {found['n']}")
        if planned is None:
            print(f"# {found['effect']['mean']:.3g}: an estimate, as {MOST} seeds are too few")
            continue
        shared = f"shared = {planned.shared:.2g}, " if planned.shared else ""
        print(
            f"plan = {{ effect = {planned.effect:.4g}, spread = {planned.spread:.3g}, {shared}"
            f"n = {planned.n}, power = {planned.power:.2f} }}"
        )


if __name__ == "__main__":
    main()
