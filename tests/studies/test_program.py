"""`attnprof run` around programs that end badly, or spoil the folder of their reports."""

import json
import os

import pytest

from attnprof.cases.cards import parse_cards
from attnprof.emulation import findings_file
from attnprof.emulation.findings_file import collect_findings
from attnprof.errors import AttnprofError
from attnprof.studies import program
from attnprof.studies.program import run_program


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a shell's command; the card does not matter, and is not emulated."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(program.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(program, "emulation_environment", lambda *_, **__: {})
    monkeypatch.setattr(program, "find_toolkit", lambda: type("Toolkit", (), {"torch": "2.14.1"}))
    yield lambda text: run_program(parse_cards("t4")[0], ["sh", "-c", text])
    assert not list(tmp_path.glob("attnprof-run-*"))


@pytest.mark.parametrize(
    ("text", "code", "signal"),
    [
        ("exit 7", 7, ""),
        ("kill -9 $$", 137, "SIGKILL"),
        ("kill -TERM $$", 143, "SIGTERM"),
        ("sh -c 'kill -9 $$'; exit $?", 137, ""),
    ],
)
def test_the_signal_that_ends_a_program_is_known(run, text, code, signal):
    found = run(text)
    assert (found.exit_code, found.signal, found.processes, found.unread) == (code, signal, (), ())


@pytest.mark.parametrize(
    ("harm", "note"),
    [
        ("echo junk > $F/a.json", "a.json: not JSON: "),
        ("printf '\\377' > $F/a.json", "a.json: not JSON: "),
        ("echo '[]' > $F/a.json", "a.json: $: expected object, got array"),
        ('echo \'{"pid": -1, "command": ""}\' > $F/a.json', "a.json: a number is negative or too large"),
        (
            "(echo '{\"x\":'; head -c 100000 /dev/zero | tr '\\0' '[') > $F/a.json",
            "a.json: not JSON: nested too deeply",
        ),
        ("mkfifo $F/a.json", "a.json: it is not a regular file"),
        ("mkdir $F/a.json", "a.json: it is not a regular file"),
        ("ln -s /dev/zero $F/a.json", "a.json: Too many levels of symbolic links"),
        ("touch $F/a.json.part", "a.json.part: it was not written to its end: is the disk full?"),
        ("rm -r $F", "the program has removed the folder of the reports"),
        ("rm -r $F; touch $F; rm $F", "the program has removed the folder of the reports"),
    ],
)
def test_what_is_no_report_is_told_and_the_others_are_read(run, harm, note):
    found = run(f'F=$ATTNPROF_WATCH_FOLDER; echo \'{{"pid": 1, "command": "python"}}\' > $F/ok.json; {harm}')
    assert found.exit_code == 0
    [unread] = found.unread
    assert unread.startswith(note)
    assert len(found.processes) == (0 if "rm -r" in harm else 1)


def test_files_are_read_within_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(findings_file, "_LARGEST_BYTES", 2**20)
    monkeypatch.setattr(findings_file, "_MOST_FILES", 100)
    (tmp_path / "large.json").write_bytes(b" " * (2**20 + 1))
    found, [note] = collect_findings(tmp_path)
    assert (found, note) == ((), "large.json: it is larger than 1 MiB")
    for number in range(200):
        (tmp_path / f"{number}.json").write_text(json.dumps({"pid": number, "command": "python"}))
    found, notes = collect_findings(tmp_path)
    assert len(found) + len(notes) == 100


def test_the_report_before_one_that_was_cut_short_counts(tmp_path):
    (tmp_path / "1.json").write_text('{"pid": 1, "command": "python"}')
    (tmp_path / "1.json.part").write_text('{"pid"')
    found, notes = collect_findings(tmp_path)
    assert ([one.pid for one in found], notes) == ([1], ())


def test_what_a_killed_command_left_is_removed(run, tmp_path):
    for name in (f"attnprof-run-{2**22 + 1}-abc", "attnprof-run-x-1"):
        (tmp_path / name).mkdir()
    mine = tmp_path / f"attnprof-run-{os.getpid()}-abc"
    mine.mkdir()
    run("exit 0")
    assert sorted(path.name for path in tmp_path.glob("attnprof-run-*")) == [mine.name, "attnprof-run-x-1"]
    mine.rmdir()
    (tmp_path / "attnprof-run-x-1").rmdir()


def test_no_temporary_folder_is_one_line(run, monkeypatch, tmp_path):
    monkeypatch.setattr(program.tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(AttnprofError, match=r"cannot make a folder for the program's report: .*; set TMPDIR"):
        run("exit 0")
