"""The page of `attnprof run`: what became of a program on an emulated card."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from attnprof.emulation.plan_orders import FIRST
from attnprof.emulation.watch.findings import (
    BRANCH,
    SIZE,
    ProcessFindings,
)
from attnprof.report.grid import Column, Grid, Row
from attnprof.report.page import Field, Kind, Page, Paragraph, Section, names_of, paragraphs, rows_of
from attnprof.report.program_ending import (
    End,
    caught_out_of_memory,
    ending,
    error_line,
    error_text,
    exit_code_of,
    is_lower_bound,
    process_end,
    program_end,
)
from attnprof.report.program_holders import held, holder_lines, holders_of, workspace_bytes
from attnprof.report.program_lines import line_text
from attnprof.report.program_missing import missing, missing_parts
from attnprof.report.program_reads import alarms, copies_of_use, counts_text, other_reads
from attnprof.report.provenance import card_text
from attnprof.studies.program import ProgramRun
from attnprof.units import format_bytes

_UNREAD = 3  # that are shown
_PROCESS_COLUMNS = (
    Column("process", right=True),
    Column("peak", right=True, leaves=1),
    Column("with context", right=True),
    Column("command", folds=True),
)
_SUMMARY_COLUMNS = (Column("figure"), Column("value", folds=True))
_COMMAND_LETTERS = 80


FIELDS: tuple[Field[tuple[ProgramRun, ProcessFindings]], ...] = (
    Field("pid", lambda row: row[1].pid, "The process."),
    Field("command", lambda row: row[1].command, "Its command line."),
    Field("source", lambda row: "emulated", "Always `emulated`."),
    Field("gpu", lambda row: str(row[0].card), "The card as `--gpu` spells it."),
    Field("torch", lambda row: row[1].torch, "Its version of torch."),
    Field("used_cuda", lambda row: row[1].used_cuda, "Whether it initialised CUDA."),
    Field("ended", lambda row: row[1].ended, "False if it wrote no last report, as if it was killed."),
    Field("peak_allocated_bytes", lambda row: row[1].peak_allocated_bytes, "Highest number of bytes allocated."),
    Field(
        "peak_reserved_bytes", lambda row: row[1].peak_reserved_bytes, "The same of the caching allocator's segments."
    ),
    Field("taken_bytes", lambda row: _taken_bytes(*row), "Peak reserved, and the context."),
    Field(
        "peak_step", lambda row: row[1].peak_step, "Optimizer step of the peak; one more than `steps` if after them."
    ),
    Field("plan_trials", lambda row: row[1].plan_trials, "Operations for which PyTorch tried cuDNN's plans."),
    Field(
        "peak_without_trials_bytes",
        lambda row: row[1].peak_without_trials_bytes,
        "Highest number of bytes allocated in steps in which it tried none.",
    ),
    Field("steps", lambda row: row[1].steps, "Optimizer steps that were finished."),
    Field("optimizers", lambda row: row[1].optimizers, "Optimizers that made them."),
    Field("out_of_memory_count", lambda row: row[1].out_of_memory_count, "How often it ran out of memory."),
    Field("out_of_memory_at", lambda row: _failing_line(row[1]), "The line where it first did."),
    Field("requested_bytes", lambda row: _requested_bytes(row[1]), "What that line asked for."),
    Field("reads_true", lambda row: row[1].reads.true, "Copies to the host of values computed from what it gave."),
    Field("reads_drawn", lambda row: row[1].reads.drawn, "Copies of values that depend on random numbers."),
    Field("reads_made_up", lambda row: row[1].reads.made_up, "Copies of values that emulation made up."),
    Field("made_up_branches", lambda row: copies_of_use(row[1], BRANCH), "Those of them that decided a branch."),
    Field("made_up_sizes", lambda row: copies_of_use(row[1], SIZE), "Those of them that decided a size."),
    Field("largest_holder", lambda row: _largest_holder(row[1]), "The line that held the most at the peak or then."),
    Field("largest_holder_bytes", lambda row: _largest_holder_bytes(row[1]), "What that line held."),
    Field(
        "end",
        lambda row: process_end(*row).value,
        "`finished`, `exception`, `out_of_memory`, `exit_code`, `killed` or `interrupted`.",
    ),
    Field("exit_code", lambda row: exit_code_of(*row), "Its exit code, if that is known."),
    Field("error", lambda row: error_text(row[1]), "The exception that ended it, or that it handled when it left."),
    Field("error_at", lambda row: error_line(row[1]), "The program's line at which it ended."),
    Field(
        "peak_is_lower_bound",
        lambda row: is_lower_bound(*row),
        "Whether it failed or was stopped, so that its peaks could have been higher.",
    ),
    Field("workspace_bytes", lambda row: workspace_bytes(row[1]), "What workspaces of libraries held at that time."),
)


def program_page(run: ProgramRun) -> Page:
    """Make the page of a program's run; CSV has a row a process."""
    card = card_text(str(run.card), run.card.total_bytes, run.card.context_bytes)
    using = [one for one in run.processes if one.used_cuda]
    title = f"{_shortened(shlex.join(run.command))} - {card} (emulated)"
    ended = (*ending(run), *missing(run))
    heading = Paragraph(Kind.HEADING, title)
    sections: list[Section] = [(*ended, heading)] if len(ended) == 1 else [ended, (heading,)]
    if using:
        # If there are several processes, show the one that ran out of memory, or else the one that took the most.
        shown = max(
            using, key=lambda one: (one.out_of_memory is not None, one.peak_reserved_bytes, one.peak_allocated_bytes)
        )
        if len(using) > 1:
            sections[-1] += tuple(_processes(run, using))
            sections.append((Paragraph(Kind.HEADING, f"Process {shown.pid}:"),))
        sections[-1] += (_summary(run, shown), *alarms(shown))
        sections.append(tuple(caught_out_of_memory(run, shown)))
        sections += [held(shown), other_reads(shown), paragraphs(Kind.REMARK, _not_followed(run, shown))]
    sections.append(paragraphs(Kind.REMARK, _remarks(run, using)))
    rows = rows_of(FIELDS, ((run, process) for process in run.processes))
    return Page(tuple(sections), names_of(FIELDS), rows, _document(run))


def _document(run: ProgramRun) -> dict[str, Any]:
    """Return everything that is known; `taken_bytes` is the reserved peak with the context."""
    return {
        "source": "emulated",
        "gpu": str(run.card),
        "total_bytes": run.card.total_bytes,
        "context_bytes": run.card.context_bytes,
        "command": run.command,
        "exit_code": run.exit_code,
        "signal": run.signal,
        "pid": run.pid,
        "end": program_end(run).value,
        "interrupted": run.interrupted,
        "not_emulated": [{"part": part.words, "remedy": part.remedy} for part in missing_parts(run)],
        "torch": run.torch,
        "plans": run.plans,
        "processes": [{**asdict(one), **_judged(run, one)} for one in run.processes],
        "plan_range": [_document(each) for each in run.plan_range],
    }


def _judged(run: ProgramRun, process: ProcessFindings) -> dict[str, Any]:
    """Return what follows from a process' findings and from the program's end."""
    return {
        "taken_bytes": _taken_bytes(run, process),
        "end": process_end(run, process).value,
        "exit_code": exit_code_of(run, process),
        "peak_is_lower_bound": is_lower_bound(run, process),
    }


def _taken_bytes(run: ProgramRun, process: ProcessFindings) -> int:
    return process.peak_reserved_bytes + run.card.context_bytes


def _failing_line(process: ProcessFindings) -> str | None:
    failure = process.out_of_memory
    return line_text(failure.stack[-1]) if failure and failure.stack else None


def _requested_bytes(process: ProcessFindings) -> int | None:
    return process.out_of_memory.requested_bytes if process.out_of_memory else None


def _largest_holder(process: ProcessFindings) -> str | None:
    holders = holders_of(process)
    return "\n".join(holder_lines(holders[0])) if holders else None


def _largest_holder_bytes(process: ProcessFindings) -> int | None:
    holders = holders_of(process)
    return holders[0].total_bytes if holders else None


def _processes(run: ProgramRun, using: Sequence[ProcessFindings]) -> Iterator[Grid | Paragraph]:
    total = sum(_taken_bytes(run, one) for one in using)
    yield Paragraph(
        Kind.TEXT,
        f"{len(using)} processes used CUDA, and each saw a card of its own. On one card they would take "
        f"{format_bytes(total)} of {format_bytes(run.card.total_bytes)} if their peaks coincided:",
    )
    rows = []
    for one in using:
        least = ">= " if is_lower_bound(run, one) else ""
        peaks = (f"{least}{format_bytes(count)}" for count in (one.peak_allocated_bytes, _taken_bytes(run, one)))
        rows.append(
            Row((str(one.pid), *peaks, _shortened(one.command)), failed=process_end(run, one) is not End.FINISHED)
        )
    yield Grid("", _PROCESS_COLUMNS, tuple(rows))


def _shortened(command: str) -> str:
    words = " ".join(command.split())
    return words if len(words) <= _COMMAND_LETTERS else words[: _COMMAND_LETTERS - 3] + "..."


def _summary(run: ProgramRun, process: ProcessFindings) -> Grid:
    taken = _taken_bytes(run, process)
    least = _least(run, process)
    reserved, allocated = format_bytes(process.peak_reserved_bytes), format_bytes(process.peak_allocated_bytes)
    share = f"{taken / run.card.total_bytes:.0%} of the card"
    figures = {
        "peak allocated": f"{least}{allocated}{_peak_step(process)}",
        **_without_trials(run, process),
        **_over_plans(run),
        "peak reserved": f"{least}{reserved}, with the context {format_bytes(taken)}: {share}",
        "optimizer steps": _steps(process),
        **({"values read": counts_text(process.reads)} if process.reads.total else {}),
    }
    return Grid("", _SUMMARY_COLUMNS, tuple(map(Row, figures.items())), headed=False)


def _least(run: ProgramRun, process: ProcessFindings) -> str:
    return "at least " if is_lower_bound(run, process) else ""


def _peak_step(process: ProcessFindings) -> str:
    if process.steps == 0:
        return ""
    if process.peak_step > process.steps:
        return f", after step {process.steps}"
    return f", in step {process.peak_step}"


def _without_trials(run: ProgramRun, process: ProcessFindings) -> dict[str, str]:
    """Return the peak of the steps in which PyTorch tried no plans of cuDNN, if there are others."""
    peak_bytes = process.peak_without_trials_bytes
    if not process.plan_trials or peak_bytes is None:
        return {}
    return {
        "in other steps": f"{_least(run, process)}{format_bytes(peak_bytes)}: in these, PyTorch tries no plans of cuDNN"
    }


def _over_plans(run: ProgramRun) -> dict[str, str]:
    """Return the peaks over cuDNN's plans that a card could choose, if the program ran with the ends of the range."""
    if not run.plan_range:
        return {}
    runs = [each for each in (run, *run.plan_range) if each.processes]
    text = _range_text([max(one.peak_allocated_bytes for one in each.processes) for each in runs])
    others = [max(one.peak_without_trials_bytes or 0 for one in each.processes) for each in runs]
    if any(others):
        text += f"; in other steps {_range_text(others)}"
    for each in run.plan_range:
        if any(one.out_of_memory for one in each.processes):
            text += f"; with the {each.plans} workspaces memory runs out"
    return {"any plans": text}


def _range_text(counts: Sequence[int]) -> str:
    """Return the least and the largest count. A plan with more workspace can make the peak lower, if seldom."""
    return " to ".join(dict.fromkeys(map(format_bytes, (min(counts), max(counts)))))


def _steps(process: ProcessFindings) -> str:
    if process.steps == 0:
        return "none finished"
    of_several = f" (of {process.optimizers} optimizers together)" if process.optimizers > 1 else ""
    after = ", ".join(f"{format_bytes(count)} after {step}" for step, count in process.peaks_so_far.items())
    return f"{process.steps}{of_several}; peak so far: {after}"


def _not_followed(run: ProgramRun, process: ProcessFindings) -> Iterator[str]:
    for what in process.assumed:
        yield f"Emulation assumes that {what}."
    if process.plan_trials and run.plans == FIRST and not run.plan_range:
        yield "With --plans range, the program runs with the plans of the least and of the largest workspace too."
    if process.avoided_count:
        yield f"PyTorch recovered from {process.avoided_count} failed allocations by itself, such as a cuDNN workspace."
    if not process.ended:
        yield "The process wrote no last report: anything after the one before is missing."
    for note in process.notes:
        yield f"Not followed: {note}"


def _remarks(run: ProgramRun, using: Sequence[ProcessFindings]) -> Iterator[str]:
    for version in dict.fromkeys(one.torch for one in run.processes if one.torch and one.torch != run.torch):
        yield (
            f"The program's torch is {version}, but the emulated device is built for {run.torch}: run the program with "
            f"the Python that has attnprof."
        )
    if not using:
        yield from (f"Not followed: {note}" for one in run.processes for note in one.notes)
    for unread in run.unread[:_UNREAD]:
        yield f"Not read: {unread}."
    if run.unread[_UNREAD:]:
        yield f"Not read: {len(run.unread) - _UNREAD} other files."
