"""Compare the durations that attnprof announces with those that come.

`python results/durations.py > results/durations.md`, from a checkout, on a machine that does nothing else. Each line is
a sweep of its own, from the moment at which its duration is announced.
"""

from __future__ import annotations

import os
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

from attnprof.cases.settings import Settings
from attnprof.measure.runner import Runner
from attnprof.studies.listener import Listener
from attnprof.studies.requests import sweep_study
from attnprof.studies.sweep import SweepRun

SWEEPS = (
    {"device": "cpu", "hw": "16"},
    {"device": "cpu", "hw": "64"},
    {"device": "cpu", "hw": "128", "mode": "forward"},
    {"gpu": "t4", "hw": "32,64"},
    {"gpu": "t4", "hw": "256", "batch": 8},
    {"gpu": "t4", "hw": "256", "batch": 8, "dtype": "fp16"},
    {"gpu": "t4", "hw": "512", "batch": 8},
    {"gpu": "t4", "hw": "128", "batch": 4, "strategy": "chunked:64,online:256x256,pooled:2+chunked"},
)


class _Announced(Listener):
    """The announced seconds, and the moment of the announcement."""

    def planned(self, done, estimates, card) -> None:
        self.seconds, self.start = sum(estimates.values()), time.monotonic()


def main() -> None:
    """Print a table in Markdown."""
    with Runner(Settings(device="cpu")) as runner:
        runner.open()
        environment = runner.environment
    print("# Durations: announced and real\n")
    print(
        f"{environment.device_name}, {os.cpu_count()} cores, Python {environment.python}, torch {environment.torch}, "
        f"{datetime.now(timezone.utc):%Y-%m-%d}. One sample each.\n"
    )
    print("| sweep | cases | announced, s | real, s | announced / real |\n|---|---:|---:|---:|---:|")
    for options in SWEEPS:
        with tempfile.TemporaryDirectory() as folder:
            run = SweepRun(sweep_study(out=Path(folder) / "records.jsonl", **options))
            announced = _Announced()
            run.carry_out(announced)
            real = time.monotonic() - announced.start
        words = " ".join(f"--{name} {value}" for name, value in options.items())
        ratio = announced.seconds / real
        print(f"| `{words}` | {run.total_count} | {announced.seconds:.1f} | {real:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
