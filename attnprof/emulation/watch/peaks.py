"""The allocator's peaks: of the whole program, and of its steps in which PyTorch tried no plans of cuDNN.

With `torch.backends.cudnn.benchmark`, the step in which PyTorch tries the plans for a convolution holds the largest of
their workspaces. Steps after it hold only that of the plan that won.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .notes import Notes

# Functions of torch._C that return peaks, and the function that resets what they return.
_STATISTICS = (
    ("_cuda_memoryStats", "_cuda_resetPeakMemoryStats"),
    ("_accelerator_getDeviceStats", "_accelerator_resetPeakStats"),  # torch.accelerator, from 2.9 on
)


class Peaks:
    """The highest peaks so far, whenever the program resets them.

    Args:
        device: the index of the device.
        next_step: returns the step that is not finished yet, counted from 1.
        trials: returns how often plans were tried so far.
        notes: where errors are noted.
    """

    def __init__(self, device: int, next_step: Callable[[], int], trials: Callable[[], int], notes: Notes) -> None:
        self.allocated_bytes = self.reserved_bytes = 0
        self.step = 0  # that of the highest peak
        self.without_trials_bytes: int | None = None
        self._device = device
        self._next_step, self._trials, self._notes = next_step, trials, notes
        self._trials_before = 0
        self._hidden: dict[str, Any] = {}  # peaks that the program would still see, if they had not been reset
        self._plain: tuple[Callable[[int], Any], Callable[[int], None]] | None = None

    def follow(self) -> None:
        """Wrap the functions with which the program reads and resets peaks."""
        import torch

        for read, reset in _STATISTICS:
            if not hasattr(torch._C, reset):
                continue
            plain_read, plain_reset = getattr(torch._C, read), getattr(torch._C, reset)
            self._plain = self._plain or (plain_read, plain_reset)
            setattr(torch._C, read, self._reader(plain_read))
            setattr(torch._C, reset, self._resetter(plain_reset))

    def _reader(self, plain: Callable[[int], Any]) -> Callable[[int], Any]:
        def read(device: int) -> Any:
            return _raised(plain(device), self._hidden)

        return read

    def _resetter(self, plain: Callable[[int], None]) -> Callable[[int], None]:
        def reset(device: int) -> None:
            self.measure(self._next_step())
            self._begin_interval()
            self._hidden = {}
            plain(device)

        return reset

    def measure(self, step: int) -> None:
        """Note the peaks, since the program may reset them; a higher one belongs to this step."""
        if self._plain is None:
            return
        with self._notes.record_errors("reading the allocator's peaks"):
            stats = self._plain[0](self._device)
            allocated_bytes = stats["allocated_bytes"]["all"]["peak"]
            if allocated_bytes > self.allocated_bytes:
                self.allocated_bytes, self.step = allocated_bytes, step
            self.reserved_bytes = max(self.reserved_bytes, stats["reserved_bytes"]["all"]["peak"])
            if self._trials() == self._trials_before:
                self.without_trials_bytes = max(self.without_trials_bytes or 0, allocated_bytes)

    def end_step(self, step: int) -> None:
        """Note the peaks of a step, and reset them if plans were tried in it, which the program does not see."""
        self.measure(step)
        if self._plain is None or self._trials() == self._trials_before:
            return
        with self._notes.record_errors("beginning a step without trials"):
            self._hidden = _raised(self._plain[0](self._device), self._hidden)
            self._plain[1](self._device)
        self._begin_interval()

    def _begin_interval(self) -> None:
        self._trials_before = self._trials()


def _raised(stats: Any, hidden: dict[str, Any]) -> Any:
    """Return statistics whose peaks are at least those of others."""
    for name, value in stats.items():
        if isinstance(value, dict) and name in hidden:
            _raised(value, hidden[name])
        elif name == "peak" and name in hidden:
            stats[name] = max(value, hidden[name])
    return stats
