"""What came of a case, and the file that keeps it: one JSON line a case. Needs no torch.

Schema versions:
    1: first.
    2: the outcome `measured` is `completed`, since an emulated case has it too.
    3: `estimate` in a measurement.
    4: `block` in a case; before, it was SAGAN's. A model in its place (`target`), and its `peak`.
All older ones are still read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attnprof.cases.case import Case
from attnprof.cases.environment import Environment
from attnprof.cases.measurement import Measurement, Outcome, Source

SCHEMA = 4
_READABLE = (1, 2, 3, 4)


@dataclass(frozen=True)
class Record:
    """A line of the file: a case, its outcome and numbers, and where and how they were found.

    Attributes:
        environment: what must agree for two records to be compared.
        settings: seed, budget and the like: what the user chose beside the case.
        time: when the case ended, ISO 8601, UTC.
        reason: for an outcome other than measured, one line.
        implied_by: the smaller case whose out-of-memory settles this one, which was not run.
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
        """The emulated card, as `--gpu` spells it; None where a device of this machine was measured."""
        return self.environment.gpu if self.source is Source.EMULATED else None

    def to_line(self) -> str:
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
    def from_line(cls, line: str) -> Record:
        """Raises ValueError on a line that is not a record, or one of a schema not known here."""
        try:
            fields = json.loads(line)
            if fields["schema"] not in _READABLE:
                raise ValueError(f"schema {fields['schema']} is not known here (this attnprof reads up to {SCHEMA})")
            if fields["schema"] == 1 and fields["outcome"] == "measured":
                fields["outcome"] = Outcome.COMPLETED.value
            return cls(
                case=Case.from_json(fields["case"]),
                outcome=Outcome(fields["outcome"]),
                measurement=Measurement.from_json(fields["measurement"]),
                environment=Environment.from_json(fields["environment"]),
                settings=fields["settings"],
                time=fields["time"],
                reason=fields["reason"],
                implied_by=fields["implied_by"],
                source=Source(fields["source"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not an attnprof record: {type(error).__name__}: {error}") from None
