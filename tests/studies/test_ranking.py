"""The rule that picks a strategy: what it promises for any records, and cases seen in practice."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import MIB, emulated, measurement, record

from attnprof.cases.capacity import Capacity, memory_limit_bytes
from attnprof.cases.measurement import Estimate, Outcome
from attnprof.measure.worker.passes.latency import summarize
from attnprof.report.groups import group
from attnprof.studies.recommend.ranking import StepTime, option_of, pick_record, rank

NAMES = ("naive", "chunked", "online", "sdpa", "sdpa-pad", "sdpa-split", "checkpoint", "chunked:64", "online:32x32")
ENDLESS = Capacity(2**50, 0)
ROOMY = Capacity(1000 * MIB, 100 * MIB)
EQUAL_MEMORY = 1.05


def timed(strategy, peak_mib, *samples_seconds):
    """A record with these samples of its step time."""
    one = record(strategy)
    found = dataclasses.replace(measurement(peak_mib), latency=summarize(samples_seconds, 1))
    return dataclasses.replace(one, measurement=found)


def estimated(strategy, peak_mib, seconds):
    one = emulated("t4", strategy, peak_mib)
    found = dataclasses.replace(one.measurement, estimate=Estimate(seconds, "a roofline"))
    return dataclasses.replace(one, measurement=found)


SECONDS = st.floats(1e-4, 100.0)
SAMPLES = st.lists(SECONDS, min_size=1, max_size=12)
COSTS = st.tuples(st.integers(3, 10**6), st.one_of(SAMPLES, st.none()))


@st.composite
def sweeps(draw):
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=len(NAMES), unique=True))
    records = []
    for name in names:
        peak_mib, samples = draw(COSTS)
        one = timed(name, peak_mib, *(samples or [1.0]))
        if samples is None:
            one = dataclasses.replace(one, measurement=dataclasses.replace(one.measurement, latency=None))
        records.append(one)
    return records


@given(sweeps())
def test_the_pick_needs_no_more_memory_than_an_option_that_may_be_as_fast_as_the_fastest(records):
    pick = option_of(pick_record(records))
    timed_options = [option for option in map(option_of, records) if option.time]
    if not timed_options:
        assert pick.need_bytes <= EQUAL_MEMORY * min(option_of(one).need_bytes for one in records)
        return
    fastest = min(timed_options, key=lambda option: option.time.high_seconds)
    assert pick.time.overlaps(fastest.time)
    for option in timed_options:
        if option.time.overlaps(fastest.time):
            assert pick.need_bytes <= EQUAL_MEMORY * option.need_bytes


@given(sweeps())
def test_nothing_is_certainly_faster_than_the_pick(records):
    pick = option_of(pick_record(records))
    for option in map(option_of, records):
        if option.time:
            assert option.time.high_seconds >= pick.time.low_seconds


@given(sweeps().flatmap(lambda records: st.tuples(st.just(records), st.permutations(records))))
def test_the_order_of_records_does_not_matter(both):
    records, shuffled = both
    assert pick_record(records).case == pick_record(shuffled).case
    first, second = rank(records, ENDLESS), rank(shuffled, ENDLESS)
    assert [o.strategy for o in first.options] == [o.strategy for o in second.options]
    assert [o.why_not for o in first.options] == [o.why_not for o in second.options]


@given(sweeps())
def test_sweep_and_recommend_pick_the_same(records):
    [one] = group(records)
    assert one.pick.case == rank(records, ENDLESS).pick.record.case


@given(sweeps())
def test_only_the_pick_has_nothing_against_it(records):
    ranking = rank(records, ENDLESS)
    assert [o.strategy for o in ranking.options if o is ranking.pick] == [ranking.pick.strategy]
    assert ranking.pick.why_not == ""


def test_single_noisy_samples_do_not_decide_against_a_hundredth_of_the_memory():
    records = [timed("naive", 4127, 9.8), timed("chunked", 44, 14.1)]
    assert pick_record(records).case.strategy == "chunked"
    # Many steady samples do decide.
    steady = [timed("naive", 4127, *[9.8] * 9), timed("chunked", 44, *[14.1] * 9)]
    assert pick_record(steady).case.strategy == "naive"


def test_a_saving_of_a_hundredth_is_worth_no_time():
    records = [timed("chunked", 1000, 1.0), timed("online", 990, 2.0)]
    assert pick_record(records).case.strategy == "chunked"


def test_neighbours_do_not_lead_to_what_is_certainly_slower():
    """Each overlaps with the next, and the last is far from the first."""
    steady = [timed(name, 1000 - 100 * place, *[1.09**place] * 5) for place, name in enumerate(NAMES)]
    picked = pick_record(steady)
    assert picked.case.strategy == NAMES[1]
    ranking = rank(steady, ENDLESS)
    [third] = [option for option in ranking.options if option.strategy == NAMES[2]]
    assert third.why_not == "1.1x slower, 1.1x less memory"  # it overlaps with the pick, but not with the fastest


def test_a_noisy_fastest_does_not_let_the_slow_pass_a_steady_one():
    records = [timed("sdpa", 300, 1.0), timed("sdpa-pad", 200, *[1.05] * 9), timed("online", 100, *[1.4] * 9)]
    assert pick_record(records).case.strategy == "sdpa-pad"


@pytest.mark.parametrize(
    ("samples", "width"),
    [
        ((1.0,), 0.5),
        ((1.0, 1.0), 0.125),
        ((1.0, 1.0, 1.0), 0.5 / 9),
        ((1.0,) * 4, 0.05),
        ((0.8, 1.0, 1.0, 1.2), 1.57 * 0.1 / 2),
    ],
)
def test_the_interval_is_wide_for_few_samples_and_for_noise(samples, width):
    time = StepTime.of(timed("naive", 1, *samples))
    assert time.width == pytest.approx(width)
    assert (time.low_seconds, time.high_seconds) == pytest.approx((1 / (1 + width), 1 + width))


def test_estimates_differ_from_1_3x_on():
    near = [estimated("sdpa-pad", 60, 1.0), estimated("chunked", 50, 1.29)]
    far = [estimated("sdpa-pad", 60, 1.0), estimated("chunked", 50, 1.31)]
    assert pick_record(near).case.strategy == "chunked"
    assert pick_record(far).case.strategy == "sdpa-pad"


def test_what_needs_no_time_is_not_what_was_not_timed():
    untimed = dataclasses.replace(timed("online", 10, 1.0), measurement=emulated("t4", "online", 10).measurement)
    assert pick_record([untimed, timed("chunked", 50, 1.0)]).case.strategy == "chunked"
    assert pick_record([untimed]).case.strategy == "online"
    assert pick_record([record("pooled:2")]) is None


def test_the_limit_is_the_budget_or_the_device_whichever_is_less():
    assert memory_limit_bytes(None, None) is None
    assert memory_limit_bytes(5 * MIB, None) == memory_limit_bytes(None, 5 * MIB) == 5 * MIB
    assert memory_limit_bytes(5 * MIB, 3 * MIB) == memory_limit_bytes(3 * MIB, 5 * MIB) == 3 * MIB


def names(ranking):
    return [option.strategy for option in ranking.options]


def why(ranking):
    return {option.strategy: option.why_not for option in ranking.options}


def test_latency_decides_memory_breaks_ties_and_exact_comes_first():
    ranking = rank(
        [
            record("naive", peak_mib=150, seconds=0.2),
            record("chunked", peak_mib=14, seconds=0.055),
            record("online", peak_mib=13, seconds=0.0549),
            record("sdpa-pad", peak_mib=20, seconds=0.050),
            record("pooled:2", peak_mib=10, seconds=0.01),
        ],
        ROOMY,
    )
    # The smallest of those about as fast as the fastest; then the same among what is left, and so on.
    assert names(ranking) == ["online", "chunked", "sdpa-pad", "naive", "pooled:2"]
    assert ranking.pick.strategy == "online"
    assert why(ranking) == {
        "online": "",
        "chunked": "about as fast, 1.1x the memory",
        "sdpa-pad": "about as fast, 1.5x the memory",
        "naive": "3.6x slower, 11.5x the memory",
        "pooled:2": "approximate: pooled keys, 5.5x faster, 1.3x less memory",
    }


def test_approximate_ones_are_ranked_alike_where_allowed():
    records = [record("chunked", seconds=0.05), record("pooled:2", seconds=0.01)]
    assert rank(records, ROOMY).pick.strategy == "chunked"
    assert rank(records, ROOMY, allow_approximate=True).pick.strategy == "pooled:2"


def test_what_does_not_fit_says_by_how_much():
    ranking = rank(
        [
            record(
                "naive", Outcome.OUT_OF_MEMORY, reason="limit 1 GiB: CUDA out of memory. Tried to allocate 2.00 GiB."
            ),
            record("sdpa", Outcome.OUT_OF_MEMORY, reason="limit 1 GiB: no"),
            record("sdpa-pad", Outcome.UNSUPPORTED, reason="no kernel image"),
            record("chunked", peak_mib=901),
            record("online", peak_mib=900),
        ],
        ROOMY,
        needs={"sdpa": 2900 * MIB},
    )
    assert ranking.pick.strategy == "online"  # to the byte
    assert why(ranking) == {
        "online": "",
        "chunked": "over by 1.00 MiB",
        "sdpa": "over by 1.95 GiB",
        "naive": "out of memory: asked for 2.00 GiB more",
        "sdpa-pad": "unsupported: no kernel image",
    }
    assert not any(option.usable for option in ranking.options[1:])


def test_on_cuda_cache_and_context_count():
    [option] = rank([emulated("t4", "chunked", 500)], ROOMY).options
    assert option.need_bytes == 610 * MIB  # 10 MiB of cache and 100 of context beside the peak


def test_without_latencies_memory_decides():
    ranking = rank([emulated("t4", "sdpa-pad", 60), emulated("t4", "chunked", 50)], ROOMY)
    assert names(ranking) == ["chunked", "sdpa-pad"]
    assert why(ranking)["sdpa-pad"] == "1.1x the memory"


def test_nothing_fits():
    ranking = rank([record("naive", peak_mib=950), record("pooled:2", peak_mib=100)], ROOMY)
    assert ranking.pick is None
    assert why(ranking) == {"naive": "over by 50.0 MiB", "pooled:2": "approximate: pooled keys"}
