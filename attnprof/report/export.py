"""Records as CSV and JSON text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable

from attnprof.record import Record
from attnprof.report.rows import COLUMNS, tidy_row


def to_csv(records: Iterable[Record]) -> str:
    """A header and a row a case (RFC 4180, lines ending in LF); an absent figure is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(tidy_row(record) for record in records)
    return text.getvalue()


def to_json(records: Iterable[Record]) -> str:
    """An array of the same rows; an absent figure is null."""
    return json.dumps([tidy_row(record) for record in records], indent=1) + "\n"
