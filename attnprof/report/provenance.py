"""The origin of numbers, in words: the card or device, and whether they were measured or emulated."""

from __future__ import annotations

from attnprof.cases.environment import Environment
from attnprof.cases.measurement import Source
from attnprof.cases.record import Record
from attnprof.units import format_bytes


def card_text(gpu: str | None, total_bytes: int | None, context_bytes: int | None) -> str:
    """Return `t4: 14.6 GiB, CUDA context 137 MiB`."""
    return f"{gpu}: {format_bytes(total_bytes)}, CUDA context {format_bytes(context_bytes)}"


def emulated_text(environment: Environment) -> str:
    """Return the text of the card that an environment emulates."""
    return card_text(environment.gpu, environment.total_memory_bytes, environment.context_bytes)


def place_text(record: Record) -> str:
    """Return the card or device, the budget if there is one, and how the numbers were found."""
    budget = record.settings.get("budget_bytes")
    within = f", budget {format_bytes(budget)}" if budget else ""
    if record.source is Source.EMULATED:
        return f"{emulated_text(record.environment)}{within} (emulated)"
    return f"{record.environment.device_name}{within} (measured)"
