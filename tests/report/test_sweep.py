import csv
import io
import json

import pytest
from rich.console import Console
from support.samples import emulated, emulated_records, record, sweep_records

from attnprof.cases.cards import catalogue
from attnprof.cases.measurement import Outcome
from attnprof.report.gpus import cards_page
from attnprof.report.groups import group
from attnprof.report.remarks import pick_remarks
from attnprof.report.rows import COLUMNS, tidy_row
from attnprof.report.sweep import sweep_page

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
~pooled:2+sdpa-split+     40.0 MiB  38.0 MiB        12.2 s      -  2e-01
checkpoint+bf16
online                                           timed out

* marks the lowest peak and the shortest latency of the exact strategies; ~ an
approximate strategy; ? a latency that is uncertain.
peak: highest memory allocated. step: the part of it that a step adds. speed:
relative to naive. error: the largest, relative to float64.
sdpa: the math kernel runs (no flash: query/key and value dims differ)
online: timed out (no end after 300 s (--timeout))
1 case: latency varies: close other programs
Pick chunked for 1x128x256x256 fp32 forward: it needs 100 MiB; naive runs out of
memory.
"""

CARD = """\
1x128x64x64 fp32 forward - t4: 16.0 GiB, CUDA context 100 MiB (emulated)
strategy                  peak      step  reserved     total  of card  kernel
────────────────────────────────────────────────────────────────────────────────
naive                      OOM
online              1.87 GiB *  1.87 GiB  1.88 GiB  1.97 GiB      12%
sdpa-pad              1.95 GiB  1.95 GiB  1.96 GiB  2.06 GiB      13%  efficient
~pooled:2+             900 MiB   898 MiB   910 MiB  0.99 GiB       6%  efficient
sdpa-pad+fp16
sdpa               unsupported

* marks the lowest peak of the exact strategies; ~ an approximate strategy.
peak: highest memory allocated. step: the part of it that a step adds. reserved:
with the allocator's cache. total: with the CUDA context as well.
sdpa-pad on t4: the efficient kernel runs (no flash: GPU too old)
pooled:2+sdpa-pad+fp16 on t4: the efficient kernel runs (no flash: GPU too old)
sdpa on t4: unsupported (no kernel image)
t4: Pick online for 1x128x64x64 fp32 forward: it needs the least memory of the
exact strategies, 1.97 GiB; naive runs out of memory.
"""

CARDS = """\
1x128x64x64 fp32 forward (emulated)
strategy                  t4 16.0 GiB     l4 16.0 GiB  t4,memory=8GB 16.0 GiB
─────────────────────────────────────────────────────────────────────────────
naive                             OOM             OOM                     OOM
online                     1.87 GiB *      1.87 GiB *              1.87 GiB *
sdpa-pad                 1.95 GiB eff  1.95 GiB flash            1.95 GiB eff
~pooled:2+sdpa-pad+fp16   900 MiB eff   900 MiB flash             900 MiB eff
sdpa                      unsupported     unsupported             unsupported

* marks the lowest peak of the exact strategies; ~ an approximate strategy.
Each cell: highest memory allocated, and the attention kernel (eff: efficient).
t4: 16.0 GiB, CUDA context 100 MiB
l4: 16.0 GiB, CUDA context 100 MiB
t4,memory=8GB: 16.0 GiB, CUDA context 100 MiB
sdpa-pad on t4, t4,memory=8GB: the efficient kernel runs (no flash: GPU too old)
pooled:2+sdpa-pad+fp16 on t4, t4,memory=8GB: the efficient kernel runs (no
flash: GPU too old)
sdpa on t4, l4, t4,memory=8GB: unsupported (no kernel image)
t4, l4, t4,memory=8GB: Pick online for 1x128x64x64 fp32 forward: it needs the
least memory of the exact strategies, 1.97 GiB; naive runs out of memory.
"""


def rendered(records, width=80):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(sweep_page(records).table(), crop=False)
    return console.file.getvalue()


def test_table_at_80_columns():
    text = rendered(sweep_records())
    assert [line.rstrip() for line in text.splitlines()] == TABLE.splitlines()
    assert max(map(len, text.splitlines())) <= 80


def test_another_attention_is_named_under_the_table():
    others = [record("axial"), record("linear+fp16"), record("axial", side=256)]
    here, there = rendered(sweep_records() + others), rendered([emulated("t4", "linear", 5)])
    assert "Another attention than naive's (weights need training again): axial," in here
    assert "Another attention than naive's (weights need training again): linear\n" in there
    assert (
        "Another attention than naive's (weights need training again): axial, linear+fp16"
        in sweep_page(others).markdown()
    )


def test_the_last_line_says_what_to_pick():
    [everything] = pick_remarks(group(sweep_records()))
    assert everything == "Pick chunked for 1x128x256x256 fp32 forward: it needs 100 MiB; naive runs out of memory."
    [first] = pick_remarks(group(sweep_records())[:1])
    assert first == (
        "Pick sdpa-pad for 1x128x64x64 fp32 forward: it needs 13.0 MiB; 11.5x less memory than naive, 3.8x faster."
    )
    [none] = pick_remarks(group([record("pooled:2")]))
    assert "No exact strategy ran" in none
    [only] = pick_remarks(group([record("naive", peak_mib=3)]))
    assert only == "Pick naive for 1x128x64x64 fp32 forward: it needs 3.00 MiB."


def test_csv_has_the_promised_columns_first():
    assert ", ".join(COLUMNS).startswith(PROMISED)
    rows = list(csv.DictReader(io.StringIO(sweep_page(sweep_records()).csv())))
    assert len(rows) == len(sweep_records())
    assert rows[1]["peak_allocated_bytes"] == str(14 * 2**20)
    assert rows[5]["outcome"] == "out_of_memory"
    assert rows[5]["latency_median_seconds"] == ""
    assert rows[2]["sdpa_refused"] == "flash: query/key and value dims differ"
    assert {row["source"] for row in rows} == {"measured"}


def test_json_is_the_same_rows():
    rows = json.loads(sweep_page(sweep_records()).json())
    assert rows == [tidy_row(r) for r in sweep_records()]
    assert rows[0]["exact"] is True
    assert rows[4]["exact"] is False
    assert rows[0]["matmul_share"] == pytest.approx(10**9 / 0.2 / 1e11)


def test_markdown_tables():
    text = sweep_page(sweep_records()).markdown()
    assert "| chunked | 14.0 MiB | 12.0 MiB | 50.0 ms \\* | 4.0x | 1e-07 |  |" in text
    assert text.count("| --- | ---: | ---: | ---: | ---: | ---: | --- |\n") == 2


def test_nothing_measured_is_still_a_table():
    assert "crashed" in rendered([record("naive", Outcome.CRASHED, reason="signal SIGSEGV")])


def test_one_emulated_card_in_full():
    text = rendered(emulated_records("t4"))
    assert [line.rstrip() for line in text.splitlines()] == CARD.splitlines()


def test_emulated_cards_side_by_side():
    text = rendered([*emulated_records("t4", "l4"), *emulated_records("t4,memory=8GB")])
    assert [line.rstrip() for line in text.splitlines()] == CARDS.splitlines()
    assert max(map(len, text.splitlines())) <= 80


def test_many_cards_take_several_tables():
    cards = ["t4", "p100", "v100", "l4", "a10g", "rtx4060ti-16gb"]
    text = rendered(emulated_records(*cards))
    assert text.count("strategy ") == 2
    assert all(text.count(f"{card} 16.0 GiB") == 1 for card in cards)
    assert max(map(len, text.splitlines())) <= 80


def test_nothing_emulated_is_shown_as_measured():
    text = rendered([*emulated_records("t4"), *sweep_records()])
    assert "t4: 16.0 GiB, CUDA context 100 MiB (emulated)" in text
    assert "Test CPU (measured)" in text
    row = tidy_row(emulated("t4", "online", 50))
    assert (row["source"], row["gpu"], row["latency_median_seconds"]) == ("emulated", "t4", None)
    assert (row["max_abs_error"], row["total_memory_bytes"], row["context_bytes"]) == (None, 2**34, 100 * 2**20)
    assert sweep_page(emulated_records("t4", "l4")).markdown().count("| online |") == 1


def test_the_catalogue_fits_a_terminal():
    console = Console(width=80, file=io.StringIO(), force_terminal=False)
    console.print(cards_page(catalogue()).table())
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split()[:5] == ["t4", "7.5", "14.6", "GiB", "137"] for line in lines)
    assert len(list(csv.DictReader(io.StringIO(cards_page(catalogue()).csv())))) == len(catalogue())
    assert json.loads(cards_page(catalogue()).json())[0]["name"] == "Tesla T4"
    assert "| t4 | 7.5 | 14.6 GiB |" in cards_page(catalogue()).markdown()
