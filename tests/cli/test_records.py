"""`attnprof records`: list, show, merge and clean."""

import csv
import io
import json
import os
import time
from dataclasses import replace

import pytest
from support.commands import attnprof_here
from support.samples import ENVIRONMENT, emulated_records, record, sweep_records

from attnprof.cases.measurement import Outcome
from attnprof.cases.record_file import RecordFile
from attnprof.cases.record_lines import read_records


def write(path, records):
    path.write_text("".join(one.to_line() + "\n" for one in records))
    return path


@pytest.fixture
def state(tmp_path, monkeypatch):
    """Return the user's state folder, with two files, one of them damaged."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = tmp_path / "attnprof"
    folder.mkdir()
    write(folder / "sweep-1.jsonl", sweep_records())
    (folder / "damaged.jsonl").write_text("{}\n")
    return folder


def test_the_state_folder_is_listed(state):
    done = attnprof_here("records", "list", "--format", "json")
    files = {os.path.basename(row["path"]): row for row in json.loads(done.stdout)}  # noqa: PTH119
    assert done.returncode == 0
    sweep = files["sweep-1.jsonl"]
    counts = {name: sweep[name] for name in ("records", "completed", "out_of_memory", "timed_out", "crashed")}
    assert counts == {"records": 10, "completed": 7, "out_of_memory": 2, "timed_out": 1, "crashed": 0}
    assert (sweep["devices"], sweep["problem"], sweep["in_use"]) == (["cpu"], None, False)
    assert "line 1: not an attnprof record" in files["damaged.jsonl"]["problem"]
    table = attnprof_here("records", "list", columns=160).stdout
    assert "sweep-1.jsonl" in table and "7 completed, 2 out of memory, 1 timed out" in table


def test_an_empty_folder_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for command in ("list", "clean"):
        done = attnprof_here("records", command)
        assert (done.returncode, done.stderr) == (0, "")
        assert "There are no files of records" in done.stdout


def test_a_file_is_shown_as_its_command_showed_it(state):
    done = attnprof_here("records", "show", "sweep-1.jsonl", "--csv", state / "out.csv")
    assert done.returncode == 0
    assert "sdpa-pad" in done.stdout
    rows = list(csv.DictReader(io.StringIO((state / "out.csv").read_text())))
    assert [row["strategy"] for row in rows] == [one.case.strategy for one in sweep_records()]


def test_merged_files_have_each_case_once_and_the_result_that_settled_it(tmp_path):
    crashed = record(outcome=Outcome.CRASHED, reason="signal SIGKILL")
    late = replace(record("chunked"), time="2027-01-01T00:00:00+00:00")
    write(tmp_path / "a.jsonl", [record(), record("chunked"), *emulated_records("t4")])
    write(tmp_path / "b.jsonl", [replace(crashed, time="2027-01-01T00:00:00+00:00"), late, record("sdpa")])
    done = attnprof_here("records", "merge", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--out", tmp_path / "c.jsonl")
    assert (done.returncode, done.stderr) == (0, f"records: {tmp_path / 'c.jsonl'} (8 cases)\n")
    merged = read_records(tmp_path / "c.jsonl")
    assert merged == [record(), late, *emulated_records("t4"), record("sdpa")]
    with RecordFile(tmp_path / "c.jsonl", resume=True) as file:
        file.require_same(ENVIRONMENT, record().settings)


def test_merging_mends_a_damaged_file(tmp_path):
    good = [record(), record("chunked")]
    lines = [good[0].to_line(), "\x00\x00\x00", '{"schema":4}', good[1].to_line(), '{"schema":4,"cas']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    done = attnprof_here("records", "merge", tmp_path / "a.jsonl", "--out", tmp_path / "b.jsonl")
    assert done.returncode == 0
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()[:3]] == [
        f"{tmp_path / 'a.jsonl'}, line {number} is left out" for number in (2, 3, 5)
    ]
    assert read_records(tmp_path / "b.jsonl") == good


def test_what_cannot_be_compared_is_not_merged(tmp_path):
    write(tmp_path / "a.jsonl", [record()])
    write(tmp_path / "b.jsonl", [record("chunked", environment=replace(ENVIRONMENT, torch="3"))])
    done = attnprof_here("records", "merge", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--out", tmp_path / "c.jsonl")
    assert done.returncode == 2
    assert "torch = 3" in done.stderr and "has 2: they cannot be compared" in done.stderr
    assert not (tmp_path / "c.jsonl").exists()


@pytest.mark.parametrize("out", ["a.jsonl", "b.jsonl"])
def test_merging_overwrites_nothing(tmp_path, out):
    for name in ("a.jsonl", "b.jsonl"):
        write(tmp_path / name, [record()])
    done = attnprof_here("records", "merge", tmp_path / "a.jsonl", "--out", tmp_path / out)
    assert done.returncode == 2
    assert read_records(tmp_path / out) == [record()]


def test_only_old_files_and_empty_ones_are_removed_and_only_if_asked(state):
    aged = time.time() - 40 * 24 * 3600
    for name, records in (("old.jsonl", [record()]), ("new.jsonl", [record()]), ("none.jsonl", [])):
        write(state / name, records)
    for name in ("old.jsonl", "damaged.jsonl"):
        os.utime(state / name, (aged, aged))
    before = sorted(path.name for path in state.iterdir())
    listed = attnprof_here("records", "clean", columns=160)
    assert "2 to remove; add --yes" in listed.stderr
    assert sorted(path.name for path in state.iterdir()) == before
    done = attnprof_here("records", "clean", "--yes", columns=160)
    assert done.stderr == "2 removed\n"
    assert sorted(path.name for path in state.iterdir()) == ["damaged.jsonl", "new.jsonl", "sweep-1.jsonl"]


def test_a_file_that_is_being_written_stays(state):
    with RecordFile(state / "sweep-1.jsonl", resume=True):
        [row] = [
            row for row in json.loads(attnprof_here("records", "list", "--format", "json").stdout) if not row["problem"]
        ]
        assert row["in_use"]
        assert attnprof_here("records", "clean", "--days", "0", "--yes").returncode == 0
        assert (state / "sweep-1.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "nothing.jsonl"], "file: cannot read 'nothing.jsonl'"),
        (["list", "/nowhere"], "folder: '/nowhere' is not a folder"),
        (["merge", "nothing.jsonl", "--out", "x.jsonl"], "merge: cannot read 'nothing.jsonl'"),
    ],
)
def test_a_wrong_name_is_one_line(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    done = attnprof_here("records", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_group_alone_shows_its_commands():
    done = attnprof_here("records")
    assert (done.returncode, done.stderr) == (0, "")
    assert "merge" in done.stdout
