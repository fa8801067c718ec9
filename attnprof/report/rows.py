"""A record as a tidy row: the columns of CSV, JSON and the DataFrame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from attnprof.cases.record import Record

Cell = Any  # str, int, float, bool or None


def _memory(record: Record, name: str) -> Cell:
    memory = record.measurement.memory
    return asdict(memory)[name] if memory else None


def _latency(record: Record, name: str) -> Cell:
    latency = record.measurement.latency
    return asdict(latency)[name] if latency else None


def _exactness(record: Record, name: str) -> Cell:
    exactness = record.measurement.exactness
    return asdict(exactness)[name] if exactness else None


def _per_second(record: Record, amount: int | None) -> float | None:
    latency = record.measurement.latency
    return amount / latency.median_seconds if latency and amount is not None else None


def _matmul_share(record: Record) -> float | None:
    achieved, rate = _per_second(record, record.measurement.flops), record.measurement.matmul_flops_per_second
    return achieved / rate if achieved and rate else None


def _refused(record: Record) -> str | None:
    kernel = record.measurement.kernel
    return "; ".join(f"{name}: {why}" for name, why in kernel.refused.items()) or None if kernel else None


# In this order; a new column goes to the end, so that those who read by position are not surprised.
_COLUMNS: dict[str, Callable[[Record], Cell]] = {
    "strategy": lambda r: r.case.strategy,
    "exact": lambda r: r.case.parsed.exact,
    "mode": lambda r: r.case.workload.mode,
    "dtype": lambda r: r.case.workload.dtype,
    "batch": lambda r: r.case.workload.batch,
    "channels": lambda r: r.case.workload.channels,
    "height": lambda r: r.case.workload.height,
    "width": lambda r: r.case.workload.width,
    "device": lambda r: r.environment.device_name,
    "source": lambda r: r.source.value,
    "outcome": lambda r: r.outcome.value,
    "peak_allocated_bytes": lambda r: _memory(r, "peak_allocated_bytes"),
    "peak_reserved_bytes": lambda r: _memory(r, "peak_reserved_bytes"),
    "step_bytes": lambda r: _memory(r, "step_bytes"),
    "latency_median_seconds": lambda r: _latency(r, "median_seconds"),
    "latency_iqr_seconds": lambda r: _latency(r, "iqr_seconds"),
    "latency_samples": lambda r: len(r.measurement.latency.samples_seconds) if r.measurement.latency else None,
    "max_abs_error": lambda r: _exactness(r, "max_abs_error"),
    "max_rel_error": lambda r: _exactness(r, "max_rel_error"),
    "grad_max_rel_error": lambda r: _exactness(r, "grad_max_rel_error"),
    "sdpa_kernel": lambda r: r.measurement.kernel.name if r.measurement.kernel else None,
    "reason": lambda r: r.reason or None,
    "implied_by": lambda r: r.implied_by or None,
    "approximation": lambda r: r.case.parsed.approximation or None,
    "reduction": lambda r: r.case.workload.reduction,
    "baseline_bytes": lambda r: _memory(r, "baseline_bytes"),
    "first_step_bytes": lambda r: _memory(r, "first_step_bytes"),
    "retained_bytes": lambda r: _memory(r, "retained_bytes"),
    "device_bytes": lambda r: _memory(r, "device_bytes"),
    "context_bytes": lambda r: _memory(r, "context_bytes"),
    "peak_resident_bytes": lambda r: _memory(r, "peak_resident_bytes"),
    "images_per_second": lambda r: _per_second(r, r.case.workload.batch),
    "flops": lambda r: r.measurement.flops,
    "flops_per_second": lambda r: _per_second(r, r.measurement.flops),
    "matmul_share": _matmul_share,
    "sdpa_refused": _refused,
    "exactness_rows": lambda r: _exactness(r, "rows"),
    "notes": lambda r: "; ".join(r.measurement.notes) or None,
    "time": lambda r: r.time,
    "gpu": lambda r: r.card,
    "total_memory_bytes": lambda r: r.environment.total_memory_bytes,
    "estimated_seconds": lambda r: r.measurement.estimate.seconds if r.measurement.estimate else None,
    "estimate_basis": lambda r: r.measurement.estimate.basis if r.measurement.estimate else None,
    "block": lambda r: r.case.workload.block,
}

COLUMNS = tuple(_COLUMNS)


def tidy_row(record: Record) -> dict[str, Cell]:
    """One value a column; None where the case has no such figure."""
    return {name: value(record) for name, value in _COLUMNS.items()}
