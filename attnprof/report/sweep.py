"""Records as tables: for a terminal of 80 columns, and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from attnprof.cases.measurement import Source
from attnprof.cases.record import Record
from attnprof.report import sweep_emulated as emulated
from attnprof.report import sweep_measured as measured
from attnprof.report.grid import Grid, escaped, to_markdown_lines, to_rich
from attnprof.report.groups import Group, group
from attnprof.report.provenance import emulated_text
from attnprof.report.remarks import another_attention_lines, failure_lines, kernel_lines, note_lines, pick_lines


def to_table(records: Sequence[Record]) -> RenderableType:
    """For `rich.console.Console.print`; fits 80 columns."""
    page = _page(records)
    parts: list[RenderableType] = []
    for grid in page.grids:
        parts += [Text(grid.title, style="bold"), to_rich(grid), Text()]
    parts += [Text(line, style="dim") for line in page.legends]
    parts += [Text(line) for line in page.remarks]
    parts += [Text(line, style="bold") for line in page.picks]
    return Lines(*parts)


def to_markdown(records: Sequence[Record]) -> str:
    """The same, for a README or an issue."""
    page = _page(records)
    lines = [line for grid in page.grids for line in to_markdown_lines(grid)]
    lines += [escaped(line) for line in page.legends]
    lines += ["", *(f"- {line}" for line in page.remarks), "", *page.picks]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Page:
    grids: list[Grid]
    legends: list[str]
    remarks: list[str]
    picks: list[str]


def _page(records: Sequence[Record]) -> _Page:
    groups = group(records)
    here = [one for one in groups if one.source is Source.MEASURED]
    there = [one for one in groups if one.source is Source.EMULATED]
    grids, legends = [measured.measured_grid(one) for one in here], [measured.LEGEND] if here else []
    if there:
        grids += emulated.emulated_grids(there)
        legends += _emulated_legends(there)
    legends += another_attention_lines(records)
    remarks = [*kernel_lines(records), *failure_lines(records), *note_lines(records)]
    return _Page(grids, legends, remarks, pick_lines(groups))


def _emulated_legends(groups: Sequence[Group]) -> list[str]:
    cards = {one.device: one.records[0].environment for one in groups}
    if len(cards) == 1:
        return [emulated.LEGEND]
    return [emulated.LEGEND_SIDE_BY_SIDE, *map(emulated_text, cards.values())]
