"""What the listing commands print."""

import csv
import io
import json

from support.commands import attnprof_command, attnprof_here

import attnprof


def test_the_catalogue_is_listed():
    table = attnprof_here("gpus")
    assert table.returncode == 0
    assert "rtx3090" in table.stdout
    rows = json.loads(attnprof_here("gpus", "--format", "json").stdout)
    assert rows[0]["key"] == "t4"
    assert attnprof_here("gpus", "--format", "csv").stdout.startswith("key,name,")
    assert attnprof_here("gpus", "--format", "xml").returncode == 2


def test_the_strategies_are_listed():
    table = attnprof_here("strategies")
    assert table.returncode == 0, table.stderr
    assert max(map(len, table.stdout.splitlines())) <= 80
    assert "online[:QUERIESxKEYS]" in table.stdout
    rows = {row["strategy"]: row for row in json.loads(attnprof_here("strategies", "--format", "json").stdout)}
    assert list(rows) == [component.name for component in attnprof.attention.COMPONENTS]
    assert (rows["chunked"]["memory_training"], rows["chunked"]["exact"]) == ("N", True)
    assert (rows["pooled"]["memory_forward"], rows["pooled"]["approximation"]) == ("/ FACTOR^2", "pooled keys")
    assert (rows["axial"]["memory_training"], rows["axial"]["approximation"]) == ("N^1.5", "another attention")
    assert table.stdout.count("~another attention") == 4
    listed = list(csv.DictReader(io.StringIO(attnprof_here("strategies", "--format", "csv").stdout)))
    assert [row["runs"] for row in listed] == [row["runs"] for row in rows.values()]
    markdown = attnprof_here("strategies", "--format", "markdown").stdout
    for row in rows.values():
        assert row["spelling"] in table.stdout
        assert f"| {row['summary']} | {row['runs']} |" in markdown
    assert attnprof_here("strategies", "--format", "xml").returncode == 2


def test_the_blocks_are_listed_and_swept(tmp_path):
    table = attnprof_here("blocks")
    assert max(map(len, table.stdout.splitlines())) <= 80
    rows = {row["block"]: row for row in json.loads(attnprof_here("blocks", "--format", "json").stdout)}
    assert (rows["nonlocal"]["reduction"], rows["nonlocal"]["pool"]) == (2, 2)
    assert all(f"| {row['summary']} |" in attnprof_here("blocks", "--format", "markdown").stdout
               for row in rows.values())  # fmt: skip
    done = attnprof_command(
        "sweep", "--block", ",".join(rows), "--hw", "8", "--channels", "16", "--mode", "train", "--strategy",
        "naive,chunked", "--case-seconds", "0.01", "--device", "cpu", "--format", "csv", "--out", str(tmp_path / "r"),
    )  # fmt: skip
    found = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {row["block"] for row in found} == set(rows)
    assert all(row["outcome"] == "completed" and float(row["grad_max_rel_error"]) < 1e-4 for row in found)
    for arguments, message in {
        ("--block", "nonlokal"): "unknown block 'nonlokal': did you mean 'nonlocal'?",
        ("--block", "danet", "--channels", "12"): "channels: 12 is not divisible by 8; choose other channels",
    }.items():
        failed = attnprof_here("sweep", *arguments)
        assert (failed.returncode, failed.stderr.count("\n")) == (2, 1)
        assert message in failed.stderr
