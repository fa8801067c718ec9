"""A table of text, drawn for a terminal or written in Markdown.

A terminal shows every cell that it shows in full. Columns without a place in `Column.leaves` are always shown: if
they do not fit side by side, the table goes on below. The others leave a table that is too wide in their order, and
a line says which have left.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from attnprof.report.folding import folded, longest_word
from attnprof.text import harmless

Cell: TypeAlias = str | tuple[str, ...]  # one line, or several

_GAP = 2  # between columns
_PROSE_WIDTH = 16  # a narrower column of prose cannot be read
_LONGEST_WORD = 28  # a longer one does not widen a column of prose
_LEAST_WIDTH = 8  # of a column that is squeezed because the figures beside it need all the room


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: stands above it.
        right: whether its cells are aligned to the right, as numbers are.
        folds: whether its cells may be folded over several lines, at a space or a joint of a name.
        leaves: the column's place in the order in which columns leave a table that is too wide, from 1; 0 for a
            column that never leaves.
    """

    heading: str
    right: bool = False
    folds: bool = False
    leaves: int = 0


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        cells: one text for each column, or its lines.
        best: the places of the cells that are the best of their column.
        failed: whether the row is of a case without a result.
    """

    cells: tuple[Cell, ...]
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
    """Draw the table without its title, fitted to the width of the terminal."""
    return _Fitted(grid)


def lines_of(cell: Cell) -> tuple[str, ...]:
    """Return the lines of a cell."""
    return (cell,) if isinstance(cell, str) else cell


@dataclass(frozen=True)
class _Fitted:
    """A grid that is fitted to a terminal when it is printed, since only then its width is known."""

    grid: Grid

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        layout = _Layout(self.grid, options.encoding)
        kept = layout.kept(options.max_width)
        for count, places in enumerate(layout.side_by_side(kept, options.max_width)):
            if count:
                yield Text()
            yield from layout.lines(places, options.max_width, "-" if options.ascii_only else "─")
        left = [column.heading for place, column in enumerate(self.grid.columns) if place not in kept]
        if left:
            note = f"Left out: {', '.join(left)}. Use a terminal {layout.least_width} columns wide, or --format csv."
            yield Text("\n".join(folded(note, options.max_width)), style="dim")


class _Layout:
    """The texts of a grid as one terminal can show them, and the widths of its columns.

    Args:
        grid: the grid.
        encoding: of the terminal.

    Attributes:
        least: the width below which each column cannot be read.
        widest: the width of each column if nothing is folded.
    """

    def __init__(self, grid: Grid, encoding: str) -> None:
        self.grid = grid
        self._headings = [harmless(column.heading, encoding) if grid.headed else "" for column in grid.columns]
        self._rows = [
            [[harmless(line, encoding) for line in lines_of(cell)] for cell in row.cells] for row in grid.rows
        ]
        self.least: list[int] = []
        self.widest: list[int] = []
        for place, column in enumerate(grid.columns):
            lines = [line for row in self._rows for line in row[place]]
            wide = max(map(cell_len, lines), default=0)
            word = max(map(longest_word, lines), default=0)
            prose = max(min(word, _LONGEST_WORD), min(wide, _PROSE_WIDTH))
            narrow = wide if not column.folds else prose if place else word
            heading = self._headings[place]
            self.least.append(max(narrow, min(longest_word(heading), _LONGEST_WORD)))
            self.widest.append(max(wide, cell_len(heading)))

    @property
    def least_width(self) -> int:
        """The width of a terminal that shows every column."""
        return _total(self.least)

    def kept(self, width: int) -> list[int]:
        """Return the places of the columns that do not leave a table of this width."""
        kept = list(range(len(self.grid.columns)))
        for place in sorted(kept, key=lambda place: self.grid.columns[place].leaves):
            if self.grid.columns[place].leaves and _total([self.least[one] for one in kept]) > width:
                kept.remove(place)
        return kept

    def side_by_side(self, kept: Sequence[int], width: int) -> Iterator[list[int]]:
        """Yield places that fit side by side until all are placed, each time after the first column."""
        places = list(kept[:1])
        for place in kept[1:]:
            if len(places) > 1 and _total([self.least[one] for one in [*places, place]]) > width:
                yield places
                places = list(kept[:1])
            places.append(place)
        yield places

    def lines(self, places: Sequence[int], width: int, rule: str) -> Iterator[Text]:
        """Yield the lines of a table of these columns, as narrow as its cells allow.

        Args:
            places: of the columns.
            width: of the terminal.
            rule: the character of the line under the headings.
        """
        widths = dict(zip(places, self._widths(places, width), strict=True))
        if self.grid.headed:
            headings = {place: folded(self._headings[place], wide) for place, wide in widths.items()}
            height = max(map(len, headings.values()))
            raised = {place: [""] * (height - len(lines)) + lines for place, lines in headings.items()}
            yield from self._line_texts(raised, widths, dict.fromkeys(places, "bold"))
            yield Text(rule * _total(list(widths.values())), no_wrap=True)
        for row, cells in zip(self.grid.rows, self._rows, strict=True):
            shown = {}
            for place, wide in widths.items():
                folds = self.grid.columns[place].folds
                shown[place] = [one for line in cells[place] for one in (folded(line, wide) if folds else [line])]
            plain = "red" if row.failed else ""
            styles = {place: "bold green" if place in row.best else plain for place in places}
            yield from self._line_texts(shown, widths, styles)

    def _line_texts(
        self, cells: Mapping[int, list[str]], widths: Mapping[int, int], styles: Mapping[int, str]
    ) -> Iterator[Text]:
        """Yield the lines of a row whose cells have several lines each, from the first on."""
        for number in range(max(map(len, cells.values()))):
            text = Text(no_wrap=True, overflow="ignore")
            for place, lines in cells.items():
                line = lines[number] if number < len(lines) else ""
                space = " " * (widths[place] - cell_len(line))
                padded = space + line if self.grid.columns[place].right else line + space
                text.append(padded, styles[place]).append(" " * _GAP)
            text.rstrip()
            yield text

    def _widths(self, places: Sequence[int], width: int) -> list[int]:
        """Return the widths of columns side by side: what is left over goes to the narrowest that want more."""
        widths = [self.least[place] for place in places]
        # Prose gives way before the names of the rows.
        for index in [index for index, place in enumerate(places) if self.grid.columns[place].folds][::-1]:
            widths[index] -= max(0, min(_total(widths) - width, widths[index] - _LEAST_WIDTH))
        while _total(widths) < width:
            wanting = [index for index, place in enumerate(places) if widths[index] < self.widest[place]]
            if not wanting:
                break
            widths[min(wanting, key=widths.__getitem__)] += 1
        return widths


def _total(widths: Sequence[int]) -> int:
    """Return the width of columns side by side."""
    return sum(widths) + _GAP * max(0, len(widths) - 1)


def to_markdown_lines(grid: Grid) -> list[str]:
    """Return the title in bold, the table, and an empty line."""
    rows = [["<br>".join(map(escaped, lines_of(cell))) for cell in row.cells] for row in grid.rows]
    headings = [escaped(column.heading) for column in grid.columns]
    rule = ["---:" if column.right else "---" for column in grid.columns]
    title = [f"**{escaped(grid.title)}**", ""] if grid.title else []
    return [*title, *map(_line, [headings, rule, *rows]), ""]


def escaped(text: str) -> str:
    """Return harmless text that Markdown shows as it is, without emphasis, links, HTML or a cell's end."""
    return re.sub(r"([*~|<`\[\]!&\\]|(?<!\w)_|_(?!\w))", r"\\\1", harmless(text))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
