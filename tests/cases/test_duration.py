"""Guesses of durations follow the work; how near they come is in results/durations.md."""

import pytest
from support.samples import case

from attnprof.cases.duration import emulated_seconds, estimated_seconds


def test_a_measured_case_takes_the_time_for_latency_and_its_steps():
    small, large = case(side=8), case(side=256)
    assert estimated_seconds(small, 1e11, 1.0) == pytest.approx(1.15, abs=0.01)
    step = large.workload.flops / 0.3e11
    assert estimated_seconds(large, 1e11, 1.0) == pytest.approx(0.15 + 7 * step)
    assert estimated_seconds(large, 1e11, None) == pytest.approx(0.15 + 2 * step)


def test_an_emulated_case_takes_the_time_of_its_launches():
    assert emulated_seconds(case("naive", side=1024)) == emulated_seconds(case("sdpa-pad", side=8))
    tiled = [emulated_seconds(case("chunked", side=side, batch=8)) for side in (64, 256)]
    assert tiled[1] > tiled[0] >= emulated_seconds(case("naive"))
    # 8 x 65536 x 65536 scores in tiles of twice the query's 8 x 16 x 65536 elements are 2048 tiles.
    assert tiled[1] == pytest.approx(0.05 + 2048 * 4e-5)


@pytest.mark.parametrize(
    ("more", "less"),
    [
        (("chunked", {"mode": "train"}), ("chunked", {})),
        (("chunked+fp16", {}), ("chunked", {})),
        (("chunked", {}), ("pooled:2+chunked", {})),
        (("chunked:16", {}), ("chunked:64", {})),
        (("online:64x64", {}), ("online:512x512", {})),
    ],
)
def test_more_launches_take_longer(more, less):
    times = [emulated_seconds(case(name, side=256, **options)) for name, options in (more, less)]
    assert times[0] > times[1]


def test_an_estimated_latency_takes_longer():
    assert emulated_seconds(case("online", side=256), with_latency=True) > emulated_seconds(case("online", side=256))
