"""A report before it is rendered: sections for a reader, and rows for a program.

Each command builds one `Page`, and the page renders itself as a table, Markdown, CSV or JSON.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import Any, Generic, TypeVar

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from attnprof.report.folding import folded
from attnprof.report.grid import Grid, escaped, to_markdown_lines, to_rich
from attnprof.text import harmless, harmless_lines, spreadsheet_cell

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


_QUOTE_INDENT = 2
_STYLES = {
    Kind.HEADING: "bold",
    Kind.LEGEND: "dim",
    Kind.FAILURE: "bold red",
    Kind.VERDICT: "bold",
    Kind.CODE: "cyan",
}


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of text.

    A terminal folds it into lines, except code, which stays as it is. Code and quotes may have several lines.
    """

    kind: Kind
    text: str

    @property
    def lines(self) -> list[str]:
        """The lines of the text, harmless; one if it is neither code nor a quote."""
        return harmless_lines(self.text) if self.kind in (Kind.CODE, Kind.QUOTE) else [harmless(self.text)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the paragraph."""
        indent = _QUOTE_INDENT if self.kind is Kind.QUOTE else 0
        for line in (harmless(one, options.encoding) for one in self.lines):
            for one in [line] if self.kind is Kind.CODE else folded(line, max(1, options.max_width - indent)):
                yield Text(" " * indent + one, _STYLES.get(self.kind, ""), no_wrap=True, overflow="ignore")


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
        """Return what `rich.console.Console.print` draws, with `crop=False`: it fits 40 columns, apart from code."""
        parts: list[RenderableType] = []
        for section in filter(None, self.sections):
            parts += [Text()] if parts else []
            for one in section:
                parts += _drawn(one) if isinstance(one, Grid) else [one]
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
        """Return a header and a line for each row; an absent value is an empty field.

        Texts are harmless, and those that a spreadsheet would run as a formula begin with an apostrophe.
        """
        return csv_text(self.columns, ({name: _flat(row[name]) for name in self.columns} for row in self.rows))

    def json(self) -> str:
        """Return the document, or an array of the rows; an absent value or an infinite number is null.

        Texts are exact: JSON escapes what a terminal would obey.
        """
        value = _finite(list(self.rows) if self.document is None else self.document)
        return json.dumps(value, indent=1, allow_nan=False) + "\n"


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
        yield Paragraph(Kind.HEADING, grid.title)
    yield to_rich(grid)


def _markdown_lines(kind: Kind | None, ones: Sequence[Grid | Paragraph]) -> Iterator[str]:
    """Yield Markdown of neighbours of one kind, and an empty line."""
    if kind is None:
        for grid in ones:
            assert isinstance(grid, Grid)
            yield from to_markdown_lines(grid)
        return
    lines = [line for one in ones if isinstance(one, Paragraph) for line in one.lines]
    if kind in (Kind.QUOTE, Kind.CODE):
        ticks = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", "\n".join(lines)))])
        yield from (f"{ticks}python" if kind is Kind.CODE else ticks, *lines, ticks)
    elif kind is Kind.REMARK:
        yield from (f"- {escaped(line)}" for line in lines)
    elif kind in (Kind.LEGEND, Kind.TEXT):
        yield from map(escaped, lines)
    else:
        yield from (f"**{escaped(line)}**" for line in lines)
    yield ""


def _flat(value: Cell) -> Cell:
    """Return a mapping or list as text, since a CSV field is one value; and a text as a spreadsheet may read it."""
    if isinstance(value, Mapping):
        value = "; ".join(f"{name}: {one}" for name, one in value.items()) or None
    elif isinstance(value, (list, tuple)):
        value = "; ".join(map(str, value)) or None
    return spreadsheet_cell(value) if isinstance(value, str) else value


def _finite(value: Any) -> Any:
    """Return a JSON value without NaN and infinity, which JSON cannot write."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, (list, tuple)) else value
