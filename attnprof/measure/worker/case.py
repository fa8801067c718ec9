"""Measuring one case: separate passes in a fixed order, and every failure an outcome.

A pass that is timed is not the one that is read for memory, and neither is the one that is compared with the
reference: what observes a step would otherwise be in its numbers. What earlier passes found is kept if a
later one fails.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

from attnprof.attention.strategy import parse_strategy
from attnprof.cases.case import Case
from attnprof.cases.measurement import Estimate, Measurement, Memory, Outcome, Result, Source
from attnprof.cases.settings import Settings
from attnprof.cases.workload import ModelWorkload
from attnprof.emulation.unemulated import part_of_error, parts_of_calls
from attnprof.measure.worker.block_step import BlockStep, draw_input, unit_block
from attnprof.measure.worker.devices.base import DTYPES, Device, is_out_of_memory, refusal
from attnprof.measure.worker.error_text import first_line_of
from attnprof.measure.worker.model_step import ModelStep, explained
from attnprof.measure.worker.passes.definitions import DEFINITIONS
from attnprof.measure.worker.passes.exactness import compare
from attnprof.measure.worker.passes.flops import step_flops
from attnprof.measure.worker.passes.kernels import KernelObserver
from attnprof.measure.worker.passes.latency import measure_latency, noise_note
from attnprof.units import format_bytes

# The fewest steps that the latency and exactness passes run: a sample with its trial, warm-up, and exactness.
_LATER_STEPS = 5
# Emulated steps slower than this are not estimated: walking through their operations would take minutes.
_LONGEST_EMULATED_SECONDS = 10.0


def measure(case: Case, settings: Settings, device: Device, enter: Callable[[str], None]) -> Result:
    """Run every pass on a case. Never raises for what the case does.

    Args:
        case: the case.
        settings: budget, seed and time limits.
        device: where it runs.
        enter: called with the name of each pass as it begins.

    Returns:
        The outcome, and the numbers of the passes that were made.
    """
    run = CaseMeasurement(case, settings, device, enter)
    device.forget()
    outcome, reason = _outcome(run, device.enforce_budget(settings.budget_bytes))
    if outcome is Outcome.OUT_OF_MEMORY and run.is_model and not settings.memory_only and not run.found.peak:
        _locate_failure(run)
    if not run.computes:
        outcome, reason = _without_missing_parts(outcome, reason, device.unknown_calls())
    return run.result(outcome, reason)


class CaseMeasurement:
    """A case that is being measured: what its passes share, and what they have found.

    Args:
        case, settings, device, enter: as in `measure`.

    Attributes:
        step: one step of the case; set by the first pass.
        step_seconds: the time of the second step, which is read for memory.
        found: the numbers so far.
        notes: warnings so far, a line each.
    """

    step: BlockStep | ModelStep

    def __init__(self, case: Case, settings: Settings, device: Device, enter: Callable[[str], None]) -> None:
        self.case, self.settings, self.device = case, settings, device
        self.is_model = isinstance(case.workload, ModelWorkload)
        self.step_seconds = 0.0
        self.found = Measurement()
        self.notes: list[str] = []
        self._enter = enter
        self._seconds: dict[str, float] = {}

    @property
    def computes(self) -> bool:
        """Whether the device computes values and takes time: an emulated one does neither."""
        return self.device.source is Source.MEASURED

    @property
    def over_budget(self) -> bool:
        """Whether the step took more than the budget, although no allocation was refused."""
        budget, memory = self.settings.budget_bytes, self.found.memory
        return bool(budget and memory and memory.peak_allocated_bytes > budget)

    @property
    def spent_seconds(self) -> float:
        """The time of all passes so far."""
        return sum(self._seconds.values())

    def add(self, **figures: Any) -> None:
        """Keep figures of a `Measurement`, by their names there."""
        self.found = dataclasses.replace(self.found, **figures)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Announce a pass and keep its wall time, even if it fails."""
        self._enter(name)
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = time.perf_counter() - start

    def result(self, outcome: Outcome, reason: str) -> Result:
        """Return what was found, with this outcome."""
        self.add(passes_seconds=self._seconds, notes=(*self.notes, *self.device.notes()))
        return Result(outcome, reason, self.found)


@dataclasses.dataclass(frozen=True)
class CasePass:
    """A pass over a case.

    Attributes:
        name: what progress shows, and the key of its time.
        applies: whether the case gets this pass, after those before it.
        run: makes the pass and keeps what it finds; what it returns does not matter here.
    """

    name: str
    applies: Callable[[CaseMeasurement], bool]
    run: Callable[[CaseMeasurement], object]


def _outcome(run: CaseMeasurement, limit_bytes: int) -> tuple[Outcome, str]:
    """Run the passes; return how the case ended, and the reason if it did not complete."""
    try:
        for one in PASSES:
            if one.applies(run):
                with run.timed(one.name):
                    one.run(run)
            if run.over_budget:
                break
    except BaseException as error:  # the outcome of a case, whatever it is: a model may call sys.exit
        if is_out_of_memory(error):
            return Outcome.OUT_OF_MEMORY, refusal(error, limit_bytes)
        return _failure(run, error)
    if run.over_budget:
        assert run.found.memory is not None and run.settings.budget_bytes is not None
        peak, budget = run.found.memory.peak_allocated_bytes, run.settings.budget_bytes
        return Outcome.OUT_OF_MEMORY, f"peak {format_bytes(peak)} is over the budget of {format_bytes(budget)}"
    return Outcome.COMPLETED, ""


def _without_missing_parts(outcome: Outcome, reason: str, calls: tuple[str, ...]) -> tuple[Outcome, str]:
    """Return a case's outcome and reason on an emulated card, where parts of CUDA may be missing.

    Args:
        outcome: how the passes ended.
        reason: why, if they did not complete.
        calls: those that the card could not answer: the numbers of a case that goes on after one cannot be trusted.
    """
    failed = outcome in (Outcome.UNSUPPORTED, Outcome.CRASHED)
    of_error = part_of_error(reason) if failed else None
    parts = parts_of_calls(calls) or ((of_error,) if of_error else ())
    if not parts:
        return outcome, reason
    return Outcome.UNSUPPORTED, "; ".join([*([reason.rstrip(".")] if failed else []), *map(str, parts)])


def _failure(run: CaseMeasurement, error: BaseException) -> tuple[Outcome, str]:
    """Return the outcome and reason for an error that is not out-of-memory."""
    # Torch refuses what it cannot do with these; any other error is a fault.
    outcome = Outcome.UNSUPPORTED if isinstance(error, (RuntimeError, ValueError)) else Outcome.CRASHED
    if run.is_model:
        return outcome, explained(error, run.case)
    return outcome, first_line_of(error)


def _locate_failure(run: CaseMeasurement) -> None:
    """Run a model that is out of memory once more, to find where it is."""
    run.device.clean()
    # Parameters alone may be too many, or the budget be passed without an error.
    with suppress(BaseException):
        run.step = _built(run)
        # The optimizer's state comes with the end of the first step, and may be what is too much.
        for _ in range(2):
            with run.timed("peak"):
                out_of_memory = _find_peak(run)
            if out_of_memory:
                return


def _built(run: CaseMeasurement) -> BlockStep | ModelStep:
    if not run.is_model:
        return BlockStep(run.case, run.device, run.settings.seed)
    step = ModelStep(run.case, run.device, run.settings.seed)
    run.notes += [note for note in step.notes if note not in run.notes]
    run.add(patched=step.patched)
    return step


def _build(run: CaseMeasurement) -> None:
    """Make the module and its tensors, and count the block's work."""
    run.step = _built(run)
    if not run.is_model and _has_time(run):
        run.add(flops=step_flops(run.case))
    run.device.clean()


def _read_memory(run: CaseMeasurement) -> None:
    """Read two steps: the first brings what arrives once, the second shows what every later one takes."""
    baseline_bytes = run.device.allocated_bytes(run.step.tensors())
    observer = KernelObserver()
    try:
        with observer:
            first = run.device.read(run.step)
    finally:
        run.add(kernel=observer.kernel)
    start = time.perf_counter()
    later = run.device.read(run.step)
    run.step_seconds = time.perf_counter() - start
    reserved = [one.reserved_bytes for one in (first, later) if one.reserved_bytes is not None]
    memory = Memory(
        baseline_bytes=baseline_bytes,
        first_step_bytes=first.peak_bytes,
        retained_bytes=first.left_bytes,
        step_bytes=later.peak_bytes,
        peak_allocated_bytes=baseline_bytes + max(first.peak_bytes, first.left_bytes + later.peak_bytes),
        # PyTorch empties its cache when it has tried cuDNN's plans, in the first step.
        peak_reserved_bytes=max(reserved) if reserved else None,
        device_bytes=later.device_bytes,
        context_bytes=later.context_bytes,
        peak_resident_bytes=first.resident_bytes,
    )
    run.add(memory=memory)


def _estimate(run: CaseMeasurement) -> None:
    """Estimate a latency that cannot be measured, or not before the case is given up."""
    if run.computes:
        run.notes.append("a step is slow here: its latency is that of one step, exactness not checked")
        run.add(estimate=Estimate(run.step_seconds, "one step, timed while its memory was measured"))
    elif run.step_seconds > _LONGEST_EMULATED_SECONDS:
        run.notes.append("latency not estimated: the step has too many launches")
    else:
        run.add(estimate=run.device.estimated(run.step))


def _find_peak(run: CaseMeasurement) -> bool:
    """Find what holds a model's memory at its highest; return whether it is out of memory there."""
    assert isinstance(run.step, ModelStep)
    peak, out_of_memory = run.step.located()
    run.add(peak=peak)
    return out_of_memory


def _time_steps(run: CaseMeasurement) -> None:
    """Measure the latency of a step."""
    latency = measure_latency(run.step, run.settings.case_seconds, run.step_seconds)
    run.add(latency=latency)
    note = noise_note(latency)
    if note:
        run.notes.append(note)


def _check_exactness(run: CaseMeasurement) -> None:
    """Compare the block with the plain one in float64; without memory for that, a note says so."""
    assert isinstance(run.step, BlockStep)
    step, seed = run.step, run.settings.seed
    weights = _own_weights(run)
    try:
        x = draw_input(run.case, run.device, seed)
        plain = DEFINITIONS[run.case.workload.block]
        exactness = compare(step.block, plain, weights, x, step.x, train=step.train, seed=seed)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        run.notes.append("exactness not checked: the float64 reference does not fit beside the case")
        return
    errors = (exactness.max_abs_error, exactness.max_rel_error, exactness.grad_max_rel_error or 0.0)
    if all(map(math.isfinite, errors)):
        run.add(exactness=exactness)
    else:
        run.notes.append("output or gradients are not finite in this precision")


def _own_weights(run: CaseMeasurement) -> dict[str, Tensor]:
    """Return the parameters in the workload's dtype, before the strategy's precision."""
    w = run.case.workload
    torch.manual_seed(run.settings.seed)
    block = unit_block(w, parse_strategy("naive")).to(DTYPES[w.dtype])
    return {name: parameter.detach() for name, parameter in block.named_parameters()}


def _always(run: CaseMeasurement) -> bool:
    return True


def _has_time(run: CaseMeasurement) -> bool:
    return run.computes and not run.settings.memory_only


def _needs_estimate(run: CaseMeasurement) -> bool:
    """Return whether an estimate is asked for, and the latency cannot be measured before the time-out."""
    if not run.settings.estimates:
        return False
    later_seconds = _LATER_STEPS * run.step_seconds
    return not run.computes or run.spent_seconds + later_seconds >= run.settings.timeout_seconds


def _is_timed(run: CaseMeasurement) -> bool:
    return _has_time(run) and run.found.estimate is None


PASSES = (
    CasePass("build", _always, _build),
    CasePass("memory", _always, _read_memory),
    CasePass("estimate", _needs_estimate, _estimate),
    CasePass("peak", lambda run: run.is_model and not run.settings.memory_only, _find_peak),
    CasePass("latency", _is_timed, _time_steps),
    CasePass("exactness", lambda run: _is_timed(run) and not run.is_model, _check_exactness),
)
