"""The user's choices beside the cases. Needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Settings:
    """The user's choices beside the cases.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        seed: random seed for weights, inputs and row subsets.
        budget_bytes: the memory that a case may take; None for what the device can spare.
        case_seconds: time spent on the latency of a case.
        timeout_seconds: time after which a case is ended as timed out.
        memory_only: whether latency and exactness are left out.
        estimates: whether a latency that cannot be measured, or not in time, is estimated.
        values: whether small values live on an emulated card.
    """

    device: str = "auto"
    seed: int = 0
    budget_bytes: int | None = None
    case_seconds: float = 1.0
    timeout_seconds: float = 300.0
    memory_only: bool = False
    estimates: bool = False
    values: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the settings that must agree for two records to be in one file."""
        kept = {k: value for k, value in asdict(self).items() if k not in ("device", "estimates")}
        # Older files do not know these.
        return {k: value for k, value in kept.items() if value or k not in ("memory_only", "values")}
