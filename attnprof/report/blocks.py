"""The blocks of the papers as a table, CSV and JSON."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from attnprof.attention.blocks.catalogue import BlockForm
from attnprof.report.grid import Column, Grid, Row, to_markdown_lines, to_rich
from attnprof.report.listing import csv_text, json_text

_COLUMNS = (
    Column("block"), Column("C/E", right=True), Column("C/D", right=True), Column("keys"),
    Column("what it is", folds=True), Column("from", folds=True),
)  # fmt: skip
_LEGEND = "E: channels of query and key (--reduction)   D: of value   keys: of N = H * W"


def blocks_table(forms: Sequence[BlockForm]) -> RenderableType:
    """For `rich.console.Console.print`; fits 80 columns."""
    return Lines(to_rich(_grid(forms)), Text(), Text(_LEGEND, style="dim"))


def blocks_markdown(forms: Sequence[BlockForm]) -> str:
    return "\n".join([*to_markdown_lines(_grid(forms)), _LEGEND]) + "\n"


def blocks_csv(forms: Sequence[BlockForm]) -> str:
    return csv_text(_fields(forms[0]), map(_fields, forms))


def blocks_json(forms: Sequence[BlockForm]) -> str:
    return json_text(map(_fields, forms))


def _fields(form: BlockForm) -> dict[str, object]:
    return {
        "block": form.name,
        "reduction": form.reduction,
        "value_reduction": form.value_reduction or form.reduction,
        "pool": form.pool,
        "output_convolution": form.projects_back,
        "channel_attention": form.channel_attention,
        "summary": form.summary,
        "source": form.source,
    }


def _grid(forms: Sequence[BlockForm]) -> Grid:
    rows = (
        Row((
            form.name, str(form.reduction), str(form.value_reduction or form.reduction),
            f"N/{form.pool**2}" if form.pool > 1 else "N", form.summary, form.source,
        ))
        for form in forms
    )  # fmt: skip
    return Grid("Blocks that --block takes", _COLUMNS, tuple(rows))
