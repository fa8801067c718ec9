"""How much memory a case needs that its own card does not have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from attnprof.cases.capacity import need_bytes
from attnprof.cases.cards import Card
from attnprof.cases.measurement import Outcome
from attnprof.cases.record import Record
from attnprof.cases.settings import Settings
from attnprof.measure.runner import Runner

# A card without an end, to learn what a case takes that its own does not hold: a quarter of a process' addresses.
_ENDLESS = "memory=32TiB"


def needs_without_end(
    records: Sequence[Record], card: Card, endless: Callable[[Card], Runner], settings: Settings
) -> dict[str, int]:
    """What the strategies take that were out of memory, in bytes: on the same card with memory without an end."""
    refused = [record.case for record in records if record.outcome is Outcome.OUT_OF_MEMORY]
    if not refused:
        return {}
    needs = {}
    without_end = replace(settings, budget_bytes=None, memory_only=True, estimates=False)
    with endless(card.with_option(_ENDLESS)) as runner:
        for case in refused:
            memory = runner.measure(case, settings=without_end).measurement.memory
            if memory is not None:
                needs[case.strategy] = need_bytes(memory)
    return needs
