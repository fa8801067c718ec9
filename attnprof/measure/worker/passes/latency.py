"""How long a step takes."""

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
        budget_seconds: extended for slow steps, so that there are three samples where bearable.
        step_seconds: what a step took before, roughly.
    """
    timer = Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads())
    # Timer's first run, which sets the block size and warms up, comes on top of the samples.
    budget = max(budget_seconds, min(_LONGEST_BUDGET, (_MIN_SAMPLES - 0.5) * step_seconds))
    measured = timer.adaptive_autorange(threshold=SPREAD, min_run_time=min(_MIN_SECONDS, budget), max_run_time=budget)
    return summarize(tuple(measured.times), measured.number_per_run)


def summarize(samples_seconds: tuple[float, ...], runs_per_sample: int) -> Latency:
    """Median and interquartile range (inclusive method: exact for two samples and more)."""
    iqr = 0.0
    if len(samples_seconds) > 1:
        lower, _, upper = statistics.quantiles(samples_seconds, n=4, method="inclusive")
        iqr = upper - lower
    return Latency(samples_seconds, runs_per_sample, statistics.median(samples_seconds), iqr)


def noise_note(latency: Latency) -> str | None:
    """A warning that says what to do, where the median is not to be trusted."""
    if not latency.noisy:
        return None
    if len(latency.samples_seconds) == 1:
        return "latency from a single sample: raise --case-seconds"
    spread = latency.iqr_seconds / latency.median_seconds
    return f"latency varies by {spread:.0%}: close other programs, or raise --case-seconds"
