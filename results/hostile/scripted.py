"""attnprof with a scripted device in place of the measuring process: as fast as it prints, and nothing is measured.

`here` runs a command line in this process. As a program (`python scripted.py sweep --hw 8`) it is a real process.
"""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from types import SimpleNamespace
from unittest.mock import patch

import typer

from attnprof.cases.environment import Environment
from attnprof.cases.measurement import Exactness, Latency, Measurement, Memory, Outcome, Result, Source
from attnprof.cases.workload import ModelWorkload

MIB = 2**20
CPU = Environment("0", "2", "3.12", "Linux x86_64", 2, "highest", "cpu", "Test CPU")


class ScriptedDevice:
    """A device on which a case takes a known memory: 64 B C N bytes, and 8 B N^2 more for `naive`.

    Args:
        settings: of the cases; the budget counts.
        card: an emulated card, or None for a CPU with 1 TiB.
    """

    def __init__(self, settings, card, tell):
        self.card, self._settings = card, settings
        self.source = Source.EMULATED if card else Source.MEASURED
        self.environment = CPU
        if card is not None:
            self.environment = dataclasses.replace(
                CPU, gpu=str(card), device="cuda:0", device_name=card.name,
                total_memory_bytes=card.total_bytes, context_bytes=card.context_bytes,
            )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def open(self):
        """Open nothing."""

    def stop(self):
        """Stop nothing."""

    @property
    def card_name(self):
        """The card as `--gpu` spells it."""
        return self.environment.gpu

    def matmul_flops_per_second(self, dtype):
        """Return a rate at which nothing takes long."""
        return 1e30

    def measure(self, case, enter=None, settings=None):
        """Return a case's result."""
        settings = settings or self._settings
        workload = case.workload
        positions = 64 if isinstance(workload, ModelWorkload) else workload.positions
        square = case.strategy.split("+")[0] in ("naive", "as-is", "sdpa")
        need = 64 * workload.batch * workload.channels * positions + square * 8 * workload.batch * positions**2
        # As on a card, the context's part of a budget cannot be allocated.
        context_bytes = self.card.context_bytes if self.card else 0
        memory_bytes = self.card.total_bytes if self.card else 2**40
        limit = min(settings.budget_bytes or memory_bytes, memory_bytes) - context_bytes
        if need > limit:
            return Result(Outcome.OUT_OF_MEMORY, "too much", Measurement())
        reserved, context = (need, self.card.context_bytes) if self.card else (None, None)
        memory = Memory(need // 4, need // 2, 0, need // 2, need, reserved, reserved, context)
        if self.card is not None or settings.memory_only:
            return Result(Outcome.COMPLETED, "", Measurement(memory=memory))
        latency = Latency((0.01, 0.011, 0.012), 1, 0.011, 0.001)
        return Result(Outcome.COMPLETED, "", Measurement(memory, latency, Exactness(1e-7, 1e-7, None, 8), flops=10**9))


@cache
def _command():
    """Return the command line, built once: that takes four fifths of a short command's time."""
    from attnprof.cli.app import app

    return typer.main.get_command(app)


class HangError(BaseException):
    """A command that took too long."""


def install():
    """Put the scripted device in the place of every runner, and a program that runs nowhere in that of `run`'s."""
    from attnprof.studies import doctor, limits, model, program, study_run, sweep  # noqa: F401 - loads subclasses
    from attnprof.studies.recommend import from_runs  # noqa: F401

    kinds = [study_run.StudyRun]
    for kind in kinds:
        kinds += kind.__subclasses__()
        init = vars(kind).get("__init__")
        if init is not None and init.__defaults__:
            made = [ScriptedDevice if getattr(d, "__name__", "") == "make_runner" else d for d in init.__defaults__]
            init.__defaults__ = tuple(made)
    program.emulation_environment = lambda card, tell: {}
    program.find_toolkit = lambda: SimpleNamespace(torch="2")
    doctor.examine = lambda tell: iter([doctor.Finding("torch", "2"), doctor.Finding("memory", "none", False, "wait")])


class _Stream(io.TextIOWrapper):
    """An output that encodes as a user's terminal does."""

    def __init__(self, encoding, errors):
        super().__init__(io.BytesIO(), encoding=encoding, errors=errors, write_through=True)

    def fileno(self):
        """Return a descriptor that a child may write to."""
        return os.open(os.devnull, os.O_WRONLY)

    def text(self):
        """Return what was written."""
        return self.buffer.getvalue().decode(self.encoding, "replace")


def here(words, *, columns="80", encoding="utf-8", limit=5.0):
    """Run a command line in this process; returns exit code, stdout, stderr, and what it raised, if anything.

    The limit is of processor time; three times as much may pass.
    """
    from attnprof.cli.terminal import run_app

    def stop(*_):
        raise HangError

    out, err, code, raised = _Stream(encoding, "strict"), _Stream(encoding, "backslashreplace"), None, None
    signal.signal(signal.SIGPROF, stop)
    signal.signal(signal.SIGALRM, stop)
    with (
        patch.object(sys, "argv", ["attnprof", *words]),
        patch.dict("os.environ", {"COLUMNS": columns}),
        redirect_stdout(out),
        redirect_stderr(err),
        patch("signal.signal"),
    ):
        try:
            signal.setitimer(signal.ITIMER_PROF, limit)
            signal.setitimer(signal.ITIMER_REAL, 3 * limit)
            code = run_app(_command())
        except BaseException as error:
            raised = error
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
    return code, out.text(), err.text(), raised


if __name__ == "__main__":
    sys.modules["scripted"] = sys.modules["__main__"]  # for programs of faults
    install()
    from attnprof.cli.app import main

    if os.environ.get("HOSTILE_FAULTS"):
        import runpy

        runpy.run_path(os.environ["HOSTILE_FAULTS"])
    main()
