"""Where records come from, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnprof.cases.measurement import Source
from attnprof.cases.record import Record
from attnprof.units import format_bytes


def card_text(environment: Mapping[str, Any]) -> str:
    """`t4: 14.6 GiB, of it 137 MiB context`."""
    total, context = environment["total_memory_bytes"], environment["context_bytes"]
    return f"{environment['gpu']}: {format_bytes(total)}, of it {format_bytes(context)} context"


def place_text(record: Record) -> str:
    """The card or device, the budget if there is one, and how the numbers were found."""
    budget = record.settings.get("budget_bytes")
    within = f", budget {format_bytes(budget)}" if budget else ""
    if record.source is Source.EMULATED:
        return f"{card_text(record.environment)}{within} (emulated)"
    return f"{record.environment.get('device_name')}{within} (measured)"
