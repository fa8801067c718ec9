"""Reports the runs: a table for the terminal and in Markdown, and all figures and samples as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from digits.training import COMPARED_STEPS, Run

_COLUMNS = ("strategy", "right", "test", "off", "memory", "a step", "IQR", "total", "gamma")
_LEGEND = (
    f"~ approximate   off: loss against naive's, relative, first {COMPARED_STEPS} steps",
    "memory: what a step needs at its peak   a step: median time, with backward and update",
)


def to_table(runs: Sequence[Run], title: str) -> RenderableType:
    """Return the table for `rich.console.Console.print`; it fits 80 columns."""
    table = Table(box=box.HORIZONTALS, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in _COLUMNS:
        first = heading == "strategy"
        table.add_column(heading, justify="left" if first else "right", overflow="fold" if first else "ellipsis")
    for run in runs:
        table.add_row(*map(Text, _cells(run, runs[0])), style="red" if run.reason else "")
    legend = [Text(line, style="dim") for line in _LEGEND]
    return Group(Text(title, style="bold"), table, Text(), *legend, *map(Text, _failures(runs)))


def to_markdown(runs: Sequence[Run], title: str, command: str, place: str) -> str:
    """Return the table with the command and the machine, for a file beside the plot."""
    rows = [_COLUMNS, ("---",) * len(_COLUMNS), *(_cells(run, runs[0]) for run in runs)]
    lines = ["# Digits", f"`{command}`: {place}.", "", f"**{_escaped(title)}**", ""]
    lines += [f"| {' | '.join(map(_escaped, row))} |" for row in rows]
    lines += ["", *(f"- {_escaped(line)}" for line in (*_LEGEND, *_failures(runs)))]
    return "\n".join([*lines, "", "![Loss, memory, time and accuracy of each strategy](plot.png)"]) + "\n"


def to_csv(runs: Sequence[Run], constants: Mapping[str, object]) -> str:
    """Return a row for each run; `constants`, the workload and the environment, are the same in each."""
    rows = [{**_row(run, runs[0]), **constants} for run in runs]
    return _csv_text(list(rows[0]), rows)


def steps_csv(runs: Sequence[Run]) -> str:
    """Return a row for each step of every run: all other figures come from them."""
    rows = [
        {"strategy": run.strategy, "step": place, "loss": step.loss, "gamma": step.gamma, "seconds": step.seconds}
        for run in runs
        for place, step in enumerate(run.steps, 1)
    ]
    return _csv_text(["strategy", "step", "loss", "gamma", "seconds"], rows)


def save(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files whole or not at all, so that earlier ones survive an interruption."""
    for name, text in texts.items():
        unfinished = folder / f"{name}.part"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(folder / name)


def _cells(run: Run, reference: Run) -> tuple[str, ...]:
    quartiles = run.step_quartiles_seconds()
    return (
        f"{'~' if run.approximation else ''}{run.strategy}",
        "-" if run.correct is None else f"{run.correct}/{run.tested}",
        "-" if run.correct is None or not run.tested else f"{run.correct / run.tested:.1%}",
        _departure_text(run, reference),
        _bytes_text(run.step_bytes),
        _seconds_text(quartiles[1]) if quartiles else "-",
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


def _csv_text(names: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _bytes_text(count: int | None) -> str:
    return "-" if count is None else f"{_three_digits(count / 2**20)} MiB"


def _seconds_text(seconds: float) -> str:
    return f"{_three_digits(seconds * 1e3)} ms" if seconds < 1 else f"{_three_digits(seconds)} s"


def _three_digits(number: float) -> str:
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}"


def _escaped(text: str) -> str:
    """Escape the characters that mean something in Markdown."""
    return re.sub(r"([*~|<])", r"\\\1", text)
