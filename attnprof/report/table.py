"""Records as tables: for a terminal of 80 columns, and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from attnprof.record import Outcome, Record
from attnprof.report.summary import Group, failure_lines, group, kernel_lines, note_lines, pick_line
from attnprof.units import format_bytes, format_seconds

_HEADINGS = ("strategy", "peak", "step", "latency", "speed", "error", "kernel")
_LEGEND = "* fastest or smallest of the exact   ~ approximate   speed: against naive"
_OUTCOMES = {
    Outcome.OUT_OF_MEMORY: "OOM",
    Outcome.UNSUPPORTED: "unsupported",
    Outcome.TIMED_OUT: "timed out",
    Outcome.CRASHED: "crashed",
}


def to_table(records: Sequence[Record]) -> RenderableType:
    """For `rich.console.Console.print`; fits 80 columns."""
    groups = group(records)
    parts: list[RenderableType] = []
    for one in groups:
        parts += [_heading(one), _rich_table(one), Text()]
    parts.append(Text(_LEGEND, style="dim"))
    parts += [Text(line) for line in _remarks(records)]
    parts.append(Text(pick_line(groups), style="bold"))
    return Lines(*parts)


def to_markdown(records: Sequence[Record]) -> str:
    """The same tables, for a README or an issue."""
    groups = group(records)
    lines: list[str] = []
    for one in groups:
        lines += [f"**{_heading(one).plain}**", "", _markdown_line(_HEADINGS), _markdown_line(["---"] * len(_HEADINGS))]
        lines += [
            _markdown_line([cell.replace("*", "\\*").replace("~", "\\~") for cell in _cells(r, one)])
            for r in one.records
        ]
        lines.append("")
    lines += [_LEGEND.replace("*", "\\*").replace("~", "\\~"), ""]
    lines += [f"- {line}" for line in _remarks(records)]
    lines += ["", pick_line(groups)]
    return "\n".join(lines) + "\n"


def _remarks(records: Sequence[Record]) -> list[str]:
    return [*kernel_lines(records), *failure_lines(records), *note_lines(records)]


def _heading(one: Group) -> Text:
    return Text(f"{one.workload} - {one.device} ({one.source})", style="bold")


def _rich_table(one: Group) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in _HEADINGS:
        right = name in ("peak", "step", "latency", "speed", "error")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "strategy", overflow="fold")
    for record in one.records:
        style = None if record.outcome is Outcome.COMPLETED else "red"
        cells = [Text(cell) for cell in _cells(record, one)]
        if record is one.smallest:
            cells[1].stylize("bold green")
        if record is one.fastest:
            cells[3].stylize("bold green")
        table.add_row(*cells, style=style)
    return table


def _cells(record: Record, one: Group) -> list[str]:
    """Text for each heading. The longest are 12 to 13 characters but for the first and the last."""
    name = record.case.strategy if record.case.parsed.exact else f"~{record.case.strategy}"
    measurement = record.measurement
    kernel = measurement.kernel.name if measurement.kernel else ""
    if record.outcome is not Outcome.COMPLETED:
        what = _OUTCOMES[record.outcome] + (", implied" if record.implied_by else "")
        return [name, "", "", what, "", "", kernel]
    assert measurement.memory is not None
    peak = format_bytes(measurement.memory.peak_allocated_bytes) + (" *" if record is one.smallest else "")
    return [
        name,
        peak,
        format_bytes(measurement.memory.step_bytes),
        _latency(record) + (" *" if record is one.fastest else ""),
        _speed(record, one.naive),
        _error(record),
        kernel,
    ]


def _latency(record: Record) -> str:
    latency = record.measurement.latency
    if latency is None:
        return "-"
    return format_seconds(latency.median_seconds) + ("?" if latency.noisy else "")


def _speed(record: Record, naive: Record | None) -> str:
    mine, theirs = record.measurement.latency, naive.measurement.latency if naive else None
    return f"{theirs.median_seconds / mine.median_seconds:.1f}x" if mine and theirs else "-"


def _error(record: Record) -> str:
    """The larger of the output's and the gradients' relative error."""
    exactness = record.measurement.exactness
    if exactness is None:
        return "-"
    return f"{max(exactness.max_rel_error, exactness.grad_max_rel_error or 0.0):.0e}"


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
