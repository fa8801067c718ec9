"""Measuring one case: each pass on its own, and every failure an outcome."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

from attnprof.attention.strategy import parse_strategy
from attnprof.cases.case import Case
from attnprof.cases.measurement import Estimate, Latency, Measurement, Memory, Outcome, Result, Source
from attnprof.cases.settings import Settings
from attnprof.cases.workload import ModelWorkload
from attnprof.measure.worker.block_step import BlockStep, draw_input, unit_block
from attnprof.measure.worker.devices.base import Device, is_out_of_memory, refusal
from attnprof.measure.worker.model_step import ModelStep, explained
from attnprof.measure.worker.passes.definitions import DEFINITIONS
from attnprof.measure.worker.passes.exactness import compare
from attnprof.measure.worker.passes.flops import DTYPES, step_flops
from attnprof.measure.worker.passes.kernels import KernelObserver
from attnprof.measure.worker.passes.latency import measure_latency, noise_note
from attnprof.units import format_bytes

# Steps of the passes after that of the memory, at least: a sample with its trial, warm-up, and exactness.
_LATER_STEPS = 5
# Beyond it, going over an emulated step in search of its time takes minutes.
_LONGEST_EMULATED_SECONDS = 10.0


def measure(case: Case, settings: Settings, device: Device, enter: Callable[[str], None]) -> Result:
    """Run every pass on a case. Never raises for what the case does.

    Args:
        enter: told the name of each pass as it begins.
    """
    measuring = _Measuring(case, settings, device, enter)
    device.forget()
    outcome, reason = _outcome(measuring, device.enforce_budget(settings.budget_bytes))
    if outcome is Outcome.OUT_OF_MEMORY:
        measuring.locate_failure()
    unknown = device.unknown_calls()
    if unknown:
        outcome, reason = Outcome.UNSUPPORTED, f"the emulated device does not know {', '.join(unknown)}"
    return measuring.result(outcome, reason)


def _outcome(measuring: _Measuring, limit_bytes: int) -> tuple[Outcome, str]:
    try:
        measuring.run()
    except Exception as error:  # the outcome of a case, whatever it is
        if is_out_of_memory(error):
            return Outcome.OUT_OF_MEMORY, refusal(error, limit_bytes)
        return measuring.failed(error)
    memory, budget = measuring.parts.memory, measuring.settings.budget_bytes
    assert memory is not None
    if budget and memory.peak_allocated_bytes > budget:
        peak = format_bytes(memory.peak_allocated_bytes)
        return Outcome.OUT_OF_MEMORY, f"peak {peak} is over the budget of {format_bytes(budget)}"
    return Outcome.COMPLETED, ""


class _Measuring:
    """The passes over one case; what is already known survives a later pass's failure."""

    def __init__(self, case: Case, settings: Settings, device: Device, enter: Callable[[str], None]) -> None:
        self.case, self.settings, self.device = case, settings, device
        self.parts = Measurement()
        self._enter = enter
        self._seconds: dict[str, float] = {}
        self._notes: list[str] = []

    def run(self) -> None:
        with self._pass("build"):
            step = self._built()
            if isinstance(step, BlockStep) and not self._memory_only:
                self.parts = dataclasses.replace(self.parts, flops=step_flops(self.case))
            self.device.clean()
        with self._pass("memory"):
            memory, step_seconds = self._memory(step)
        self.parts = dataclasses.replace(self.parts, memory=memory)
        budget = self.settings.budget_bytes
        if budget and memory.peak_allocated_bytes > budget:
            return
        if self.settings.estimates:
            self._estimate(step, step_seconds)
        if isinstance(step, ModelStep) and not self.settings.memory_only:
            self._locate(step)
        if self._memory_only or self.parts.estimate:
            return
        with self._pass("latency"):
            latency = measure_latency(step, self.settings.case_seconds, step_seconds)
        self._add_latency(latency)
        if isinstance(step, BlockStep):
            with self._pass("exactness"):
                self._exactness(step)

    def failed(self, error: Exception) -> tuple[Outcome, str]:
        """Outcome and reason of a case that an error other than for want of memory ended."""
        # The kinds by which torch refuses what it cannot do; anything else is a fault.
        refused = isinstance(error, (RuntimeError, ValueError))
        if isinstance(self.case.workload, ModelWorkload):
            return Outcome.UNSUPPORTED if refused else Outcome.CRASHED, explained(error, self.case)
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Outcome.UNSUPPORTED if refused else Outcome.CRASHED, words

    def locate_failure(self) -> None:
        """Where a model runs out of memory: it is run there once more."""
        if not isinstance(self.case.workload, ModelWorkload) or self.settings.memory_only or self.parts.peak:
            return
        self.device.clean()
        # Parameters alone may be too many, or the budget be passed without an error.
        with suppress(Exception):
            step = self._built()
            assert isinstance(step, ModelStep)
            # The optimizer's state comes with the end of the first step, and may be what is too much.
            for _ in range(2):
                if self._locate(step):
                    return

    def result(self, outcome: Outcome, reason: str) -> Result:
        notes = (*self._notes, *self.device.notes())
        done = dataclasses.replace(self.parts, passes_seconds=self._seconds, notes=notes)
        return Result(outcome, reason, done)

    @property
    def _memory_only(self) -> bool:
        """Asked for, or on an emulated device, which computes nothing."""
        return self.settings.memory_only or self.device.source is Source.EMULATED

    @contextmanager
    def _pass(self, name: str) -> Iterator[None]:
        self._enter(name)
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = time.perf_counter() - start

    def _built(self) -> BlockStep | ModelStep:
        if not isinstance(self.case.workload, ModelWorkload):
            return BlockStep(self.case, self.device, self.settings.seed)
        step = ModelStep(self.case, self.device, self.settings.seed)
        self._notes += [note for note in step.notes if note not in self._notes]
        self.parts = dataclasses.replace(self.parts, patched=step.patched)
        return step

    def _locate(self, step: ModelStep) -> bool:
        """Find the peak; whether memory is out there."""
        with self._pass("peak"):
            peak, out_of_memory = step.located()
        self.parts = dataclasses.replace(self.parts, peak=peak)
        return out_of_memory

    def _memory(self, step: BlockStep | ModelStep) -> tuple[Memory, float]:
        """Two steps: the first brings what arrives once, the second shows what every later one takes."""
        baseline = self.device.allocated_bytes(step.tensors())
        observer = KernelObserver()
        try:
            with observer:
                first = self.device.read(step)
        finally:
            self.parts = dataclasses.replace(self.parts, kernel=observer.kernel)
        start = time.perf_counter()
        later = self.device.read(step)
        step_seconds = time.perf_counter() - start
        memory = Memory(
            baseline_bytes=baseline,
            first_step_bytes=first.peak_bytes,
            retained_bytes=first.left_bytes,
            step_bytes=later.peak_bytes,
            peak_allocated_bytes=baseline + max(first.peak_bytes, first.left_bytes + later.peak_bytes),
            peak_reserved_bytes=later.reserved_bytes,
            device_bytes=later.device_bytes,
            context_bytes=later.context_bytes,
            peak_resident_bytes=first.resident_bytes,
        )
        return memory, step_seconds

    def _estimate(self, step: BlockStep | ModelStep, step_seconds: float) -> None:
        """Where a latency cannot be measured, or not before the case is given up."""
        if self.device.source is Source.EMULATED:
            if step_seconds > _LONGEST_EMULATED_SECONDS:
                self._notes.append("latency not estimated: the step has too many launches")
                return
            with self._pass("estimate"):
                estimate = self.device.estimated(step)
        elif sum(self._seconds.values()) + _LATER_STEPS * step_seconds < self.settings.timeout_seconds:
            return
        else:
            estimate = Estimate(step_seconds, "one step, timed while its memory was measured")
            self._notes.append("a step is slow here: its latency is that of one step, exactness not checked")
        self.parts = dataclasses.replace(self.parts, estimate=estimate)

    def _add_latency(self, latency: Latency) -> None:
        self.parts = dataclasses.replace(self.parts, latency=latency)
        note = noise_note(latency)
        if note:
            self._notes.append(note)

    def _exactness(self, step: BlockStep) -> None:
        weights = self._own_weights()
        try:
            x = draw_input(self.case, self.device, self.settings.seed)
            plain = DEFINITIONS[self.case.workload.block]
            exactness = compare(step.block, plain, weights, x, step.x, train=step.train, seed=self.settings.seed)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._notes.append("exactness not checked: the float64 reference does not fit beside the case")
            return
        errors = (exactness.max_abs_error, exactness.max_rel_error, exactness.grad_max_rel_error or 0.0)
        if not all(map(math.isfinite, errors)):
            self._notes.append("output or gradients are not finite in this precision")
            return
        self.parts = dataclasses.replace(self.parts, exactness=exactness)

    def _own_weights(self) -> dict[str, Tensor]:
        """The parameters in the workload's dtype, before the strategy's precision."""
        w = self.case.workload
        torch.manual_seed(self.settings.seed)
        block = unit_block(w, parse_strategy("naive")).to(DTYPES[w.dtype])
        return {name: parameter.detach() for name, parameter in block.named_parameters()}
