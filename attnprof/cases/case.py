"""A case: one workload computed by one strategy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from attnprof.attention.blocks.catalogue import BlockError, block_form
from attnprof.attention.strategy import Strategy, StrategyError, parse_strategy
from attnprof.cases.decoding import convert
from attnprof.cases.workload import DTYPES, MODES, ModelWorkload, Workload

# Stands in place of a strategy for a model as its user wrote it.
AS_IS = "as-is"

# As `parse_inputs` spells them: the sizes of each input but the batch.
_INPUT = r"(?:[1-9][0-9]{0,17}(?:x[1-9][0-9]{0,17})*)?(?::long)?"
_INPUTS = rf"{_INPUT}(?:\+{_INPUT})*"
_KNOWN = {"mode": MODES, "dtype": DTYPES}


@dataclass(frozen=True)
class Case:
    """A workload that is computed by a strategy.

    Attributes:
        workload: what is computed.
        strategy: the canonical spelling of the strategy, or `AS_IS` for a model that is not changed.
    """

    workload: Workload
    strategy: str

    @property
    def parsed(self) -> Strategy:
        """The strategy. An unmodified model counts as exact, like `naive`."""
        return parse_strategy(self._spelling)

    @property
    def unsupported_reason(self) -> str | None:
        """The reason that this combination means nothing, or None."""
        precision = self.parsed.precision_name
        if precision and self.workload.dtype != "fp32":
            return f"{precision} changes the precision of an fp32 workload; this one is {self.workload.dtype}"
        return None

    def implies_out_of_memory(self, other: Case) -> bool:
        """Return whether `other` cannot fit if this case did not: it is of the same series, and larger."""
        return self.strategy == other.strategy and self.workload.is_within(other.workload)

    def to_json(self) -> dict[str, Any]:
        """Return the strategy and the fields of the workload, side by side."""
        return {"strategy": self.strategy, **asdict(self.workload)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], place: str = "$") -> Case:
        """Return the case that `to_json` gave.

        Args:
            fields: the strategy and the fields of the workload.
            place: where they stand in the document, for the message.

        Raises:
            ValueError: a field is missing or does not fit, or a name is unknown; the message contains the place.
        """
        kind = ModelWorkload if "target" in fields else Workload
        case = cls(convert(fields, kind, place), convert(fields, _StrategyField, place).strategy)
        for name, known in _KNOWN.items():
            value = getattr(case.workload, name)
            if value not in known:
                raise ValueError(f"{place}.{name}: {value!r} is not one of {', '.join(known)}")
        if isinstance(case.workload, ModelWorkload) and not re.fullmatch(_INPUTS, case.workload.inputs):
            raise ValueError(f"{place}.inputs: {case.workload.inputs!r} is no shape of inputs, as 3x64x64+8:long")
        try:
            block_form(case.workload.block)
        except BlockError as error:
            raise ValueError(f"{place}.block: {error}") from None
        try:
            parse_strategy(case._spelling)
        except StrategyError as error:
            raise ValueError(f"{place}.strategy: {error}") from None
        return case

    def __str__(self) -> str:
        return f"{self.strategy} {self.workload}"

    @property
    def _spelling(self) -> str:
        return "naive" if self.strategy == AS_IS else self.strategy


@dataclass(frozen=True)
class _StrategyField:
    """The part of a case in JSON that is not its workload."""

    strategy: str
