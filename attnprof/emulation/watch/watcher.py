"""The watcher of one process: it starts with torch, follows CUDA from its initialisation on, and reports at the end.

It also writes its findings on the way, after a step or a read value and at most once a second, because a program may be
killed or leave by `os._exit`.

It adds a hook after optimizer steps, and handles SIGTERM if the program does not; `endings` wraps what ends a process.
The package's docstring lists everything that changes in the program's process.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing.util
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from .compilations import failed_compilations
from .endings import Endings
from .failures import Failures
from .findings import Ending, ProcessFindings, ProgramPeak, ReadCounts, to_json
from .forward_places import mark_nodes
from .journal import EmulatedDriver, Journal, Workspace, emulated_driver
from .notes import Notes
from .peaks import Peaks
from .program_peak import HISTORY_CALLS, find_peak
from .read_backs import ReadBacks
from .snapshot import snapshot
from .termination import Termination

_DEVICE = 0  # the only one
# A program that sets no seed would draw other numbers in each run, and go other ways by them. The number is that of a
# generator that PyTorch makes without one (default_rng_seed_val, c10/core/GeneratorImpl.h).
_SEED = 67280421310721
_FIRST_STEPS = 3
_REFRESH_SECONDS = 1.0
# The peak is examined again if it has grown by this factor. A leak grows at every step, and examining takes time.
_GROWTH = 1.01


class Watcher:
    """The watcher of this process; after a fork, the child's copy watches the child.

    Args:
        folder: where the findings are written, one file for each process.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._first_pid = os.getpid()
        self._endings = Endings(self._finish, self._resume)
        self._termination = Termination(self._terminated)
        self._begin()

    def start(self) -> None:
        """Start watching, after `import torch`; CUDA is not initialised by this."""
        import torch

        torch.default_generator.manual_seed(_SEED)
        self._write(ended=False)
        self._endings.watch()
        atexit.register(self._finish)
        os.register_at_fork(after_in_child=self._begin_as_a_child)
        # A child of multiprocessing runs a list of its own at its end, and atexit's only on some versions of Python.
        multiprocessing.util.register_after_fork(self, Watcher._finish_with_multiprocessing)
        # This is such a child if it was spawned and imports its main module (multiprocessing/spawn.py, _main), or if it
        # has begun and imports torch only now.
        spawned = getattr(multiprocessing.current_process(), "_inheriting", False)
        if spawned or multiprocessing.parent_process() is not None:
            self._finish_with_multiprocessing()
        cuda: Any = torch.cuda
        cuda._lazy_call(self._follow)

    def _begin_as_a_child(self) -> None:
        if self._driver is not None:
            self._driver.on_read_back(None)  # removes the parent's listener
        self._begin()

    def _begin(self) -> None:
        self._started_seconds = time.time()
        self._notes = Notes()
        self._endings.begin(self._notes)
        self._failures = Failures(_DEVICE, lambda: self._steps, self._workspaces, self._notes)
        self._read_backs = ReadBacks(self._notes, self._refresh)
        self._driver: EmulatedDriver | None = None
        self._used_cuda = False
        self._steps = 0
        self._optimizers: set[int] = set()
        self._peaks = Peaks(_DEVICE, lambda: self._steps + 1, self._plan_trials, self._notes)
        self._peaks_so_far: dict[int, int] = {}
        self._examined_bytes = 0  # the peak for which holders were found
        self._peak: ProgramPeak | None = None
        self._written_seconds = time.monotonic()

    def _finish_with_multiprocessing(self) -> None:
        multiprocessing.util.Finalize(None, self._finish, exitpriority=0)

    def _follow(self) -> None:
        """Start to follow the allocator; torch calls this when CUDA has just been initialised."""
        import torch

        self._used_cuda = True
        with self._notes.record_errors("listening to the emulated device"):
            self._driver = emulated_driver()
            if self._driver is None:
                self._notes.add("this process found a CUDA driver that is not the emulation's")
            else:
                self._read_backs.listen(self._driver)
        with self._notes.record_errors("giving the device's generator a seed"):
            # A seed that the program has set before this moment is set after it.
            torch.cuda.default_generators[_DEVICE].manual_seed(_SEED)
        with self._notes.record_errors("recording who allocates"):
            torch.cuda.memory._record_memory_history("all", context="alloc", stacks="python", max_entries=HISTORY_CALLS)
        with self._notes.record_errors("marking the nodes of backward"):
            mark_nodes(self._notes)
        with self._notes.record_errors("watching for allocations that fail"):
            self._failures.observe()
        with self._notes.record_errors("counting the optimizer's steps"):
            from torch.optim import optimizer

            optimizer.register_optimizer_step_post_hook(self._stepped)
        with self._notes.record_errors("keeping the peak that the program resets"):
            self._peaks.follow()
        self._termination.follow()
        self._write(ended=False)

    def _stepped(self, optimizer: Any, _arguments: Any, _options: Any) -> None:
        if not self._used_cuda:  # in a child that was forked after this hook was added
            return
        self._steps += 1
        self._optimizers.add(id(optimizer))
        self._read_backs.stepped()
        self._peaks.end_step(self._steps)
        if self._peaks.allocated_bytes > _GROWTH * self._examined_bytes:
            self._examine_peak()
        if self._steps > _FIRST_STEPS + 1:
            self._peaks_so_far.pop(self._steps - 1, None)
        self._peaks_so_far[self._steps] = self._peaks.allocated_bytes
        self._refresh()

    def _workspaces(self) -> list[Workspace]:
        return self._driver.workspaces() if self._driver is not None else []

    def _plan_trials(self) -> int:
        return self._driver.plan_trials() if self._driver is not None else 0

    def _examine_peak(self) -> None:
        """Find who held the memory at the peak; not needed if the card was too small, as the failure shows that."""
        if self._failures.first is not None:
            return
        self._examined_bytes = self._peaks.allocated_bytes
        with self._notes.record_errors("looking at the peak"):
            found = find_peak(snapshot(), _DEVICE, self._peaks.step, self._peaks.allocated_bytes, self._workspaces())
            self._peak = found or self._peak  # the former one is lower by less than _GROWTH
            if self._peak is None:
                self._notes.add(
                    f"who held the memory at the peak is unknown: it was more than {HISTORY_CALLS} allocator calls ago"
                )

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        self._endings.by_signal(signal.Signals(number).name, frame)
        self._finish()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _refresh(self) -> None:
        if time.monotonic() - self._written_seconds > _REFRESH_SECONDS:
            self._peaks.measure(self._steps + 1)
            self._write(ended=False)

    def _finish(self) -> None:
        with _without_interruption():
            self._report_at_the_end()

    def _resume(self) -> None:
        """Go on after a report that was not the last."""
        if self._driver is not None:
            self._read_backs.listen(self._driver)
        self._write(ended=False)

    def _report_at_the_end(self) -> None:
        if self._driver is not None:
            self._driver.on_read_back(None)
        if self._used_cuda:
            self._peaks.measure(self._steps + 1)
            if self._peaks.allocated_bytes > self._examined_bytes:
                self._examine_peak()
        self._write(ended=True)

    def _write(self, ended: bool) -> None:
        """Write the findings, all or nothing; a child that never uses CUDA writes them only if it fails."""
        ending = self._endings.found() if ended else Ending()
        failed = ending.raised is not None if ending.exit_code is None else ending.exit_code != 0
        if not self._used_cuda and os.getpid() != self._first_pid and not failed:
            return
        # A process may become another program (exec) and keep its process id.
        path = self._folder / f"{os.getpid()}-{self._started_seconds}.json"
        # This fails if the process outlives `attnprof run`, which removes the folder.
        with self._notes.record_errors("writing what was found"):
            aside = path.with_name(f"{path.name}.part")
            aside.write_text(to_json(self._findings(ended, ending)), encoding="utf-8")
            aside.replace(path)
        self._written_seconds = time.monotonic()

    def _failed_compilations(self) -> tuple[str, ...]:
        with self._notes.record_errors("looking at compilations that failed"):
            return failed_compilations()
        return ()

    def _findings(self, ended: bool, ending: Ending) -> ProcessFindings:
        import torch

        journal = self._driver.journal() if self._driver is not None else Journal(ReadCounts(), (), ())
        return ProcessFindings(
            pid=os.getpid(),
            command=shlex.join(sys.orig_argv),
            started_seconds=self._started_seconds,
            torch=torch.__version__,
            cuda=torch.version.cuda or "",
            used_cuda=self._used_cuda,
            ended=ended,
            peak_allocated_bytes=self._peaks.allocated_bytes,
            peak_reserved_bytes=self._peaks.reserved_bytes,
            peak_step=self._peaks.step,
            plan_trials=self._plan_trials(),
            peak_without_trials_bytes=self._peaks.without_trials_bytes,
            steps=self._steps,
            optimizers=len(self._optimizers),
            peaks_so_far=self._peaks_so_far,
            peak=self._peak if self._failures.first is None else None,
            out_of_memory_count=self._failures.raised,
            avoided_count=self._failures.failed - self._failures.raised,
            out_of_memory=self._failures.first,
            reads=journal.reads,
            read_lines=self._read_backs.lines(),
            unknown=(*journal.unknown, *self._failed_compilations()),
            assumed=journal.assumed,
            notes=self._notes.lines(),
            ending=ending,
            thread_errors=self._endings.of_threads,
        )


@contextlib.contextmanager
def _without_interruption() -> Iterator[None]:
    """Ignore Ctrl-C within; do nothing in another thread than the main one, which cannot set that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        # None: C code had set the handler, and only C code can set it again.
        if before is not None:
            signal.signal(signal.SIGINT, before)
