"""Finds how much memory a case needs that does not fit its own card."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from attnprof.cases.capacity import need_bytes
from attnprof.cases.cards import Card
from attnprof.cases.measurement import Outcome
from attnprof.cases.record import Record
from attnprof.cases.settings import Settings
from attnprof.studies.devices import RunnerMaker

# A quarter of the addresses that a process has: more than any case needs.
_UNBOUNDED = "memory=32TiB"


def unbounded_needs(
    records: Iterable[Record], card: Card | None, settings: Settings, make_runner: RunnerMaker
) -> dict[str, int]:
    """Return the bytes that each out-of-memory strategy would need, measured on the same card with 32 TiB.

    Args:
        records: of one workload on one device.
        card: the emulated card; None for a device of this machine, of which this cannot be known: the result is empty.
        settings: of the records.
        make_runner: makes the runner of the larger card.
    """
    refused = [record.case for record in records if record.outcome is Outcome.OUT_OF_MEMORY]
    if card is None or not refused:
        return {}
    unbounded = replace(settings, budget_bytes=None, memory_only=True, estimates=False)
    needs = {}
    with make_runner(settings, card.with_option(_UNBOUNDED), lambda _: None) as runner:
        for case in refused:
            memory = runner.measure(case, settings=unbounded).measurement.memory
            if memory is not None:
                needs[case.strategy] = need_bytes(memory)
    return needs
