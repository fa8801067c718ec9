"""`attnprof run`: runs a program on an emulated card and collects what its processes find out. Needs no torch."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import psutil

from attnprof.cases.cards import Card
from attnprof.emulation import emulation_environment
from attnprof.emulation.findings_file import collect_findings, python_started
from attnprof.emulation.plan_orders import FIRST, LARGEST, LEAST, RANGE, VARIABLE
from attnprof.emulation.toolkit import find_toolkit
from attnprof.emulation.watch.findings import ProcessFindings
from attnprof.errors import AttnprofError
from attnprof.text import shown, signal_name

_SITE = Path(__file__).parents[1] / "emulation" / "watch" / "site"
_PREFIX = "attnprof-run-"  # of the names of folders for reports, before the process id
_PASSED_ON = (signal.SIGINT, signal.SIGTERM)
_POLL_SECONDS = 0.1
_FROM_THE_KERNEL = 0x80  # SI_KERNEL, asm-generic/siginfo.h


@dataclass(frozen=True)
class ProgramRun:
    """A program that ran on an emulated card, and what its processes found out.

    Attributes:
        card: the emulated card.
        command: the program and its arguments.
        exit_code: the program's own; 128 and the signal's number if a signal ended it.
        torch: the version of torch whose CUDA libraries were emulated.
        processes: one entry for each of its Python processes that imported torch or failed before, in that order.
        signal: the name of the signal that ended it, as `SIGKILL`; "" if none did.
        unread: a line for each file among its processes' reports that is none.
        pid: the process id of the program itself.
        interrupted: the signal with which this command was interrupted meanwhile, as `SIGINT`; "" if it was not.
        python_started: whether it started a Python that runs `sitecustomize`.
        plans: the order in which cuDNN's plans won where PyTorch compared them, one of `plan_orders.ORDERS`.
        plan_range: the runs with the plans of the least and of the largest workspace, if they were asked for.
    """

    card: Card
    command: tuple[str, ...]
    exit_code: int
    torch: str
    processes: tuple[ProcessFindings, ...]
    signal: str = ""
    unread: tuple[str, ...] = ()
    pid: int = 0
    interrupted: str = ""
    python_started: bool = False
    plans: str = FIRST
    plan_range: tuple[ProgramRun, ...] = ()


def run_program(
    card: Card,
    command: Sequence[str],
    tell: Callable[[str], None] = lambda _: None,
    *,
    values: bool = True,
    plans: str = FIRST,
    stdout: IO[str] | None = None,
) -> ProgramRun:
    """Run a program with this process's input and output, and pass SIGINT and SIGTERM on to it.

    Args:
        card: the only CUDA device that the program finds.
        command: the program and its arguments.
        tell: called with a line of text before something that takes a while.
        values: whether small values live on the card.
        plans: the order in which cuDNN's plans win where PyTorch compares them, one of `plan_orders.ORDERS`. With
            `plan_orders.RANGE` it is the first, and if PyTorch did compare any, the program runs again, without input
            and output, with each of the others.
        stdout: where the program's standard output goes, if not to this process's.

    Raises:
        AttnprofError: there is no such program.
        EmulationError: a card cannot be emulated here.
    """
    if shutil.which(command[0]) is None:
        raise AttnprofError(
            f"run: {shown(command[0])}: no such program, or not executable; write python before a script"
        )
    environ = {**os.environ, **emulation_environment(card, tell, values=values)}
    run = _run(card, command, environ, FIRST if plans == RANGE else plans, stdout=stdout)
    stopped = run.signal or run.interrupted
    if plans != RANGE or stopped or not any(one.plan_trials for one in run.processes):
        return run
    others: list[ProgramRun] = []
    for order in (LEAST, LARGEST):
        tell(f"running the program again with cuDNN's plans of the {order} workspace")
        nowhere = subprocess.DEVNULL
        others.append(_run(card, command, environ, order, stdin=nowhere, stdout=nowhere, stderr=nowhere))
        if others[-1].interrupted:
            return run
    return replace(run, plan_range=tuple(others))


def _run(card: Card, command: Sequence[str], environ: dict[str, str], order: str, **streams: Any) -> ProgramRun:
    """Run a program once, with cuDNN's plans in an order."""
    environ = {**environ, VARIABLE: order}
    with _folder() as folder:
        environ["ATTNPROF_WATCH_FOLDER"] = folder
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_SITE), os.environ.get("PYTHONPATH")]))
        try:
            with subprocess.Popen(command, env=environ, **streams) as process:
                interrupted = _wait(process)
        except OSError as error:
            raise AttnprofError(f"run: {shown(command[0])} cannot be run: {error.strerror}") from None
        processes, unread = collect_findings(Path(folder))
        started = python_started(Path(folder))
    code = process.returncode
    return ProgramRun(
        card=card,
        command=tuple(command),
        exit_code=code if code >= 0 else 128 - code,
        torch=find_toolkit().torch,
        processes=processes,
        signal=signal_name(-code) if code < 0 else "",
        unread=unread,
        pid=process.pid,
        interrupted=interrupted,
        python_started=started,
        plans=order,
    )


def _folder() -> tempfile.TemporaryDirectory[str]:
    """Return a new folder for the reports of the program's processes, which the program may remove."""
    try:
        _remove_folders_of_the_dead()
        return tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", ignore_cleanup_errors=True)
    except OSError as error:
        raise AttnprofError(
            f"cannot make a folder for the program's report: {error.strerror}; set TMPDIR to a folder that is writable"
        ) from None


def _remove_folders_of_the_dead() -> None:
    """Remove the folders that killed commands of this user have left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        with suppress(OSError, ValueError, OverflowError):
            if folder.lstat().st_uid == os.geteuid() and not psutil.pid_exists(int(pid)):
                shutil.rmtree(folder)


def _wait(process: subprocess.Popen[bytes]) -> str:
    """Wait for the program's end, and pass signals on to it; return the first of them, or ""."""
    interrupted = ""
    awaited = {signal.SIGCHLD, *_PASSED_ON}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    try:
        while process.poll() is None:
            # With a time limit: where other threads run (a notebook's, BLAS's), one of them can get the signal.
            came = signal.sigtimedwait(awaited, _POLL_SECONDS)
            if came is None:
                continue
            # Ctrl-C: the terminal has sent it to the program as well.
            typed = came.si_signo == signal.SIGINT and came.si_code == _FROM_THE_KERNEL
            if came.si_signo in _PASSED_ON:
                interrupted = interrupted or signal_name(came.si_signo)
                if not typed:
                    process.send_signal(came.si_signo)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return interrupted
