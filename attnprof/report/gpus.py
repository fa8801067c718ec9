"""The catalogue of GPUs as a table, CSV and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from attnprof.cases.cards import Card
from attnprof.report.grid import Column, Grid, Row, to_markdown_lines, to_rich
from attnprof.report.listing import csv_text, json_text
from attnprof.units import format_bytes

_COLUMNS = (
    Column("gpu"), Column("cc", right=True), Column("memory", right=True), Column("context", right=True),
    Column("GB/s", right=True), Column("fp32", right=True), Column("fp16", right=True), Column("where", folds=True),
)  # fmt: skip
_LEGENDS = (
    "cc: compute capability   fp32, fp16: peak TFLOPS, fp16 on tensor cores",
    "memory: the least that drivers report   context: what CUDA takes of it (--context)",
)


def cards_table(cards: Sequence[Card]) -> RenderableType:
    """For `rich.console.Console.print`; fits 80 columns."""
    return Lines(to_rich(_grid(cards)), Text(), *(Text(line, style="dim") for line in _LEGENDS))


def cards_markdown(cards: Sequence[Card]) -> str:
    return "\n".join([*to_markdown_lines(_grid(cards)), *_LEGENDS]) + "\n"


def cards_csv(cards: Sequence[Card]) -> str:
    """Every field of `catalogue.Card`."""
    return csv_text(_fields(cards[0]), map(_fields, cards))


def cards_json(cards: Sequence[Card]) -> str:
    return json_text(map(_fields, cards))


def _fields(card: Card) -> dict[str, object]:
    return {name: value for name, value in asdict(card).items() if name != "options"}


def _grid(cards: Sequence[Card]) -> Grid:
    return Grid("GPUs that --gpu can emulate", _COLUMNS, tuple(map(_row, cards)))


def _row(card: Card) -> Row:
    numbers = (card.bandwidth_gb_s, card.fp32_tflops, card.fp16_tensor_tflops)
    return Row((
        card.key, card.compute_capability, format_bytes(card.total_bytes), format_bytes(card.context_bytes),
        *(f"{number:.0f}" if number else "-" for number in numbers), card.where,
    ))  # fmt: skip
