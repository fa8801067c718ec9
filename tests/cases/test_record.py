import errno
import json
import os
import re
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from support.samples import ENVIRONMENT, SETTINGS, emulated, record, sweep_records

from attnprof.cases.measurement import Outcome
from attnprof.cases.record import SCHEMA, Record
from attnprof.cases.record_file import RecordFile
from attnprof.cases.record_lines import read_records
from attnprof.errors import AttnprofError


def write(path, records):
    file = RecordFile(path, resume=False)
    for one in records:
        file.append(one)
    file.close()


def test_every_record_survives_the_file(tmp_path):
    path = tmp_path / "deep" / "records.jsonl"
    write(path, sweep_records())
    assert read_records(path) == sweep_records()


def test_samples_are_kept_raw(tmp_path):
    line = json.loads(record(seconds=0.5).to_line())
    assert line["schema"] == SCHEMA
    assert line["measurement"]["latency"]["samples_seconds"] == [0.5, 0.51, 0.49]
    assert line["environment"] == ENVIRONMENT.to_json()


def test_a_record_is_on_disk_before_the_next(tmp_path):
    path = tmp_path / "r.jsonl"
    file = RecordFile(path, resume=False)
    file.append(record())
    assert len(read_records(path)) == 1
    file.close()


@pytest.mark.parametrize("cut", [1, 12, 300])
def test_a_line_cut_short_is_dropped_and_the_rest_goes_on(tmp_path, cut):
    path = tmp_path / "r.jsonl"
    write(path, sweep_records()[:2])
    with path.open("a") as stream:
        stream.write(record("sdpa").to_line()[:cut])
    file = RecordFile(path, resume=True)
    assert file.records == sweep_records()[:2]
    file.append(record("online"))
    file.close()
    assert [r.case.strategy for r in read_records(path)] == ["naive", "chunked", "online"]


def test_an_existing_file_is_not_overwritten(tmp_path):
    path = tmp_path / "r.jsonl"
    write(path, [record()])
    with pytest.raises(AttnprofError, match="exists: add --resume"):
        RecordFile(path, resume=False)
    assert len(read_records(path)) == 1


@pytest.mark.parametrize("content", [b"hello\n", b"hello", b'{"a": 1}\n', b"[]\n", b"\xff\xfe\n", b'{"schema":99}\n'])
def test_a_stranger_s_file_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    with pytest.raises(AttnprofError, match=r"choose another file"):
        RecordFile(path, resume=True)
    assert path.read_bytes() == content


def test_another_schema_is_refused_by_number():
    with pytest.raises(ValueError, match="schema 99 is not known here"):
        Record.from_line('{"schema":99}')


def test_resuming_elsewhere_names_the_difference(tmp_path):
    path = tmp_path / "r.jsonl"
    write(path, [record()])
    file = RecordFile(path, resume=True)
    file.require_same(ENVIRONMENT, SETTINGS)
    with pytest.raises(AttnprofError, match=r"measured with threads = 2, now it is 8"):
        file.require_same(replace(ENVIRONMENT, threads=8), SETTINGS)
    with pytest.raises(AttnprofError, match=r"driver = None, now it is 5"):
        file.require_same(replace(ENVIRONMENT, driver="5"), SETTINGS)
    file.close()


def test_a_full_disk_keeps_what_is_there(tmp_path, monkeypatch):
    path = tmp_path / "r.jsonl"
    file = RecordFile(path, resume=False)
    file.append(record())
    write = os.write

    def until_full(descriptor, data):
        if descriptor != file._descriptor:
            return write(descriptor, data)
        if len(data) < 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[: len(data) - 50])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", until_full)
        with pytest.raises(AttnprofError, match=r"No space left on device; the records before are kept"):
            file.append(record("chunked"))
    assert path.read_text() == record().to_line() + "\n"
    file.append(record("online"))
    file.close()
    assert [r.case.strategy for r in read_records(path)] == ["naive", "online"]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_record_that_may_not_be_on_disk_is_said(tmp_path, monkeypatch, code):
    def failing(_):
        raise OSError(code, os.strerror(code))

    with RecordFile(tmp_path / "r.jsonl", resume=False) as file:
        monkeypatch.setattr(os, "fsync", failing)
        with pytest.raises(AttnprofError, match=re.escape(os.strerror(code))):
            file.append(record())


def test_a_file_has_one_writer(tmp_path):
    path = tmp_path / "r.jsonl"
    with RecordFile(path, resume=False) as file:
        file.append(record())
        for resume in (False, True):
            with pytest.raises(AttnprofError, match=r"r.jsonl is being written by another attnprof; wait for its end"):
                RecordFile(path, resume=resume)
        file.append(record("chunked"))
    with RecordFile(path, resume=True) as file:
        assert len(file.records) == 2


def test_a_case_counts_once_and_the_newest_record_wins(tmp_path):
    path = tmp_path / "r.jsonl"
    crashed = record(outcome=Outcome.CRASHED, reason="signal SIGKILL")
    write(path, [crashed, record("chunked"), record()])
    assert read_records(path) == [record("chunked"), record()]
    with RecordFile(path, resume=True) as file:
        assert file.records == [record("chunked"), record()]
        assert set(file.settled(None)) == {record().case, record("chunked").case}
        file.append(crashed)
        assert set(file.settled(None, [Outcome.CRASHED])) == {record("chunked").case}
    assert len(path.read_text().splitlines()) == 4


def test_the_same_case_of_another_device_is_another_record(tmp_path):
    card = emulated("t4", "naive")
    cuda = record(environment=replace(ENVIRONMENT, device="cuda:0"))
    write(tmp_path / "r.jsonl", [record(side=64), card, cuda])
    assert len(read_records(tmp_path / "r.jsonl")) == 3


def test_time_limits_may_change_between_runs(tmp_path):
    path = tmp_path / "r.jsonl"
    write(path, [record()])
    with RecordFile(path, resume=True) as file:
        file.require_same(ENVIRONMENT, {**SETTINGS, "timeout_seconds": 5.0, "case_seconds": 0.1})
        with pytest.raises(AttnprofError, match="seed = 0, now it is 1"):
            file.require_same(ENVIRONMENT, {**SETTINGS, "seed": 1})


def _removed(path):
    path.unlink()


def _folder_removed(path):
    shutil.rmtree(path.parent)


def _replaced(path):
    (path.parent / "other").write_text("mine\n")
    (path.parent / "other").replace(path)


def _emptied(path):
    path.write_text("")


def _cut(path):
    os.truncate(path, 100)


@pytest.mark.parametrize(
    ("harm", "words", "at"),
    [
        (_removed, "was removed", "r.jsonl"),
        (_folder_removed, "was removed", "r.jsonl"),
        (_replaced, "was replaced by another file", "r.2.jsonl"),
        (_emptied, "was cut", "r.2.jsonl"),
        (_cut, "was cut", "r.2.jsonl"),
    ],
)
def test_a_file_that_is_taken_away_is_written_anew_and_that_is_said(tmp_path, harm, words, at):
    path, said = tmp_path / "in" / "r.jsonl", []
    with RecordFile(path, resume=False, tell=said.append) as file:
        file.append(record())
        harm(path)
        file.append(record("chunked"))
        file.append(record("online"))
        assert file.path == path.with_name(at)
    assert said == [f"{path} {words} while it was written; all its records are now in {path.with_name(at)}"]
    assert [r.case.strategy for r in read_records(file.path)] == ["naive", "chunked", "online"]
    assert words != "was replaced by another file" or path.read_text() == "mine\n"


def test_a_file_that_is_taken_away_on_a_full_disk_is_not_given_up(tmp_path, monkeypatch):
    """Neither the folder nor the state folder takes the records: the open file, which still has them, stays."""
    path, write = tmp_path / "r.jsonl", os.write
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    file = RecordFile(path, resume=False)
    file.append(record())
    held = file._descriptor
    path.rename(tmp_path / "elsewhere.jsonl")

    def full(descriptor, data):
        if descriptor == held:
            return write(descriptor, data)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(AttnprofError, match="was removed while it was written, and no other place can be written"):
            file.append(record("chunked"))
    assert [one.name for one in tmp_path.rglob("*.jsonl")] == ["elsewhere.jsonl"]
    file.append(record("chunked"))
    file.close()
    assert [one.case.strategy for one in read_records(path)] == ["naive", "chunked"]


def test_what_others_append_is_kept_apart(tmp_path):
    path = tmp_path / "r.jsonl"
    with RecordFile(path, resume=False) as file:
        file.append(record())
        with path.open("a") as other:
            other.write(record("sdpa").to_line())
        file.append(record("chunked"))
    assert [r.case.strategy for r in read_records(path)] == ["naive", "sdpa", "chunked"]


@pytest.mark.parametrize("ending", ["", "\n\n", "\r\n", "\n  \n"])
def test_what_an_editor_leaves_behind_does_no_harm(tmp_path, ending):
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + (record().to_line() + ending).encode())
    with RecordFile(path, resume=True) as file:
        file.append(record("chunked"))
    assert read_records(path) == [record(), record("chunked")]


def test_a_last_record_of_a_newer_attnprof_is_not_taken_for_a_cut_line(tmp_path):
    path = tmp_path / "r.jsonl"
    newer = record().to_line().replace('"naive"', '"fastest"')
    path.write_text(f"{record().to_line()}\n{newer}")
    with pytest.raises(AttnprofError, match=r"out: .*line 2: \$.case.strategy"):
        RecordFile(path, resume=True)
    assert path.read_text().endswith(newer)


def test_a_file_without_a_record_is_not_left_behind(tmp_path):
    RecordFile(tmp_path / "new.jsonl", resume=False).close()
    (tmp_path / "mine.jsonl").write_text("")
    RecordFile(tmp_path / "mine.jsonl", resume=True).close()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jsonl"]


def test_the_null_device_keeps_nothing():
    with RecordFile(Path(os.devnull), resume=False) as file:
        file.append(record())
        assert file.records == [record()]


@pytest.mark.parametrize("use", [read_records, lambda path: RecordFile(path, resume=True)], ids=["read", "resume"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "loop", "missing folder"])
def test_only_regular_files_are_opened(tmp_path, use, kind):
    path = tmp_path / "r.jsonl"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/full")
    elif kind == "loop":
        path.symlink_to(path)
    else:
        path = Path(os.devnull) / "r.jsonl"
    with pytest.raises(AttnprofError) as refused:
        use(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_without_end_is_refused_by_its_size(tmp_path):
    path = tmp_path / "r.jsonl"
    with path.open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(AttnprofError, match=r"r.jsonl has 1.00 TiB, more than any file of records"):
        read_records(path)


def test_lines_without_end_are_refused_by_their_number(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\n" * (2**20 + 1))
    with pytest.raises(AttnprofError, match=r"r.jsonl has more than 1,048,576 lines"):
        read_records(path)


def test_a_line_without_end_is_not_read_into_memory(tmp_path):
    path = tmp_path / "r.jsonl"
    with path.open("wb") as stream:
        stream.write(b'{"schema":')
        stream.truncate(2**27)
    tracemalloc.start()
    with pytest.raises(AttnprofError, match="line 1: not JSON"):
        read_records(path)
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_a_file_name_in_no_encoding_is_recorded_as_text(tmp_path):
    with RecordFile(tmp_path / "r.jsonl", resume=False) as file:
        file.append(record(outcome=Outcome.CRASHED, reason="net\udcff.py, line 3"))
    assert read_records(tmp_path / "r.jsonl")[0].reason == "net?.py, line 3"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AttnprofError, match=r"cannot make the folder of .*file/r.jsonl"):
        RecordFile(tmp_path / "file" / "r.jsonl", resume=False)


def test_the_first_schema_is_still_read():
    line = record().to_line().replace(f'"schema":{SCHEMA}', '"schema":1').replace('"completed"', '"measured"')
    assert Record.from_line(line) == record()
