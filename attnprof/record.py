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
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from threading import Lock
from typing import IO, Any

from attnprof.errors import AttnprofError
from attnprof.plan import Case

SCHEMA = 4
_READABLE = (1, 2, 3, 4)
SPREAD = 0.1  # of a latency: IQR / median, up to which it counts as steady
_LINE_START = b'{"schema":'


class Outcome(str, Enum):
    """How a case ended. None of these ends a sweep."""

    COMPLETED = "completed"
    OUT_OF_MEMORY = "out_of_memory"
    UNSUPPORTED = "unsupported"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"


class Source(str, Enum):
    """Where a record's numbers come from: a device of this machine, or a card that is not there."""

    MEASURED = "measured"
    EMULATED = "emulated"


@dataclass(frozen=True)
class Memory:
    """Bytes, from the memory pass. `None`: this device has no such figure.

    Attributes:
        baseline_bytes: parameters, input and (in training) the gradient of the output.
        first_step_bytes: peak of the first step above the baseline; what arrives once, such as the
            cuBLAS workspaces, is in it.
        retained_bytes: what the first step leaves allocated above the baseline.
        step_bytes: peak of a later step above what was allocated before it.
        peak_allocated_bytes: the highest point of all, baseline included. On CUDA the caching
            allocator's blocks; on the CPU the requests to torch's allocator, the op-internal ones too.
        peak_reserved_bytes: CUDA: the caching allocator's segments.
        device_bytes: CUDA: what the process takes on the device, context included.
        context_bytes: CUDA: the part of that outside the caching allocator.
        peak_resident_bytes: CPU: growth of the process's resident set at its highest.
    """

    baseline_bytes: int
    first_step_bytes: int
    retained_bytes: int
    step_bytes: int
    peak_allocated_bytes: int
    peak_reserved_bytes: int | None = None
    device_bytes: int | None = None
    context_bytes: int | None = None
    peak_resident_bytes: int | None = None


@dataclass(frozen=True)
class Latency:
    """Seconds of a whole step; every sample is kept.

    Attributes:
        samples_seconds: each the mean of `runs_per_sample` consecutive steps.
        median_seconds, iqr_seconds: of the samples.
    """

    samples_seconds: tuple[float, ...]
    runs_per_sample: int
    median_seconds: float
    iqr_seconds: float

    @property
    def noisy(self) -> bool:
        """Whether the samples are too few or too far apart to trust the median to a tenth."""
        return len(self.samples_seconds) < 2 or self.iqr_seconds > SPREAD * self.median_seconds


@dataclass(frozen=True)
class Estimate:
    """Seconds of a whole step where they were not measured as a latency is, and how they came about."""

    seconds: float
    basis: str


@dataclass(frozen=True)
class Exactness:
    """Largest errors against the plain block in float64 from the workload's own weights and input.

    Attributes:
        max_abs_error: of the output.
        max_rel_error: of the output, over the largest value of the reference output.
        grad_max_rel_error: training: the same for the gradients of input and parameters, the
            worst of them. The key bias is left out: its gradient is zero (softmax does not
            change when all scores of a row shift).
        rows: query rows compared in each image, all or a fixed random subset.
    """

    max_abs_error: float
    max_rel_error: float
    grad_max_rel_error: float | None
    rows: int


@dataclass(frozen=True)
class Kernel:
    """The scaled_dot_product_attention kernel that ran, and why each better one did not."""

    name: str
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peak:
    """The highest moment of a model's step, or the one in which memory did not suffice.

    Attributes:
        phase: `forward`, `backward` or `optimizer step`.
        module: in which it was, by its path in the model; "" for none.
        operation: which ran.
        allocated_bytes: what was allocated.
        held: of that, bytes by kind: parameters, gradients, optimizer state, activations and so on.
        modules: of activations and their gradients, bytes by the module that made them, largest first.
    """

    phase: str
    module: str
    operation: str
    allocated_bytes: int
    held: Mapping[str, int]
    modules: Mapping[str, int]


@dataclass(frozen=True)
class Measurement:
    """The numbers of a case; a pass that could not be made is None and has a note.

    Attributes:
        flops: of one step of the plain definition, by torch.utils.flop_counter: useful work, so
            that recomputation earns nothing.
        matmul_flops_per_second: this device's measured rate of a large product in this dtype.
        passes_seconds: wall time of each pass.
        notes: one line each: warnings, and why a figure is missing.
        estimate: of the latency, where that was asked for and could not be measured.
        peak: of a model, where it is.
        patched: of a model, the paths of the blocks that the strategy computes.
    """

    memory: Memory | None = None
    latency: Latency | None = None
    exactness: Exactness | None = None
    kernel: Kernel | None = None
    flops: int | None = None
    matmul_flops_per_second: float | None = None
    passes_seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    estimate: Estimate | None = None
    peak: Peak | None = None
    patched: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Measurement:
        """Raises TypeError on fields that do not fit."""
        parts: dict[str, Any] = dict(fields)
        kinds = {
            "memory": Memory, "latency": Latency, "exactness": Exactness, "kernel": Kernel, "estimate": Estimate,
            "peak": Peak,
        }  # fmt: skip
        for name, kind in kinds.items():
            if parts.get(name) is not None:
                parts[name] = kind(**parts[name])
        if parts.get("latency") is not None:
            samples = tuple(parts["latency"].samples_seconds)
            parts["latency"] = dataclasses.replace(parts["latency"], samples_seconds=samples)
        for name in ("notes", "patched"):
            parts[name] = tuple(parts.get(name, ()))
        return cls(**parts)


@dataclass(frozen=True)
class Result:
    """What came of a case: all that the worker tells of it. `reason` as in `Record`."""

    outcome: Outcome
    reason: str
    measurement: Measurement

    def to_json(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome.value,
            "reason": self.reason,
            "measurement": dataclasses.asdict(self.measurement),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Result:
        """Raises KeyError, ValueError or TypeError on fields that do not fit."""
        return cls(Outcome(fields["outcome"]), fields["reason"], Measurement.from_json(fields["measurement"]))


@dataclass(frozen=True)
class Record:
    """A line of the file: a case, its outcome and numbers, and where and how they were found.

    Attributes:
        environment: device, driver, torch, allocator settings, threads, attnprof: what must agree
            for two records to be compared.
        settings: seed, budget and the like: what the user chose beside the case.
        time: when the case ended, ISO 8601, UTC.
        reason: for an outcome other than measured, one line.
        implied_by: the smaller case whose out-of-memory settles this one, which was not run.
    """

    case: Case
    outcome: Outcome
    measurement: Measurement
    environment: Mapping[str, Any]
    settings: Mapping[str, Any]
    time: str
    reason: str = ""
    implied_by: str = ""
    source: Source = Source.MEASURED

    @property
    def card(self) -> str | None:
        """The emulated card, as `--gpu` spells it; None where a device of this machine was measured."""
        return self.environment["gpu"] if self.source is Source.EMULATED else None

    def to_line(self) -> str:
        fields = {
            "schema": SCHEMA,
            "case": self.case.to_json(),
            "source": self.source.value,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "implied_by": self.implied_by,
            "measurement": dataclasses.asdict(self.measurement),
            "environment": dict(self.environment),
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
                environment=fields["environment"],
                settings=fields["settings"],
                time=fields["time"],
                reason=fields["reason"],
                implied_by=fields["implied_by"],
                source=Source(fields["source"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not an attnprof record: {type(error).__name__}: {error}") from None


class RecordFile:
    """Appends records as they come; each is on disk before the next case starts.

    A line cut short by a crash is dropped when the file is opened again.

    Raises:
        AttnprofError: the file cannot be read or written, or holds something else.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = path
        self.records: list[Record] = []
        self._stream: IO[str] | None = None
        self._lock = Lock()
        try:
            if path.exists() and path.stat().st_size:
                if not resume:
                    raise AttnprofError(f"{path} exists: add --resume to continue it, or choose another --out")
                self.records = read_records(path, drop_cut_line=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("a", encoding="utf-8")
        except OSError as error:
            raise AttnprofError(f"cannot write {path}: {error.strerror}; choose another --out") from None

    def append(self, record: Record) -> None:
        """Returns when it is on disk. May be called from several threads.

        Raises:
            AttnprofError: it cannot be written.
        """
        assert self._stream is not None
        with self._lock:
            try:
                self._stream.write(record.to_line() + "\n")
                self._stream.flush()
                self.records.append(record)  # Ctrl-C comes while the disk is waited for
                os.fsync(self._stream.fileno())
            except OSError as error:
                raise AttnprofError(
                    f"cannot write {self.path}: {error.strerror}; the records before are kept: "
                    f"make room and continue with --resume"
                ) from None

    def require_same(self, kind: str, mine: Mapping[str, Any], card: str | None = None) -> None:
        """Refuse to mix records: `kind` is "environment" or "settings".

        Args:
            card: compare with its records only; None: with those of this machine's device.

        Raises:
            AttnprofError: a record differs; the message names the key and both values.
        """
        for record in self.records:
            if record.card != card:
                continue
            theirs: Mapping[str, Any] = getattr(record, kind)
            for key in sorted({*mine, *theirs}):
                if mine.get(key) != theirs.get(key):
                    raise AttnprofError(
                        f"cannot resume {self.path}: it was measured with {key} = {theirs.get(key)}, now it is "
                        f"{mine.get(key)}; choose another --out"
                    )

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._stream is not None:
            with suppress(OSError):  # a full disk was reported when the record was appended
                self._stream.close()


def read_records(path: Path, *, drop_cut_line: bool = False) -> list[Record]:
    """The records of a file, the newest last.

    Args:
        drop_cut_line: remove from the file a last line that a crash cut short.

    Raises:
        AttnprofError: a line is not a record; the file is left as it is.
        OSError: the file cannot be read or, with `drop_cut_line`, written.
    """
    content = path.read_bytes()
    whole, newline, cut = content.rpartition(b"\n")
    records = []
    for number, line in enumerate(whole.split(b"\n") if newline else [], start=1):
        try:
            records.append(Record.from_line(line.decode("utf-8")))
        except ValueError as error:
            raise AttnprofError(f"{path}, line {number}: {error}; choose another file") from None
    if cut and not cut.startswith(_LINE_START[: len(cut)]):
        raise AttnprofError(f"{path} is not a file of attnprof records; choose another file")
    if cut and drop_cut_line:
        os.truncate(path, len(content) - len(cut))
    return records
