"""Serves several devices at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from attnprof.measure.runner import Runner


def side_by_side(runners: Sequence[Runner], serve: Callable[[Runner], None]) -> None:
    """Call `serve` with each runner; the first error stops all of them and is raised.

    Emulated cards compute nothing, so they do not disturb one another's numbers: as many are served at once as there
    are cores. A device that is measured must be the only runner.
    """
    if len(runners) == 1:
        serve(runners[0])
        return

    def serve_and_close(runner: Runner) -> None:
        with runner:  # its process ends as soon as its cases are done
            serve(runner)

    with ThreadPoolExecutor(min(len(runners), _core_count())) as pool:
        served = [pool.submit(serve_and_close, runner) for runner in runners]
        try:
            ended, _ = wait(served, return_when=FIRST_EXCEPTION)
            for future in ended:
                future.result()
        finally:
            for future in served:
                future.cancel()
            for runner in runners:
                runner.stop()


def _core_count() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
