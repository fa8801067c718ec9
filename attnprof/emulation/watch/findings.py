"""The findings in one process of the program, and the JSON form in which they leave that process."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

GRADIENTS, BACKWARD, IN_BACKWARD, EARLIER = "gradients", "backward", "in backward", "earlier"
BRANCH, SIZE, PRINTED, SAVED, UNUSED, UNKNOWN = "branch", "size", "printed", "saved", "unused", "unknown"
OVERFLOW = "overflow"


@dataclass(frozen=True)
class Line:
    """A line of the program.

    Attributes:
        file: its path.
        line: its number.
        function: the function that contains it.
        source: its text; empty if the file cannot be read.
    """

    file: str
    line: int
    function: str
    source: str


@dataclass(frozen=True)
class LineHolder:
    """The live blocks of memory that one line allocated.

    Attributes:
        line: the line. For memory that backward allocated, it is the line of forward that the node of the graph belongs
            to; None if autograd cannot tell.
        package_line: the innermost line of an installed package other than torch that this line led to, if any.
        part: GRADIENTS (gradients of parameters), BACKWARD (allocated by nodes of the graph), IN_BACKWARD (allocated by
            lines that run in backward, such as a checkpoint's), EARLIER (allocated before the history of the allocator
            begins), or empty.
        total_bytes: the size of all blocks, as the caching allocator counts it.
        blocks: the number of blocks.
        largest_bytes: the size of the largest block.
        largest_tensor: the tensor in the largest block, as `4x4096x4096 float32`; empty if Python does not hold it.
        workspace: the library whose workspace the blocks are, as `cuDNN`, `cuBLAS` or `cuBLASLt`; or empty.
        operation: what allocated the largest block: a node of autograd's graph, as `ConvolutionBackward0`, or for a
            workspace in forward an operator, as `conv2d`; empty if unknown. For cuDNN, followed by a comma and what it
            computed.
    """

    line: Line | None
    package_line: Line | None
    part: str
    total_bytes: int
    blocks: int
    largest_bytes: int
    largest_tensor: str = ""
    workspace: str = ""
    operation: str = ""


@dataclass(frozen=True)
class OutOfMemory:
    """The first `torch.OutOfMemoryError` of a process, whether the program caught it or not.

    Attributes:
        message: PyTorch's message.
        requested_bytes: the size of the allocation that failed; None, with no holders, if the allocator has no
            observers.
        steps_before: optimizer steps that were finished before it.
        phase: `forward`, `backward`, `optimizer step`, or empty if none of them is on the stack.
        node: what backward was computing, as `SoftmaxBackward0`; or empty.
        stack: the program's lines, the innermost last, then the innermost line of a package that they led to, if any.
        allocated_bytes: allocated memory at the failure.
        reserved_bytes: reserved memory at the failure.
        holders: the lines that held the live memory, the largest first.
        forward_line: the line of forward that the node belongs to; None if autograd cannot tell.
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
    forward_line: Line | None = None


@dataclass(frozen=True)
class Raised:
    """An exception that ended a process or a thread.

    Attributes:
        type: the name of its type, with the module unless Python knows it without one.
        message: its text, without its middle if it is very long; empty if it has none that can be had.
        stack: as in `OutOfMemory`.
        thread: the name of the thread that it ended; empty if it ended the process.
        out_of_memory: whether it is `torch.OutOfMemoryError`, or was raised because of one.
        caught: whether the program had caught it, and left while it handled it.
    """

    type: str
    message: str = ""
    stack: tuple[Line, ...] = ()
    thread: str = ""
    out_of_memory: bool = False
    caught: bool = False


@dataclass(frozen=True)
class Ending:
    """The facts that a process knew about its own end.

    Attributes:
        seconds: when this was written, in seconds since the epoch.
        raised: the exception that ended it, if any.
        exit_code: its exit code, if it knew that.
        signal: the signal that ended it, as `SIGTERM`; empty if none did or it could not know.
        left_by: `os._exit`, or `os.execv` or `os.execve` if it became another program; else empty.
        stack: the program's lines at the signal or that call, as in `OutOfMemory`.
    """

    seconds: float = 0.0
    raised: Raised | None = None
    exit_code: int | None = None
    signal: str = ""
    left_by: str = ""
    stack: tuple[Line, ...] = ()


@dataclass(frozen=True)
class ProgramPeak:
    """The moment at which allocated memory was highest, as far as the allocator's history goes back.

    Attributes:
        step: the optimizer step, as `ProcessFindings.peak_step`.
        allocated_bytes: allocated memory at that moment, summed over the holders.
        line: the line that allocated last; None as in `LineHolder`.
        holders: the lines that held the live memory, the largest first.
    """

    step: int
    allocated_bytes: int
    line: Line | None
    holders: tuple[LineHolder, ...]


@dataclass(frozen=True)
class ReadCounts:
    """Copies from the card to the host, counted by the level of what they read.

    Attributes:
        true: the values were computed from what the host gave.
        drawn: they depend on random numbers, which are not the card's own.
        made_up: they depend on memory that has no values.
    """

    true: int = 0
    drawn: int = 0
    made_up: int = 0

    def __add__(self, other: ReadCounts) -> ReadCounts:
        """Add up two counts."""
        return ReadCounts(self.true + other.true, self.drawn + other.drawn, self.made_up + other.made_up)

    @property
    def total(self) -> int:
        """All copies."""
        return self.true + self.drawn + self.made_up


@dataclass(frozen=True)
class ReadLine:
    """A line that copied values from the card to the host.

    Attributes:
        line: the line; None if no line of the program was on the stack.
        package_line: the innermost line of an installed package that this line led to, or else of torch, if any.
        reads: how often it did.
        use: the use of values that were made up: BRANCH (they decide what runs next), SIZE (they decide the size of a
            tensor), OVERFLOW (torch's GradScaler asks whether gradients are finite), PRINTED, SAVED (to a file),
            UNUSED, or UNKNOWN; empty if none was made up.
        decides: the line of the branch or of the size.
        repeated: whether it read made-up values thousands of times without an optimizer step in between.
    """

    line: Line | None
    package_line: Line | None
    reads: ReadCounts
    use: str = ""
    decides: Line | None = None
    repeated: bool = False


@dataclass(frozen=True)
class ProcessFindings:
    """The findings of one process of the program.

    Attributes:
        pid: its process id.
        command: its command line.
        started_seconds: when watching began, in seconds since the epoch.
        torch: the version of torch.
        cuda: the version of CUDA; empty if torch was built for the CPU only.
        used_cuda: whether the process initialised CUDA.
        ended: False if this was written on the way and nothing followed, as if the process was killed.
        peak_allocated_bytes: the caching allocator's peak of allocated memory, even if the program resets it.
        peak_reserved_bytes: likewise of reserved memory.
        peak_step: the optimizer step in which allocated memory was highest, counted from 1; `steps` + 1 if that was
            not in a finished step.
        plan_trials: operations for which PyTorch tried cuDNN's plans (`cudnn.benchmark`).
        peak_without_trials_bytes: highest allocated memory in steps in which it tried none; None if it did in all.
        steps: calls of `Optimizer.step`.
        optimizers: the number of optimizers that were stepped.
        peaks_so_far: after a step, the highest allocated memory since the beginning; the first steps and the last.
        peak: who held the memory at the peak; None if unknown, or if memory ran out.
        out_of_memory_count: the number of out-of-memory errors.
        avoided_count: failed allocations inside PyTorch after which it went on in another way.
        out_of_memory: the first out-of-memory error, if any.
        reads: copies from the card to the host.
        read_lines: the lines that made such copies, those with the most made-up values first.
        unknown: calls that are not emulated, from the emulation's journal.
        assumed: what was assumed that a real card might not do, likewise.
        notes: what could not be followed, and why.
        ending: how it ended, as far as it knew.
        thread_errors: exceptions that ended threads of it, the first ones.
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
    plan_trials: int = 0
    peak_without_trials_bytes: int | None = None
    steps: int = 0
    optimizers: int = 0
    peaks_so_far: dict[int, int] = field(default_factory=dict)
    peak: ProgramPeak | None = None
    out_of_memory_count: int = 0
    avoided_count: int = 0
    out_of_memory: OutOfMemory | None = None
    reads: ReadCounts = ReadCounts()
    read_lines: tuple[ReadLine, ...] = ()
    unknown: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    ending: Ending = Ending()
    thread_errors: tuple[Raised, ...] = ()


def to_json(findings: ProcessFindings) -> str:
    """Return the findings as one line of JSON."""
    return json.dumps(asdict(findings))
