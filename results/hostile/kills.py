"""Kills at random moments, and what stands in the file after the sweep was resumed.

The command, the measuring process, the child that it forks for a case, or the build of the stand-in libraries is
killed. Then the sweep is resumed until it is complete. The file must contain what an uninterrupted run found, but for
times. No process and no temporary file may be left.
"""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from common import Tally, leftovers, own_home, processes_with, run, shortened

SWEEP = ["sweep", "--hw", "4,6,8", "--strategy", "naive,chunked", "--mode", "forward", "--case-seconds", "0.01"]
DEVICES = {"cpu": (["--device", "cpu"], 6.0), "t4": (["--gpu", "t4"], 3.0)}  # options, and seconds of a run
ENDS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
BUILD_SHARE = 0.1
KILLS_OF_A_FILE = 5
PATIENCE_SECONDS = 60.0


def attack(tally: Tally, count: int) -> None:
    """Kill `count` times."""
    chosen = random.Random(tally.seed)
    with own_home() as folder:
        os.environ["HOSTILE_MARK"] = mark = f"{os.getpid()}.{time.time()}"
        retry = ["--retry", "crashed,timed-out"] if "--retry" in run(["sweep", "--help"]).out else []
        tally.notes["retry"] = bool(retry)
        references = {device: _reference(device) for device in DEVICES}
        number = 0
        while sum(tally.tried.values()) < count * (1 - BUILD_SHARE):
            number += 1
            device = chosen.choice(list(DEVICES))
            sweep = Sweep(tally, folder / f"{number}.jsonl", device, retry, mark)
            for _ in range(chosen.randrange(1, KILLS_OF_A_FILE)):
                sweep.kill(chosen)
            sweep.complete(references[device])
        while sum(tally.tried.values()) < count:
            _kill_builds(tally, folder, chosen, retry, mark, references["t4"])


class Sweep:
    """A sweep that is killed and resumed.

    Args:
        tally: the counts.
        out: its file.
        device: one of `DEVICES`.
        retry: options that measure again what a kill made a crash.
        mark: what its processes have in their environment.
    """

    def __init__(self, tally, out, device, retry, mark):
        self._tally, self._out, self._device, self._retry, self._mark = tally, out, device, retry, mark
        self._options, self._seconds = DEVICES[device]

    def kill(self, chosen, environ=None, moment=None):
        """Start or resume the sweep and kill something of it at a random moment."""
        with subprocess.Popen(
            [sys.executable, "-m", "attnprof", *self._words()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True, env={**os.environ, **(environ or {})},
        ) as process:  # fmt: skip
            time.sleep(chosen.uniform(0, moment or self._seconds))
            victim = chosen.choice(
                ["command", "command", "worker", "child"] if self._device == "cpu" else ["command", "worker"]
            )
            number = chosen.choice(list(ENDS)) if victim == "command" else signal.SIGKILL
            done = self._strike(process, victim, number)
            try:
                _, err = process.communicate(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self._tally.violate("hang", f"{self._device}: {victim} {number.name}")
                os.killpg(process.pid, signal.SIGKILL)
                _, err = process.communicate()
        what = f"{self._device}: {victim} {number.name}"
        if done:
            self._tally.tried[what] += 1
        else:
            self._tally.notes["ended before the kill"] = self._tally.notes.get("ended before the kill", 0) + 1
        text = err.decode("utf-8", "replace")
        if "Traceback (most" in text:
            self._tally.violate("traceback", f"{what}: {text.strip().splitlines()[-1]}")
        expected = {0, 1, *((ENDS[number], -number) if victim == "command" else ())}
        if process.returncode not in expected:
            self._tally.violate("exit code", f"{what}: {process.returncode}: {shortened(text[-200:])}")
        self._check_nothing_left(what)

    def complete(self, reference, environ=None):
        """Resume the sweep to its end and compare its file."""
        done = run(self._words(), limit=120, env={**os.environ, **(environ or {})})
        what = f"{self._device}: resumed"
        if done.code != 0:
            self._tally.violate("does not resume", f"{what}: {done.code}: {shortened(done.err[-300:])}")
            return
        found = _found(self._out)
        if _doubled(self._out):
            self._tally.violate("doubled", f"{what}: {_doubled(self._out)}")
        for text in sorted(set(found) ^ set(reference)):
            self._tally.violate("another result", f"{what}: {'+' if text in found else '-'} {text}")
        self._check_nothing_left(what)

    def _words(self):
        resumed = ["--resume", *self._retry] if self._out.exists() else []
        return [*SWEEP, *self._options, "--out", str(self._out), *resumed]

    def _strike(self, process, victim, number):
        """Kill; returns whether there was anything to kill."""
        deadline = time.monotonic() + self._seconds
        while process.poll() is None and time.monotonic() < deadline:
            try:
                victims = {
                    "command": lambda root: [root],
                    "worker": lambda root: root.children(),
                    "child": lambda root: [one for child in root.children() for one in child.children()],
                }[victim](psutil.Process(process.pid))
                if victims:
                    victims[-1].send_signal(number)
                    return True
            except psutil.NoSuchProcess:
                pass
            time.sleep(0.002)
        return False

    def _check_nothing_left(self, what):
        deadline = time.monotonic() + 3.0
        while processes_with(self._mark) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in processes_with(self._mark):
            self._tally.violate("process left", f"{what}: {process}")
            os.kill(int(process.partition(":")[0]), signal.SIGKILL)
        left = leftovers(Path(os.environ["TMPDIR"]))
        if left:
            self._tally.violate("temporary files left", f"{what}: {left}")
            shutil.rmtree(os.environ["TMPDIR"])
            Path(os.environ["TMPDIR"]).mkdir()
        beside = [path.name for path in self._out.parent.iterdir() if path.name.startswith(self._out.name)]
        if set(beside) - {self._out.name}:
            self._tally.violate("temporary files left", f"{what}: {beside}")


def _reference(device):
    out = Path(f"reference-{device}.jsonl").absolute()
    done = run([*SWEEP, *DEVICES[device][0], "--out", str(out)], limit=180)
    assert done.code == 0, done.err
    return _found(out)


def _records(out):
    from attnprof.cases.record import Record

    return [Record.from_line(line) for line in out.read_bytes().splitlines()]


def _found(out):
    """Return the newest record of each case as text, without what is a time or depends on one."""
    found = []
    for record in {record.case: record for record in _records(out)}.values():
        memory = record.measurement.memory and dataclasses.replace(record.measurement.memory, peak_resident_bytes=None)
        found.append(f"{record.case}: {record.outcome.value} {record.reason} {memory} {record.measurement.exactness}")
    return found


def _doubled(out):
    """Return the cases that have several records although the first one settled them."""
    settled = [str(record.case) for record in _records(out) if record.outcome.value not in ("crashed", "timed_out")]
    return sorted({case for case in settled if settled.count(case) > 1})


def _kill_builds(tally, folder, chosen, retry, mark, reference):
    """Kill several builds of the libraries in one new cache, then complete a sweep with it."""
    cache = folder / f"cache{chosen.random()}"
    cache.mkdir(mode=0o700)
    sweep = Sweep(tally, folder / f"{cache.name}.jsonl", "t4", retry, mark)
    environ = {"XDG_CACHE_HOME": str(cache)}
    for _ in range(4):
        sweep.kill(chosen, environ, moment=4.0)
    sweep.complete(reference, environ)
    stray = [str(path.relative_to(cache)) for path in cache.glob("attnprof/emulation/*") if path.name != "lock"]
    if len(stray) != 1:
        tally.violate("build files left", stray)
    shutil.rmtree(cache)
