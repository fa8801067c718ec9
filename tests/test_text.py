"""Text that is safe to print, whoever wrote it."""

import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attnprof.text import harmless, harmless_lines, shell_word, shortened, shown, spreadsheet_cell

ANY = st.text(st.characters())  # surrogates too


@given(ANY)
@example("\x1b]0;title\x07\x1b[2J")
@example("a\r\nb\tc\x00\x7f\x9b1m")
@example("\u202eevil\u2066\u200b\u2028\udcff\ufeff")
def test_harmless_text_is_one_printable_line(text):
    assert harmless(text).isprintable()
    assert harmless(harmless(text)) == harmless(text)
    assert harmless(text, "ascii").isascii()
    harmless(text).encode()


def test_what_is_printable_stays():
    assert harmless("réseau 注意力 [bold]x[/bold] \\x1b") == "réseau 注意力 [bold]x[/bold] \\x1b"
    assert harmless("\x1b[31m\u202e\n\udcff") == "\\x1b[31m\\u202e\\n\\udcff"
    assert harmless_lines("a\nb\x1b") == ["a", "b\\x1b"]
    assert harmless("é", "no such encoding") == "é"


class Broken:
    def __repr__(self):
        raise ValueError("no")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("abc", "'abc'"),
        (None, "None"),
        (10**5000, "<a number of 5001 digits>"),
        (Broken(), "<Broken>"),
        (b"\x1b", "b'\\x1b'"),
        ("\x1b", "'\\x1b'"),
    ],
    ids=["text", "None", "number", "broken", "bytes", "escape"],
)
def test_a_value_is_shown(value, expected):
    assert shown(value) == expected


@given(st.one_of(ANY, st.binary(), st.integers(), st.floats(), st.lists(ANY)))
def test_a_shown_value_is_short_and_printable(value):
    assert len(shown(value)) <= 60
    assert shown(value).isprintable()


def test_a_long_text_keeps_its_ends():
    assert shortened("a" * 50 + "b" * 50, 13) == "aaaaa...bbbbb"
    assert shortened("short", 13) == "short"
    assert shown("x" * 1000 + "end").startswith("'xxx")
    assert shown("x" * 1000 + "end").endswith("xend'")


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(A1)", " =1", "\uff1d1"])
def test_no_spreadsheet_runs_a_cell(text):
    assert spreadsheet_cell(text) == f"'{text}"


def test_other_cells_stay():
    assert spreadsheet_cell("naive") == "naive"
    assert spreadsheet_cell("\t=1") == "\\t=1"
    assert spreadsheet_cell("a\rb") == "a\\rb"


@pytest.mark.parametrize("word", ["plain", "two words", "a'b", "\x1b[2Jx'\\f", "line\nbreak", "\udcffabc", "注意"])
def test_a_shell_reads_the_word_back(word):
    quoted = shell_word(word)
    assert quoted.isprintable()
    done = subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True, check=True)
    assert done.stdout.decode("utf-8", "surrogateescape") == word


def test_a_word_that_no_command_line_can_have_is_still_printable():
    assert shell_word("\ud800").isprintable()
