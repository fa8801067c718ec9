"""Runs somebody's program on an emulated card and collects what its processes report. Needs no torch."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from attnprof.cases.cards import Card
from attnprof.emulation import emulation_environment
from attnprof.emulation.findings_file import findings_from_json
from attnprof.emulation.toolkit import find_toolkit
from attnprof.emulation.watch.findings import ProcessFindings
from attnprof.errors import AttnprofError

_SITE = Path(__file__).parents[1] / "emulation" / "watch" / "site"
_PASSED_ON = (signal.SIGINT, signal.SIGTERM)
_FROM_THE_KERNEL = 0x80  # SI_KERNEL, asm-generic/siginfo.h


@dataclass(frozen=True)
class ProgramRun:
    """What became of a program.

    Attributes:
        card: the one emulated.
        command: as it was given.
        exit_code: the program's own; 128 and the signal's number where a signal ended it.
        torch: the version whose CUDA libraries were stood in for.
        processes: of its Python processes those that imported torch, the first first.
    """

    card: Card
    command: tuple[str, ...]
    exit_code: int
    torch: str
    processes: tuple[ProcessFindings, ...]


def run_program(
    card: Card, command: Sequence[str], tell: Callable[[str], None] = lambda _: None, stdout: IO[str] | None = None
) -> ProgramRun:
    """Run it with this process's input and output; SIGINT and SIGTERM go to it.

    Args:
        card: what it finds as its only CUDA device.
        command: the program and its arguments.
        tell: told what takes a while.
        stdout: where the program's standard output goes, if not to this process's.

    Raises:
        AttnprofError: there is no such program.
        EmulationError: a card cannot be emulated here.
    """
    if shutil.which(command[0]) is None:
        raise AttnprofError(
            f"cannot run {command[0]!r}: no such program, or not executable; write python before a script"
        )
    environ = {**os.environ, **emulation_environment(card, tell)}
    with tempfile.TemporaryDirectory(prefix="attnprof-run-") as folder:
        environ["ATTNPROF_WATCH_FOLDER"] = folder
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_SITE), os.environ.get("PYTHONPATH")]))
        try:
            with subprocess.Popen(command, env=environ, stdout=stdout) as process:
                _wait(process)
        except OSError as error:
            raise AttnprofError(f"cannot run {command[0]!r}: {error.strerror}") from None
        processes = _collected(Path(folder))
    code = process.returncode
    return ProgramRun(card, tuple(command), code if code >= 0 else 128 - code, find_toolkit().torch, processes)


def _wait(process: subprocess.Popen[bytes]) -> None:
    """To the program's end, passing signals on."""
    awaited = {signal.SIGCHLD, *_PASSED_ON}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    try:
        while process.poll() is None:
            came = signal.sigwaitinfo(awaited)
            # Ctrl-C: the terminal has sent it to the program as well.
            typed = came.si_signo == signal.SIGINT and came.si_code == _FROM_THE_KERNEL
            if came.si_signo in _PASSED_ON and not typed:
                process.send_signal(came.si_signo)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _collected(folder: Path) -> tuple[ProcessFindings, ...]:
    """In the order in which they imported torch."""
    found = []
    for path in folder.glob("*.json"):
        try:
            found.append(findings_from_json(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise AttnprofError(f"cannot read what a process of the program found: {error}") from None
    return tuple(sorted(found, key=lambda one: one.started_seconds))
