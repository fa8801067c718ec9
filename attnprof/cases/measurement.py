"""What came of a case: its outcome and its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from attnprof.cases.decoding import Bytes, Count, Seconds, Share

SPREAD = 0.1  # of a latency: IQR / median, up to which it counts as steady


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
        retained_bytes: what the first step leaves allocated above the baseline; negative if it frees more.
        step_bytes: peak of a later step above what was allocated before it.
        peak_allocated_bytes: the highest point of all, baseline included. On CUDA the caching
            allocator's blocks; on the CPU the requests to torch's allocator, the op-internal ones too.
        peak_reserved_bytes: CUDA: the caching allocator's segments.
        device_bytes: CUDA: what the process takes on the device, context included.
        context_bytes: CUDA: the part of that outside the caching allocator.
        peak_resident_bytes: CPU: growth of the process's resident set at its highest.
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
    """Seconds of a whole step; every sample is kept.

    Attributes:
        samples_seconds: each the mean of `runs_per_sample` consecutive steps.
        median_seconds, iqr_seconds: of the samples.
    """

    samples_seconds: tuple[Seconds, ...]
    runs_per_sample: Count
    median_seconds: Seconds
    iqr_seconds: Seconds

    @property
    def noisy(self) -> bool:
        """Whether the samples are too few or too far apart to trust the median to a tenth."""
        return len(self.samples_seconds) < 2 or self.iqr_seconds > SPREAD * self.median_seconds


@dataclass(frozen=True)
class Estimate:
    """Seconds of a whole step where they were not measured as a latency is, and how they came about."""

    seconds: Seconds
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

    max_abs_error: Share
    max_rel_error: Share
    grad_max_rel_error: Share | None
    rows: Count


@dataclass(frozen=True)
class Kernel:
    """The scaled_dot_product_attention kernel that ran, and why each better one did not."""

    name: str
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StepPeak:
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
    allocated_bytes: Bytes
    held: Mapping[str, Bytes]
    modules: Mapping[str, Bytes]


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
    flops: Count | None = None
    matmul_flops_per_second: Share | None = None
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
