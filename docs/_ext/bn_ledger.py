"""The page *Verdicts*: the ledger as a table, each claim with its evidence, and the downloads."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, ClassVar

from bn_evidence import TEMPLATES, experiment, findings, recorded, render
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from bn_tutorial import evidence
from bn_tutorial.evidence import chances, ledger, registry, verdicts
from bn_tutorial.training.provenance import Provenance

#: The ends of the bars, in multiples of the smallest effect that matters, and their width in pixels.
REACH, WIDTH = 25, 150
REFERENCE = "ledger/reference.json"


class Ledger(SphinxDirective):
    """``{ledger}``: a row for each claim; the other directives show it through other templates."""

    template: ClassVar[str] = "ledger/ledger.html"

    def run(self) -> list[nodes.Node]:
        pages = {experiment(doc): f"/{doc}" for doc in self.env.found_docs if experiment(doc)}
        text = render(self.template, pages=pages, address=self.address, **self.values())
        if self.template.endswith(".html"):
            return [nodes.raw("", text, format="html")]
        return self.parse_text_to_nodes(text, allow_section_headings=True)

    def entries(self) -> list[dict[str, Any]]:
        """Return the claims."""
        self.depend()
        return ledger.ledger()

    def contents(self) -> dict[str, list[dict[str, Any]]]:
        """Return the whole ledger."""
        self.depend()
        return ledger.contents()

    def depend(self) -> None:
        """Let the page be read anew when an experiment finds otherwise."""
        for one in registry.hypotheses().values():
            self.env.note_dependency(str(evidence.evidence_path(one.experiment)))

    def address(self, page: str) -> str:
        return self.env.app.builder.get_relative_uri(self.env.docname, page[1:])

    def values(self) -> dict[str, Any]:
        """Return what the template shows."""
        return {"entries": self.entries()}


class Claims(Ledger):
    """``{claims}``: a section for each claim, with the literature and the evidence."""

    template = "ledger/claims.md"


class Marks(Ledger):
    """``{marks}``: a line for each claim, with its verdict and a link to the evidence."""

    template = "ledger/marks.md"


class Claim(Ledger):
    """``{claim} id``: this build's verdict on one claim, and on each of its parts."""

    required_arguments = 1
    template = "ledger/claim.md"

    def values(self) -> dict[str, Any]:
        found = {entry["id"]: entry for entry in self.entries()}
        if self.arguments[0] not in found:
            raise self.error(f"there is no claim {self.arguments[0]!r}: {', '.join(found)}")
        return {"entry": found[self.arguments[0]]}


class Found(Ledger):
    """``{found}``: a row for each experiment that is named, with the answer to its title."""

    has_content = True
    template = "ledger/found.html"

    def values(self) -> dict[str, Any]:
        pages = {experiment(doc): doc for doc in self.env.found_docs if experiment(doc)}
        rows = []
        for name in self.content:
            script = Path(self.env.srcdir, pages[name]).with_suffix(".py").read_text("utf-8")
            (one, *_) = findings(self.env, name)
            rows.append((script.splitlines()[1], f"/{pages[name]}", one))
        return {"rows": rows}


class Replication(Ledger):
    """``{replication}``: how this build compares with the reference build."""

    template = "ledger/replication.md"

    def values(self) -> dict[str, Any]:
        content = self.contents()
        path = Path(self.env.srcdir, REFERENCE)
        self.env.note_dependency(str(path))
        if not path.is_file():
            return {"reference": None}
        reference = json.loads(path.read_text("utf-8"))
        return {
            "reference": reference,
            "made": Provenance(**reference["provenance"]),
            "judged": any(claim["word"] != "not judged" for claim in content["claims"]),
            "found": ledger.disagreements(ledger.judged(content), ledger.judged(reference)),
        }


class Costs(Ledger):
    """``{costs}``: the training behind each experiment's page: seconds, runs, and where."""

    template = "ledger/costs.md"

    def values(self) -> dict[str, Any]:
        pages = sorted(filter(experiment, self.env.found_docs))
        found = {page: recorded(self.env, experiment(page)) for page in pages}
        costs = [(page, f"{one['seconds']:.0f}", one["computed"]) for page, one in found.items()]
        return {"costs": costs}


def sure(found: dict[str, Any]) -> str:
    """Return how probable it is that another build gives the same word, if there is one."""
    chance = found["repeats"]
    return "" if chance is None else f"another build agrees: {chances.in_words(chance)}"


def plainly(part: dict[str, Any]) -> tuple[str, str]:
    """Return an effect in plain words, and its interval."""
    return evidence.plain(*(part[name] for name in ("mean", "low", "high", "unit", "noun")))


def counted(part: dict[str, Any]) -> str:
    """Return on how many seeds, or rounds of a measurement, it rests."""
    if not part["n"]:
        return part["reason"]  # type: ignore[no-any-return]
    return f"{part['n']} {part['counted']}{'s' if part['n'] > 1 else ''}"


def tally(entry: dict[str, Any]) -> str:
    """Return how many parts of a claim came out how, if it has several."""
    words = [part["word"] for part in entry["parts"]]
    counts = [f"{words.count(word)} {word}" for word in registry.SHAPES if word in words]
    return ", ".join(counts) if len(words) > 1 else ""


def main_part(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the part whose effect is drawn for a claim: the first one that was measured."""
    parts: list[dict[str, Any]] = entry["parts"]
    return next((part for part in parts if part["mean"] is not None), parts[0])


def scaled(part: dict[str, Any]) -> dict[str, Any]:
    """Return where the bar of an effect has its dot, its line, its band and its seeds, in pixels.

    All units share one scale, multiples of the smallest effect that matters (logarithmic
    beyond it).
    """

    unit, smallest = part["unit"], part["smallest"]
    if part["estimate"]:  # for which nothing is too small to matter
        smallest = registry.SMALLEST.get(unit, 1.0)
    if unit == "ratio":
        smallest = math.log(smallest)

    def place(value: float | None) -> str | None:
        if value is None:
            return None
        value = math.log(value) if unit == "ratio" else value
        share = math.asinh(value / abs(smallest)) / math.asinh(REACH)
        return f"{WIDTH * (1 + max(-1.0, min(1.0, share))) / 2:.1f}"

    mean, low, high = (place(part[name]) for name in ("mean", "low", "high"))
    band = WIDTH * math.asinh(1) / math.asinh(REACH)
    ends = sorted((low, high), key=float) if mean and low and high else None
    seeds = sorted({at for value in part["values"] if (at := place(value))}, key=float)
    return {
        "mean": mean,
        "ends": ends,
        "seeds": seeds,
        "band": (f"{(WIDTH - band) / 2:.1f}", f"{band:.1f}"),
    }


def remarks(part: dict[str, Any]) -> list[str]:
    """Return what the effect is, and the reason for a word that it does not show."""
    few = verdicts.is_provisional(part["word"], part["n"])
    provisional = f"provisional: {part['n']} seeds" if few else ""
    lines = [registry.hypotheses()[part["id"]].effect, part["reason"], provisional]
    return [line for line in lines if line]


TEMPLATES.filters |= {
    one.__name__: one
    for one in (sure, plainly, counted, tally, main_part, ledger.effect, scaled, remarks)
}


def record_claims(app: Sphinx) -> None:
    """Record the claims' verdicts once all experiments have recorded theirs."""
    ledger.record_claims()


def write_downloads(app: Sphinx, exception: Exception | None) -> None:
    """Put the ledger beside the pages, as CSV and as JSON."""
    if exception is None and app.builder.format == "html":
        content = {"provenance": app.config.ledger_provenance, **ledger.contents()}
        Path(app.outdir, "ledger.json").write_text(json.dumps(content, indent=1), "utf-8")
        ledger.table(content["claims"]).to_csv(Path(app.outdir, "ledger.csv"), index=False)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("ledger_provenance", {}, "", dict)
    for directive in (Ledger, Claims, Marks, Claim, Found, Replication, Costs):
        app.add_directive(directive.__name__.lower(), directive)
    app.connect("builder-inited", record_claims, priority=900)  # after sphinx-gallery
    app.connect("build-finished", write_downloads)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
