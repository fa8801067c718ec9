"""What is found in one process of the program, and its form as JSON, in which it leaves that process."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

GRADIENTS, BACKWARD, EARLIER = "gradients", "backward", "earlier"


@dataclass(frozen=True)
class Line:
    """A line of the program: its file, number, function and text."""

    file: str
    line: int
    function: str
    source: str


@dataclass(frozen=True)
class LineHolder:
    """The live blocks that one line allocated.

    Attributes:
        line: None where autograd's own thread allocated, in which no Python runs.
        package_line: the innermost line of an installed package other than torch that this line led to, if any.
        part: GRADIENTS (of parameters), BACKWARD (anything else that backward allocated), EARLIER (than what is
            remembered), or empty.
        total_bytes, blocks: of all of them, as the caching allocator counts.
        largest_bytes: of the largest block.
        largest_tensor: `4x4096x4096 float32`, where Python still holds the tensor of the largest block; or empty.
    """

    line: Line | None
    package_line: Line | None
    part: str
    total_bytes: int
    blocks: int
    largest_bytes: int
    largest_tensor: str = ""


@dataclass(frozen=True)
class OutOfMemory:
    """The first `torch.OutOfMemoryError`, caught by the program or not.

    Attributes:
        message: PyTorch's own.
        requested_bytes: the allocation that failed; None, and no holders, where the allocator does not tell.
        steps_before: optimizer steps that were finished then.
        phase: `forward`, `backward`, `optimizer step`, or empty where none of them is on the stack.
        node: what backward was computing, as `SoftmaxBackward0`; or empty.
        stack: the program's lines, the innermost last, and the innermost of a package that they led to, if any.
        allocated_bytes, reserved_bytes: then.
        holders: of the live memory, the largest first.
    """

    message: str
    requested_bytes: int | None
    steps_before: int
    phase: str
    node: str
    stack: tuple[Line, ...]
    allocated_bytes: int
    reserved_bytes: int
    holders: tuple[LineHolder, ...]


@dataclass(frozen=True)
class ProgramPeak:
    """Where allocated memory was highest, of what was followed.

    Attributes:
        step: as `ProcessFindings.peak_step`.
        allocated_bytes: then, summed over the holders.
        line: what allocated last; None as in `LineHolder`.
        holders: of the live memory, the largest first.
    """

    step: int
    allocated_bytes: int
    line: Line | None
    holders: tuple[LineHolder, ...]


@dataclass(frozen=True)
class ReadLine:
    """A line that copied values from the card; None: none of the program's was on the stack."""

    line: Line | None
    copies: int


@dataclass(frozen=True)
class ProcessFindings:
    """One process of the program.

    Attributes:
        pid, command: of the process.
        started_seconds: when it was first watched, since the epoch.
        torch, cuda: versions; cuda is empty for a build for the CPU alone.
        used_cuda: whether it initialised CUDA.
        ended: False where this was written on the way and nothing came after: the process was killed.
        peak_allocated_bytes, peak_reserved_bytes: the caching allocator's own, also where the program resets them.
        peak_step: the optimizer step in which allocated was highest, from 1; one more than `steps`: not in a
            finished step.
        steps, optimizers: calls of `Optimizer.step`, and of how many optimizers.
        peaks_so_far: after a step, the highest allocated since the beginning: the first steps and the last.
        out_of_memory_count: errors of that kind; `out_of_memory` has the first.
        avoided_count: allocations that failed inside PyTorch, which then went on another way.
        read_backs: copies from the card; `read_lines` has the lines, the most frequent first.
        unknown, assumed: as the emulation's journal has them.
        notes: what could not be followed, and why.
    """

    pid: int
    command: str
    started_seconds: float = 0.0
    torch: str = ""
    cuda: str = ""
    used_cuda: bool = False
    ended: bool = False
    peak_allocated_bytes: int = 0
    peak_reserved_bytes: int = 0
    peak_step: int = 0
    steps: int = 0
    optimizers: int = 0
    peaks_so_far: dict[int, int] = field(default_factory=dict)
    peak: ProgramPeak | None = None
    out_of_memory_count: int = 0
    avoided_count: int = 0
    out_of_memory: OutOfMemory | None = None
    read_backs: int = 0
    read_lines: tuple[ReadLine, ...] = ()
    unknown: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def to_json(findings: ProcessFindings) -> str:
    return json.dumps(asdict(findings))
