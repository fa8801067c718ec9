"""The page of `attnprof blocks`: the attention blocks of the papers."""

from __future__ import annotations

from collections.abc import Sequence

from attnprof.attention.blocks.catalogue import BlockForm
from attnprof.report.grid import Column, Grid, Row
from attnprof.report.page import Field, Kind, Page, Paragraph, names_of, rows_of

FIELDS: tuple[Field[BlockForm], ...] = (
    Field("block", lambda form: form.name, "The name that `--block` takes."),
    Field("reduction", lambda form: form.reduction, "C / E: input channels over query and key channels."),
    Field(
        "value_reduction",
        lambda form: form.value_reduction or form.reduction,
        "C / D: input channels over value channels.",
    ),
    Field("pool", lambda form: form.pool, "Side of the pooling window over keys and values; 1 is none."),
    Field("output_convolution", lambda form: form.projects_back, "Whether a last 1x1 convolution returns to C."),
    Field("channel_attention", lambda form: form.channel_attention, "Whether channels attend to channels as well."),
    Field("summary", lambda form: form.summary, "What the block is, in one line."),
    Field("source", lambda form: form.source, "The paper that describes it."),
)
_COLUMNS = (
    Column("block"),
    Column("C/E", right=True),
    Column("C/D", right=True, leaves=2),
    Column("keys", leaves=3),
    Column("what it is", folds=True),
    Column("from", folds=True, leaves=1),
)
_LEGEND = (
    "C: input channels. E: channels of queries and keys (--reduction). D: channels of values. keys: how many there "
    "are, with N = H * W."
)


def blocks_page(forms: Sequence[BlockForm]) -> Page:
    """Make the page of these blocks."""
    grid = Grid("Blocks that --block takes", _COLUMNS, tuple(map(_row, forms)))
    return Page(((grid,), (Paragraph(Kind.LEGEND, _LEGEND),)), names_of(FIELDS), rows_of(FIELDS, forms))


def _value_reduction(form: BlockForm) -> int:
    return form.value_reduction or form.reduction


def _row(form: BlockForm) -> Row:
    keys = f"N/{form.pool**2}" if form.pool > 1 else "N"
    return Row((form.name, str(form.reduction), str(_value_reduction(form)), keys, form.summary, form.source))
