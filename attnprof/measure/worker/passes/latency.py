"""The time of a step."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from torch.utils.benchmark import Timer

from attnprof.cases.measurement import SPREAD, Latency

_MIN_SECONDS = 0.2
_MIN_SAMPLES = 3
_LONGEST_BUDGET = 10.0  # a step so slow that three of them take longer is sampled less


def measure_latency(step: Callable[[], None], budget_seconds: float, step_seconds: float) -> Latency:
    """Repeat a warmed-up step until the samples' spread is small or the budget is used.

    Args:
        step: runs one step.
        budget_seconds: time to spend. It is extended for slow steps, to have three samples if that is bearable.
        step_seconds: a rough time of one step.

    Returns:
        Every sample, with median and spread.
    """
    timer = Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads())
    # Timer's first run, which sets the block size and warms up, comes on top of the samples.
    budget = max(budget_seconds, min(_LONGEST_BUDGET, (_MIN_SAMPLES - 0.5) * step_seconds))
    measured = timer.adaptive_autorange(threshold=SPREAD, min_run_time=min(_MIN_SECONDS, budget), max_run_time=budget)
    return summarize(tuple(measured.times), measured.number_per_run)


def summarize(samples_seconds: tuple[float, ...], runs_per_sample: int) -> Latency:
    """Return the samples with median and interquartile range (inclusive method: exact for two samples and more)."""
    iqr = 0.0
    if len(samples_seconds) > 1:
        lower, _, upper = statistics.quantiles(samples_seconds, n=4, method="inclusive")
        iqr = upper - lower
    return Latency(samples_seconds, runs_per_sample, statistics.median(samples_seconds), iqr)


def noise_note(latency: Latency) -> str | None:
    """Return a warning that says what to do if the median cannot be trusted; None if it can."""
    if not latency.noisy:
        return None
    if len(latency.samples_seconds) == 1:
        return "latency from a single sample: raise --case-seconds"
    spread = latency.iqr_seconds / latency.median_seconds
    return f"latency varies by {spread:.0%}: close other programs, or raise --case-seconds"
