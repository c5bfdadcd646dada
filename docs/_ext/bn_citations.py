"""A bibliography whose entries are called by author and year."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx


class AuthorYear(BaseLabelStyle):
    """Labels such as “Ioffe & Szegedy 2015”."""

    def format_labels(self, sorted_entries: Iterable[Entry]) -> Iterator[str]:
        """Yield the label of each entry; a letter tells those apart that would be the same."""
        seen: dict[str, int] = {}
        for entry in sorted_entries:
            names = [" ".join(one.last_names) for one in entry.persons["author"]]
            authors = " & ".join(names) if len(names) < 3 else f"{names[0]} et al."
            label = f"{authors} {entry.fields['year']}"
            seen[label] = seen.get(label, 0) + 1
            yield label if seen[label] == 1 else f"{label}{'abcdefgh'[seen[label] - 1]}"


class AuthorYearStyle(Style):
    """Pybtex's plain style with these labels."""

    default_label_style = AuthorYear


def setup(app: Sphinx) -> dict[str, bool]:
    register_plugin("pybtex.style.formatting", "author-year", AuthorYearStyle)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
