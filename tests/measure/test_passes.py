"""Real measurements on the CPU: bytes against hand counts, the same whatever ran before."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.samples import case

from attnprof import SelfAttention2d
from attnprof.cases.measurement import Outcome
from attnprof.cases.settings import Settings
from attnprof.measure.runner import Runner
from attnprof.measure.worker.passes.definitions import DEFINITIONS
from attnprof.measure.worker.passes.exactness import compare
from attnprof.measure.worker.passes.flops import step_flops
from attnprof.measure.worker.passes.kernels import chosen_kernel
from attnprof.measure.worker.passes.latency import measure_latency, noise_note, summarize

FAST = Settings(device="cpu", case_seconds=0.01)
N = 24 * 24


@pytest.fixture(scope="module")
def runner():
    with Runner(FAST) as one:
        yield one


def test_every_pass_has_its_numbers(runner):
    passes = []
    result = runner.measure(case("sdpa", side=16, mode="train"), passes.append)
    found = result.measurement
    assert result.outcome is Outcome.COMPLETED
    assert passes == ["build", "memory", "latency", "exactness"] == list(found.passes_seconds)
    assert found.latency.median_seconds > 0
    assert len(found.latency.samples_seconds) >= 1
    assert 0 < found.exactness.max_rel_error < 1e-5
    assert 0 < found.exactness.grad_max_rel_error < 1e-3
    assert found.exactness.rows == 256
    assert found.kernel.name == "math"
    assert found.kernel.refused == {"flash": "query/key and value dims differ"}


def test_the_state_of_the_host_is_told_between_cases(runner):
    before = runner.measure(case("naive", side=8)).measurement.memory
    state = runner.device_state()
    assert 0 < state.free_bytes < state.total_bytes
    for refused in state.kernels.values():
        assert refused == {"flash": "", "cudnn": "CUDA only", "efficient": "CUDA only", "math": ""}
    assert bool(state.no_cuda) != torch.cuda.is_available()
    after = runner.measure(case("naive", side=8)).measurement.memory
    assert (before.peak_allocated_bytes, before.step_bytes) == (after.peak_allocated_bytes, after.step_bytes)


def test_naive_peak_is_the_sum_of_its_tensors(runner):
    memory = runner.measure(case("naive", side=24)).measurement.memory
    c, e = 128, 16
    parameters = 4 * (c * c + c + 2 * (c * e + e) + 1)
    assert memory.baseline_bytes == parameters + 4 * c * N
    # At its end it holds query, key, value, scores, attention, their product, gamma times that, and the sum.
    assert memory.step_bytes == memory.first_step_bytes == 4 * (2 * e * N + 4 * c * N + 2 * N * N)
    assert memory.peak_allocated_bytes == memory.baseline_bytes + memory.step_bytes
    assert memory.retained_bytes == 0


def test_chunked_peak_is_linear_and_counts_its_tile(runner):
    memory = runner.measure(case("chunked:64", side=24)).measurement.memory
    c, e = 128, 16
    # query, key, the input in rows, the output, a tile, and of the last chunk the part of the output
    assert memory.step_bytes == 4 * (2 * e * N + 2 * c * N + 64 * N + 64 * c)


def test_bytes_do_not_depend_on_what_ran_before(runner):
    cases = [case("naive", side=20, mode="train"), case("online", side=12), case("sdpa-pad", side=20)]
    before = [runner.measure(one).measurement.memory for one in cases]
    after = [runner.measure(one).measurement.memory for one in reversed(cases)]
    with Runner(FAST) as fresh:
        alone = [fresh.measure(one).measurement.memory for one in cases]
    for first, second, third in zip(before, reversed(after), alone, strict=True):
        for name in ("baseline_bytes", "first_step_bytes", "step_bytes", "peak_allocated_bytes", "retained_bytes"):
            assert getattr(first, name) == getattr(second, name) == getattr(third, name)
        assert first.peak_resident_bytes > 0


def test_a_budget_is_enforced_on_the_reported_peak():
    peak = 0
    with Runner(FAST) as free:
        peak = free.measure(case("naive", side=24)).measurement.memory.peak_allocated_bytes
    for budget, outcome in ((peak, Outcome.COMPLETED), (peak - 1, Outcome.OUT_OF_MEMORY)):
        with Runner(Settings(device="cpu", case_seconds=0.01, budget_bytes=budget)) as limited:
            result = limited.measure(case("naive", side=24))
            assert result.outcome is outcome
    assert "over the budget" in result.reason


def test_a_step_too_slow_for_samples_is_timed_once_where_estimates_are_asked_for():
    code = """
from support.samples import case
from attnprof.measure.worker.case import measure
from attnprof.measure.worker.devices.cpu import CpuDevice
from attnprof.cases.settings import Settings
for seconds in (1e-9, 60):
    settings = Settings(device="cpu", case_seconds=0.01, timeout_seconds=seconds, estimates=True)
    found = measure(case("chunked", side=8), settings, CpuDevice(), lambda phase: None)
    m = found.measurement
    print(found.outcome.value, m.latency is None, m.exactness is None, m.estimate is not None and m.estimate.basis)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert done.stdout.splitlines() == [
        "completed True True one step, timed while its memory was measured",
        "completed False False False",
    ]


def test_what_cannot_fit_in_the_host_is_out_of_memory(runner):
    result = runner.measure(case("naive", side=1024))  # 4 TiB of scores
    assert result.outcome is Outcome.OUT_OF_MEMORY
    assert "limit" in result.reason
    assert runner.measure(case("naive", side=8)).outcome is Outcome.COMPLETED


def test_what_torch_refuses_is_unsupported_with_its_words(runner):
    result = runner.measure(case("pooled:9999999999999", side=4))
    assert result.outcome is Outcome.UNSUPPORTED
    assert result.reason


def test_low_precision_and_approximation_show_in_the_error(runner):
    errors = {}
    for strategy in ("naive", "naive+bf16", "naive+amp", "pooled:2"):
        found = runner.measure(case(strategy, side=16)).measurement
        errors[strategy] = found.exactness.max_rel_error
    assert errors["naive"] < 1e-6
    assert 1e-4 < errors["naive+bf16"] < 0.05
    assert 1e-5 < errors["naive+amp"] < 0.05 < errors["pooled:2"]


def test_values_that_are_not_finite_do_not_pass_for_exact():
    torch.manual_seed(0)
    block, x = SelfAttention2d(8, "naive"), torch.randn(1, 8, 4, 4)
    torch.nn.init.ones_(block.gamma)
    weights = {name: p.detach().clone() for name, p in block.named_parameters()}
    with torch.no_grad():
        block.query_conv.weight.fill_(float("nan"))
    found = compare(block, DEFINITIONS["sagan"], weights, x, x, train=True, seed=0)
    assert not math.isfinite(found.max_abs_error)
    assert not math.isfinite(found.grad_max_rel_error)


@pytest.mark.parametrize("train", [False, True])
def test_a_wrong_block_is_found_out_on_a_subset_of_rows(train):
    from support.sagan import SaganBlock

    class Wrong(SaganBlock):
        def forward(self, x):
            return super().forward(x)[0] * 1.01

    torch.manual_seed(0)
    right, x = SaganBlock(8), torch.randn(8, 8, 64, 64)
    torch.nn.init.ones_(right.gamma)
    weights = {name: p.detach().clone() for name, p in right.named_parameters()}

    class First(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            out = self.inner(x)
            return out[0] if isinstance(out, tuple) else out

        def named_parameters(self, *args, **kwargs):
            return self.inner.named_parameters(*args, **kwargs)

    good = compare(First(right), DEFINITIONS["sagan"], weights, x, x, train=train, seed=0)
    wrong = Wrong(8)
    wrong.load_state_dict(right.state_dict())
    bad = compare(First(wrong), DEFINITIONS["sagan"], weights, x, x, train=train, seed=0)
    assert good.rows < 4096
    assert good.max_rel_error < 1e-5
    assert bad.max_rel_error == pytest.approx(0.01, rel=0.1)
    if train:
        assert good.grad_max_rel_error < 1e-4 < bad.grad_max_rel_error


def test_flops_by_torchs_counter_are_the_products():
    one = case("online", side=5)
    assert step_flops(one) == one.workload.flops
    # Backward to the input of three convolutions and two products is twice their forward.
    assert step_flops(case("chunked", side=5, mode="train")) == 3 * one.workload.flops
    assert step_flops(case("pooled:2+sdpa-pad", side=4)) < step_flops(case("naive", side=4))


@pytest.mark.parametrize(
    ("query_dim", "transposed", "kernel", "why"),
    [(16, False, "flash", None), (2, False, "math", "dims differ"), (16, True, "math", "last dim not contiguous")],
)
def test_the_cpu_kernel_and_why(query_dim, transposed, kernel, why):
    query = torch.randn(1, 1, 32, query_dim)
    value = torch.randn(1, 1, 16, 32).transpose(2, 3) if transposed else torch.randn(1, 1, 32, 16)
    found = chosen_kernel(query, query, value)
    assert found.name == kernel
    assert (why or "") in found.refused.get("flash", "")


def test_latency_keeps_samples_and_warns():
    calls = []
    latency = measure_latency(lambda: calls.append(1), budget_seconds=0.02, step_seconds=1e-6)
    assert len(calls) >= len(latency.samples_seconds) * latency.runs_per_sample
    assert noise_note(summarize((1.0, 1.01, 0.99, 1.0), 1)) is None
    assert "single sample" in noise_note(summarize((1.0,), 1))
    assert "varies by 50%" in noise_note(summarize((1.0, 2.0), 1)) or "varies by 33%" in noise_note(
        summarize((1.0, 2.0), 1)
    )


def test_the_rate_of_products_is_measured_once(runner):
    rate = runner.matmul_flops_per_second("fp32")
    assert rate > 1e8
    assert runner.matmul_flops_per_second("fp32") == rate
