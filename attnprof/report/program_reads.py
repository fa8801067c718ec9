"""The part of a program's page on the values that it read from the emulated card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attnprof.emulation.watch.findings import (
    BRANCH,
    OVERFLOW,
    PRINTED,
    SAVED,
    SIZE,
    UNKNOWN,
    UNUSED,
    ProcessFindings,
    ReadCounts,
    ReadLine,
)
from attnprof.report.page import Kind, Paragraph, Section, paragraphs
from attnprof.report.program_lines import line_text, place_text

_ALARMS, _UNKNOWN, _HARMLESS = 6, 6, 3  # lines that are shown
_USES = {BRANCH: "a branch", SIZE: "a size"}
_LEVELS = {
    "true": "computed from what the program gave to the card",
    "drawn": "from random numbers, which are not the card's own",
    "made up": "depends on tensors whose values are not computed",
}


def counts_text(reads: ReadCounts) -> str:
    """Return how many copies were true, drawn and made up, without levels that none had."""
    return ", ".join(f"{count} {level}" for level, count in _by_level(reads).items() if count)


def _by_level(reads: ReadCounts) -> dict[str, int]:
    return {"true": reads.true, "drawn": reads.drawn, "made up": reads.made_up}


def copies_of_use(process: ProcessFindings, use: str) -> int:
    """Return how many copies of made-up values had this use."""
    return sum(one.reads.made_up for one in process.read_lines if one.use == use)


def alarms(process: ProcessFindings) -> Iterator[Paragraph]:
    """Yield a warning if made-up values decide a branch or a size, or keep a loop running."""
    found = [one for one in process.read_lines if one.use in _USES or one.repeated]
    if not found:
        return
    yield Paragraph(
        Kind.VERDICT,
        f"Warning: {_lines(found)} a branch or a size by values that emulation made up, so a card may go another way "
        f"or need other memory:"
        if any(one.use in _USES for one in found)
        else "Warning: the program may wait for values that emulation made up, and not end:",
    )
    yield from _quotes(sorted(found, key=lambda one: not one.repeated), _ALARMS)


def other_reads(process: ProcessFindings) -> Section:
    """Return what is told of the other reads of made-up values, and of the levels."""
    told: list[Paragraph] = []
    unknown = [one for one in process.read_lines if one.use == UNKNOWN and not one.repeated]
    if unknown:
        whose = "a line" if len(unknown) == 1 else f"{len(unknown)} lines"
        told.append(
            Paragraph(
                Kind.TEXT,
                f"It is unknown what came of made-up values that {whose} read. Memory may differ if a branch or a size "
                f"depends on them:",
            )
        )
        told += _quotes(unknown, _UNKNOWN)
    harmless = [one for one in process.read_lines if one.use in (PRINTED, SAVED, UNUSED)]
    if harmless:
        where = [place_text(one.line) if one.line else "backward" for one in harmless[:_HARMLESS]]
        where += [f"{len(harmless) - _HARMLESS} other lines"] if harmless[_HARMLESS:] else []
        told.append(
            Paragraph(
                Kind.TEXT,
                f"Made-up values were only {_done(harmless)} at {', '.join(where)}: they mean nothing, and do not "
                f"change memory.",
            )
        )
    if any(one.use == OVERFLOW for one in process.read_lines):
        told.append(
            Paragraph(
                Kind.TEXT,
                "GradScaler finds made-up gradients finite: on a card it skips an optimizer step if they overflow.",
            )
        )
    met = [level for level, count in _by_level(process.reads).items() if count]
    return (*told, *paragraphs(Kind.LEGEND, [" ".join(f"{level}: {_LEVELS[level]}." for level in met)] if met else []))


def _done(lines: Sequence[ReadLine]) -> str:
    words = {PRINTED: "printed", SAVED: "saved", UNUSED: "dropped"}
    return " or ".join(word for use, word in words.items() if any(one.use == use for one in lines))


def _lines(lines: Sequence[ReadLine]) -> str:
    return "one line decides" if len(lines) == 1 else f"{len(lines)} lines decide"


def _quotes(lines: Sequence[ReadLine], most: int) -> Iterator[Paragraph]:
    shown = len(lines) if len(lines) <= most + 1 else most
    yield from (Paragraph(Kind.QUOTE, _text(one)) for one in lines[:shown])
    if lines[shown:]:
        yield Paragraph(Kind.QUOTE, f"and {len(lines) - shown} other lines")


def _text(one: ReadLine) -> str:
    """Return a line of the program, and under it the line of a library that read and the line that decides, if any."""
    lines = [line for line in (one.line, one.package_line, one.decides) if line]
    places = list({place_text(line): line_text(line) for line in lines}.values()) or ["backward"]
    times = "once" if one.reads.made_up == 1 else f"{one.reads.made_up} times"
    use = f"{_USES[one.use]}, " if one.use in _USES else ""
    loop = "; a loop that waits for it does not end" if one.repeated else ""
    places[-1] += f"  ({use}{times}{loop})"
    return "\n  ".join(places)
