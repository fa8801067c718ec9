"""The memory that a recommendation may use: what there is, less the margin."""

from __future__ import annotations

from attnprof.cases.capacity import Capacity
from attnprof.cases.parsing import Margin
from attnprof.errors import AttnprofError
from attnprof.units import format_bytes


def capacity_with_margin(total_bytes: int, margin: Margin) -> Capacity:
    """Return the capacity of a memory of which a margin stays free.

    Raises:
        AttnprofError: the margin leaves nothing.
    """
    margin_bytes = margin.of(total_bytes)
    if margin_bytes >= total_bytes:
        raise AttnprofError(f"margin: {margin.text} leaves nothing of {format_bytes(total_bytes)}: make it smaller")
    return Capacity(total_bytes, margin_bytes)
