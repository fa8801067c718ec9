"""The page of `attnprof records list`: the files of records in a folder."""

from __future__ import annotations

from collections.abc import Sequence

from attnprof.cases.measurement import Outcome
from attnprof.report.grid import Column, Grid, Row
from attnprof.report.page import Field, Kind, Page, names_of, paragraphs, rows_of
from attnprof.studies.kept_records import KeptFile
from attnprof.units import format_bytes

FIELDS: tuple[Field[KeptFile], ...] = (
    Field("path", lambda file: str(file.path), "The file."),
    Field("modified", lambda file: file.modified.isoformat(timespec="seconds"), "When it was last written, UTC."),
    Field("size_bytes", lambda file: file.size_bytes, "Its size."),
    Field("records", lambda file: len(file.records), "The number of cases that it has."),
    Field("completed", lambda file: file.outcomes.get(Outcome.COMPLETED, 0), "How many of them completed."),
    Field("out_of_memory", lambda file: file.outcomes.get(Outcome.OUT_OF_MEMORY, 0), "How many ran out of memory."),
    Field("unsupported", lambda file: file.outcomes.get(Outcome.UNSUPPORTED, 0), "How many are not supported."),
    Field("timed_out", lambda file: file.outcomes.get(Outcome.TIMED_OUT, 0), "How many timed out."),
    Field("crashed", lambda file: file.outcomes.get(Outcome.CRASHED, 0), "How many crashed."),
    Field("devices", lambda file: list(file.devices), "The devices and emulated cards that they are of."),
    Field("in_use", lambda file: file.in_use, "Whether an attnprof is writing it."),
    Field("problem", lambda file: file.problem or None, "Why it cannot be read."),
)
_COLUMNS = (
    Column("file", folds=True),
    Column("written (UTC)", leaves=3),
    Column("cases", right=True),
    Column("of", folds=True, leaves=2),
    Column("size", right=True, leaves=1),
    Column("outcomes", folds=True),
)


def files_page(files: Sequence[KeptFile], place: str) -> Page:
    """Make the page of these files.

    Args:
        files: the files.
        place: the folder that they are in.
    """
    remarks = [file.problem for file in files if file.problem]
    grid = Grid(f"Records in {place}", _COLUMNS, tuple(map(_row, files)))
    legend = (
        "attnprof records show FILE prints a file's table; clean removes old files."
        if files
        else f"There are no files of records in {place}."
    )
    section = (grid,) if files else ()
    notes = (*paragraphs(Kind.LEGEND, [legend]), *paragraphs(Kind.REMARK, remarks))
    return Page((section, notes), names_of(FIELDS), rows_of(FIELDS, files))


def _row(file: KeptFile) -> Row:
    counts = ", ".join(f"{count} {outcome.words}" for outcome, count in file.outcomes.items())
    state = "cannot be read" if file.problem else f"{counts} (being written)" if file.in_use else counts
    return Row(
        (
            file.path.name,
            file.modified.strftime("%Y-%m-%d %H:%M"),
            str(len(file.records)),
            ", ".join(file.devices),
            format_bytes(file.size_bytes),
            state,
        ),
        failed=bool(file.problem),
    )
