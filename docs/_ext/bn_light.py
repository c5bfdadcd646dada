"""What pages need not load: rules that no page uses, icons that none shows, numbers that lie elsewhere.

The theme brings all of Bootstrap and of Font Awesome along, of which the site uses a small part. Its
files stay what they are; their copies beside the finished pages, which Sphinx makes anew in every
build, lose what no page asks for, and the pages name them by a checksum of what is left. myst-nb
complains of a copy that is not its own. A figure's numbers are linked below it, as a file, so that its
copy need not carry them, too.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tinycss2
from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from bn_tutorial.figures import without_data

#: Scripts that bring the styles of what they draw along, or that no page loads.
APART = ("mathjax", "fontawesome.js")
#: Classes of which scripts make the names, and so do not hold them.
MADE = frozenset({"bs-tooltip-auto"})
#: What stays of a font's names: its makers and its licence. A part of it may not have the others.
NAMES = (0, 13, 14)
_GIVEN = re.compile(r"""\s(?:class|id)=["']([^"']*)["']""")
_ASKED = re.compile(r"[.#](-?[A-Za-z_](?:[\w-]|\\.)*)")  # classes and ids of a selector
_ARGUMENTS = re.compile(r"\([^()]*\)|\[[^\]]*\]")  # :is(...) and others, which are taken as used
_VARIABLE = re.compile(  # a definition, as far as its semicolon: texts and addresses have some, too
    r"""(?<=[{;\s])(--[\w-]+)\s*:(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\([^()]*\)|[^;{}"'])*(?:;|(?=\}))"""
)
_NAMED = re.compile(
    r"""((?:_static|webfonts)/(?:[\w.-]+/)*([\w.-]+\.(?:css|woff2)))(?:\?\w+=\w+)?(?=["')])"""
)
_ICON = re.compile(r"\\([EeFf][0-9A-Fa-f]{3})|([\ue000-\uf8ff])")


def lighten(app: Sphinx, exception: Exception | None) -> None:
    """Lighten style sheets, icons' fonts and figures beside the pages, once all are written."""
    if exception is not None or app.builder.format != "html":
        return
    static = Path(app.outdir, "_static")
    sheets = sorted(static.rglob("*.css"))
    scripts = [one for one in static.rglob("*.js") if not {*APART} & {*one.parts}]
    pages = {page: page.read_text("utf-8") for page in Path(app.outdir).rglob("*.html")}
    code = [script.read_text("utf-8") for script in scripts]
    texts = [sheet.read_text("utf-8") for sheet in sheets]
    styles = without_unused(texts, [*pages.values()], code)
    shown = [found for text in (*styles, *pages.values()) for found in _ICON.findall(text)]
    icons = {int(escaped, 16) if escaped else ord(sign) for escaped, sign in shown}
    sums = {}
    for font in static.glob("vendor/fontawesome/webfonts/*.woff2"):
        part = with_icons(font.read_bytes(), icons)
        font.write_bytes(part)
        sums[font.name] = _sum(part)
    for sheet, style in zip(sheets, styles, strict=True):
        part = tagged(style, sums).encode()
        sheet.write_bytes(part)
        sums[sheet.name] = _sum(part)
    for page, text in pages.items():
        if (named := tagged(text, sums)) != text:
            page.write_text(named, "utf-8")
    for figure in Path(app.outdir, "_images").glob("*.svg"):
        drawing = figure.read_text("utf-8")
        if (light := without_data(drawing)) != drawing:
            figure.write_text(light, "utf-8")


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def tagged(text: str, sums: Mapping[str, str]) -> str:
    """Return a page or a style with the checksums of the files that it names.

    A browser that has kept a file of an earlier build so knows that this is another one.
    """
    return _NAMED.sub(lambda one: f"{one[1]}?v={sums[one[2]]}" if one[2] in sums else one[0], text)


def make_room(app: Sphinx, exception: Exception | None) -> None:
    """Remove what myst-nb is about to copy."""
    if exception is None:
        for sheet in Path(app.outdir, "_static").glob("mystnb.*.css"):
            sheet.unlink()


def without_unused(styles: list[str], pages: list[str], scripts: list[str]) -> list[str]:
    """Return styles without rules for classes and ids of which neither pages nor scripts know.

    Variables go as well, if nothing makes use of them.
    """
    known = {name for page in pages for found in _GIVEN.findall(page) for name in found.split()}
    known |= {word for script in scripts for word in re.findall(r"[\w-]+", script)}
    known |= {word for page in pages for word in re.findall(r"--[\w-]+", page)} | MADE
    kept = ["".join(_used(tinycss2.parse_stylesheet(style), known)) for style in styles]
    while True:  # a variable may be used by another one alone
        used = known | {*re.findall(r"var\(\s*(--[\w-]+)", "".join(kept))}
        fewer = [_with_variables(style, used) for style in kept]
        if fewer == kept:
            return kept
        kept = fewer


def _with_variables(style: str, used: set[str]) -> str:
    return _VARIABLE.sub(lambda one: one[0] if one[1] in used else "", style)


def _used(rules: Sequence[Any], known: set[str]) -> Iterator[str]:
    """Yield the rules that are used, with those of their selectors that are."""
    for rule in rules:
        if rule.type == "error":
            raise ExtensionError(f"a style sheet cannot be read: {rule.message}.")
        if rule.type == "qualified-rule":
            used = [one for one in selectors(rule.prelude) if _asks(one) <= known]
            if used:
                yield f"{','.join(used)}{{{tinycss2.serialize(rule.content).strip()}}}\n"
        elif rule.type == "at-rule" and rule.lower_at_keyword in ("media", "supports"):
            inside = "".join(_used(tinycss2.parse_rule_list(rule.content), known))
            if inside:
                yield f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inside}}}\n"
        elif rule.type == "at-rule" or (rule.type == "comment" and rule.value.startswith("!")):
            yield f"{rule.serialize()}\n"  # such comments tell of licences


def selectors(prelude: Sequence[Any]) -> list[str]:
    """Return the selectors of a rule, which commas part."""
    parts: list[list[Any]] = [[]]
    for token in prelude:
        if token.type == "literal" and token.value == ",":
            parts.append([])
        elif token.type != "comment":
            parts[-1].append(token)
    return [tinycss2.serialize(part).strip() for part in parts]


def _asks(selector: str) -> set[str]:
    """Return the classes and ids without which a selector selects nothing."""
    while (plain := _ARGUMENTS.sub("", selector)) != selector:
        selector = plain
    return {name.replace("\\", "") for name in _ASKED.findall(selector)}


def with_icons(font: bytes, icons: set[int]) -> bytes:
    """Return a font with only the glyphs of some signs, by their numbers in Unicode."""
    options = Options(flavor="woff2", name_IDs=[*NAMES], glyph_names=False, layout_features=[])
    with TTFont(io.BytesIO(font), recalcTimestamp=False) as whole:  # the same bytes in each build
        subset = Subsetter(options)
        subset.populate(unicodes=icons)
        subset.subset(whole)
        whole.flavor = "woff2"
        target = io.BytesIO()
        whole.save(target)
    return target.getvalue()


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", make_room, priority=100)
    app.connect("build-finished", lighten, priority=800)  # after all that writes styles
    return {"parallel_read_safe": True, "parallel_write_safe": True}
