"""The CUDA path on whatever CUDA device is here, a card or an emulated one.

`python -m attnprof.emulation t4 python -m pytest -n 0 -m cuda` brings an emulated one. What needs values or time is
marked `computes` and runs on a card alone.
"""

import csv
import io
import json
import subprocess
import sys

import pytest
import torch
from support.samples import case

from attnprof.cases.measurement import Outcome, Source
from attnprof.cases.record_lines import read_records
from attnprof.cases.settings import Settings
from attnprof.measure.runner import Runner

pytestmark = pytest.mark.cuda
FAST = Settings(device="cuda", case_seconds=0.01)


@pytest.fixture(scope="module")
def runner():
    with Runner(FAST) as one:
        one.open()
        yield one


def test_the_environment_tells_the_card(runner):
    assert runner.environment.device == "cuda:0"
    assert runner.environment.device_name == torch.cuda.get_device_name(0)
    assert runner.environment.driver


def test_its_state_is_told_and_takes_nothing(runner):
    before = runner.measure(case("sdpa-pad", side=20)).measurement.memory
    state = runner.device_state()
    assert 0 < state.free_bytes < state.total_bytes == runner.environment.total_memory_bytes
    assert set(state.kernels) == {"fp32", "fp16", "bf16"}
    assert state.kernels["fp32"]["efficient"] == ""
    assert state.kernels["fp32"]["flash"] == "takes half precision only"
    assert state.no_cuda == ""
    after = runner.measure(case("sdpa-pad", side=20)).measurement.memory
    assert (before.peak_allocated_bytes, before.first_step_bytes) == (
        after.peak_allocated_bytes,
        after.first_step_bytes,
    )


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


def on_cuda(verb, *arguments):
    command = [sys.executable, "-m", "attnprof", verb, "--device", "cuda", *arguments]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)


def sweep(*arguments):
    return on_cuda("sweep", "--case-seconds", "0.01", *arguments)


@pytest.mark.parametrize("budget", ["2GiB", "1GiB"])
def test_a_budget_ends_a_search_where_a_smaller_card_would(tmp_path, budget):
    some = ["--mode", "forward", "--strategy", "naive", "--format", "csv", "--out", tmp_path / "r.jsonl"]
    done = on_cuda("limits", *some, "--budget", budget)
    assert done.returncode == 0, done.stderr
    [row] = csv.DictReader(io.StringIO(done.stdout))
    assert int(row["smallest_oom"]) == int(row["largest_ok"]) + 8
    fits = read_records(tmp_path / "r.jsonl")
    memory = next(r for r in fits if r.case.workload.height == int(row["largest_ok"])).measurement.memory
    # The context counts, as it would on that card.
    assert memory.peak_reserved_bytes + memory.context_bytes <= int(budget[0]) * 2**30
    assert 2 * 4 * (int(row["smallest_oom"]) ** 2) ** 2 > 0.7 * (int(budget[0]) * 2**30 - memory.context_bytes)


def test_the_card_itself_ends_a_search(tmp_path):
    done = on_cuda(
        "limits", "--mode", "forward", "--strategy", "naive", "--format", "csv", "--out", tmp_path / "r.jsonl"
    )
    assert done.returncode == 0, done.stderr
    [row] = csv.DictReader(io.StringIO(done.stdout))
    total = torch.cuda.get_device_properties(0).total_memory
    assert 0.8 * total < 2 * 4 * (int(row["largest_ok"]) ** 2) ** 2 < total


def test_a_recommendation_for_this_card(tmp_path):
    done = on_cuda(
        "recommend", "--hw", "64", "--strategy", "naive,chunked", "--format", "json", "--out", tmp_path / "r.jsonl"
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["total_bytes"] == torch.cuda.get_device_properties(0).total_memory
    emulated = answer["source"] == "emulated"
    assert all(option["seconds_measured"] is not emulated for option in answer["options"])
    assert answer["largest_batch"]["batch"] > 1


def test_a_sweep_and_its_resumption(tmp_path):
    path = tmp_path / "r.jsonl"
    some = ["--strategy", "naive,online:512x512", "--mode", "forward", "--out", path, "--timeout", "5"]
    first = sweep("--hw", "16", *some, "--format", "csv")
    assert first.returncode == 0, first.stderr
    done = sweep("--hw", "16,2048", *some, "--format", "csv", "--resume")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(r["strategy"], r["height"], r["outcome"]) for r in rows] == [
        ("naive", "16", "completed"),
        ("online:512x512", "16", "completed"),
        ("naive", "2048", "out_of_memory"),
        ("online:512x512", "2048", "timed_out"),
    ]
    assert "2 of them known before" in done.stderr
    assert len(read_records(path)) == 4


def test_a_record_says_whether_it_is_measured(runner):
    result = runner.measure(case("naive", side=8))
    emulated = runner.environment.gpu is not None
    assert runner.source is (Source.EMULATED if emulated else Source.MEASURED)
    assert (result.measurement.latency is None) == emulated
    assert (result.measurement.exactness is None) == emulated


def test_the_allocators_statistics_and_limit():
    before = torch.cuda.memory_stats().get("num_ooms", 0)
    total = torch.cuda.get_device_properties(0).total_memory
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        torch.empty(2 * total, dtype=torch.uint8, device="cuda")
    torch.cuda.set_per_process_memory_fraction(0.25)
    kept = torch.empty(total // 5, dtype=torch.uint8, device="cuda")
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        torch.empty(total // 5, dtype=torch.uint8, device="cuda")
    torch.cuda.set_per_process_memory_fraction(1.0)
    assert torch.cuda.memory_stats()["num_ooms"] == before + 2
    assert torch.cuda.memory_allocated() >= kept.numel()
    del kept
    torch.cuda.empty_cache()
    free, all_of_it = torch.cuda.mem_get_info()
    assert (0 < free <= all_of_it, all_of_it) == (True, total)


def test_events():
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    with pytest.raises((ValueError, RuntimeError)):
        start.elapsed_time(end)
    start.record()
    end.record()
    torch.cuda.synchronize()
    assert end.query()
    assert start.elapsed_time(end) >= 0


def test_a_graph_and_streams():
    x = torch.zeros(8, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        x.add_(1)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        x.mul_(2)
    graph.replay()
    torch.cuda.synchronize()


@pytest.mark.computes
@pytest.mark.parametrize("strategy", ["naive", "chunked", "online", "sdpa", "sdpa-pad", "sdpa-split"])
def test_exact_strategies_are_exact_and_take_time(runner, strategy):
    measurement = runner.measure(case(strategy, side=32, mode="train")).measurement
    assert measurement.exactness.max_rel_error < 1e-4
    assert measurement.exactness.grad_max_rel_error < 1e-3
    assert measurement.latency.median_seconds > 0
