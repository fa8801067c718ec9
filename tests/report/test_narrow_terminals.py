"""Every page at every width: names whole, figures whole, columns that leave are named, and no line too long."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from support.drawing import drawn
from support.pages import every_page

from attnprof.report.folding import folded
from attnprof.report.grid import Column, Grid, Row, lines_of
from attnprof.report.page import Kind, Page, Paragraph

LONG = "a/very_long/path/to/my.models/注意力网络/réseau_d_attention.py and a word_without_any_joint" + "x" * 50
WIDTHS = [*range(40, 90), *range(91, 200, 27), 200]


def pieces_of(page):
    return [one for section in page.sections for one in section]


def is_whole(name, lines):
    """Return whether a name stands at the beginning of lines, perhaps folded at a joint."""
    for width in range(1, max(1, cell_len(name)) + 1):
        parts = folded(name, width)
        for start in range(len(lines) - len(parts) + 1):
            shown = zip(lines[start:], parts, strict=False)
            if all(line == part or line.startswith(f"{part} ") for line, part in shown):
                return True
    return False


def check_grid(grid, width):
    lines = drawn(Page(((grid,),), (), ()), width).splitlines()
    note = " ".join(lines).partition("Left out: ")[2].partition(". Use a terminal ")[0]
    left = note.split(", ") if note else []
    assert left == [column.heading for column in grid.columns if column.heading in left]
    for row in grid.rows:
        for place, (column, cell) in enumerate(zip(grid.columns, row.cells, strict=True)):
            for line in filter(str.strip, lines_of(cell)):
                if place == 0 and not column.right:
                    assert is_whole(line.rstrip(), lines), (line, width)
                elif not column.folds and column.heading not in left:
                    padded = [f"  {one}  " for one in lines]
                    assert any(f" {line} " in one for one in padded), (line, width)
    if left and width < 200:
        assert {column.heading for column in grid.columns if not column.leaves}.isdisjoint(left)


@pytest.mark.parametrize("text", ["NVIDIA A100 80GB PCIe", LONG], ids=["short", "long"])
def test_names_and_figures_are_whole_at_every_width(text):
    for name, page in every_page(text).items():
        code = [line for one in pieces_of(page) if getattr(one, "kind", None) is Kind.CODE for line in one.lines]
        for width in WIDTHS if text != LONG else (40, 41, 60, 80, 200):
            lines = drawn(page, width).splitlines()
            assert set(code) <= set(lines)
            for line in lines:
                assert cell_len(line) <= width or line in code, (name, width, line)
            for grid in pieces_of(page):
                if isinstance(grid, Grid):
                    check_grid(grid, width)


def test_columns_leave_in_the_order_that_the_page_states():
    columns = (Column("name"), *(Column(f"c{place}", right=True, leaves=4 - place) for place in range(1, 4)))
    grid = Grid("", columns, (Row(("naive", "1.00 GiB", "2.00 GiB", "3.00 GiB")),))
    assert drawn(Page(((grid,),), (), ()), 40).splitlines()[2] == "naive  1.00 GiB  2.00 GiB  3.00 GiB"
    assert drawn(Page(((grid,),), (), ()), 30).splitlines()[2:] == [
        "naive  1.00 GiB  2.00 GiB", "Left out: c3. Use a terminal", "35 columns wide, or --format", "csv.",
    ]  # fmt: skip
    assert drawn(Page(((grid,),), (), ()), 20).splitlines()[2] == "naive  1.00 GiB"


def test_columns_that_never_leave_go_on_below():
    grid = Grid("", (Column("name"), Column("a"), Column("b")), (Row(("naive", "1" * 12, "2" * 12)),))
    assert drawn(Page(((grid,),), (), ()), 24).splitlines() == [
        "name   a", "─" * 19, "naive  111111111111", "", "name   b", "─" * 19, "naive  222222222222",
    ]  # fmt: skip


NAMES = st.text(st.sampled_from("ab+:~_/.注é́🙂 0"), min_size=1, max_size=50).map(str.strip).filter(bool)
FIGURES = st.sampled_from(["1.00 GiB", "12345678901234567890", "OOM, implied", "-", "9.50 s *", "注意 3 GiB", ""])


@given(st.lists(st.tuples(NAMES, st.lists(FIGURES, min_size=7, max_size=7)), min_size=1, max_size=4),
       st.permutations([0, 0, 1, 2, 3, 4, 5]), st.integers(40, 120))  # fmt: skip
def test_any_table_shows_whole_names_and_figures(rows, leaves, width):
    columns = [Column(f"c{place}", right=True, leaves=leave) for place, leave in enumerate(leaves)]
    grid = Grid("", (Column("name", folds=True), *columns), tuple(Row((name, *figures)) for name, figures in rows))
    check_grid(grid, width)
    assert all(cell_len(line) <= width for line in drawn(Page(((grid,),), (), ()), width).splitlines())


@pytest.mark.parametrize("width", [1, 2, 3, 10, 39])
def test_a_tiny_terminal_is_no_fault(width):
    for page in every_page(LONG).values():
        assert drawn(page, width)


def test_a_name_folds_at_a_joint_before_it_breaks():
    assert folded("pooled:2+sdpa-split+bf16", 12) == ["pooled:2+", "sdpa-split+", "bf16"]
    assert folded("layer1.0.attention", 12) == ["layer1.0.", "attention"]
    assert folded("注意力网络", 5) == ["注意", "力网", "络"]
    assert folded("a  b", 10) == ["a  b"]
    assert folded("", 5) == [""]


def test_letters_that_the_terminal_lacks_are_escaped_before_the_columns_are_made():
    grid = Grid("é", (Column("name"), Column("size")), (Row(("naïve", "1")), Row(("b", "2"))))
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=file, width=80)
    console.print(Page(((grid,), (Paragraph(Kind.TEXT, "注"),)), (), ()).table(), crop=False)
    file.flush()
    lines = file.buffer.getvalue().decode("ascii").splitlines()
    assert lines == ["\\xe9", "name      size", "-" * 14, "na\\xefve  1", "b         2", "", "\\u6ce8"]


def test_the_documentation_states_the_order():
    text = (Path(__file__).parents[2] / "docs" / "reference" / "output.md").read_text()
    table = text.partition("<!-- leaving -->\n")[2].partition("\n\n")[0].splitlines()[2:]
    stated = {line.split("|")[2].strip() for line in table}
    grids = [one for page in every_page().values() for one in pieces_of(page) if isinstance(one, Grid)]
    orders = {
        tuple(column for column in sorted(grid.columns, key=lambda one: one.leaves) if column.leaves) for grid in grids
    }
    assert {", ".join(column.heading for column in order) for order in orders if order} == stated
