"""Draws the runs in one picture: the course of training, and the cost of each strategy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from digits.training import COMPARED_STEPS, ROUNDING, Run

_EXACT, _APPROXIMATE = "#1f5fa8", "#d1660a"


def draw(runs: Sequence[Run], title: str, place: str, path: Path) -> None:
    """Draw losses and their departure from the first run's above, memory, time and accuracy below; save as PNG."""
    figure = Figure(figsize=(11, 4.6 + 0.26 * len(runs)), layout="constrained")
    figure.suptitle(f"{title}\n{place}", fontsize=10)
    above, below = figure.subfigures(2, 1, height_ratios=[3.4, 1.2 + 0.26 * len(runs)])
    losses, departures = above.subplots(1, 2)
    _losses(losses, runs)
    _departures(departures, runs)
    panels = below.subplots(1, 3, sharey=True)
    ran = [run for run in runs if not run.reason]
    _bars(panels[0], ran, [(run.step_bytes or 0) / 2**20 for run in ran], "step memory, MiB")
    quartiles = [[1e3 * value for value in run.step_quartiles_seconds() or (0.0, 0.0, 0.0)] for run in ran]
    spread = [[q[1] - q[0] for q in quartiles], [q[2] - q[1] for q in quartiles]]
    _bars(panels[1], ran, [q[1] for q in quartiles], "time of a step, ms: median, quartiles", spread)
    wrong = [(run.tested or 0) - (run.correct or 0) for run in ran]
    _bars(panels[2], ran, wrong, f"wrong of {runs[0].tested} test images")
    panels[0].set_yticks(range(len(ran)), [run.strategy for run in ran])
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=110, format="png", metadata={"Software": None})


def _losses(axes: Axes, runs: Sequence[Run]) -> None:
    # The reference is drawn last and dashed: a line that it hides is the same.
    for run in runs[1:]:
        axes.plot(*_series([step.loss for step in run.steps]), color=_color(run), linewidth=1, alpha=0.6)
    axes.plot(*_series([step.loss for step in runs[0].steps]), color="black", linewidth=1, linestyle="--")
    axes.set(xlabel="step", ylabel="training loss", ylim=(0, None))
    _legend(axes)


def _departures(axes: Axes, runs: Sequence[Run]) -> None:
    for run in runs[1:]:
        departures = run.departures(runs[0])
        # A departure of 0 has no place on a logarithmic axis.
        values = [value or float("nan") for value in departures]
        axes.plot(*_series(values), color=_color(run), linewidth=1, alpha=0.6)
    axes.axhline(ROUNDING, color="grey", linestyle=":", linewidth=1)
    axes.axvspan(1, COMPARED_STEPS, color="grey", alpha=0.12, linewidth=0)
    axes.text(COMPARED_STEPS / 2, 0.02, "compared", transform=axes.get_xaxis_transform(), ha="center", fontsize=8)
    where = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center", "fontsize": 8}
    axes.text(0.99, ROUNDING, "bound of rounding", bbox={"color": "white", "alpha": 0.8, "pad": 1}, **where)
    axes.set(xlabel="step", ylabel="loss off naive's, relative", yscale="log", ylim=(1e-8, None))


def _bars(
    axes: Axes,
    runs: Sequence[Run],
    values: Sequence[float],
    heading: str,
    spread: Sequence[Sequence[float]] | None = None,
) -> None:
    bars = axes.barh(range(len(runs)), values, xerr=spread, color=[_color(run) for run in runs], height=0.7)
    axes.bar_label(bars, [f"{value:.0f}" for value in values], padding=3, fontsize=8)
    axes.set_title(heading, fontsize=10)
    axes.margins(x=0.15)
    axes.tick_params(left=False)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(axes: Axes) -> None:
    axes.plot([], [], color="black", linestyle="--", label="naive")
    axes.plot([], [], color=_EXACT, label="exact")
    axes.plot([], [], color=_APPROXIMATE, label="approximate")
    axes.legend(frameon=False)


def _series(values: Sequence[float]) -> tuple[range, Sequence[float]]:
    return range(1, len(values) + 1), values


def _color(run: Run) -> str:
    return _APPROXIMATE if run.approximation else _EXACT
