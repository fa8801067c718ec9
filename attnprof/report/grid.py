"""A table of text, drawn for a terminal or written in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

_GAP = 2  # between columns
_FOLDED_WIDTH = 16  # a narrower column of text cannot be read


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


def to_rich(grid: Grid) -> RenderableType:
    """Draw the table without its title. What is too wide for the terminal is drawn as several, one below the other."""
    return _Fitted(grid)


@dataclass(frozen=True)
class _Fitted:
    """A grid that is fitted to a terminal when it is printed, since only then its width is known."""

    grid: Grid

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for count, places in enumerate(_side_by_side(self.grid, options.max_width)):
            if count:
                yield Text()
            yield _table(self.grid, places)


def _side_by_side(grid: Grid, width: int) -> Iterator[list[int]]:
    """Yield the places of the columns that fit side by side, until all are placed; each time after the first column."""
    least = [_least_width(grid, place) for place in range(len(grid.columns))]
    places = [0]
    for place in range(1, len(grid.columns)):
        if len(places) > 1 and sum(least[one] for one in [*places, place]) + _GAP * len(places) > width:
            yield places
            places = [0]
        places.append(place)
    yield places


def _least_width(grid: Grid, place: int) -> int:
    """Return the width below which a column cannot be read."""
    column = grid.columns[place]
    lines = [line for row in grid.rows for line in row.cells[place].splitlines()]
    widest = max(map(cell_len, [*lines, column.heading if grid.headed else ""]), default=0)
    return min(widest, _FOLDED_WIDTH) if column.folds else widest


def _table(grid: Grid, places: Sequence[int]) -> Table:
    """Return rich's table of these columns, as narrow as its cells allow."""
    table = Table(
        box=box.SIMPLE_HEAD if grid.headed else None,
        show_header=grid.headed,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1 if grid.headed else 2, 0, 0),
    )
    for column in (grid.columns[place] for place in places):
        table.add_column(
            column.heading, justify="right" if column.right else "left", no_wrap=not column.folds, overflow="fold"
        )
    for row in grid.rows:
        cells = [Text(row.cells[place], style="bold green" if place in row.best else "") for place in places]
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
