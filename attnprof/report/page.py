"""A report before it is rendered: sections for a reader, and rows for a program.

Each command builds one `Page`, and the page renders itself as a table, Markdown, CSV or JSON.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import Any, Generic, TypeVar

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from attnprof.report.grid import Grid, escaped, to_markdown_lines, to_rich

T = TypeVar("T")
Cell = Any  # str, int, float, bool or None; in JSON also a mapping or a list


class Kind(str, Enum):
    """The part that a paragraph plays on a page."""

    HEADING = "heading"
    LEGEND = "legend"
    REMARK = "remark"
    FAILURE = "failure"
    QUOTE = "quote"
    VERDICT = "verdict"
    TEXT = "text"
    CODE = "code"


_STYLES = {
    Kind.HEADING: "bold",
    Kind.LEGEND: "dim",
    Kind.FAILURE: "bold red",
    Kind.VERDICT: "bold",
    Kind.CODE: "cyan",
}


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of text, which a terminal breaks into lines."""

    kind: Kind
    text: str


Section = tuple[Grid | Paragraph, ...]


@dataclass(frozen=True)
class Field(Generic[T]):
    """A named value of every row, in CSV and JSON.

    Attributes:
        name: the CSV column's heading and the JSON object's key.
        value: returns the value for one item; None if the item has none.
        description: one sentence for the documentation.
    """

    name: str
    value: Callable[[T], Cell]
    description: str


@dataclass(frozen=True)
class Page:
    """A command's result in four forms.

    Attributes:
        sections: what a reader sees, with an empty line between two sections.
        columns: the names of a row's values, in order.
        rows: what a program reads. CSV has a line for each; JSON an object.
        document: replaces the rows in JSON if a list of rows cannot hold the whole result.
    """

    sections: tuple[Section, ...]
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Cell], ...]
    document: Mapping[str, Any] | None = None

    def table(self) -> RenderableType:
        """Return what `rich.console.Console.print` draws; it fits 80 columns."""
        parts: list[RenderableType] = []
        for section in filter(None, self.sections):
            parts += [Text()] if parts else []
            for one in section:
                parts += _drawn(one) if isinstance(one, Grid) else [_typed(one)]
        return Group(*parts)

    def markdown(self) -> str:
        """Return Markdown for an issue or a README."""
        lines: list[str] = []
        for section in self.sections:
            # Neighbours of one kind make one list, block of code or block of text; a table stands alone.
            for kind, ones in groupby(section, key=lambda one: None if isinstance(one, Grid) else one.kind):
                lines += _markdown_lines(kind, list(ones))
        return "\n".join(lines[:-1]) + "\n"

    def csv(self) -> str:
        """Return a header and a line for each row; an absent value is an empty field."""
        return csv_text(self.columns, ({name: _flat(row[name]) for name in self.columns} for row in self.rows))

    def json(self) -> str:
        """Return the document, or an array of the rows; an absent value is null."""
        return json.dumps(list(self.rows) if self.document is None else self.document, indent=1) + "\n"


def rows_of(fields: Sequence[Field[T]], items: Iterable[T]) -> tuple[dict[str, Cell], ...]:
    """Evaluate every field for every item."""
    return tuple({field.name: field.value(item) for field in fields} for item in items)


def names_of(fields: Iterable[Field[T]]) -> tuple[str, ...]:
    """Return the fields' names in order."""
    return tuple(field.name for field in fields)


def paragraphs(kind: Kind, texts: Iterable[str]) -> tuple[Paragraph, ...]:
    """Make a paragraph of this kind from each text."""
    return tuple(Paragraph(kind, text) for text in texts)


def csv_text(names: Iterable[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Write a header and a line for each row (RFC 4180, but lines end in LF); None is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _drawn(grid: Grid) -> Iterator[RenderableType]:
    if grid.title:
        yield Text(grid.title, style="bold")
    yield to_rich(grid)


def _typed(paragraph: Paragraph) -> RenderableType:
    text = Text(paragraph.text, style=_STYLES.get(paragraph.kind, ""))
    return Padding(text, (0, 0, 0, 2)) if paragraph.kind is Kind.QUOTE else text


def _markdown_lines(kind: Kind | None, ones: Sequence[Grid | Paragraph]) -> Iterator[str]:
    """Yield Markdown of neighbours of one kind, and an empty line."""
    if kind is None:
        for grid in ones:
            assert isinstance(grid, Grid)
            yield from to_markdown_lines(grid)
        return
    texts = [one.text for one in ones if isinstance(one, Paragraph)]
    if kind in (Kind.QUOTE, Kind.CODE):
        yield from ("```python" if kind is Kind.CODE else "```", *texts, "```")
    elif kind is Kind.REMARK:
        yield from (f"- {escaped(text)}" for text in texts)
    elif kind in (Kind.LEGEND, Kind.TEXT):
        yield from map(escaped, texts)
    else:
        yield from (f"**{escaped(text)}**" for text in texts)
    yield ""


def _flat(value: Cell) -> Cell:
    """Return a mapping or list as text, since a CSV field is one value."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {one}" for name, one in value.items()) or None
    if isinstance(value, (list, tuple)):
        return "; ".join(map(str, value)) or None
    return value
