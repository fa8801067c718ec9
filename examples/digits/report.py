"""What came of the runs: a table for the terminal and in Markdown, and all figures and samples as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from attnprof.report.grid import Column, Grid, Row, escaped, to_markdown_lines, to_rich
from attnprof.report.page import csv_text
from attnprof.units import format_bytes, format_seconds
from digits.training import COMPARED_STEPS, Run

_COLUMNS = (
    Column("strategy", folds=True),
    Column("right", right=True),
    Column("test", right=True),
    Column("off", right=True),
    Column("memory", right=True),
    Column("a step", right=True),
    Column("IQR", right=True),
    Column("total", right=True),
    Column("gamma", right=True),
)
_LEGEND = (
    f"~ approximate   off: loss against naive's, relative, first {COMPARED_STEPS} steps",
    "memory: what a step adds at its peak   a step: median; with backward and update",
)


def to_table(runs: Sequence[Run], title: str) -> RenderableType:
    """For `rich.console.Console.print`; fits 80 columns."""
    parts: list[RenderableType] = [Text(title, style="bold"), to_rich(_grid(runs, title)), Text()]
    parts += [Text(line, style="dim") for line in _LEGEND]
    return Group(*parts, *map(Text, _failures(runs)))


def to_markdown(runs: Sequence[Run], title: str, command: str, place: str) -> str:
    """The same with the command and where it ran, for a file beside the plot."""
    lines = ["# Digits", f"`{command}`: {place}.", "", *to_markdown_lines(_grid(runs, title))]
    lines += [f"- {escaped(line)}" for line in (*_LEGEND, *_failures(runs))]
    return "\n".join([*lines, "", "![Loss, memory, time and accuracy of each strategy](plot.png)"]) + "\n"


def to_csv(runs: Sequence[Run], constants: Mapping[str, object]) -> str:
    """A row a run; `constants`, the same in each, are the workload and the environment."""
    rows = [{**_row(run, runs[0]), **constants} for run in runs]
    return csv_text(rows[0], rows)


def steps_csv(runs: Sequence[Run]) -> str:
    """A row a step of every run: what all other figures come from."""
    rows = [
        {"strategy": run.strategy, "step": place, "loss": step.loss, "gamma": step.gamma, "seconds": step.seconds}
        for run in runs
        for place, step in enumerate(run.steps, 1)
    ]
    return csv_text(("strategy", "step", "loss", "gamma", "seconds"), rows)


def save(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files whole or not at all, so that what is there survives an interruption."""
    for name, text in texts.items():
        unfinished = folder / f"{name}.part"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(folder / name)


def _grid(runs: Sequence[Run], title: str) -> Grid:
    return Grid(title, _COLUMNS, tuple(Row(_cells(run, runs[0]), failed=bool(run.reason)) for run in runs))


def _cells(run: Run, reference: Run) -> tuple[str, ...]:
    quartiles = run.step_quartiles_seconds()
    return (
        f"{'~' if run.approximation else ''}{run.strategy}",
        "-" if run.correct is None else f"{run.correct}/{run.tested}",
        "-" if run.correct is None or not run.tested else f"{run.correct / run.tested:.1%}",
        _departure_text(run, reference),
        format_bytes(run.step_bytes),
        format_seconds(quartiles[1]) if quartiles else "-",
        f"{(quartiles[2] - quartiles[0]) / quartiles[1]:.0%}" if quartiles else "-",
        f"{run.total_seconds:.0f} s",
        "-" if run.gamma is None else f"{run.gamma:.2f}",
    )


def _departure_text(run: Run, reference: Run) -> str:
    departure = run.departure(reference)
    return "" if run is reference else "-" if departure is None else f"{departure:.0e}"


def _failures(runs: Sequence[Run]) -> list[str]:
    return [f"{run.strategy}: {run.reason}" for run in runs if run.reason]


def _row(run: Run, reference: Run) -> dict[str, object]:
    lower, median, upper = run.step_quartiles_seconds() or (None, None, None)
    return {
        "strategy": run.strategy,
        "approximation": run.approximation,
        "reason": run.reason,
        "test_correct": run.correct,
        "test_images": run.tested,
        "steps": len(run.steps),
        "max_rel_loss_departure": run.departure(reference),
        "step_bytes": run.step_bytes,
        "step_lower_quartile_seconds": lower,
        "step_median_seconds": median,
        "step_upper_quartile_seconds": upper,
        "total_seconds": run.total_seconds,
        "gamma": run.gamma,
    }
