"""A record as a tidy row: the columns of a sweep's CSV, JSON and DataFrame."""

from __future__ import annotations

from dataclasses import asdict

from attnprof.cases.record import Record
from attnprof.report.page import Cell, Field, names_of, rows_of


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


# A new column goes to the end, so that those who read columns by position are not surprised.
FIELDS: tuple[Field[Record], ...] = (
    Field("strategy", lambda r: r.case.strategy, "The strategy's canonical spelling."),
    Field("exact", lambda r: r.case.parsed.exact, "Whether it computes the same function as `naive`, to rounding."),
    Field("mode", lambda r: r.case.workload.mode, "`forward` (no gradients) or `train` (forward and backward)."),
    Field("dtype", lambda r: r.case.workload.dtype, "The workload's dtype."),
    Field("batch", lambda r: r.case.workload.batch, "Images in the input, B."),
    Field("channels", lambda r: r.case.workload.channels, "Channels of the input, C."),
    Field("height", lambda r: r.case.workload.height, "Height of the input, H."),
    Field("width", lambda r: r.case.workload.width, "Width of the input, W."),
    Field("device", lambda r: r.environment.device_name, "The device's name."),
    Field("source", lambda r: r.source.value, "`measured` on a device of this machine, or `emulated`."),
    Field(
        "outcome", lambda r: r.outcome.value, "`completed`, `out_of_memory`, `unsupported`, `timed_out` or `crashed`."
    ),
    Field(
        "peak_allocated_bytes",
        lambda r: _memory(r, "peak_allocated_bytes"),
        "Highest number of bytes allocated, parameters and input included.",
    ),
    Field(
        "peak_reserved_bytes",
        lambda r: _memory(r, "peak_reserved_bytes"),
        "CUDA: highest number of bytes in the caching allocator's segments.",
    ),
    Field("step_bytes", lambda r: _memory(r, "step_bytes"), "Peak of a later step above what was allocated before it."),
    Field("latency_median_seconds", lambda r: _latency(r, "median_seconds"), "Median time of a step."),
    Field("latency_iqr_seconds", lambda r: _latency(r, "iqr_seconds"), "Interquartile range of the step times."),
    Field(
        "latency_samples",
        lambda r: len(r.measurement.latency.samples_seconds) if r.measurement.latency else None,
        "Number of timed samples.",
    ),
    Field(
        "max_abs_error",
        lambda r: _exactness(r, "max_abs_error"),
        "Largest absolute error of the output against the plain block in float64.",
    ),
    Field(
        "max_rel_error",
        lambda r: _exactness(r, "max_rel_error"),
        "The same error over the largest value of the reference output.",
    ),
    Field(
        "grad_max_rel_error",
        lambda r: _exactness(r, "grad_max_rel_error"),
        "Training: the worst relative error of the gradients of input and parameters.",
    ),
    Field(
        "sdpa_kernel",
        lambda r: r.measurement.kernel.name if r.measurement.kernel else None,
        "The kernel that `scaled_dot_product_attention` ran.",
    ),
    Field("reason", lambda r: r.reason or None, "One line on why the case has no numbers."),
    Field(
        "implied_by",
        lambda r: r.implied_by or None,
        "The smaller case whose out-of-memory settles this one, which was not run.",
    ),
    Field("approximation", lambda r: r.case.parsed.approximation or None, "What an approximate strategy gives up."),
    Field("reduction", lambda r: r.case.workload.reduction, "C / E: input channels over query and key channels."),
    Field(
        "baseline_bytes",
        lambda r: _memory(r, "baseline_bytes"),
        "Parameters, input and, in training, the gradient of the output.",
    ),
    Field("first_step_bytes", lambda r: _memory(r, "first_step_bytes"), "Peak of the first step above the baseline."),
    Field(
        "retained_bytes",
        lambda r: _memory(r, "retained_bytes"),
        "What the first step leaves allocated above the baseline.",
    ),
    Field(
        "device_bytes",
        lambda r: _memory(r, "device_bytes"),
        "CUDA: what the process takes on the device, context included.",
    ),
    Field(
        "context_bytes", lambda r: _memory(r, "context_bytes"), "CUDA: the part of it outside the caching allocator."
    ),
    Field(
        "peak_resident_bytes",
        lambda r: _memory(r, "peak_resident_bytes"),
        "CPU: growth of the process's resident set at its highest.",
    ),
    Field(
        "images_per_second", lambda r: _per_second(r, r.case.workload.batch), "Batch over the median time of a step."
    ),
    Field("flops", lambda r: r.measurement.flops, "Floating-point operations of one step of the plain definition."),
    Field(
        "flops_per_second",
        lambda r: _per_second(r, r.measurement.flops),
        "These operations over the median time of a step.",
    ),
    Field("matmul_share", _matmul_share, "That rate over the device's measured rate of a large matrix product."),
    Field("sdpa_refused", _refused, "Why each faster kernel did not run."),
    Field("exactness_rows", lambda r: _exactness(r, "rows"), "Query rows compared in each image."),
    Field("notes", lambda r: "; ".join(r.measurement.notes) or None, "Warnings, and why a figure is missing."),
    Field("time", lambda r: r.time, "When the case ended, ISO 8601, UTC."),
    Field("gpu", lambda r: r.card, "The emulated card as `--gpu` spells it; empty if measured."),
    Field("total_memory_bytes", lambda r: r.environment.total_memory_bytes, "The device's total memory."),
    Field(
        "estimated_seconds",
        lambda r: r.measurement.estimate.seconds if r.measurement.estimate else None,
        "Estimated time of a step, if it was not measured.",
    ),
    Field(
        "estimate_basis",
        lambda r: r.measurement.estimate.basis if r.measurement.estimate else None,
        "How the estimate was made.",
    ),
    Field("block", lambda r: r.case.workload.block, "The block, as `--block` takes it."),
)
COLUMNS = names_of(FIELDS)


def tidy_row(record: Record) -> dict[str, Cell]:
    """Return one value for each column; None if the case has no such figure."""
    return rows_of(FIELDS, [record])[0]
