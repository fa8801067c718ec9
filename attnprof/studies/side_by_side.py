"""Several devices served at once."""

from __future__ import annotations

import os
import queue
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from attnprof.measure.runner import Runner

T = TypeVar("T")


def side_by_side(runners: Sequence[Runner], serve: Callable[[Runner], Iterator[T]]) -> Iterator[T]:
    """What `serve` yields for each runner, as it comes; the first error ends them all.

    Emulated cards take no time of their own, so several are served at once, one to a core. A device that
    is measured is to be the only runner.
    """
    if len(runners) == 1:
        yield from serve(runners[0])
        return
    arrivals: queue.SimpleQueue[T | BaseException | None] = queue.SimpleQueue()

    def drain(runner: Runner) -> None:
        try:
            with runner:  # its process ends with its cases
                for record in serve(runner):
                    arrivals.put(record)
            arrivals.put(None)
        except BaseException as error:  # raised again where the records go
            arrivals.put(error)

    with ThreadPoolExecutor(min(len(runners), _cores())) as pool:
        try:
            for runner in runners:
                pool.submit(drain, runner)
            running = len(runners)
            while running:
                arrival = arrivals.get()
                if isinstance(arrival, BaseException):
                    raise arrival
                if arrival is None:
                    running -= 1
                else:
                    yield arrival
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for runner in runners:
                runner.stop()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
