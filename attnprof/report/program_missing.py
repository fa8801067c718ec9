"""The parts of CUDA that a program of `attnprof run` asked for and that are not emulated, and what to do."""

from __future__ import annotations

from collections.abc import Iterator

from attnprof.emulation.unemulated import Part, part_of_error, parts_of_calls
from attnprof.emulation.watch.findings import ProcessFindings
from attnprof.report.page import Kind, Paragraph
from attnprof.studies.program import ProgramRun


def missing_parts(run: ProgramRun) -> tuple[Part, ...]:
    """Return the parts that the program's processes asked for, whether an error ended them or they went on."""
    parts = [part for process in run.processes for part in (*parts_of_calls(process.unknown), *_of_errors(process))]
    return tuple(dict.fromkeys(parts))


def missing(run: ProgramRun) -> Iterator[Paragraph]:
    """Yield a paragraph for each part that is not emulated, with what to do about it."""
    for part in missing_parts(run):
        remedy = part.remedy[0].upper() + part.remedy[1:]
        yield Paragraph(Kind.TEXT, f"Not emulated: {part.words}. {remedy}.")
    if any(process.unknown for process in run.processes) and run.exit_code == 0:
        yield Paragraph(Kind.TEXT, "The program went on after that, so a card may need other memory.")


def _of_errors(process: ProcessFindings) -> Iterator[Part]:
    for raised in (process.ending.raised, *process.thread_errors):
        part = part_of_error(f"{raised.type}: {raised.message}") if raised else None
        if part is not None:
            yield part
