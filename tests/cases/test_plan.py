import pytest
from support.samples import case

from attnprof.cases.case import Case
from attnprof.cases.parsing import parse_names, parse_numbers, parse_sizes
from attnprof.cases.plan import make_plan
from attnprof.cases.workload import Workload
from attnprof.errors import AttnprofError
from attnprof.units import format_bytes, format_duration, format_seconds, parse_bytes

ONE = {
    "sizes": [(8, 8)],
    "batches": [1],
    "channels": [16],
    "strategies": ["naive"],
    "modes": ["forward"],
    "dtypes": ["fp32"],
}


def test_the_smallest_first_and_each_once():
    plan = make_plan(
        **{
            **ONE,
            "sizes": [(16, 16), (8, 8), (8, 8)],
            "batches": [2, 1],
            "strategies": ["online", "fp16", "naive+fp16"],
        }
    )
    flops = [c.workload.flops for c in plan.cases]
    assert flops == sorted(flops)
    assert len(plan.cases) == len(set(plan.cases)) == 2 * 2 * 2
    assert [c.strategy for c in plan.cases[:2]] == ["online", "naive+fp16"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": [100]}, "channels: 100 is not divisible by 8"),
        ({"strategies": ["niave"]}, "did you mean 'naive'"),
        ({"modes": ["backward"]}, "mode: 'backward' is not one of forward, train"),
        ({"dtypes": ["float"]}, "dtype: 'float' is not one of fp32"),
        ({"batches": [0]}, "batch: 0 is not a positive whole number"),
        ({"sizes": []}, "hw is empty"),
        ({"reduction": 0}, "reduction: 0 is not"),
    ],
)
def test_bad_values_are_named(change, message):
    with pytest.raises(AttnprofError) as caught:
        make_plan(**{**ONE, **change})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lists():
    assert parse_sizes("64, 64x96,8X4") == [(64, 64), (64, 96), (8, 4)]
    assert parse_numbers("1,4", "batch") == [1, 4]
    for bad in ("64x", "a", "64x64x64", "-3", "6.5"):
        with pytest.raises(AttnprofError, match="write 64 or 64x96"):
            parse_sizes(bad)
    with pytest.raises(AttnprofError, match="empty entry"):
        parse_names("a,,b", "strategy")
    with pytest.raises(AttnprofError, match="'x' is not a positive whole number"):
        parse_numbers("1,x", "batch")


@pytest.mark.parametrize(
    ("smaller", "larger", "implied"),
    [
        (case(side=8), case(side=16), True),
        (case(side=8), case(side=8, batch=2), True),
        (case(side=8, batch=2), case(side=16, batch=1), False),
        (case(side=8), case(side=16, mode="train"), False),
        (case(side=8), case("chunked", side=16), False),
        (case(side=8), case(side=16, dtype="fp16"), False),
        (case(side=8), case(side=8), False),
        (case(side=8, channels=64), case(side=8, channels=128), True),
    ],
)
def test_out_of_memory_implies_larger_cases_of_the_series_alone(smaller, larger, implied):
    assert smaller.implies_out_of_memory(larger) is implied


def test_a_precision_on_another_dtype_means_nothing():
    assert case("naive+fp16", dtype="fp16").unsupported_reason
    assert case("naive+fp16").unsupported_reason is None


def test_case_json_round_trip():
    one = case("pooled:2+sdpa-pad", side=7, batch=3)
    assert Case.from_json(one.to_json()) == one


def test_flops_are_the_matrix_products():
    # query, key, value projections, then scores and the weighted sum
    w = Workload(2, 16, 3, 5)
    n, c, e = 15, 16, 2
    assert w.flops == 2 * (2 * n * c * e * 2 + 2 * n * c * c + 2 * n * n * e + 2 * n * n * c)


def test_units():
    assert parse_bytes("12GB") == 12 * 10**9
    assert parse_bytes("1.5 GiB") == 3 * 2**29
    assert parse_bytes("100") == 100
    for bad in ("", "12 cows", "-1GB", "0", "GB", "1e9x"):
        with pytest.raises(AttnprofError, match="is not a memory size"):
            parse_bytes(bad)
    assert [format_bytes(n) for n in (0, 999, 1024, 1000 * 2**20, 34 * 2**30)] == [
        "0 B",
        "999 B",
        "1.00 KiB",
        "0.98 GiB",
        "34.0 GiB",
    ]
    assert [format_seconds(s) for s in (1.5e-6, 0.0123, 1.0, 100.2)] == ["1.50 us", "12.3 ms", "1.00 s", "100 s"]
    assert [format_duration(s) for s in (0.1, 45, 200, 7200)] == ["1 s", "45 s", "3 min 20 s", "2 h 00 min"]
