import csv
import io
import json

import pytest
from rich.console import Console
from samples import record, sweep_records

from attnprof.record import Outcome
from attnprof.report.export import to_csv, to_json
from attnprof.report.rows import COLUMNS, tidy_row
from attnprof.report.summary import group, pick_line
from attnprof.report.table import to_markdown, to_table

PROMISED = (
    "strategy, exact, mode, dtype, batch, channels, height, width, device, source, outcome, peak_allocated_bytes, "
    "peak_reserved_bytes, step_bytes, latency_median_seconds, latency_iqr_seconds, latency_samples, max_abs_error, "
    "max_rel_error, grad_max_rel_error, sdpa_kernel"
)

TABLE = """\
1x128x64x64 fp32 forward - Test CPU (measured)
strategy         peak      step    latency  speed  error  kernel
────────────────────────────────────────────────────────────────
naive         150 MiB   148 MiB     200 ms   1.0x  1e-07
chunked      14.0 MiB  12.0 MiB  50.0 ms *   4.0x  1e-07
sdpa          160 MiB   158 MiB     130 ms   1.5x  1e-07  math
sdpa-pad   13.0 MiB *  11.0 MiB    52.0 ms   3.8x  1e-07  flash
~pooled:2    40.0 MiB  38.0 MiB    20.0 ms  10.0x  2e-01

1x128x256x256 fp32 forward - Test CPU (measured)
strategy                      peak      step       latency  speed  error  kernel
────────────────────────────────────────────────────────────────────────────────
naive                                                  OOM
chunked                  100 MiB *  98.0 MiB      9.50 s *      -  1e-07
sdpa                                          OOM, implied
~pooled:2+sdpa-split+ch   40.0 MiB  38.0 MiB        12.2 s      -  2e-01
eckpoint+bf16
online                                           timed out

* fastest or smallest of the exact   ~ approximate   speed: against naive
sdpa: math (no flash: query/key and value dims differ)
online: timed out (no end after 300 s (--timeout))
? latency varies by much: close other programs (1 case)
Pick chunked: peak 100 MiB where naive is out of memory at 1x128x256x256 fp32
forward.
"""


def rendered(records, width=80):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(to_table(records))
    return console.file.getvalue()


def test_table_at_80_columns():
    text = rendered(sweep_records())
    assert [line.rstrip() for line in text.splitlines()] == TABLE.splitlines()
    assert max(map(len, text.splitlines())) <= 80


def test_the_last_line_says_what_to_pick():
    everything = pick_line(group(sweep_records()))
    assert everything == "Pick chunked: peak 100 MiB where naive is out of memory at 1x128x256x256 fp32 forward."
    first = group(sweep_records())[:1]
    assert (
        pick_line(first) == "Pick sdpa-pad: 3.8x faster than naive, 13.5x less step memory at 1x128x64x64 fp32 forward."
    )
    assert "No exact strategy ran" in pick_line(group([record("pooled:2")]))
    assert pick_line(group([record("naive", peak_mib=3)])) == "Pick naive: peak 3.00 MiB at 1x128x64x64 fp32 forward."


def test_csv_has_the_promised_columns_first():
    assert ", ".join(COLUMNS).startswith(PROMISED)
    rows = list(csv.DictReader(io.StringIO(to_csv(sweep_records()))))
    assert len(rows) == len(sweep_records())
    assert rows[1]["peak_allocated_bytes"] == str(14 * 2**20)
    assert rows[5]["outcome"] == "out_of_memory"
    assert rows[5]["latency_median_seconds"] == ""
    assert rows[2]["sdpa_refused"] == "flash: query/key and value dims differ"
    assert {row["source"] for row in rows} == {"measured"}


def test_json_is_the_same_rows():
    rows = json.loads(to_json(sweep_records()))
    assert rows == [tidy_row(r) for r in sweep_records()]
    assert rows[0]["exact"] is True
    assert rows[4]["exact"] is False
    assert rows[0]["matmul_share"] == pytest.approx(10**9 / 0.2 / 1e11)


def test_markdown_tables():
    text = to_markdown(sweep_records())
    assert "| chunked | 14.0 MiB | 12.0 MiB | 50.0 ms \\* | 4.0x | 1e-07 |  |" in text
    assert text.count("| --- | --- | --- | --- | --- | --- | --- |\n") == 2


def test_nothing_measured_is_still_a_table():
    assert "crashed" in rendered([record("naive", Outcome.CRASHED, reason="signal SIGSEGV")])
