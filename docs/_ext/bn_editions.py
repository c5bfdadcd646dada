"""The page *What has held*: the ledgers that were kept, this build's beside them; a feed of changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bn_ledger import REFERENCE, Ledger
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from bn_tutorial.evidence import editions
from bn_tutorial.evidence.editions import Change, Edition

RELEASED = "ledger/released"
FEED, PAGE = "verdicts.atom", "held.html"
ATOM = "http://www.w3.org/2005/Atom"  # the name of the format, which nobody fetches


def kept(docs: Path) -> list[Edition]:
    """Return the ledgers in the checkout: of each release, and of the reference build.

    Raises
    ------
    ExtensionError
        If one of them is broken.
    """
    try:
        return editions.editions(docs / RELEASED, docs / REFERENCE)
    except ValueError as error:
        raise ExtensionError(str(error)) from error


class Held(Ledger):
    """``{held}``: since when each claim has had its word, and the effects that each build found."""

    template = "ledger/held.md"

    def values(self) -> dict[str, Any]:
        self.env.note_reread()  # a ledger may have been released, which no file here tells
        content = {"provenance": self.config.ledger_provenance, **self.contents()}
        here = Edition.of("this build", content)
        known = kept(Path(self.env.srcdir))
        judged = any(here.word(claim["id"]) != editions.UNJUDGED for claim in content["claims"])
        if judged:
            known.append(here)
        claims = [(claim, editions.since(known, claim["id"])) for claim in content["claims"]]
        shown = {"claims": claims if known else [], "beyond": content["beyond"]}
        return {"known": known, "judged": judged, **shown}


def write_feed(app: Sphinx, exception: Exception | None) -> None:
    """Put a feed of the verdicts that changed from one kept ledger to the next beside the pages."""
    if exception is None and app.builder.format == "html":
        title = app.env.titles[app.config.root_doc].astext()
        changes = editions.changes(kept(Path(app.srcdir)))
        text = feed(app.config.html_baseurl, title, changes)
        Path(app.outdir, FEED).write_bytes(text)


def feed(base: str, title: str, changes: list[Change]) -> bytes:
    """Return changes as an Atom feed, the latest first."""
    root = ElementTree.Element("feed", xmlns=ATOM)

    def add(parent: ElementTree.Element, name: str, text: str = "", **attributes: str) -> None:
        ElementTree.SubElement(parent, name, attributes).text = text or None

    add(root, "id", base + FEED)
    add(root, "title", f"{title}: verdicts that changed")
    add(root, "link", rel="self", href=base + FEED)
    add(root, "link", rel="alternate", type="text/html", href=base + PAGE)
    times = [one.after.made.created for one in changes]
    add(root, "updated", max(times, default="2026-01-01T00:00:00+00:00"))
    author = ElementTree.SubElement(root, "author")
    add(author, "name", "the bn_tutorial authors")
    for one in reversed(changes):
        entry = ElementTree.SubElement(root, "entry")
        name, made = one.claim["id"], one.after.made
        add(entry, "id", f"{base}{PAGE}#{name}-{made.created}")
        add(entry, "title", f"{one.claim['statement']} {one.was} → {one.after.word(name)}")
        add(entry, "updated", made.created)
        add(entry, "link", rel="alternate", type="text/html", href=f"{base}{PAGE}#held-{name}")
        add(entry, "summary", told(one))
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, "utf-8", xml_declaration=True))


def told(change: Change) -> str:
    """Return a change in words: what is said now, by which build, and what differs from the last."""
    made = change.after.made
    build = f"{change.after.name}, built on {made.created[:10]} from commit {made.commit}"
    text = f"{change.claim['sentence']} ({build}.)"
    if change.before is None:
        return f"{text} This is its first verdict."
    differs = "; ".join(change.differs) or "nothing but chance, the code, or the machine"
    return f"{text} Before, in {change.before.name}, it was {change.was}. What differs: {differs}."


def link_feed(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Let readers of feeds find it from any page."""
    link = (
        '<link rel="alternate" type="application/atom+xml" title="Verdicts that changed" href="{}">'
    )
    address = context["pathto"](FEED, resource=True)  # from 404, which is shown anywhere, too
    context["metatags"] = context.get("metatags", "") + "\n" + link.format(address)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("held", Held)
    app.connect("html-page-context", link_feed)
    app.connect("build-finished", write_feed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
