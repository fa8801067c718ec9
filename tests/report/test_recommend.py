"""The page of a recommendation, on made-up records."""

import json

from support.drawing import drawn
from support.samples import MIB, emulated, record

from attnprof.cases.capacity import Capacity
from attnprof.cases.measurement import Outcome
from attnprof.report.recommend import recommend_page
from attnprof.studies.recommend.ranking import rank
from attnprof.studies.recommend.recommendation import Nearest, Recommendation, fitting_approximations
from attnprof.studies.recommend.snippet import snippet

ROOMY = Capacity(1000 * MIB, 100 * MIB)


def why(ranking):
    return {option.strategy: option.why_not for option in ranking.options}


FITS = """\
1x128x64x64 fp32 forward - t4: 16.0 GiB, CUDA context 100 MiB (emulated)
strategy      needs  share  step time  verdict
────────────────────────────────────────────────────────────────────────────────
online     1.97 GiB    12%          -  pick
sdpa-pad   3.04 GiB    19%          -  1.5x the memory
~pooled:2  0.99 GiB     6%          -  approximate: pooled keys, 2.0x less
                                       memory
naive      64.0 GiB   400%          -  over by 49.6 GiB

needs: memory at the peak, on CUDA with the allocator's cache and the CUDA
context. ~ marks an approximate strategy, and an estimated time.

Use online: it needs 1.97 GiB of 16.0 GiB and leaves 14.0 GiB free (margin: 1.60
GiB).
naive runs out of memory: it needs 64.0 GiB.
Exact: the same function as naive to rounding; its error was not measured (an
emulated card computes nothing).

# attnprof is installed from a clone of its repository: pip install ."""


def fitting():
    total = 16 * 2**30
    records = [
        emulated("t4", "naive"), emulated("t4", "online", 1907), emulated("t4", "sdpa-pad", 3003),
        emulated("t4", "pooled:2", 900),
    ]  # fmt: skip
    return Recommendation(rank(records, Capacity(total, total // 10), needs={"naive": 64 * 2**30}), records[0])


def text_of(found, width=80):
    return drawn(recommend_page(found), width).splitlines()


def test_the_answer_for_a_person():
    lines = text_of(fitting())
    assert lines[: len(FITS.splitlines())] == FITS.splitlines()
    assert "\n".join(lines).endswith(snippet("online"))  # not broken over lines
    assert "```python\n# attnprof is installed" in recommend_page(fitting()).markdown()


def test_where_nothing_fits_the_answer_has_what_would():
    records = [record("naive", peak_mib=950, batch=8, mode="train"), record("pooled:2", batch=8, mode="train")]
    near = (
        Nearest("batch", record("naive", batch=3, mode="train").case, 800 * MIB),
        Nearest("keys", records[1].case, 100 * MIB),
        Nearest("map", record("naive", batch=8, side=56, mode="train").case, 890 * MIB),
    )
    text = "\n".join(text_of(Recommendation(rank(records, ROOMY), records[0], nearest=near), width=200))
    assert "Nothing exact fits 8x128x64x64 fp32 train in 900 MiB (0.98 GiB less a margin of 100 MiB)." in text
    assert "The nearest, naive, is over by 50.0 MiB." in text
    order = [
        "- a batch of 3: naive, 800 MiB; accumulate gradients over 3 steps for the same update",
        "- fewer keys, so another function: pooled:2, 100 MiB (--allow-approximate)",
        "- a map of 56x56: naive, 890 MiB",
    ]
    assert [text.index(line) for line in order] == sorted(text.index(line) for line in order)


def test_another_attention_is_the_worst_of_what_fits_and_is_called_so():
    records = [
        record("naive", peak_mib=950), record("linear+fp16", peak_mib=5), record("axial", peak_mib=9),
        record("pooled:2+linear", peak_mib=7), record("pooled:2", peak_mib=100), record("chunked+fp16", peak_mib=200),
    ]  # fmt: skip
    ranking = rank(records, ROOMY)
    found = fitting_approximations(ranking)
    assert [(near.given_up, near.case.strategy) for near in found] == [
        ("precision", "chunked+fp16"), ("keys", "pooled:2"), ("attention", "linear+fp16"),
    ]  # fmt: skip
    text = "\n".join(text_of(Recommendation(ranking, records[0], nearest=tuple(found)), width=200))
    assert "- another attention, so another function: linear+fp16, 5.00 MiB (--allow-approximate)" in text
    assert "Another attention than naive's (weights need training again): linear+fp16, pooled:2+linear, axial\n" in text


def test_another_attention_is_picked_where_allowed_and_says_what_it_takes():
    records = [record("naive", peak_mib=150, seconds=0.2), record("linear", seconds=0.01, error=2.0)]
    assert rank(records, ROOMY).pick.strategy == "naive"
    assert why(rank(records, ROOMY))["linear"] == "approximate: another attention, 20.0x faster, 1.5x less memory"
    text = "\n".join(text_of(Recommendation(rank(records, ROOMY, allow_approximate=True), records[0]), width=200))
    assert (
        "Another function than naive's (another attention): weights need training again; largest error 2e+00 "
        "against float64." in text
    )


def test_what_failed_for_other_reasons_is_not_said_not_to_fit():
    records = [record("naive", Outcome.TIMED_OUT, reason="no end after 120 s (--timeout)")]
    [*_, first, second] = text_of(Recommendation(rank(records, ROOMY), records[0]), width=120)
    assert first == "No exact variant ran 1x128x64x64 fp32 forward, for other reasons than memory: see the verdicts."
    assert second == "No smaller batch or map was found to fit either."


def test_json_for_scripts():
    answer = json.loads(recommend_page(fitting()).json())
    assert (answer["fits"], answer["pick"], answer["source"], answer["gpu"]) == (True, "online", "emulated", "t4")
    assert answer["usable_bytes"] == answer["total_bytes"] - answer["margin_bytes"]
    assert {o["strategy"]: o["usable"] for o in answer["options"]} == {
        "online": True, "sdpa-pad": True, "pooled:2": False, "naive": False,
    }  # fmt: skip
    assert "SelfAttention2d" in answer["snippet"]
