"""The page of `attnprof strategies`: the parts that a strategy is made of."""

from __future__ import annotations

from collections.abc import Sequence

from attnprof.attention.strategy import Component
from attnprof.report.grid import Column, Grid, Row
from attnprof.report.page import Field, Kind, Page, names_of, paragraphs, rows_of

FIELDS: tuple[Field[Component], ...] = (
    Field("strategy", lambda c: c.name, "The part's name."),
    Field("spelling", lambda c: c.spelling, "The part as `--strategy` takes it, with its sizes."),
    Field("kind", lambda c: c.kind, "What the part changes; a strategy has at most one part of each kind."),
    Field("memory_forward", lambda c: c.memory[0], "How memory grows in a forward pass."),
    Field("memory_training", lambda c: c.memory[1], "How memory grows in training."),
    Field("exact", lambda c: not c.approximation, "Whether the part computes what `naive` computes."),
    Field("approximation", lambda c: c.approximation or None, "What it computes instead, if it is not exact."),
    Field("attention_map", lambda c: c.has_map, "Whether it can return the attention map."),
    Field("summary", lambda c: c.summary, "What the part does, in one line."),
    Field("runs", lambda c: c.runs, "Where it runs."),
)
_COLUMNS = (
    Column("strategy"),
    Column("kind", leaves=1),
    Column("forward", leaves=3),
    Column("training"),
    Column("exactness", leaves=2),
)
_PLACES = (Column("strategy"), Column("what it does", folds=True), Column("where it runs", folds=True, leaves=1))
_LEGENDS = (
    "A strategy is parts joined by +, at most one of each kind, in any order: pooled:2+sdpa-pad+fp16. Without an "
    "attention part, it is naive. Sizes in [] may be left out.",
    "~ marks what is approximate. N = H * W. N^1.5: N * (H + W). / FACTOR^2: divides N^2; if memory grows with N, "
    "only keys and values shrink. up to / 2: at best half of naive's memory, since float32 parts stay as they are.",
    "another attention: computes another function than naive. Old weights load, but need training again.",
)


def strategies_page(components: Sequence[Component]) -> Page:
    """Make the page of these parts."""
    costs = Grid("Parts of a strategy, and how memory grows", _COLUMNS, tuple(map(_cost_row, components)))
    places = Grid("What each part is", _PLACES, tuple(Row((c.name, c.summary, c.runs)) for c in components))
    sections = ((costs,), (places,), paragraphs(Kind.LEGEND, _LEGENDS))
    return Page(sections, names_of(FIELDS), rows_of(FIELDS, components))


def _cost_row(component: Component) -> Row:
    exactness = f"~{component.approximation}" if component.approximation else "exact"
    return Row((component.spelling, component.kind, *component.memory, exactness))
