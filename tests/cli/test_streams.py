"""Streams that cannot be written or show few letters: one line and an exit code, and the records are named."""

import errno
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from support.commands import attnprof_here

from attnprof.cli.streams import OutputError, ReaderGoneError, guarded_streams
from attnprof.cli.terminal import note, write_text

ROOT = Path(__file__).parents[2]
SWEEP = "sweep --device cpu --hw 4 --channels 8 --strategy naive --case-seconds 0.01 --mode forward"


def in_shell(command, **environ):
    """Run a command line of a shell, in which attnprof stands for the command."""
    done = subprocess.run(
        ["bash", "-c", f"attnprof() {{ {sys.executable} -m attnprof \"$@\"; }}; {command}"],
        env={**os.environ, **environ}, capture_output=True, text=True, check=False, errors="surrogateescape",
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ("attnprof gpus >/dev/full", 1, "No space left on device"),
        ("attnprof sweep --help >/dev/full", 1, "No space left on device"),
        ("attnprof --version >&-", 1, "Bad file descriptor"),
        ("attnprof gpus >&- 2>&-", 1, ""),
        ("attnprof gpus --format xml 2>/dev/full", 2, ""),
        ("attnprof gpus <&- 2>&- >/dev/null", 0, ""),
        ("_ATTNPROF_COMPLETE=complete_bash COMP_WORDS='attnprof s' COMP_CWORD=1 attnprof >/dev/full", 1, ""),
    ],
)
def test_what_cannot_be_written_is_one_line(command, code, reason):
    done = in_shell(command)
    assert done.returncode == code
    assert done.stderr.count("\n") == (1 if reason else done.stderr.count("attnprof: "))
    assert reason in done.stderr


def test_the_records_are_named_although_the_table_cannot_be_written(tmp_path):
    done = in_shell(f"attnprof {SWEEP} --out {tmp_path}/r.jsonl >/dev/full")
    assert done.returncode == 1
    *_, records, error = done.stderr.splitlines()
    assert records == f"records: {tmp_path}/r.jsonl"
    assert error.startswith("attnprof: stdout: the result cannot be written")
    assert (tmp_path / "r.jsonl").read_text().count("\n") == 1


def test_lost_notes_end_nothing(tmp_path):
    done = in_shell(f"attnprof {SWEEP} --out {tmp_path}/r.jsonl 2>&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Pick naive" in done.stdout


def test_a_reader_that_goes_is_no_error():
    done = in_shell("attnprof gpus --format json | head -c 10; echo ${PIPESTATUS[0]}")
    assert (done.stdout[-2:], done.stderr) == ("0\n", "")


def test_letters_that_the_encoding_lacks_are_escaped(tmp_path):
    done = in_shell("attnprof gpus --format ré注; attnprof strategies | head -4", PYTHONIOENCODING="ascii")
    assert "format: 'r\\xe9\\u6ce8' is not one of" in done.stderr
    assert done.stdout.isascii()


class Failing(io.StringIO):
    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, text=""):
        raise OSError(self.number, os.strerror(self.number))

    flush = write


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EBADF, errno.EPIPE])
def test_every_error_of_a_stream_is_told_once(number):
    streams = patch.object(sys, "stdout", Failing(number)), patch.object(sys, "stderr", Failing(number))
    with streams[0], streams[1], guarded_streams():
        note("lost")
        with pytest.raises(ReaderGoneError if number == errno.EPIPE else OutputError):
            write_text("lost")


def test_a_note_is_one_harmless_line():
    with patch.object(sys, "stderr", io.StringIO()) as err, guarded_streams():
        note("a\x1b[2J\nb\udcff")
    assert err.getvalue() == "a\\x1b[2J\\nb\\udcff\n"


@pytest.mark.parametrize("value", ["abc", "0", "-5", "1", "39", "99999999999999999999", "²"])
@pytest.mark.parametrize("arguments", [["gpus"], ["sweep", "--help"]])
def test_a_width_that_means_nothing_is_forgotten(value, arguments, monkeypatch):
    monkeypatch.setenv("TERMINAL_WIDTH", value)
    done = attnprof_here(*arguments, columns=value)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "environ",
    [{"TERM": "dumb"}, {"TERM": ""}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1"}, {"LANG": "xx_YY.bad", "LC_ALL": "xx"}],
    ids=str,
)
def test_odd_environments_change_no_word(environ):
    plain = re.sub(r"\x1b\[[0-9;]*m", "", in_shell("attnprof strategies", **environ).stdout)
    assert "Parts of a strategy, and how memory grows" in plain


@pytest.mark.parametrize("arguments", ["sweep --csv t.csv", "sweep --hw 8", "model net.py:Net --input 1,3,8,8"])
def test_a_folder_that_is_gone_is_told(tmp_path, arguments):
    gone = "mkdir $GONE && cd $GONE && rmdir $GONE"
    done = in_shell(f"{gone} && attnprof {arguments}", GONE=str(tmp_path / "gone"), PYTHONPATH=str(ROOT))
    assert done.returncode in (1, 2)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("columns", [40, 60, 79, 80])
@pytest.mark.parametrize("command", ["", "sweep", "limits", "recommend", "model", "run", "records clean"])
def test_a_help_text_names_every_option_at_every_width(command, columns):
    wide = attnprof_here(*command.split(), "--help", columns=200).stdout
    names = {
        name for line in re.findall(r"^[│ ]*(--[-a-z ]+)", wide, re.MULTILINE) for name in line.split() if "--" in name
    }
    narrow = attnprof_here(*command.split(), "--help", columns=columns).stdout
    assert "--help" in names
    assert names <= set(re.findall(r"--[a-z-]+", narrow))
    assert max(map(len, narrow.splitlines())) <= max(columns, 50)
