"""The values of each command's rows, in the order of its CSV columns, with a description of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnprof.report import blocks, doctor, gpus, limits, model, program, recommend, records, rows, strategies
from attnprof.report.page import Field

FIELDS: Mapping[str, tuple[Field[Any], ...]] = {
    "sweep": rows.FIELDS,
    "limits": limits.FIELDS,
    "recommend": recommend.FIELDS,
    "model": model.FIELDS,
    "run": program.FIELDS,
    "records list": records.FIELDS,
    "doctor": doctor.FIELDS,
    "gpus": gpus.FIELDS,
    "strategies": strategies.FIELDS,
    "blocks": blocks.FIELDS,
}
