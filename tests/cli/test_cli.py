"""The command as a user runs it: a process of its own, real measurements on the CPU."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.commands import SMALL, attnprof_command

import attnprof
from attnprof.cases.record_lines import read_records


def test_version_and_help():
    assert attnprof_command("--version").stdout.strip() == attnprof.__version__
    for arguments in ([], ["--help"], ["sweep", "--help"], ["-h"]):
        done = attnprof_command(*arguments)
        assert done.returncode == 0
        assert "Usage" in done.stdout
        assert done.stderr == ""


def test_csv_on_stdout_is_only_data_and_the_file_agrees(tmp_path):
    done = attnprof_command(*SMALL, "--format", "csv", "--csv", tmp_path / "t.csv", "--out", tmp_path / "r.jsonl")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(r["strategy"], r["height"], r["width"], r["mode"]) for r in rows][:2] == [
        ("naive", "4", "4", "forward"), ("chunked", "4", "4", "forward"),
    ]  # fmt: skip
    assert len(rows) == 8
    assert {r["outcome"] for r in rows} == {"completed"}
    assert (tmp_path / "t.csv").read_text() == done.stdout
    assert "8 cases" in done.stderr
    assert "[8/8]" in done.stderr
    assert len(read_records(tmp_path / "r.jsonl")) == 8


def test_json_and_table_and_markdown_of_a_finished_file(tmp_path):
    attnprof_command(*SMALL, "--out", tmp_path / "r.jsonl")
    again = [*SMALL, "--out", tmp_path / "r.jsonl", "--resume", "--format"]
    rows = json.loads(attnprof_command(*again, "json").stdout)
    assert len(rows) == 8
    table = attnprof_command(*again, "table").stdout
    assert max(map(len, table.splitlines())) <= 80
    assert "Pick " in table
    assert attnprof_command(*again, "markdown").stdout.count("| naive |") == 4


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_sweep_says_how_to_go_on_and_goes_on(tmp_path, number, code):
    path = tmp_path / "r.jsonl"
    arguments = [
        *SMALL,
        "--out",
        str(path),
        "--strategy",
        "naive,chunked,online",
        "--case-seconds",
        "0.1",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "attnprof", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: path.exists() and path.read_text().count("\n") >= 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == code
    done = len(read_records(path))
    assert 2 <= done < 12
    assert "strategy" in out
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"stopped after {done} of 12 cases; continue with: attnprof sweep")
    assert "Traceback" not in err
    resumed = attnprof_command(*last.partition("attnprof ")[2].split(), "--format", "csv")
    assert resumed.returncode == 0, resumed.stderr
    assert len(resumed.stdout.splitlines()) == 13


def test_a_killed_sweep_leaves_no_worker_and_its_records(tmp_path):
    path = tmp_path / "r.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "attnprof", *SMALL, "--out", str(path), "--case-seconds", "5"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: path.exists() and path.read_text().count("\n") >= 1)
    children = descendants(process.pid)
    assert children
    process.kill()
    process.wait()
    wait_for(lambda: not any(alive(pid) for pid in children))
    assert len(read_records(path)) >= 1


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    attnprof_command(*SMALL, "--out", tmp_path / "r.jsonl")
    command = " ".join(
        [sys.executable, "-m attnprof", *SMALL, "--out", str(tmp_path / "r.jsonl"), "--resume --format csv"]
    )
    done = subprocess.run(f"{command} | head -1; echo ${{PIPESTATUS[0]}}", shell=True, executable="/bin/bash",
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.stdout.startswith("strategy,")
    assert done.stdout.strip().endswith("\n0")
    assert "Traceback" not in done.stderr


def test_sweep_from_python_gives_the_same_rows(tmp_path):
    frame = attnprof.sweep(hw=[4, "6x8"], channels=8, strategy=["naive", "pooled"], mode="forward", device="cpu",
                           case_seconds=0.01, out=str(tmp_path / "r.jsonl"))  # fmt: skip
    assert list(frame["strategy"]) == ["naive", "pooled:2"] * 2
    assert list(frame["exact"]) == [True, False] * 2
    assert frame["peak_allocated_bytes"].gt(0).all()
    assert len(read_records(tmp_path / "r.jsonl")) == 4


def test_cards_are_swept_and_resumed(on_card, tmp_path):
    path = tmp_path / "r.jsonl"
    some = ["sweep", "--hw", "8,512", "--strategy", "naive,sdpa-pad", "--mode", "forward", "--out", path]
    first = attnprof_command(*some, "--gpu", "t4")
    assert first.returncode == 0, first.stderr
    assert "1x128x8x8 fp32 forward - t4: 14.6 GiB, CUDA context 137 MiB (emulated)" in first.stdout
    both = attnprof_command(*some, "--gpu", "t4,h100", "--resume", "--format", "csv")
    assert both.returncode == 0, both.stderr
    rows = list(csv.DictReader(io.StringIO(both.stdout)))
    assert [r["gpu"] for r in rows] == ["t4"] * 4 + ["h100"] * 4
    assert [r["outcome"] for r in rows] == ["completed", "completed", "out_of_memory", "completed"] * 2
    assert {r["source"] for r in rows} == {"emulated"}
    assert {r["latency_median_seconds"] + r["max_abs_error"] for r in rows} == {""}
    assert "t4: 4 cases, 4 of them known before" in both.stderr


def test_limits_of_a_card_and_their_resumption(on_card, tmp_path):
    path = tmp_path / "r.jsonl"
    some = ["limits", "--gpu", "t4", "--strategy", "naive,sdpa-pad", "--mode", "forward", "--out", path]
    table = attnprof_command(*some)
    assert table.returncode == 0, table.stderr
    assert max(map(len, table.stdout.splitlines())) <= 80
    probes = len(read_records(path))
    again = attnprof_command(*some, "--resume", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(again.stdout)))
    assert len(read_records(path)) == probes == sum(int(r["probes"]) for r in rows)
    naive, padded = rows
    # Two N x N matrices of floats, and little else, in 14.56 GiB less the context.
    assert 200 < int(naive["largest_ok"]) < 211
    assert int(padded["largest_ok"]) > 2900
    for row in rows:
        assert int(row["smallest_oom"]) == int(row["largest_ok"]) + 1
        assert row["source"] == "emulated"
    assert (round(float(naive["exponent"]), 1), round(float(padded["exponent"]), 1)) == (2.0, 1.0)


def test_limits_are_measured_within_a_budget(tmp_path):
    done = attnprof_command("limits", "--device", "cpu", "--budget", "60MB", "--channels", "8", "--strategy", "naive",
                            "--mode", "forward", "--format", "csv", "--out", tmp_path / "r.jsonl")  # fmt: skip
    assert done.returncode == 0, done.stderr
    [row] = csv.DictReader(io.StringIO(done.stdout))
    assert int(row["smallest_oom"]) == int(row["largest_ok"]) + 8
    assert int(row["peak_bytes"]) <= 60 * 10**6
    assert (row["source"], row["failure"]) == ("measured", "out_of_memory")
    assert all(r.measurement.latency is None for r in read_records(tmp_path / "r.jsonl"))


def test_the_doctor_tries_what_it_says():
    done = attnprof_command("doctor")
    assert done.returncode == 0, done.stderr
    topics = [line.split()[0] for line in done.stdout.splitlines() if line[:1] != " "]
    assert topics[:4] == ["torch", "device", "memory", "kernels"]
    assert "emulation" in topics
    assert max(map(len, done.stdout.splitlines())) <= 80


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def descendants(pid):
    found = []
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        found += [child, *descendants(child)]
    return found


def alive(pid):
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
