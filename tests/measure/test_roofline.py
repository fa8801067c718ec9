"""Estimated times, against sums made by hand from the data sheet."""

import pytest
import torch

from attnprof.attention import SelfAttention2d
from attnprof.cases.cards import parse_cards
from attnprof.measure.worker.passes.roofline import estimated_step

[T4] = parse_cards("t4")  # 8.1 TFLOP/s in fp32, 65 in fp16, 320 GB/s
LAUNCH = 5e-6


def seconds(step):
    return estimated_step(step, T4).seconds


def meta(*shape, dtype=torch.float32):
    return torch.empty(shape, device="meta", dtype=dtype)


def test_a_product_takes_its_flops_at_half_of_the_peak():
    n = 2048
    a, b, batch = meta(n, n), meta(n, n), meta(1, n, n)
    expected = 2 * n**3 / (0.5 * 8.1e12)
    assert seconds(lambda: a @ b) == pytest.approx(expected)
    assert seconds(lambda: batch.baddbmm_(batch, batch)) == pytest.approx(expected)
    assert seconds(lambda: torch.bmm(batch, batch, out=meta(1, n, n))) == pytest.approx(expected)
    half = meta(n, n, dtype=torch.float16)
    assert seconds(lambda: half @ half) == pytest.approx(2 * n**3 / (0.5 * 65e12))


def test_other_operations_take_their_bytes_at_three_quarters_of_the_bandwidth():
    x = meta(2**26)
    assert seconds(lambda: x + x) == pytest.approx(3 * 2**28 / (0.75 * 320e9))
    assert seconds(lambda: x.mul_(2)) == pytest.approx(2 * 2**28 / (0.75 * 320e9))
    row = meta(1).expand(2**26)  # one number, read again and again
    assert seconds(lambda: x + row) == pytest.approx((2 * 2**28 + 4) / (0.75 * 320e9))


def test_a_launch_takes_its_time_and_a_view_none():
    x = meta(8)
    assert seconds(lambda: x + 1) == LAUNCH
    assert seconds(lambda: x.view(2, 4).t()) == 0
    assert seconds(lambda: torch.empty(2**30, device="meta")) == 0


def test_backward_is_in_it():
    block, x = SelfAttention2d(16, "naive").to("meta"), meta(1, 16, 32, 32).requires_grad_()
    with torch.no_grad():
        forward = seconds(lambda: block(x))
    assert 2 * forward < seconds(lambda: block(x).sum().backward()) < 5 * forward


def test_rates_by_dtype_and_capability():
    [p100], [a100] = parse_cards("p100"), parse_cards("a100")
    assert T4.flops_per_second("bfloat16") == T4.flops_per_second("float32") == 8.1e12
    assert a100.flops_per_second("bfloat16") == a100.flops_per_second("float16") == 312e12
    assert p100.flops_per_second("float16") == 2 * p100.flops_per_second("float32")
    assert (T4.flops_per_second("float64"), a100.flops_per_second("float64")) == (8.1e12 / 32, 19.5e12 / 2)
