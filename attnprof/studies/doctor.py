"""`attnprof doctor`: finds out what works on this machine by trying it. Needs no torch itself."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from attnprof.cases.cards import catalogue, parse_cards
from attnprof.cases.case import Case
from attnprof.cases.device_state import IN_CONTAINER, NO_BINDINGS, DeviceState, OtherProcess
from attnprof.cases.environment import Environment
from attnprof.cases.measurement import Outcome, Result, Source
from attnprof.cases.settings import Settings
from attnprof.cases.workload import Workload
from attnprof.errors import AttnprofError
from attnprof.measure.runner import Runner
from attnprof.studies.devices import make_runner
from attnprof.units import format_bytes

_PROBE = Case(Workload(1, 128, 64, 64, mode="train"), "naive")
_OLDEST_TORCH = (2, 6)  # as pyproject.toml has it
_CUDNN_THAT_PLANS = 90800  # emulation/native/cudnn_plan.c
_SCARCE_SHARE = 0.25  # of the memory: if less is free, cases that would fit the device run out of memory
_NAMED = 3  # other processes that are named, if there are many

# Words of torch's message (c10/cuda/CUDAFunctions.cpp, torch/cuda/__init__.py), their meaning, and what to do.
_NO_CUDA = (
    ("not compiled with CUDA", "this torch is built for the CPU alone",
     "for a card, or --gpu: install a CUDA build of torch (pytorch.org/get-started)"),
    ("no NVIDIA driver", "there is no NVIDIA driver",
     "if a card is in here, install its driver; for any other, use --gpu"),
    ("driver on your system is too old", "the NVIDIA driver is older than this torch needs",
     "update the driver, or install torch for an older CUDA (pytorch.org/get-started)"),
)  # fmt: skip


_NO_VALUES = "all values on the card are zeros"


@dataclass(frozen=True)
class Finding:
    """One fact about this machine.

    Attributes:
        topic: what it is about, as `torch` or `memory`.
        text: the fact.
        fine: whether nothing is wrong with it.
        action: what to do about it, or "".
    """

    topic: str
    text: str
    fine: bool = True
    action: str = ""


def examine(tell: Callable[[str], None]) -> Iterator[Finding]:
    """Look at torch, the device and the emulation by using them; nothing is assumed.

    Args:
        tell: called with a line of text before something that takes a while.

    Yields:
        Facts, in the order in which they are shown.
    """
    yield from _device(tell)
    yield from _emulation(tell)


def _device(tell: Callable[[str], None]) -> Iterator[Finding]:
    yield from _old_torch()
    tell("starting torch")
    with Runner(Settings(case_seconds=0.01)) as runner:
        try:
            runner.open()
        except AttnprofError as error:
            yield Finding("torch", str(error), False, 'run python -c "import torch"; if it fails, reinstall torch')
            return
        found = runner.environment
        yield Finding("torch", _torch_text(found))
        try:
            state = runner.device_state()
        except AttnprofError as error:
            yield Finding("device", f"{_device_text(runner)}: {error}", False, "update the driver and torch")
            return
        yield _device_finding(runner, state)
        yield from _memory(state)
        yield from _kernels(state)
        if found.device.startswith("cuda"):
            tell("running a training step")
            yield _context(found, runner)


def _old_torch() -> Iterator[Finding]:
    try:
        installed = version("torch")
    except PackageNotFoundError:  # no torch, or one that pip did not install: starting it will show
        return
    numbers = tuple(map(int, re.findall(r"[0-9]+", installed)[:2]))
    if numbers < _OLDEST_TORCH:
        oldest = ".".join(map(str, _OLDEST_TORCH))
        yield Finding("torch", f"{installed} is too old for attnprof", False, f"pip install 'torch>={oldest}'")


def _torch_text(found: Environment) -> str:
    versions = f"{found.torch}, Python {found.python}"
    return versions + (f", CUDA {found.cuda}, cuDNN {found.cudnn}" if found.cuda else "")


def _device_finding(runner: Runner, state: DeviceState) -> Finding:
    text = _device_text(runner)
    if not state.no_cuda:
        return Finding("device", text)
    why, action = _no_cuda(state.no_cuda)
    return Finding("device", f"{text}; no CUDA device: {why}", action=action)


def _device_text(runner: Runner) -> str:
    found = runner.environment
    if not found.device.startswith("cuda"):
        return f"{found.device_name}, {found.threads} threads"
    total, capability = format_bytes(found.total_memory_bytes), found.compute_capability
    text = f"{found.device} {found.device_name}, {total}, compute capability {capability}"
    return f"{text} (emulated)" if runner.source is Source.EMULATED else text


def _no_cuda(said: str) -> tuple[str, str]:
    """Return what keeps torch from a card, and what to do about it."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    for words, why, action in _NO_CUDA:
        if words in said:
            return why + (f" (and CUDA_VISIBLE_DEVICES is {hidden!r})" if hidden is not None else ""), action
    if hidden is not None:
        return f"CUDA_VISIBLE_DEVICES is {hidden!r}", "unset CUDA_VISIBLE_DEVICES"
    return said.partition(". ")[0], "see that nvidia-smi lists the card; torch finds it then"


def _memory(state: DeviceState) -> Iterator[Finding]:
    text = f"{format_bytes(state.free_bytes)} free of {format_bytes(state.total_bytes)}"
    if state.other_processes:
        others = [_process_text(process) for process in state.other_processes[:_NAMED]]
        more = len(state.other_processes) - len(others)
        text += f"; held by {', '.join(others)}" + (f" and {more} more" if more else "")
    elif not state.unnamed:
        text += "; no other process has much of it"
    if state.free_bytes < _SCARCE_SHARE * state.total_bytes:
        yield Finding("memory", text, False, "end what you do not need, or keep to what is free with --budget")
    else:
        yield Finding("memory", text)
    if state.unnamed:
        names = {NO_BINDINGS: "pip install nvidia-ml-py", IN_CONTAINER: "run nvidia-smi on the host"}
        action = names.get(state.unnamed, "run nvidia-smi: it needs NVML too, and explains more")
        yield Finding("memory", f"cannot list the processes that use this memory: {state.unnamed}", action=action)


def _process_text(process: OtherProcess) -> str:
    who = f"{process.name} (pid {process.pid})" if process.name else f"pid {process.pid}"
    return f"{who} {format_bytes(process.held_bytes)}" if process.held_bytes is not None else who


def _kernels(state: DeviceState) -> Iterator[Finding]:
    """Yield the usable kernels of scaled_dot_product_attention, once for all dtypes that have the same."""
    groups: list[tuple[list[str], Mapping[str, str]]] = []
    for dtype, kernels in state.kernels.items():
        same = next((names for names, others in groups if others == kernels), None)
        if same is None:
            groups.append(([dtype], kernels))
        else:
            same.append(dtype)
    for names, kernels in groups:
        usable = [kernel for kernel, why in kernels.items() if not why]
        reasons: dict[str, list[str]] = {}
        for kernel, why in kernels.items():
            if why:
                reasons.setdefault(why, []).append(kernel)
        refused = "; ".join(f"no {', '.join(refused)}: {why}" for why, refused in reasons.items())
        text = f"{', '.join(names)}: {', '.join(usable) or 'none'}" + (f" ({refused})" if refused else "")
        # math keeps the N x N matrices.
        action = f"in {', '.join(names)} use chunked or online: sdpa-pad takes N^2 here" if usable == ["math"] else ""
        yield Finding("kernels", text, action=action)


def _context(found: Environment, runner: Runner) -> Finding:
    """Find out what CUDA takes outside the allocator, after a step that has loaded its kernels and libraries."""
    result = runner.measure(_PROBE)
    memory = result.measurement.memory
    if memory is None or memory.context_bytes is None:
        text = f"a training step fails: {result.outcome.value}, {result.reason}"
        return Finding("context", text, False, _remedy(result, found.compute_capability))
    text = f"CUDA takes {format_bytes(memory.context_bytes)} ({memory.context_bytes} bytes) after a training step"
    card = next((card for card in catalogue() if card.name == found.device_name), None)
    if card is not None:
        text += f"; the catalogue allows {format_bytes(card.context_bytes)} for {card} ({card.context_source})"
    return Finding("context", text)


def _remedy(result: Result, capability: str | None) -> str:
    """Return what to do about a step that fails."""
    if "no kernel image" in result.reason:
        return f"install a torch built for compute capability {capability} (pytorch.org/get-started)"
    if result.outcome is Outcome.OUT_OF_MEMORY:
        return "end the other processes on the card"
    return "update the driver and torch"


def _emulation(tell: Callable[[str], None]) -> Iterator[Finding]:
    from attnprof.emulation import KNOWN_LIMITATIONS
    from attnprof.emulation.unemulated import PARTS

    [card] = parse_cards("t4")
    try:
        with make_runner(Settings(values=True), card, tell) as runner:
            tell("running a training step on an emulated T4")
            runner.open()
            result = runner.measure(_PROBE)
    except AttnprofError as error:
        yield Finding("emulation", f"does not work here: {error}", fine=False)
        return
    if result.outcome is not Outcome.COMPLETED:
        text = f"fails here: {result.outcome.value}, {result.reason}"
        yield Finding("emulation", text, False, "install another release of torch, or measure with --device")
        return
    memory = result.measurement.memory
    assert memory is not None
    peak = format_bytes(memory.peak_allocated_bytes)
    yield Finding("emulation", f"works here (--gpu): {_PROBE} on a T4 peaks at {peak}")
    zeros = [note for note in result.measurement.notes if _NO_VALUES in note]
    for note in zeros:
        yield Finding("values", f"{_NO_VALUES}{note.partition(_NO_VALUES)[2]}", False, "install g++, or set CXX")
    if not zeros:
        yield Finding("values", "small values on an emulated card are computed on this machine (run, model)")
    if not runner.environment.cudnn_plans:
        old = (runner.environment.cudnn or 0) < _CUDNN_THAT_PLANS
        action = "install a torch that brings cuDNN 9.8 or newer" if old else "install another release of torch"
        yield Finding("cuDNN", "does not plan without a card here: its workspaces count as 0 bytes", False, action)
    yield from (Finding("limitations", line) for line in KNOWN_LIMITATIONS)
    yield from (Finding("not emulated", part.words, action=part.remedy) for part in PARTS)
