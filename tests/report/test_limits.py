"""The page of limits, on thresholds found with made-up records."""

import csv
import io

from support.drawing import drawn
from support.samples import emulated

from attnprof.cases.axis import Axis
from attnprof.cases.workload import Workload
from attnprof.report.limits import limits_page
from attnprof.studies.bracketing import find_threshold


def thresholds():
    def on_card(case):
        fits = case.workload.height <= 209 or (case.strategy != "naive" and case.workload.height <= 3048)
        if not fits:
            return emulated("t4", case.strategy, side=case.workload.height)
        return emulated("t4", case.strategy, max(1, case.workload.positions // 1000), side=case.workload.height)

    base = Workload(1, 128, 1, 1)
    return [find_threshold(Axis("hw", base), name, 10**10, on_card) for name in ("naive", "online", "pooled:2")]


TABLE = """\
1x128xHxW fp32 forward - t4: 16.0 GiB, CUDA context 100 MiB (emulated)
strategy       largest      peak       fails at     p  probes
─────────────────────────────────────────────────────────────
naive          209x209  43.0 MiB    210x210 OOM  {naive}
online     3048x3048 *  9.07 GiB  3049x3049 OOM  {online}
~pooled:2    3048x3048  9.07 GiB  3049x3049 OOM  {pooled}

* marks the largest of the exact strategies; ~ an approximate strategy. p: peak
memory grows with N = H * W to the power of p.
"""


def test_the_table():
    found = thresholds()
    ends = {
        name: f"{t.exponent:.2f}  {t.probes:6d}" for name, t in zip(("naive", "online", "pooled"), found, strict=True)
    }
    assert drawn(limits_page(found)) == TABLE.format(**ends)
    assert "| online | 3048x3048 \\* |" in limits_page(found).markdown()


def test_another_attention_is_named_under_the_table():
    def on_card(case):
        return emulated("t4", case.strategy, 9 if case.workload.height < 99 else None, side=case.workload.height)

    found = find_threshold(Axis("hw", Workload(1, 128, 1, 1)), "axial", 10**10, on_card)
    assert drawn(limits_page([found])).endswith("Another attention than naive's (weights need training again): axial\n")


def test_csv_has_the_promised_columns_first():
    rows = list(csv.DictReader(io.StringIO(limits_page(thresholds()).csv())))
    promised = ["strategy", "mode", "vary", "largest_ok", "smallest_oom", "probes", "source", "device"]
    assert list(rows[0])[:8] == promised
    assert [rows[0][name] for name in promised[:5]] == ["naive", "forward", "hw", "209", "210"]
    assert (rows[0]["source"], rows[0]["gpu"], rows[0]["height"]) == ("emulated", "t4", "")
    assert limits_page(thresholds()).json().count('"largest_ok": 3048') == 2
