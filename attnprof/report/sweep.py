"""The page of `attnprof sweep`: what was measured, what was emulated, and what to pick."""

from __future__ import annotations

from collections.abc import Sequence

from attnprof.cases.measurement import Source
from attnprof.cases.record import Record
from attnprof.report import sweep_emulated as emulated
from attnprof.report import sweep_measured as measured
from attnprof.report.grid import Grid
from attnprof.report.groups import Group, group
from attnprof.report.page import Kind, Page, paragraphs, rows_of
from attnprof.report.provenance import emulated_text
from attnprof.report.remarks import (
    another_attention_remarks,
    failure_remarks,
    kernel_remarks,
    note_remarks,
    pick_remarks,
)
from attnprof.report.rows import COLUMNS, FIELDS


def sweep_page(records: Sequence[Record], *, complete: bool = True) -> Page:
    """Make the page of these records: measured workloads first, then emulated cards.

    Args:
        records: in the order of the plan.
        complete: whether the sweep came to its end; if not, nothing is picked.
    """
    groups = group(records)
    here = [one for one in groups if one.source is Source.MEASURED]
    there = [one for one in groups if one.source is Source.EMULATED]
    grids: list[Grid] = [measured.measured_grid(one) for one in here]
    legends = [*measured.LEGENDS] if here else []
    if there:
        grids += emulated.emulated_grids(there)
        legends += _emulated_legends(there)
    legends += another_attention_remarks(records)
    remarks = [*kernel_remarks(records), *failure_remarks(records), *note_remarks(records)]
    notes = (
        *paragraphs(Kind.LEGEND, legends),
        *paragraphs(Kind.REMARK, remarks),
        *paragraphs(Kind.VERDICT, pick_remarks(groups) if complete else ()),
    )
    return Page((*((grid,) for grid in grids), notes), COLUMNS, rows_of(FIELDS, records))


def _emulated_legends(groups: Sequence[Group]) -> list[str]:
    cards = {one.device: one.records[0].environment for one in groups}
    if len(cards) == 1:
        return [*emulated.LEGENDS]
    return [*emulated.LEGENDS_SIDE_BY_SIDE, *map(emulated_text, cards.values())]
