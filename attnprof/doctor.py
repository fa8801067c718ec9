"""What attnprof can do on this machine: `attnprof doctor`. Needs no torch itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from attnprof.catalogue import catalogue, parse_cards
from attnprof.errors import AttnprofError
from attnprof.measure.runner import Runner
from attnprof.plan import Case, Workload
from attnprof.record import Outcome
from attnprof.settings import Settings
from attnprof.units import format_bytes

_PROBE = Case(Workload(1, 128, 64, 64, mode="train"), "naive")


@dataclass(frozen=True)
class Finding:
    """One line of the answer, and whether all is well with it."""

    topic: str
    text: str
    fine: bool = True


def examine(tell: Callable[[str], None]) -> Iterator[Finding]:
    """Look at torch, the device and the emulation by using them; nothing is assumed.

    Args:
        tell: told what takes a while.
    """
    yield from _device(tell)
    yield from _emulation(tell)


def _device(tell: Callable[[str], None]) -> Iterator[Finding]:
    tell("starting torch")
    try:
        with Runner(Settings(case_seconds=0.01)) as runner:
            runner.open()
            found = runner.environment
            yield Finding("torch", _torch_text(found))
            yield Finding("device", _device_text(found))
            if found["device"].startswith("cuda"):
                tell("running a training step")
                yield _context(found, runner)
    except AttnprofError as error:
        yield Finding("torch", str(error), fine=False)


def _torch_text(found: dict[str, Any]) -> str:
    cuda, cudnn = found.get("cuda"), found.get("cudnn")
    return f"{found['torch']}, Python {found['python']}" + (f", CUDA {cuda}, cuDNN {cudnn}" if cuda else "")


def _device_text(found: dict[str, Any]) -> str:
    if not found["device"].startswith("cuda"):
        return f"{found['device_name']}, {found['threads']} threads; no CUDA device is found"
    total, capability = format_bytes(found["total_memory_bytes"]), found["compute_capability"]
    return f"{found['device']} {found['device_name']}, {total}, compute capability {capability}"


def _context(found: dict[str, Any], runner: Runner) -> Finding:
    """What CUDA takes beside the allocator, after a step that has loaded its kernels and libraries."""
    result = runner.measure(_PROBE)
    memory = result.measurement.memory
    if memory is None or memory.context_bytes is None:
        return Finding("context", f"not measured: {result.outcome.value} {result.reason}", fine=False)
    text = f"CUDA takes {format_bytes(memory.context_bytes)} ({memory.context_bytes} bytes) after a training step"
    card = next((card for card in catalogue() if card.name == found["device_name"]), None)
    if card is not None:
        text += f"; the catalogue allows {format_bytes(card.context_bytes)} for {card} ({card.context_source})"
    return Finding("context", text)


def _emulation(tell: Callable[[str], None]) -> Iterator[Finding]:
    from attnprof.emulation import KNOWN_LIMITATIONS, emulating

    [card] = parse_cards("t4")
    try:
        environ = emulating(card, tell)
        tell("running a training step on an emulated T4")
        with Runner(Settings(device="cuda"), environ=environ) as runner:
            runner.open()
            result = runner.measure(_PROBE)
    except AttnprofError as error:
        yield Finding("emulation", f"does not work here: {error}", fine=False)
        return
    if result.outcome is not Outcome.COMPLETED:
        yield Finding("emulation", f"fails here: {result.reason}", fine=False)
        return
    memory = result.measurement.memory
    assert memory is not None
    peak = format_bytes(memory.peak_allocated_bytes)
    yield Finding("emulation", f"works here (--gpu): {_PROBE} on a T4 peaks at {peak}")
    if not runner.environment["cudnn_plans"]:
        yield Finding("cuDNN", "does not plan without a card here: its workspaces count as 0 bytes", fine=False)
    yield from (Finding("limits", line) for line in KNOWN_LIMITATIONS)
