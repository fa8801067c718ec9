"""The parts of strategies as tables, CSV and JSON."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from attnprof.attention.strategy import Component
from attnprof.report.grid import Column, Grid, Row, to_markdown_lines, to_rich
from attnprof.report.listing import csv_text, json_text

_COLUMNS = (
    Column("strategy"), Column("kind"), Column("forward"), Column("training"), Column("exactness"),
)  # fmt: skip
_PLACES = (Column("strategy"), Column("what it does", folds=True), Column("where it runs", folds=True))
_LEGENDS = (
    "Parts join with +, one of each kind, in any order: pooled:2+sdpa-pad+fp16.",
    "Without an attention, naive is meant. Sizes in [] may be left out.",
    "~ approximate   N = H * W   / FACTOR^2: of N^2; where memory is N, of keys and",
    "values alone   up to / 2: half of naive's; nothing of what is kept in float32",
    "N^1.5: N * (H + W)   another attention: computes something else; old weights",
    "load, and were trained for the plain block's function",
)


def strategies_table(components: Sequence[Component]) -> RenderableType:
    """For `rich.console.Console.print`; fits 80 columns."""
    parts: list[RenderableType] = []
    for grid in _grids(components):
        parts += [Text(grid.title, style="bold"), to_rich(grid), Text()]
    return Lines(*parts, *(Text(line, style="dim") for line in _LEGENDS))


def strategies_markdown(components: Sequence[Component]) -> str:
    lines = [line for grid in _grids(components) for line in to_markdown_lines(grid)]
    return "\n".join([*lines, *_LEGENDS]) + "\n"


def strategies_csv(components: Sequence[Component]) -> str:
    return csv_text(_fields(components[0]), map(_fields, components))


def strategies_json(components: Sequence[Component]) -> str:
    return json_text(map(_fields, components))


def _fields(component: Component) -> dict[str, object]:
    forward, training = component.memory
    return {
        "strategy": component.name,
        "spelling": component.spelling,
        "kind": component.kind,
        "memory_forward": forward,
        "memory_training": training,
        "exact": not component.approximation,
        "approximation": component.approximation or None,
        "attention_map": component.has_map,
        "summary": component.summary,
        "runs": component.runs,
    }


def _grids(components: Sequence[Component]) -> tuple[Grid, Grid]:
    costs = tuple(
        Row((c.spelling, c.kind, *c.memory, f"~{c.approximation}" if c.approximation else "exact")) for c in components
    )
    places = tuple(Row((c.name, c.summary, c.runs)) for c in components)
    return Grid("Parts of a strategy, and how memory grows", _COLUMNS, costs), Grid("What each is", _PLACES, places)
