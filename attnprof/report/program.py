"""What became of a program on an emulated card: for a terminal of 80 columns, and as JSON."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attnprof.emulation.watch.findings import (
    BACKWARD,
    EARLIER,
    GRADIENTS,
    Line,
    LineHolder,
    OutOfMemory,
    ProcessFindings,
    ReadLine,
)
from attnprof.report.grid import Column, Grid, Row, to_rich
from attnprof.report.provenance import card_text
from attnprof.studies.program import ProgramRun
from attnprof.units import format_bytes

_HOLDERS, _READ_LINES, _STACK_LINES = 10, 10, 4  # that are shown
_COLUMNS = (
    Column("holds", right=True), Column("blocks", right=True), Column("largest", right=True),
    Column("allocated at", folds=True),
)  # fmt: skip
_PROCESS_COLUMNS = (
    Column("process", right=True), Column("peak", right=True), Column("with context", right=True),
    Column("command", folds=True),
)  # fmt: skip
_COMMAND_LETTERS = 80
_PACKAGES = ("site-packages", "dist-packages")
_PARTS = {
    GRADIENTS: "gradients of parameters",
    BACKWARD: "backward",
    EARLIER: "before what is remembered",
}
# What a line's text tells of its use of a value. It is a hint: a value may be used elsewhere.
_SIZES = re.compile(r"\b(nonzero|argwhere|unique|unique_consecutive|masked_select|repeat_interleave|bincount)\b")
_BRANCHES = re.compile(r"^(if|elif|while)\b.*:$|^assert\b")


def run_json(run: ProgramRun) -> str:
    """Everything that is known, in bytes; `taken_bytes` is the reserved peak with the context."""
    answer = {
        "source": "emulated",
        "gpu": str(run.card),
        "total_bytes": run.card.total_bytes,
        "context_bytes": run.card.context_bytes,
        "command": run.command,
        "exit_code": run.exit_code,
        "torch": run.torch,
        "processes": [{**asdict(one), "taken_bytes": _taken_bytes(run, one)} for one in run.processes],
    }
    return json.dumps(answer, indent=1) + "\n"


def run_table(run: ProgramRun) -> RenderableType:
    """For `rich.console.Console.print`; fits 80 columns."""
    card = card_text(str(run.card), run.card.total_bytes, run.card.context_bytes)
    using = [one for one in run.processes if one.used_cuda]
    parts: list[RenderableType] = [Text(f"{_shortened(shlex.join(run.command))} - {card} (emulated)", "bold")]
    if using:
        # Of several the one that matters: that ran out of memory, or took the most.
        shown = max(
            using, key=lambda one: (one.out_of_memory is not None, one.peak_reserved_bytes, one.peak_allocated_bytes)
        )
        if len(using) > 1:
            parts += [*_processes(run, using), Text(), Text(f"Process {shown.pid}:", style="bold")]
        parts += _process(run, shown)
    parts += [Text(line) for line in _remarks(run, using)]
    return Lines(*parts)


def _taken_bytes(run: ProgramRun, process: ProcessFindings) -> int:
    return process.peak_reserved_bytes + run.card.context_bytes


def _processes(run: ProgramRun, using: Sequence[ProcessFindings]) -> Iterator[RenderableType]:
    total = sum(_taken_bytes(run, one) for one in using)
    yield Text(
        f"{len(using)} processes used CUDA, and each saw a card of its own. Sharing one they would take "
        f"{format_bytes(total)} of {format_bytes(run.card.total_bytes)}, if their peaks met:"
    )
    rows = []
    for one in using:
        least = "" if one.ended else ">= "
        peaks = (f"{least}{format_bytes(count)}" for count in (one.peak_allocated_bytes, _taken_bytes(run, one)))
        rows.append(Row((str(one.pid), *peaks, _shortened(one.command)), failed=one.out_of_memory is not None))
    yield to_rich(Grid("", _PROCESS_COLUMNS, tuple(rows)))


def _shortened(command: str) -> str:
    words = " ".join(command.split())
    return words if len(words) <= _COMMAND_LETTERS else words[: _COMMAND_LETTERS - 3] + "..."


def _process(run: ProgramRun, process: ProcessFindings) -> Iterator[RenderableType]:
    out_of_memory, peak = process.out_of_memory, process.peak
    if out_of_memory:
        yield from _failure(process, out_of_memory)
    yield _summary(run, process)
    if out_of_memory and out_of_memory.holders:
        yield Text()
        yield from _held("then", out_of_memory.holders, out_of_memory.allocated_bytes)
    elif peak:
        yield Text()
        when = "at the peak" if peak.allocated_bytes >= process.peak_allocated_bytes else "close to the peak"
        yield from _held(when, peak.holders, peak.allocated_bytes)
    yield from (Text(line) for line in _not_followed(process))


def _failure(process: ProcessFindings, failure: OutOfMemory) -> Iterator[RenderableType]:
    during = {"": "", "optimizer step": ", in the optimizer's step"}.get(failure.phase, f", in {failure.phase}")
    node = f" ({failure.node})" if failure.node else ""
    done = failure.steps_before
    when = f"in optimizer step {done + 1}" if done else "before the first optimizer step was done"
    asked = f", allocating {format_bytes(failure.requested_bytes)}" if failure.requested_bytes else ""
    yield Text(f"Out of memory {when}{during}{node}{asked}:", "bold red")
    for line in failure.stack[-_STACK_LINES:]:
        yield _indented(_line_text(line))
    yield _indented(failure.message)
    if process.out_of_memory_count > 1:
        yield Text(f"The program caught it and ran out of memory again: {process.out_of_memory_count} times in all.")


def _summary(run: ProgramRun, process: ProcessFindings) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    taken = _taken_bytes(run, process)
    least = "" if process.ended else "at least "
    rows = {
        "peak allocated": f"{least}{format_bytes(process.peak_allocated_bytes)}{_peak_step(process)}",
        "peak reserved": f"{least}{format_bytes(process.peak_reserved_bytes)}, with the context {format_bytes(taken)}: "
        f"{taken / run.card.total_bytes:.0%} of the card",
        "optimizer steps": _steps(process),
    }
    for name, value in rows.items():
        table.add_row(name, Text(value))
    return table


def _peak_step(process: ProcessFindings) -> str:
    if process.steps == 0:
        return ""
    if process.peak_step > process.steps:
        return f", after step {process.steps}"
    return f", in step {process.peak_step}"


def _steps(process: ProcessFindings) -> str:
    if process.steps == 0:
        return "none finished"
    of_several = f" (of {process.optimizers} optimizers together)" if process.optimizers > 1 else ""
    after = ", ".join(f"{format_bytes(count)} after {step}" for step, count in process.peaks_so_far.items())
    return f"{process.steps}{of_several}; peak so far: {after}"


def _held(when: str, holders: Sequence[LineHolder], allocated_bytes: int) -> Iterator[RenderableType]:
    shown = len(holders) if len(holders) <= _HOLDERS + 1 else _HOLDERS
    rows = [
        Row((format_bytes(one.total_bytes), str(one.blocks), format_bytes(one.largest_bytes), _holder_text(one)))
        for one in holders[:shown]
    ]
    rest = holders[shown:]
    if rest:
        cells = (sum(one.total_bytes for one in rest), sum(one.blocks for one in rest))
        largest = max(one.largest_bytes for one in rest)
        rows.append(Row((format_bytes(cells[0]), str(cells[1]), format_bytes(largest), f"{len(rest)} others")))
    yield Text(f"Who held {format_bytes(allocated_bytes)} {when}:")
    yield to_rich(Grid("", _COLUMNS, tuple(rows)))


def _holder_text(holder: LineHolder) -> str:
    lines = "\n".join(_line_text(line) for line in (holder.line, holder.package_line) if line)
    part = ("(called by backward)" if lines else _PARTS[holder.part]) if holder.part else ""
    tensor = f"[{holder.largest_tensor}]" if holder.largest_tensor else ""
    return " ".join(filter(None, (lines, part, tensor)))


def _line_text(line: Line) -> str:
    path = Path(line.file)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    packages = [place for place, part in enumerate(path.parts) if part in _PACKAGES]
    if packages:
        path = Path(*path.parts[packages[-1] + 1 :])
    return f"{path}:{line.line}  {line.source}".rstrip()


def _not_followed(process: ProcessFindings) -> Iterator[str]:
    yield from _read_backs(process)
    for call in process.unknown:
        yield f"The emulated device does not know {call}: what came after it may differ on a card."
    for what in process.assumed:
        yield f"Emulation assumes that {what}."
    if process.avoided_count:
        yield f"PyTorch survived {process.avoided_count} failed allocations by itself, such as a cuDNN workspace."
    if not process.ended:
        yield "The process was killed or left by os._exit: what it did after its last report is missing."
    for note in process.notes:
        yield f"Not followed: {note}"


def _read_backs(process: ProcessFindings) -> Iterator[str]:
    lines = process.read_lines
    if not lines:
        return
    yield ""
    count = "1 line reads" if len(lines) == 1 else f"{len(lines)} lines read"
    yield (
        f"{count} values from the card, which computes nothing: they got zeros. Losses and metrics mean nothing, and "
        f"where a size or a branch depends on such a value, memory may differ:"
    )
    for one in lines[:_READ_LINES]:
        yield f"  {_read_text(one)}"
    if lines[_READ_LINES:]:
        yield f"  and {len(lines) - _READ_LINES} other lines"


def _read_text(one: ReadLine) -> str:
    times = "once" if one.copies == 1 else f"{one.copies} times"
    if one.line is None:
        return f"backward  ({times})"
    use = "a size: " if _SIZES.search(one.line.source) else "a branch: " if _BRANCHES.search(one.line.source) else ""
    return f"{_line_text(one.line)}  ({use}{times})"


def _remarks(run: ProgramRun, using: Sequence[ProcessFindings]) -> Iterator[str]:
    for version in dict.fromkeys(one.torch for one in run.processes if one.torch and one.torch != run.torch):
        yield (
            f"The program's torch is {version} and the emulated device is built for {run.torch}: run it with the "
            f"Python that has attnprof."
        )
    if not run.processes:
        yield (
            "No report came from the program: it does not import torch, or runs Python with -I, -E or -S, which keep "
            "attnprof out."
        )
    elif not using:
        yield "The program did not use CUDA: there was nothing to put on the card."
        yield from (f"Not followed: {note}" for one in run.processes for note in one.notes)


def _indented(text: str) -> RenderableType:
    return Padding(Text(text), (0, 0, 0, 2))
