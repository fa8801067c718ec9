"""A recommendation from runs made for it, on this machine's device or on an emulated card."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from attnprof.cases.axis import Axis
from attnprof.cases.capacity import need_bytes
from attnprof.cases.cards import Card
from attnprof.cases.measurement import Outcome, Source
from attnprof.cases.plan import Plan
from attnprof.cases.record_file import RecordFile
from attnprof.cases.settings import Settings
from attnprof.measure.host_memory import available_bytes
from attnprof.measure.runner import Runner
from attnprof.studies.limits import PROBE_SHARE, Searching
from attnprof.studies.listener import StudyListener
from attnprof.studies.recommend.answer import Nearest, Recommendation, axes, fitting_approximations
from attnprof.studies.recommend.ranking import Option, Ranking, rank
from attnprof.studies.requests import RecommendRequest
from attnprof.studies.sweep import run_plan
from attnprof.studies.unbounded import needs_without_end


def recommend_from_runs(
    request: RecommendRequest,
    plan: Plan,
    runner: Runner,
    endless: Callable[[Card], Runner],
    file: RecordFile,
    listener: StudyListener,
) -> Recommendation:
    """Run every candidate; then look how far the pick goes or, where nothing fits, what would.

    Args:
        endless: makes a runner for a card.
        file: of the candidates' records; those that are there already are not run again.

    Raises:
        AttnprofError: the device is not here, or the file is of another or cannot be written.
    """
    settings, cards = request.settings(), request.cards()
    records = list(run_plan(plan, settings, [runner], file, listener))
    needs = needs_without_end(records, cards[0], endless, settings) if cards else {}
    capacity = request.capacity(_total_bytes(runner, settings))
    ranking = rank(records, capacity, allow_approximate=request.allow_approximate, needs=needs)
    emulated = runner.source is Source.EMULATED
    seconds = settings.timeout_seconds * (1 if emulated else PROBE_SHARE)
    within = replace(
        settings, memory_only=True, estimates=False, budget_bytes=capacity.usable_bytes, timeout_seconds=seconds
    )
    search = Searching(runner, within, listener)
    map_axis, batch_axis = axes(ranking.workload, step=1 if emulated else 8)
    if ranking.pick is None:
        return Recommendation(ranking, records[0], nearest=_nearest(ranking, search, map_axis, batch_axis))
    pick, workload = ranking.pick.strategy, ranking.workload
    largest_map = search.find(map_axis, pick, start=workload.height)
    largest_batch = search.find(batch_axis, pick, start=workload.batch)
    return Recommendation(ranking, records[0], largest_map=largest_map, largest_batch=largest_batch)


def _total_bytes(runner: Runner, settings: Settings) -> int:
    """The budget or the card, whichever is less; on the CPU without a budget what can be had now."""
    known = [size for size in (settings.budget_bytes, runner.environment.total_memory_bytes) if size is not None]
    return min(known) if known else available_bytes()


def _nearest(ranking: Ranking, search: Searching, map_axis: Axis, batch_axis: Axis) -> tuple[Nearest, ...]:
    exact = [option for option in ranking.options if option.exact and option.record.outcome is not Outcome.UNSUPPORTED]
    smaller_batch = _largest_of(exact, batch_axis, search) if ranking.workload.batch > 1 else []
    return (*smaller_batch, *fitting_approximations(ranking), *_largest_of(exact, map_axis, search))


def _largest_of(options: Iterable[Option], axis: Axis, search: Searching) -> list[Nearest]:
    """The largest size that any of them takes, by the smallest of those that take it."""
    found = [search.find(axis, option.strategy) for option in options]
    fitting = [threshold for threshold in found if threshold.largest_ok]
    best = max(fitting, key=lambda t: (t.largest_ok or 0, -(t.peak_bytes or 0)), default=None)
    if best is None or best.record is None or best.record.measurement.memory is None:
        return []
    given_up = "map" if axis.vary == "hw" else axis.vary
    return [Nearest(given_up, best.record.case, need_bytes(best.record.measurement.memory))]
