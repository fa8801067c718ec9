"""Rows of named values as CSV and JSON text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping


def csv_text(names: Iterable[str], rows: Iterable[Mapping[str, object]]) -> str:
    """A header and a line a row (RFC 4180, lines ending in LF); None is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def json_text(rows: Iterable[Mapping[str, object]]) -> str:
    """An array of objects; None is null."""
    return json.dumps(list(rows), indent=1) + "\n"
