"""Records as CSV and JSON text."""

from __future__ import annotations

from collections.abc import Iterable

from attnprof.cases.record import Record
from attnprof.report.listing import csv_text, json_text
from attnprof.report.rows import COLUMNS, tidy_row


def to_csv(records: Iterable[Record]) -> str:
    """A row a case; an absent figure is an empty field."""
    return csv_text(COLUMNS, map(tidy_row, records))


def to_json(records: Iterable[Record]) -> str:
    """An array of the same rows; an absent figure is null."""
    return json_text(map(tidy_row, records))
