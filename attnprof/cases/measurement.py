"""The outcome of a case and its numbers. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from attnprof.cases.decoding import Bytes, Count, Magnitude, Rate, Seconds, StepSeconds

SPREAD = 0.1  # IQR / median of a latency, up to which it counts as steady


class Outcome(str, Enum):
    """The way in which a case ended. None of these ends a sweep."""

    COMPLETED = "completed"
    OUT_OF_MEMORY = "out_of_memory"
    UNSUPPORTED = "unsupported"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"

    @property
    def words(self) -> str:
        """The outcome as people read it: `out of memory`."""
        return self.value.replace("_", " ")


class Source(str, Enum):
    """The source of a record's numbers: a device of this machine, or a card that is not there."""

    MEASURED = "measured"
    EMULATED = "emulated"


@dataclass(frozen=True)
class Memory:
    """The bytes that the memory pass read. A figure that the device does not have is None.

    Attributes:
        baseline_bytes: parameters, input and (in training) the gradient of the output.
        first_step_bytes: peak of the first step above the baseline; includes what arrives once, such as the
            cuBLAS workspaces.
        retained_bytes: what the first step leaves allocated above the baseline; negative if it frees more.
        step_bytes: peak of a later step above what was allocated before it.
        peak_allocated_bytes: the highest point of both steps, baseline included. On CUDA these are the caching
            allocator's blocks; on the CPU the requests to torch's allocator, also those inside operators.
        peak_reserved_bytes: on CUDA, the caching allocator's segments.
        device_bytes: on CUDA, all that the process takes on the device, context included.
        context_bytes: on CUDA, the part of `device_bytes` outside the caching allocator.
        peak_resident_bytes: on the CPU, the largest growth of the process's resident set.
    """

    baseline_bytes: Bytes
    first_step_bytes: Bytes
    retained_bytes: int
    step_bytes: Bytes
    peak_allocated_bytes: Bytes
    peak_reserved_bytes: Bytes | None = None
    device_bytes: Bytes | None = None
    context_bytes: Bytes | None = None
    peak_resident_bytes: Bytes | None = None


@dataclass(frozen=True)
class Latency:
    """The time of a whole step in seconds; every sample is kept.

    Attributes:
        samples_seconds: each is the mean of `runs_per_sample` consecutive steps.
        runs_per_sample: the number of steps in a sample.
        median_seconds, iqr_seconds: median and interquartile range of the samples.
    """

    samples_seconds: tuple[StepSeconds, ...]
    runs_per_sample: Count
    median_seconds: StepSeconds
    iqr_seconds: Seconds

    @property
    def noisy(self) -> bool:
        """Whether the samples are too few or too far apart to trust the median to a tenth."""
        return len(self.samples_seconds) < 2 or self.iqr_seconds > SPREAD * self.median_seconds


@dataclass(frozen=True)
class Estimate:
    """The seconds of a whole step if they could not be measured as a latency, and the basis of the figure."""

    seconds: StepSeconds
    basis: str


@dataclass(frozen=True)
class Exactness:
    """The largest errors against the plain block in float64, computed from the workload's own weights and input.

    Attributes:
        max_abs_error: the largest error of the output.
        max_rel_error: the same over the largest value of the reference output.
        grad_max_rel_error: in training, the same for the gradients of input and parameters, the worst of them.
            The key bias is left out: its gradient is zero, since softmax does not change when all scores
            of a row shift.
        rows: the number of query rows compared in each image, all or a fixed random subset.
    """

    max_abs_error: Magnitude
    max_rel_error: Magnitude
    grad_max_rel_error: Magnitude | None
    rows: Count


@dataclass(frozen=True)
class Kernel:
    """The scaled_dot_product_attention kernel that ran, and the reasons that each better one did not."""

    name: str
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StepPeak:
    """The highest moment of a model's step, or the one in which memory did not suffice.

    Attributes:
        phase: `forward`, `backward` or `optimizer step`.
        module: the path of the module that ran; "" for none.
        operation: the operation that ran.
        allocated_bytes: the memory that was allocated.
        held: the bytes of `allocated_bytes` by kind: parameters, gradients, optimizer state, activations and so on.
        modules: the bytes of activations and their gradients by the module that made them, largest first.
    """

    phase: str
    module: str
    operation: str
    allocated_bytes: Bytes
    held: Mapping[str, Bytes]
    modules: Mapping[str, Bytes]


@dataclass(frozen=True)
class Measurement:
    """The numbers of a case. A pass that could not be made is None and has a note.

    Attributes:
        memory, latency, exactness: the figures of the passes of the same names.
        kernel: the scaled_dot_product_attention kernel; None if the step calls none.
        flops: floating-point operations of one step of the plain definition, by torch.utils.flop_counter. They
            are useful work: recomputation earns nothing.
        matmul_flops_per_second: this device's measured rate of a large product in this dtype.
        passes_seconds: wall time of each pass.
        notes: warnings, and reasons that a figure is missing, a line each.
        estimate: an estimate of the latency, if that was asked for and could not be measured.
        peak: the highest moment of a model's step.
        patched: the paths of the blocks of a model that the strategy computes.
    """

    memory: Memory | None = None
    latency: Latency | None = None
    exactness: Exactness | None = None
    kernel: Kernel | None = None
    flops: Count | None = None
    matmul_flops_per_second: Rate | None = None
    passes_seconds: Mapping[str, Seconds] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    estimate: Estimate | None = None
    peak: StepPeak | None = None
    patched: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """The outcome and the numbers of a case, as the worker returns them; `reason` as in `Record`."""

    outcome: Outcome
    reason: str
    measurement: Measurement
