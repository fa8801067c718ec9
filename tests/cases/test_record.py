import json
from dataclasses import replace

import pytest
from support.samples import ENVIRONMENT, SETTINGS, record, sweep_records

from attnprof.cases.record import SCHEMA, Record
from attnprof.cases.record_file import RecordFile, read_records
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


@pytest.mark.parametrize(
    "content", [b"hello\n", b"hello", b'{"a": 1}\n', b"[]\n", b"\xff\xfe\n", b'{"schema":99}\n', b"\n"]
)
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


def test_a_full_disk_keeps_what_is_there(tmp_path):
    file = RecordFile(tmp_path / "r.jsonl", resume=False)
    file.append(record())
    file._stream.close()
    file._stream = open("/dev/full", "a")  # noqa: PTH123, SIM115
    with pytest.raises(AttnprofError, match=r"No space left on device; the records before are kept"):
        file.append(record("chunked"))
    file.close()
    assert len(read_records(tmp_path / "r.jsonl")) == 1


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AttnprofError, match="cannot write"):
        RecordFile(tmp_path / "file" / "r.jsonl", resume=False)


def test_the_first_schema_is_still_read():
    line = record().to_line().replace(f'"schema":{SCHEMA}', '"schema":1').replace('"completed"', '"measured"')
    assert Record.from_line(line) == record()
