"""The search for a threshold, on made-up memory laws: exact, and without clocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import ENVIRONMENT, MIB, SETTINGS

from attnprof.cases.axis import Axis
from attnprof.cases.measurement import Measurement, Memory, Outcome
from attnprof.cases.record import Record
from attnprof.cases.workload import Workload
from attnprof.errors import AttnprofError
from attnprof.studies.bracketing import Search, find_threshold
from attnprof.studies.requests import limits_study


def run(search, load, capacity):
    """Drive a search over a law; the sizes that it looked at."""
    seen = []
    while (size := search.next_size()) is not None:
        assert size > 0
        assert size % search.step == 0
        assert size not in seen
        seen.append(size)
        search.tell(size, load(size) if load(size) <= capacity else None)
    return seen


@given(
    offset=st.integers(0, 10**8), factor=st.integers(1, 10**5), power=st.sampled_from([1, 1.5, 2, 4]),
    capacity=st.integers(10**6, 10**11), step=st.sampled_from([1, 8]), start=st.sampled_from([1, 64]),
)  # fmt: skip
def test_both_ends_are_seen_and_neighbours(offset, factor, power, capacity, step, start):
    def load(size):
        return offset + int(factor * size**power)

    search = Search(start, step, capacity)
    seen = run(search, load, capacity)
    assert search.smallest_failed in seen
    assert load(search.smallest_failed) > capacity
    if search.largest_ok is None:
        assert search.smallest_failed == step
    else:
        assert search.largest_ok in seen
        assert load(search.largest_ok) <= capacity
        assert search.smallest_failed - search.largest_ok == step
    assert len(seen) <= 40


@pytest.mark.parametrize(("factor", "power", "probes"), [(8, 4, 8), (1664, 2, 10), (3 * 10**6, 1, 9)])
def test_few_probes_for_the_laws_of_attention(factor, power, probes):
    capacity = 15 * 10**9
    seen = run(Search(64, 1, capacity), lambda size: 10 * MIB + factor * size**power, capacity)
    assert len(seen) <= probes


AXIS = Axis("hw", Workload(1, 128, 1, 1), aspect=2.0)


def probe(case, fits=10**9, beyond=Outcome.OUT_OF_MEMORY):
    peak = case.workload.positions**2
    done = peak <= fits
    memory = Memory(0, peak, 0, peak, peak)
    return Record(
        case=case,
        outcome=Outcome.COMPLETED if done else beyond,
        measurement=Measurement(memory=memory if done else None),
        environment=ENVIRONMENT,
        settings=SETTINGS,
        time="2026-01-01T00:00:00+00:00",
        reason="" if done else "no more",
    )


def test_a_threshold_and_how_memory_grows():
    found = find_threshold(AXIS, "naive", 10**9, probe)
    assert (found.largest_ok, found.smallest_oom) == (125, 126)  # (2 * 125**2) ** 2 <= 10**9 < (2 * 126**2) ** 2
    assert AXIS.text(found.largest_ok) == "125x250"
    assert found.exponent == pytest.approx(2)
    assert found.peak_bytes == (2 * 125**2) ** 2


def test_a_refusal_for_another_reason_is_not_out_of_memory():
    found = find_threshold(AXIS, "naive", 10**9, lambda case: probe(case, beyond=Outcome.UNSUPPORTED))
    assert (found.largest_ok, found.smallest_failed, found.smallest_oom) == (125, 126, None)
    assert (found.failure, found.reason) == (Outcome.UNSUPPORTED, "no more")


def test_a_time_out_ends_the_search():
    found = find_threshold(AXIS, "naive", 10**12, lambda case: probe(case, beyond=Outcome.TIMED_OUT))
    assert (found.smallest_failed, found.reason) == (None, "no more")
    assert found.largest_ok


def test_what_would_take_too_long_is_not_tried_but_something_nearer_is():
    tried = []

    def untried(case):
        return "too long" if case.workload.height > 100 else ""

    def noting(case):
        tried.append(case.workload.height)
        return probe(case)

    found = find_threshold(AXIS, "naive", 10**15, noting, untried)
    assert max(tried) <= 100
    assert found.largest_ok == max(tried) > 64
    assert (found.smallest_failed, found.reason) == (None, "too long")


def test_nothing_fits():
    found = find_threshold(AXIS, "naive", 1, lambda case: probe(case, fits=0))
    assert (found.largest_ok, found.smallest_oom) == (None, 1)


def test_batch_and_channels_vary():
    base = Workload(1, 128, 8, 8)
    assert Axis("batch", base).workload(7) == Workload(7, 128, 8, 8)
    assert Axis("channels", base, step=8).workload(64) == Workload(1, 64, 8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vary": "depth", "gpu": "t4"}, "vary: 'depth' is not one of hw, batch, channels"),
        ({"gpu": "t4", "aspect": "0"}, "aspect: '0' is not a width over a height"),
        ({"gpu": "t4", "aspect": "1:0"}, "aspect: '1:0' is not"),
        ({"gpu": "t4", "step": 0}, "step: 0 is not a positive whole number"),
        ({"gpu": "t4", "strategy": "nothing"}, "unknown strategy 'nothing'"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(AttnprofError, match=message):
        limits_study(**options)


def test_axes_are_what_does_not_vary():
    axes = limits_study(gpu="t4", vary="batch", hw="32,64x128", mode="train", aspect="16:9").axes
    assert [(a.base.height, a.base.width, a.base.mode) for a in axes] == [(32, 32, "train"), (64, 128, "train")]
    [channels] = limits_study(gpu="t4", vary="channels", mode="forward", step=12).axes
    assert channels.step == 24
    assert [a.step for a in limits_study(budget="1GB").axes] == [8, 8]


@pytest.mark.parametrize("step", [1, 8])
def test_a_search_without_an_end_ends(step):
    search = Search(64, step, 10**9)
    assert len(run(search, lambda size: 10**6, 10**9)) < 20
    assert (search.smallest_failed, 2**39 < search.largest_ok <= 2**40) == (None, True)


def test_a_search_without_an_end_says_so():
    found = find_threshold(AXIS, "naive", 10**9, lambda case: probe(case, fits=10**100))
    assert found.reason.startswith("nothing up to ")
    assert found.reason.endswith(" failed")
    assert found.smallest_failed is None
