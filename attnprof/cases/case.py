"""A case: one workload computed by one strategy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from attnprof.attention.strategy import Strategy, parse_strategy
from attnprof.cases.workload import ModelWorkload, Workload

# A model as its user wrote it, in the place of a strategy.
AS_IS = "as-is"


@dataclass(frozen=True)
class Case:
    """One workload computed by one strategy (its canonical spelling), or `AS_IS` where that is a model."""

    workload: Workload
    strategy: str

    @property
    def parsed(self) -> Strategy:
        """What is as it was written gives nothing up: as the plain form."""
        return parse_strategy("naive" if self.strategy == AS_IS else self.strategy)

    @property
    def unsupported_reason(self) -> str | None:
        """Why this combination means nothing, or None."""
        precision = self.parsed.precision_name
        if precision and self.workload.dtype != "fp32":
            return f"{precision} changes the precision of an fp32 workload; this one is {self.workload.dtype}"
        return None

    def implies_out_of_memory(self, other: Case) -> bool:
        """Whether `other` cannot fit if this case did not: the same series, and larger."""
        return self.strategy == other.strategy and self.workload.is_within(other.workload)

    def to_json(self) -> dict[str, Any]:
        return {"strategy": self.strategy, **asdict(self.workload)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Case:
        """Raises TypeError on fields that do not fit."""
        fields = dict(fields)
        strategy = str(fields.pop("strategy", ""))
        kind = ModelWorkload if "target" in fields else Workload
        return cls(strategy=strategy, workload=kind(**fields))

    def __str__(self) -> str:
        return f"{self.strategy} {self.workload}"
