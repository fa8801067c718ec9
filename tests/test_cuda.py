"""The CUDA path on whatever CUDA device is here; nothing in this file needs values or time."""

import pytest
import torch
from samples import case

from attnprof.measure.runner import Runner
from attnprof.record import Outcome
from attnprof.settings import Settings

pytestmark = pytest.mark.cuda
FAST = Settings(device="cuda", case_seconds=0.01)


@pytest.fixture(scope="module")
def runner():
    with Runner(FAST) as one:
        one.open()
        yield one


def test_the_environment_tells_the_card(runner):
    assert runner.environment["device"] == "cuda:0"
    assert runner.environment["device_name"] == torch.cuda.get_device_name(0)
    assert runner.environment["driver"]


def test_memory_of_a_training_step(runner):
    memory = runner.measure(case("naive", side=16, mode="train")).measurement.memory
    assert memory.retained_bytes >= 0
    assert memory.peak_allocated_bytes >= memory.baseline_bytes + memory.step_bytes
    assert memory.peak_reserved_bytes >= memory.peak_allocated_bytes
    assert memory.device_bytes >= memory.peak_reserved_bytes


def test_bytes_do_not_depend_on_what_ran_before(runner):
    cases = [case("naive", side=20, mode="train"), case("online", side=12), case("sdpa-pad+fp16", side=20)]
    before = [runner.measure(one).measurement.memory for one in cases]
    after = [runner.measure(one).measurement.memory for one in reversed(cases)]
    for first, second in zip(before, reversed(after), strict=True):
        for name in ("baseline_bytes", "first_step_bytes", "step_bytes", "peak_allocated_bytes", "peak_reserved_bytes"):
            assert getattr(first, name) == getattr(second, name), name


def test_out_of_memory_is_torchs_own_and_leaves_the_worker_clean(runner):
    before = runner.measure(case("naive", side=16)).measurement.memory
    result = runner.measure(case("naive", side=4096))
    assert result.outcome is Outcome.OUT_OF_MEMORY
    assert "CUDA out of memory" in result.reason
    after = runner.measure(case("naive", side=16)).measurement.memory
    assert (before.peak_allocated_bytes, before.peak_reserved_bytes) == (
        after.peak_allocated_bytes,
        after.peak_reserved_bytes,
    )


def test_a_budget_is_enforced():
    with Runner(Settings(device="cuda", case_seconds=0.01, budget_bytes=2 * 2**30)) as limited:
        assert limited.measure(case("naive", side=128)).outcome is Outcome.OUT_OF_MEMORY
        assert limited.measure(case("chunked", side=128)).outcome is Outcome.COMPLETED


def test_permuted_views_fall_to_math_and_padded_rows_do_not(runner):
    plain = runner.measure(case("sdpa", side=32)).measurement.kernel
    padded = runner.measure(case("sdpa-pad", side=32)).measurement.kernel
    assert plain.name == "math"
    assert plain.refused["efficient"] == "last dim not contiguous"
    assert padded.name in ("efficient", "flash", "cudnn")
