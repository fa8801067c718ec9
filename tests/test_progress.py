"""Progress on terminals of every kind, and with text from anywhere."""

import io
import re
import sys

import pytest
from support.samples import case, record

from attnprof.cases.measurement import Outcome
from attnprof.progress import CaseProgress, progress_on_stderr

HOSTILE = "\x1b[2J\x1b]0;t\x07 [red]x[/red] :smile:\nline\u202e\udcff"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def shown(monkeypatch):
    """Return a function that shows the progress of a case, and what it printed."""

    def show(stream, **environ):
        for name in ("COLUMNS", "TERM", "FORCE_COLOR", "NO_COLOR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stderr", stream)
        with progress_on_stderr(CaseProgress, 2) as listener:
            listener.planned(1, {case("naive+checkpoint"): 3.0}, None)
            listener.started(case("naive+checkpoint"), None)
            listener.entered(HOSTILE)
            listener.ended(record("naive+checkpoint", Outcome.CRASHED, reason=HOSTILE))
        return stream.getvalue()

    return show


def lines_of(text):
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))


@pytest.mark.parametrize("columns", [40, 63, 64, 200])
def test_a_live_bar_fits_its_terminal(shown, columns):
    text = shown(Terminal(), COLUMNS=str(columns), TERM="xterm")
    bars = [line for line in lines_of(text) if " left " in line]
    assert bars
    assert max(map(len, bars)) <= columns
    assert any("/2" in line for line in bars)


@pytest.mark.parametrize(
    ("stream", "environ"),
    [(io.StringIO, {}), (io.StringIO, {"FORCE_COLOR": "1"}), (Terminal, {"TERM": "dumb"})],
    ids=["a file", "a file with colours", "a dumb terminal"],
)
def test_without_a_live_bar_each_case_has_a_line(shown, stream, environ):
    text = shown(stream(), **environ)
    assert "left" not in text
    assert [line for line in lines_of(text) if line] == [
        "2 cases, 1 of them known before; about 3 s",
        r"[2/2] naive+checkpoint 1x128x64x64 fp32 forward: crashed "
        r"(\x1b[2J\x1b]0;t\x07 [red]x[/red] :smile:\nline\u202e\udcff)",
    ]


def test_text_from_anywhere_is_harmless_in_a_bar(shown):
    text = shown(Terminal(), COLUMNS="200", TERM="xterm")
    assert "\x1b[2J" not in text
    assert "\x1b]" not in text
    assert "\u202e" not in text


def test_no_stderr_is_no_fault(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with progress_on_stderr(CaseProgress, 1) as listener:
        listener.tell("lost")
