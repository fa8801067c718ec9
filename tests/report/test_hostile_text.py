"""A page whose texts come from an attacker: every form of it is harmless, and JSON is exact."""

import csv
import io
import json

import pytest
from rich.console import Console
from support.pages import every_page

from attnprof.report.grid import Column, Grid, Row
from attnprof.report.page import Kind, Page, Paragraph

HOSTILE = (
    "=1\x1b[2J\x1b]52;c;x\x07\x9b1m\x00\r\n\tb\u202ec\u2066d\u200b\ufeff\u2028\udcff "
    "[red]m[/red] <b> [l](http://x) `t` &#27;"
)
PAGES = every_page(HOSTILE)


def is_harmless(text):
    return all(line.isprintable() for line in text.split("\n"))


def drawn_in_colour(page):
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False)
    console.print(page.table(), crop=False)
    return console.file.getvalue()


@pytest.mark.parametrize("name", PAGES)
def test_every_form_is_harmless(name):
    page = PAGES[name]
    console = Console(width=80, file=io.StringIO(), highlight=False)
    console.print(page.table(), crop=False)
    table, markdown, lines = console.file.getvalue(), page.markdown(), page.csv()
    assert is_harmless(table)
    assert is_harmless(markdown)
    assert is_harmless(lines)
    for text in (table, markdown, lines):
        text.encode()
    # The only escape sequences of a terminal are rich's own colours.
    assert "\x1b[2J" not in drawn_in_colour(page)
    assert "\x1b]" not in drawn_in_colour(page)
    for row in csv.reader(io.StringIO(lines)):
        assert not any(cell.startswith(("=", "+", "@")) for cell in row)


@pytest.mark.parametrize("name", PAGES)
def test_json_is_exact(name):
    text = PAGES[name].json()
    assert text.isascii()
    assert is_harmless(text)
    found = json.loads(text, parse_constant=pytest.fail)
    if name == "doctor":
        assert found[0]["text"] == HOSTILE


def test_markdown_shows_foreign_text_as_it_is():
    grid = Grid("<h1>", (Column("[a](b)"),), (Row(("<img src=x> [a](b) `c` &amp; x|y \\",)),))
    quote = Paragraph(Kind.QUOTE, "```\n[a](b)")
    assert Page(((grid, quote),), (), ()).markdown().splitlines() == [
        "**\\<h1>**",
        "",
        "| \\[a\\](b) |",
        "| --- |",
        "| \\<img src=x> \\[a\\](b) \\`c\\` \\&amp; x\\|y \\\\ |",
        "",
        "````",
        "```",
        "[a](b)",
        "````",
    ]


def test_numbers_stay_numbers_and_infinite_ones_are_null():
    page = Page((), ("a", "b", "c"), ({"a": -1, "b": float("nan"), "c": "-1"},))
    assert page.csv() == "a,b,c\n-1,nan,'-1\n"
    assert json.loads(page.json()) == [{"a": -1, "b": None, "c": "-1"}]


def test_a_row_is_one_line_of_csv():
    page = Page((), ("a", "b"), ({"a": "x\ny", "b": {"k\n": "\x1b"}},))
    assert page.csv() == "a,b\nx\\ny,k\\n: \\x1b\n"
