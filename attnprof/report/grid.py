"""A table of text, drawn for a terminal or written in Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich import box
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: stands above it.
        right: whether its cells are aligned to the right, as numbers are.
        folds: whether its cells may be broken over several lines on a narrow terminal.
    """

    heading: str
    right: bool = False
    folds: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        cells: one text for each column.
        best: the places of the cells that are the best of their column.
        failed: whether the row is of a case without a result.
    """

    cells: tuple[str, ...]
    best: frozenset[int] = field(default_factory=frozenset)
    failed: bool = False


@dataclass(frozen=True)
class Grid:
    """A table of text.

    Attributes:
        title: stands above it; may be empty.
        headed: whether a terminal shows the columns' headings. Markdown always does.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    headed: bool = True


def to_rich(grid: Grid) -> Table:
    """Draw the table without its title, as narrow as its cells allow."""
    table = Table(
        box=box.SIMPLE_HEAD if grid.headed else None,
        show_header=grid.headed,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in grid.columns:
        table.add_column(
            column.heading, justify="right" if column.right else "left", no_wrap=not column.folds, overflow="fold"
        )
    for row in grid.rows:
        cells = [Text(cell, style="bold green" if place in row.best else "") for place, cell in enumerate(row.cells)]
        table.add_row(*cells, style="red" if row.failed else None)
    return table


def to_markdown_lines(grid: Grid) -> list[str]:
    """Return the title in bold, the table, and an empty line."""
    rows = [[escaped(cell).replace("\n", "<br>") for cell in row.cells] for row in grid.rows]
    headings = [column.heading for column in grid.columns]
    rule = ["---:" if column.right else "---" for column in grid.columns]
    title = [f"**{escaped(grid.title)}**", ""] if grid.title else []
    return [*title, *map(_line, [headings, rule, *rows]), ""]


def escaped(text: str) -> str:
    """Escape the characters that mean something in Markdown: `*`, `~`, `|`, `<`, and `_` beside a space."""
    return re.sub(r"([*~|<]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
