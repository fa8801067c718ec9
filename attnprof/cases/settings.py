"""What the user chose beside the cases. Needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Settings:
    """What the user chose beside the cases.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        seed: of weights, inputs and row subsets.
        budget_bytes: what a case may take; None: what the device can spare.
        case_seconds: for the latency of a case.
        timeout_seconds: after which a case is ended as timed out.
        memory_only: neither latency nor exactness.
        estimates: a latency that cannot be measured, or not in time, is estimated.
    """

    device: str = "auto"
    seed: int = 0
    budget_bytes: int | None = None
    case_seconds: float = 1.0
    timeout_seconds: float = 300.0
    memory_only: bool = False
    estimates: bool = False

    def to_json(self) -> dict[str, Any]:
        """What must agree for two records to stand in one file."""
        kept = {k: value for k, value in asdict(self).items() if k not in ("device", "memory_only", "estimates")}
        return {**kept, "memory_only": True} if self.memory_only else kept  # older files know no such key
