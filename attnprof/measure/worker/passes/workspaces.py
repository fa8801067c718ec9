"""The workspaces of libraries among what a step holds at its peak, on an emulated card.

The emulated libraries note the workspaces that they are given, and the history of PyTorch's allocator shows which of
them were live at the peak. The rest of `inside operators` is temporary memory.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import torch

from attnprof.cases.measurement import StepPeak
from attnprof.emulation.watch.program_peak import HISTORY_CALLS, blocks_at_peak
from attnprof.emulation.watch.snapshot import snapshot
from attnprof.measure.worker.devices.base import Device
from attnprof.measure.worker.passes.step_peak import INSIDE_OPERATORS

_TOLERANCE = 0.01  # of the peak: the history has the sizes that were asked for, and blocks may be larger


class WorkspaceFinder:
    """A context in which the allocator's history is recorded, if the device tells of workspaces.

    Args:
        device: the device.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._workspaces: Counter[str] = Counter()
        self._allocated_bytes = 0

    def __enter__(self) -> WorkspaceFinder:
        if self._device.workspaces() is not None:
            _record("all", context=None, stacks="python", max_entries=HISTORY_CALLS)
        return self

    def __exit__(self, *error: Any) -> None:
        notes = self._device.workspaces()
        if notes is None:
            return
        blocks, _ = blocks_at_peak(snapshot(), torch.cuda.current_device(), notes)
        _record(None)
        self._allocated_bytes = sum(block.size_bytes for block in blocks)
        for block in blocks:
            if block.workspace:
                self._workspaces[f"{block.workspace.library} workspace"] += block.size_bytes

    def named(self, peak: StepPeak | None) -> StepPeak | None:
        """Return a peak in which workspaces are kinds of their own, if it is the moment that the history shows.

        What an operator returns counts as held, although a peak inside of the operator can be before it is made. So the
        rest can be a little below zero, and all kinds together a little above the peak.
        """
        tolerated = _TOLERANCE * peak.allocated_bytes if peak else 0
        if peak is None or abs(self._allocated_bytes - peak.allocated_bytes) > tolerated:
            return peak
        rest = peak.held.get(INSIDE_OPERATORS, 0) - self._workspaces.total()
        if rest < -tolerated:
            return peak
        held = Counter({**peak.held, **self._workspaces, INSIDE_OPERATORS: max(0, rest)})
        return replace(peak, held={kind: size for kind, size in held.most_common() if size})


def _record(enabled: str | None, **options: Any) -> None:
    record: Any = torch.cuda.memory._record_memory_history
    record(enabled, **options)
