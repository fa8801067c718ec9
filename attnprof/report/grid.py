"""A titled table of text, before it is drawn: for a terminal or in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich import box
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Column:
    """`folds`: may be broken over lines where the terminal is narrow."""

    heading: str
    right: bool = False
    folds: bool = False


@dataclass(frozen=True)
class Row:
    """Cells, the places of those that are the best of their column, and whether the case failed."""

    cells: tuple[str, ...]
    best: frozenset[int] = field(default_factory=frozenset)
    failed: bool = False


@dataclass(frozen=True)
class Grid:
    """What a table says, with its title above it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def to_rich(grid: Grid) -> Table:
    """Without the title, in the least width."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in grid.columns:
        table.add_column(
            column.heading, justify="right" if column.right else "left", no_wrap=not column.folds, overflow="fold"
        )
    for row in grid.rows:
        cells = [Text(cell, style="bold green" if place in row.best else "") for place, cell in enumerate(row.cells)]
        table.add_row(*cells, style="red" if row.failed else None)
    return table


def to_markdown_lines(grid: Grid) -> list[str]:
    """The title in bold, the table, and an empty line."""
    rows = [[escaped(cell) for cell in row.cells] for row in grid.rows]
    headings = [column.heading for column in grid.columns]
    return [f"**{grid.title}**", "", *map(_line, [headings, ["---"] * len(headings), *rows]), ""]


def escaped(text: str) -> str:
    """For Markdown, in which `*` and `~` are marks."""
    return text.replace("*", "\\*").replace("~", "\\~")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
