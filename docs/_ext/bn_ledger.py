"""The page *Verdicts*: the ledger as a table, each claim with its evidence, and the downloads."""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from bn_tutorial import evidence
from bn_tutorial.evidence import ledger, registry

#: A verdict is told by its shape as well as by its colour.
SHAPES = {
    "supported": "▲",
    "not supported": "■",
    "contradicted": "▼",
    "depends": "◆",
    "inconclusive": "○",
    "not judged": "–",
}
#: The ends of the bars, in multiples of the smallest effect that matters.
REACH = 25
REFERENCE = "ledger/reference.json"


class Ledger(SphinxDirective):
    """``{ledger}``: a row for each claim."""

    def run(self) -> list[nodes.Node]:
        entries = _entries(self.env)
        address = self.env.app.builder.get_relative_uri
        rows = []
        for entry in entries:
            parts = entry["parts"]
            part = next((one for one in parts if one["mean"] is not None), parts[0])
            judged = [one["word"] for one in parts]
            tally = ", ".join(
                f"{judged.count(word)} {word}"
                for word in SHAPES
                if word in judged and len(judged) > 1
            )
            pages = {one["experiment"]: _page(one, self.env.found_docs) for one in parts}
            links = "<br>".join(
                f'<a href="{address(self.env.docname, page[1:])}">{name.replace("-", " ")}</a>'
                for name, page in pages.items()
                if page
            )
            sources = "<br>".join(
                re.sub(r"(\D+)(\d+)", lambda found: f"{found[1].title()} {found[2]}", key)
                for key in entry["sources"]
            )
            rows.append(
                f'<tr><td class="number">{entry["number"]}</td>'
                f'<td><a href="#{anchor(entry)}">{html.escape(entry["statement"])}</a></td>'
                f"<td>{badge(entry['word'])}<br><small>{tally}</small></td>"
                f"<td>{bar(part)}<br><small>{effect(part)}</small></td>"
                f"<td>n = {part['n']}<br><small>{html.escape(str(part['device'] or '–'))}</small></td>"
                f"<td>{links}</td>"
                f'<td><a href="#{anchor(entry)}"><small>{sources}</small></a></td></tr>'
            )
        columns = (
            "No.",
            "Claim",
            "Verdict",
            "Main effect",
            "n, device",
            "Experiments",
            "Literature",
        )
        head = "".join(f'<th scope="col">{name}</th>' for name in columns)
        table = f'<table class="table ledger"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        frame = '<div class="pst-scrollable-table-container" tabindex="0" role="region" aria-label="The ledger">'
        return [nodes.raw("", f"{frame}{table}</div>", format="html")]


class Replication(SphinxDirective):
    """``{replication}``: how this build compares with the reference build."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(self._comparison(_entries(self.env))))

    def _comparison(self, entries: list[dict[str, Any]]) -> list[str]:
        path = Path(self.env.srcdir, REFERENCE)
        self.env.note_dependency(str(path))
        if not path.is_file():
            return ["No reference build has been committed yet."]
        reference = json.loads(path.read_text("utf-8"))
        made = reference["provenance"]
        versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
        intro = (
            f"The reference build was made on {made['built']} from commit `{made['commit']}`, in the "
            f"profile `{made['profile']}` on {made['device']}, with {versions}. "
        )
        if all(entry["word"] == "not judged" for entry in entries):
            return [intro + "This build judges nothing, so there is nothing to compare."]
        found = ledger.disagreements(entries, reference["claims"])
        if not found:
            return [intro + "Wherever both judge, this build agrees with it."]
        lines = [
            intro + "This build is a replication, and it disagrees with it here:",
            "",
        ]
        for one in found:
            reason = ", ".join(one["differs"]) or "nothing but chance, or the machine"
            lines.append(
                f"- {one['statement']} There: *{one['there']}*; here: **{one['here']}**. "
                f"What differs between the two builds: {reason}."
            )
        return lines


class Claims(SphinxDirective):
    """``{claims}``: a section for each claim, with the literature and the evidence."""

    def run(self) -> list[nodes.Node]:
        text = [
            line for entry in _entries(self.env) for line in _details(entry, self.env.found_docs)
        ]
        return self.parse_text_to_nodes("\n".join(text), allow_section_headings=True)


class Marks(SphinxDirective):
    """``{marks}``: a line for each claim, with its verdict and a link to the evidence."""

    def run(self) -> list[nodes.Node]:
        lines = [
            f"- {badge(entry['word'])} {{ref}}`{entry['statement']} <{anchor(entry)}>`"
            for entry in _entries(self.env)
        ]
        return self.parse_text_to_nodes("\n".join(lines))


class Costs(SphinxDirective):
    """``{costs}``: the seconds of training behind each experiment's page."""

    def run(self) -> list[nodes.Node]:
        lines = ["| experiment | seconds |", "|---|---:|"]
        for page in sorted(filter(experiment, self.env.found_docs)):
            group = experiment(page)
            self.env.note_dependency(str(evidence.evidence_path(group)))
            seconds = evidence.quote(f"{group}.seconds", ".0f")
            lines.append(f"| {{doc}}`/{page}` | {seconds} |")
        return self.parse_text_to_nodes("\n".join(lines))


def _entries(env: BuildEnvironment) -> list[dict[str, Any]]:
    """Return the ledger; the page that asks is read anew when an experiment finds otherwise."""
    for one in registry.hypotheses().values():
        env.note_dependency(str(evidence.evidence_path(one.experiment)))
    return ledger.ledger()


class Claim(SphinxDirective):
    """``{claim} id``: this build's verdict on one claim, and on each of its parts."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        found = {entry["id"]: entry for entry in _entries(self.env)}
        if self.arguments[0] not in found:
            raise self.error(f"there is no claim {self.arguments[0]!r}: {', '.join(found)}")
        entry = found[self.arguments[0]]
        text = [
            f"{badge(entry['word'])} {entry['sentence']}",
            "{ref}`The evidence <" + anchor(entry) + ">`:",
            "",
        ]
        for part in entry["parts"]:
            page = _page(part, self.env.found_docs)
            link = f" {{doc}}`→ <{page}>`" if page else ""
            text.append(f"- {part['sentence']} {bar(part)} {effect(part)}{link}{_small(part)}")
        return self.parse_text_to_nodes("\n".join(text))


def anchor(entry: dict[str, Any]) -> str:
    """Return the name of a claim's section."""
    return f"claim-{entry['id']}"


def badge(word: str) -> str:
    """Return a verdict as a word with a shape and a colour."""
    name = word.replace(" ", "-")
    return f'<span class="verdict verdict-{name}"><span aria-hidden="true">{SHAPES[word]}</span> {word}</span>'


def effect(part: dict[str, Any]) -> str:
    """Return an effect with its interval as text, in its unit."""
    if part["mean"] is None:
        return "–"
    points = part["unit"] == "points"
    sign = "" if part["unit"] == "ratio" else "+"
    numbers = [
        "?"
        if part[name] is None
        else format(100 * part[name] if points else part[name], f"{sign}.1f" if points else ".3g")
        for name in ("mean", "low", "high")
    ]
    mean, low, high = (number.replace("-", "−") for number in numbers)
    return (
        f"{'×' if part['unit'] == 'ratio' else ''}{mean}{' pp' if points else ''} ({low} to {high})"
    )


def bar(part: dict[str, Any]) -> str:
    """Return a small drawing of an effect: right of the grey band it speaks for the hypothesis.

    All units share one scale, multiples of the smallest effect that matters (logarithmic
    beyond it).
    """
    width, height = 150, 16

    def place(value: float) -> float:
        smallest = part["smallest"]
        if part["unit"] == "ratio":
            value, smallest = math.log(value), math.log(smallest)
        multiple = part["direction"] * value / abs(smallest)
        share = math.asinh(multiple) / math.asinh(REACH)
        return width * (1 + max(-1.0, min(1.0, share))) / 2

    drawn = [f'<svg class="effect" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" aria-label="{effect(part)}">']  # fmt: skip
    band = width * math.asinh(1) / math.asinh(REACH)
    drawn.append(
        f'<rect class="band" x="{(width - band) / 2:.1f}" y="0" width="{band:.1f}" height="{height}"/>'
        f'<line class="zero" x1="{width / 2}" x2="{width / 2}" y1="0" y2="{height}"/>'
    )
    if part["mean"] is not None and part["low"] is not None:
        ends = sorted((place(part["low"]), place(part["high"])))
        drawn.append(
            f'<line class="interval" x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{height / 2}" y2="{height / 2}"/>'
        )
    if part["mean"] is not None:
        drawn.append(f'<circle cx="{place(part["mean"]):.1f}" cy="{height / 2}" r="4"/>')
    return "".join([*drawn, "</svg>"])


def _details(entry: dict[str, Any], found_docs: set[str]) -> list[str]:
    lines = [
        "",
        f"({anchor(entry)})=",
        f"## {entry['number']}. {entry['statement']}",
        "",
        f"{badge(entry['word'])} {entry['sentence']}",
        "",
        f"**Predicted.** {entry['hypothesis']}",
        "",
        f"**The literature.** {entry['literature']}",
        "",
        ":::{list-table}",
        ":header-rows: 1",
        ":class: ledger",
        "",
        "* - What was tested",
        "  - Verdict",
        "  - Effect",
        "  - n",
        "  - Experiment",
    ]
    for part in entry["parts"]:
        page, name = _page(part, found_docs), part["experiment"].replace("-", " ")
        secondary = "" if part["primary"] else " *(secondary)*"
        lines += [
            f"* - {part['statement']}{secondary}{_small(part)}",
            f"  - {badge(part['word'])}",
            f"  - {bar(part)}<br><small>{effect(part)}</small>",
            f"  - {part['n']}",
            f"  - {{doc}}`{name} <{page}>`" if page else f"  - {name}",
        ]
    return [*lines, ":::", ""]


def _small(part: dict[str, Any]) -> str:
    """Return in small print what the effect is, and the reason for a word that it does not show."""
    few = part["word"] != "not judged" and part["n"] <= 3
    provisional = f"provisional: {part['n']} seeds" if few else ""
    lines = [registry.hypotheses()[part["id"]].effect, part["reason"], provisional]
    return "".join(f"<br><small>{html.escape(line)}</small>" for line in lines if line)


def _page(part: dict[str, Any], docs: set[str]) -> str | None:
    """Return the page of a part's experiment."""
    return next((f"/{doc}" for doc in docs if experiment(doc) == part["experiment"]), None)


def experiment(doc: str) -> str:
    """Return the experiment that a page shows, if one: its script is plot_NN_<experiment>."""
    found = re.fullmatch(r"(?:.*/)?plot_\d\d_(\w+)", doc)
    return found[1].replace("_", "-") if found else ""


def record_claims(app: Sphinx) -> None:
    """Record the claims' verdicts once all experiments have recorded theirs."""
    ledger.record_claims()


def write_downloads(app: Sphinx, exception: Exception | None) -> None:
    """Put the ledger beside the pages, as CSV and as JSON."""
    if exception is None and app.builder.format == "html":
        entries = ledger.ledger()
        content = {"provenance": app.config.ledger_provenance, "claims": entries}
        Path(app.outdir, "ledger.json").write_text(json.dumps(content, indent=1), "utf-8")
        ledger.table(entries).to_csv(Path(app.outdir, "ledger.csv"), index=False)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("ledger_provenance", {}, "", dict)
    app.add_directive("ledger", Ledger)
    app.add_directive("replication", Replication)
    app.add_directive("claims", Claims)
    app.add_directive("claim", Claim)
    app.add_directive("costs", Costs)
    app.add_directive("marks", Marks)
    app.connect("builder-inited", record_claims, priority=900)  # after sphinx-gallery
    app.connect("build-finished", write_downloads)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
