"""Nothing that exists is destroyed by an output, and an output that cannot be written is known before measuring."""

import os
import stat
import subprocess
import sys

import pytest
from support.commands import SMALL, attnprof_command, attnprof_here
from support.samples import record

from attnprof.cases.record_lines import read_records
from attnprof.cli.outputs import require_output, write_whole
from attnprof.errors import AttnprofError
from attnprof.report.fields import FIELDS
from attnprof.report.sweep import sweep_page

TINY = [
    *SMALL[:3],
    "--hw",
    "4",
    "--channels",
    "8",
    "--strategy",
    "naive",
    "--mode",
    "forward",
    "--case-seconds",
    "0.01",
]


@pytest.mark.parametrize("link", [None, os.symlink, os.link], ids=["same", "symbolic link", "hard link"])
def test_csv_and_records_are_never_one_file(tmp_path, link):
    records = tmp_path / "r.jsonl"
    records.write_text(record().to_line() + "\n")
    other = records
    if link:
        other = tmp_path / "other"
        link(records, other)
    done = attnprof_here(*SMALL, "--out", records, "--resume", "--csv", other, "--force")
    assert (done.returncode, done.stdout) == (2, "")
    assert "csv: " in done.stderr and "is the file of out as well; name two files" in done.stderr
    assert read_records(records) == [record()]


def test_a_link_to_a_file_that_is_not_there_yet_is_the_same_file(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "r.jsonl")
    done = attnprof_here(*SMALL, "--out", tmp_path / "r.jsonl", "--csv", tmp_path / "link")
    assert "is the file of out as well" in done.stderr


@pytest.mark.parametrize(("stream", "name"), [("stdout", "standard output"), ("stderr", "standard error")])
def test_records_are_not_written_where_a_stream_goes(tmp_path, stream, name):
    path = tmp_path / "r.jsonl"
    with path.open("w") as target:
        command = [sys.executable, "-m", "attnprof", *TINY, "--out", str(path)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: target}
        done = subprocess.run(command, check=False, text=True, **streams)
    said = done.stderr if stream == "stdout" else path.read_text()
    assert done.returncode == 2
    assert f"out: {path} is where {name} goes; name two files" in said


@pytest.mark.parametrize("content", ["print('my model')\n", "a,b,c\n1,2,3\n", "height,width\n", "\x00\xff"])
def test_a_stranger_s_file_is_replaced_only_by_force(tmp_path, content):
    path = tmp_path / "net.py"
    path.write_text(content)
    with pytest.raises(AttnprofError, match="attnprof did not write it; name another file, or add --force"):
        require_output("table", str(path))
    assert path.read_text() == content
    assert require_output("table", str(path), force=True).csv == path


@pytest.mark.parametrize("command", ["sweep", "limits", "model"])
def test_an_earlier_csv_file_is_replaced(tmp_path, command):
    path = tmp_path / "out.csv"
    names = [field.name for field in FIELDS[command]]
    for header in (names, names[:-2], [*names, "of_a_newer_version"]):
        path.write_text(",".join(header) + "\n1\n")
        assert require_output("table", str(path)).csv == path
    path.write_text("")
    assert require_output("table", str(path)).csv == path


def test_what_sweep_wrote_it_writes_again(tmp_path):
    path = tmp_path / "out.csv"
    for _ in range(2):
        write_whole(require_output("table", str(path)).csv, sweep_page([record()]).csv(), "csv")


def test_an_output_that_cannot_be_written_is_refused_before(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place, words in [
        (tmp_path, "is a folder; name a file"),
        (tmp_path / "no" / "out.csv", "does not exist; create it first"),
        (tmp_path / "pipe", "is not a regular file"),
        ("/dev/full", "is not a regular file"),
        ("/proc/out.csv", "cannot write '/proc/out.csv'"),
        ("a\0b", "is not a path"),
    ]:
        with pytest.raises(AttnprofError, match=rf"^csv: .*{words}"):
            require_output("table", str(place))


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "out.csv"
    path.write_text("before\n")
    path.chmod(0o640)

    def failing(_):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing)
        with pytest.raises(AttnprofError, match=r"csv: cannot write .*out.csv: No space left on device"):
            write_whole(path, "after\n", "csv")
    assert [one.name for one in tmp_path.iterdir()] == ["out.csv"]
    assert path.read_text() == "before\n"
    (tmp_path / "link").symlink_to(path)
    write_whole(tmp_path / "link", "after\n", "csv")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("after\n", 0o640)
    assert (tmp_path / "link").is_symlink()


def test_records_are_named_although_the_table_cannot_be_written(tmp_path):
    path = tmp_path / "r.jsonl"
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        command = [sys.executable, "-m", "attnprof", *TINY, "--out", str(path)]
        done = subprocess.run(command, check=False, text=True, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode != 0
    assert f"records: {path}" in done.stderr
    assert len(read_records(path)) == 1


def test_the_null_device_keeps_no_records():
    done = attnprof_command(*TINY, "--out", os.devnull)
    assert done.returncode == 0
    assert "naive" in done.stdout
    assert "records:" not in done.stderr


def test_nothing_measured_is_exit_code_1_and_says_how_to_try_again(tmp_path):
    path = tmp_path / "r.jsonl"
    done = attnprof_command(*TINY, "--timeout", "0.000001", "--out", path)
    assert done.returncode == 1
    assert "timed out" in done.stdout
    last = done.stderr.splitlines()[-1]
    assert last.startswith("1 timed out; to measure again, with a longer --timeout: attnprof sweep")
    words = last.partition("attnprof ")[2].split()
    words[words.index("--timeout") + 1] = "100"
    again = attnprof_command(*words, "--format", "csv")
    assert again.returncode == 0, again.stderr
    assert ",completed," in again.stdout and "timed_out" not in again.stdout
    assert len(path.read_text().splitlines()) == 2
    assert len(read_records(path)) == 1
