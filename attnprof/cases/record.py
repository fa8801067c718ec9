"""A record: a case with its outcome and numbers, as one JSON line. Needs no torch.

Schema versions:
    1: the first.
    2: the outcome `measured` is `completed`, since an emulated case has it too.
    3: `estimate` in a measurement.
    4: adds `block` to a case (earlier records are SAGAN), and model cases (`target`) with their `peak`.
All older ones are still read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attnprof.cases.case import Case
from attnprof.cases.decoding import Bytes, Seconds, convert, parse_json
from attnprof.cases.environment import Environment
from attnprof.cases.measurement import Measurement, Outcome, Source

SCHEMA = 4
_READABLE = (1, 2, 3, 4)


@dataclass(frozen=True)
class Record:
    """A line of the file: a case, its outcome and numbers, and where and how they were found.

    Attributes:
        case: the workload and the strategy.
        outcome: how the case ended.
        measurement: its numbers.
        environment: what must agree for two records to be compared.
        settings: the user's choices beside the case, such as seed and budget.
        time: when the case ended, ISO 8601, UTC.
        reason: one line; "" if the case completed.
        implied_by: the smaller workload whose out-of-memory settles this one, which was not run; else "".
        source: whether the numbers are measured or emulated.
    """

    case: Case
    outcome: Outcome
    measurement: Measurement
    environment: Environment
    settings: Mapping[str, Any]
    time: str
    reason: str = ""
    implied_by: str = ""
    source: Source = Source.MEASURED

    @property
    def card(self) -> str | None:
        """The emulated card, as `--gpu` spells it; None if a device of this machine was measured."""
        return self.environment.gpu if self.source is Source.EMULATED else None

    @property
    def key(self) -> tuple[Case, str | None, str]:
        """The case and the device: of two records with the same key, the newer one counts."""
        return self.case, self.card, self.environment.device

    def to_line(self) -> str:
        """Return the record as a line of JSON, without its end."""
        fields = {
            "schema": SCHEMA,
            "case": self.case.to_json(),
            "source": self.source.value,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "implied_by": self.implied_by,
            "measurement": dataclasses.asdict(self.measurement),
            "environment": self.environment.to_json(),
            "settings": dict(self.settings),
            "time": self.time,
        }
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_line(cls, line: str | bytes) -> Record:
        """Return the record that a line contains.

        Raises:
            ValueError: the line is not a record, or has a schema that is not known here; the message is one
                line and contains the place of the value in the record.
        """
        fields = parse_json(line)
        schema = fields.get("schema") if isinstance(fields, dict) else None
        if not isinstance(schema, int):
            raise ValueError("not an attnprof record: it has no schema")
        if schema not in _READABLE:
            raise ValueError(f"schema {schema} is not known here (this attnprof reads up to {SCHEMA})")
        if schema == 1 and fields.get("outcome") == "measured":
            fields["outcome"] = Outcome.COMPLETED.value
        found = convert(fields, _Fields)
        if found.outcome is Outcome.COMPLETED and found.measurement.memory is None:
            raise ValueError("$.measurement: object missing required field memory of a completed case")
        convert(found.settings, _Settings, "$.settings")
        environment = Environment.from_json(found.environment, "$.environment")
        if found.source is Source.EMULATED and environment.gpu is None:
            raise ValueError("$.environment: object missing required field gpu of an emulated card")
        return cls(
            case=Case.from_json(found.case, "$.case"),
            outcome=found.outcome,
            measurement=found.measurement,
            environment=environment,
            settings=found.settings,
            time=found.time,
            reason=found.reason,
            implied_by=found.implied_by,
            source=found.source,
        )


@dataclass(frozen=True)
class _Fields:
    """The fields of a line. Those that are dictionaries have a form of their own."""

    case: dict[str, Any]
    source: Source
    outcome: Outcome
    reason: str
    implied_by: str
    measurement: Measurement
    environment: dict[str, Any]
    settings: dict[str, Any]
    time: str


@dataclass(frozen=True)
class _Settings:
    """The settings that are read again; others are only compared."""

    seed: int | None = None
    budget_bytes: Bytes | None = None
    case_seconds: Seconds | None = None
    timeout_seconds: Seconds | None = None
    memory_only: bool = False
    values: bool = False
