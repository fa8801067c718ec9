"""Hostile models, each followed by a good one in the same worker.

A hostile case must end in time, with its model told where it failed, and must never have the figures of another case.
The good case after it must have exactly the figures that it has alone. A sample runs as `attnprof model` does.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from common import Tally, check_end, own_home, processes_with, run, shortened
from hostile_models import GOOD, sources

TIMEOUT_SECONDS = 6.0
WATCH_SECONDS = 25.0
IN_COMMANDS = ("plain", "os._exit(0)", "escapes in the message", "a fork whose child returns", "input()",
               "a surrogate in the message", "garbage to every descriptor", "KeyboardInterrupt",
               "a failing __str__", "sys.exit(words)")  # fmt: skip


def attack(tally: Tally, count: int) -> None:
    """Try `count` hostile models on the CPU, which forks for a case, and on an emulated card, which does not."""
    chosen = random.Random(tally.seed)
    signal.signal(signal.SIGTERM, lambda *_: None)  # some send it to their parent, which is this process
    models = list(sources().items())
    chosen.shuffle(models)
    with own_home() as folder:
        mark = f"HOSTILE_MARK={os.getpid()}.{time.time()}"
        os.environ["HOSTILE_MARK"] = mark.partition("=")[2]
        (folder / "good.py").write_text(GOOD)
        for number, (_, (text, _)) in enumerate(models):
            path = folder / f"m{number}.py"
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        for card in (None, "t4"):
            with ExitStack() as stack:
                _on_device(tally, stack, card, models[:count], folder)
        _in_commands(tally, [pair for pair in enumerate(models) if pair[1][0] in IN_COMMANDS], folder)
        time.sleep(1)
        for process in processes_with(mark):
            tally.violate("process left", process)
            os.kill(int(process.partition(":")[0]), 9)


def _on_device(tally, stack, card, models, folder):
    from attnprof.cases.cards import parse_cards
    from attnprof.cases.settings import Settings
    from attnprof.studies.devices import make_runner

    device = card or "cpu"
    settings = Settings(device="auto" if card else "cpu", case_seconds=0.01, timeout_seconds=TIMEOUT_SECONDS)
    runner = stack.enter_context(make_runner(settings, parse_cards(card)[0] if card else None))
    runner.open()
    good = _case("good.py")
    reference = _peak(runner.measure(good))
    for number, (name, (text, end)) in enumerate(models):
        path = f"m{number}.py"
        what = f"{device}: {name}"
        tally.tried[device] += 1
        (folder / path).write_bytes(text if isinstance(text, bytes) else text.encode())
        started = time.monotonic()
        try:
            with _watched(runner):
                result = runner.measure(_case(path))
        except Exception as error:
            tally.violate("hang" if isinstance(error, TimeoutError) else "traceback", f"{what}: {error!r}")
            runner.open()
            continue
        finally:
            seconds = time.monotonic() - started
        _check(tally, what, path, result, end, seconds)
        if _peak(result) == reference:
            tally.violate("figures of another case", what)
        try:
            started = time.monotonic()
            with _watched(runner):
                after = runner.measure(good)
        except Exception as error:
            tally.violate("hang" if isinstance(error, TimeoutError) else "traceback", f"{what}: next case: {error!r}")
            runner.open()
            continue
        if _peak(after) != reference:
            words = f"{after.outcome.value} {after.reason} {_peak(after)}, not {reference}"
            tally.violate("next case wrong", f"{what}: {shortened(words)}")
            runner.open()  # so that the next model is judged for itself
        if time.monotonic() - started > 3 * TIMEOUT_SECONDS:
            tally.violate("hang", f"{what}: next case after {time.monotonic() - started:.0f} s")


@contextmanager
def _watched(runner):
    """End the worker, and raise TimeoutError, if a measurement goes on far beyond its time-out."""

    def end(*_):
        runner.stop()
        runner._stopped = False
        raise TimeoutError

    signal.signal(signal.SIGALRM, end)
    signal.alarm(round(WATCH_SECONDS))
    try:
        yield
    finally:
        signal.alarm(0)


def _check(tally, what, path, result, end, seconds):
    outcome, reason = result.outcome.value, result.reason
    words = f"{what}: {outcome} after {seconds:.1f} s: {shortened(reason)}"
    if seconds > TIMEOUT_SECONDS + 4:
        tally.violate("hang", words)
    if outcome == "completed" and (end in ("told", "exit", "late") or reason):
        tally.violate("taken for completed", words)
    if end == "fine" and outcome != "completed":
        tally.violate("harmless but not measured", words)
    if end in ("told", "exit") and outcome == "timed_out":
        tally.violate("told at the time-out alone", words)
    if end in ("told", "exit") and outcome in ("crashed", "unsupported") and path not in reason:
        tally.violate("model not named", words)
    if end == "told" and outcome in ("crashed", "unsupported") and "line" not in reason:
        tally.violate("line not named", words)
    if outcome in ("crashed", "unsupported") and not reason.strip():
        tally.violate("no reason", words)
    if "\n" in reason or len(reason) > 2000:
        tally.violate("reason of many lines", words)


def _peak(result):
    memory = result.measurement.memory
    return (result.outcome.value, memory.peak_allocated_bytes if memory else None)


def _case(path):
    from attnprof.studies.requests import model_study

    study = model_study(f"{path}:Net", input="4,256", strategy="as-is", mode="forward", out=Path("unused.jsonl"))
    return study.plan.cases[0]


def _in_commands(tally, models, folder):
    """Run `attnprof model` on some: its message is one harmless line and names the file."""
    for number, (name, (text, end)) in models:
        path = folder / f"m{number}.py"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        words = ["model", f"m{number}.py:Net", "--input", "4,256", "--mode", "forward", "--device", "cpu",
                 "--case-seconds", "0.01", "--timeout", str(TIMEOUT_SECONDS), "--no-largest-batch"]  # fmt: skip
        done = run(words, limit=60)
        tally.tried["as a command"] += 1
        check_end(tally, done, f"command: {name}")
        if end in ("told", "exit") and (done.code == 0 or path.name not in done.err):
            tally.violate("model not named", f"command: {name}: {done.code}: {shortened(done.err)}")
        if done.seconds > 30:
            tally.violate("hang", f"command: {name}: {done.seconds:.0f} s")
