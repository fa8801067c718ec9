"""A recommendation from runs made for it, on this machine's device or on an emulated card."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from attnprof.cases.axis import Axis
from attnprof.cases.capacity import memory_limit_bytes, need_bytes
from attnprof.cases.measurement import Outcome, Source
from attnprof.cases.record import Record
from attnprof.cases.record_file import RecordFile
from attnprof.cases.settings import Settings
from attnprof.measure.host_memory import available_bytes
from attnprof.measure.runner import Runner
from attnprof.studies.devices import RunnerMaker, make_runner
from attnprof.studies.limits import LimitSearch, probe_settings
from attnprof.studies.listener import Listener
from attnprof.studies.recommend.capacity import capacity_with_margin
from attnprof.studies.recommend.ranking import Option, Ranking, rank
from attnprof.studies.recommend.recommendation import Nearest, Recommendation, axes, fitting_approximations
from attnprof.studies.study import RecommendStudy
from attnprof.studies.study_run import StudyRun
from attnprof.studies.sweep import measure_cases
from attnprof.studies.unbounded import unbounded_needs


class RecommendRun(StudyRun[RecommendStudy, Recommendation]):
    """Runs every candidate, then searches how far the pick goes or, if nothing fits, what would fit."""

    def __init__(self, study: RecommendStudy, make_runner: RunnerMaker = make_runner) -> None:
        super().__init__(study, make_runner)
        self._answer: Recommendation | None = None

    @property
    def total_count(self) -> int:
        """The number of candidates."""
        return len(self.study.plan.cases)

    @property
    def done_count(self) -> int:
        """The number of candidates that have a record."""
        return len({record.case for record in self.records} & set(self.study.plan.cases))

    def results(self) -> list[Recommendation]:
        """Return the one answer; nothing before every candidate has run."""
        return [self._answer] if self._answer is not None else []

    def records_so_far(self) -> list[Record]:
        """Return the records of the candidates until there is an answer."""
        return [] if self._answer is not None else self.records

    def _serve(self, runner: Runner, file: RecordFile, listener: Listener) -> None:
        study, settings = self.study, self.study.settings
        records = list(measure_cases(study.plan, settings, runner, file, listener, study.retry))
        needs = unbounded_needs(records, runner.card, settings, self._make_runner)
        capacity = capacity_with_margin(_total_bytes(runner, settings), study.margin)
        ranking = rank(records, capacity, allow_approximate=study.allow_approximate, needs=needs)
        self._answer = Recommendation(ranking, records[0])  # for an interruption while more is searched
        within = replace(probe_settings(runner, settings), budget_bytes=capacity.usable_bytes)
        search = LimitSearch(runner, within, listener)
        map_axis, batch_axis = axes(ranking.workload, step=1 if runner.source is Source.EMULATED else 8)
        if ranking.pick is None:
            nearest = _nearest(ranking, search, map_axis, batch_axis)
            self._answer = Recommendation(ranking, records[0], nearest=nearest)
            return
        pick, workload = ranking.pick.strategy, ranking.workload
        self._answer = Recommendation(
            ranking,
            records[0],
            largest_map=search.find(map_axis, pick, start=workload.height),
            largest_batch=search.find(batch_axis, pick, start=workload.batch),
        )


def _total_bytes(runner: Runner, settings: Settings) -> int:
    """Return the smaller of budget and card; on a CPU without a budget, the memory that is available now."""
    known = memory_limit_bytes(settings.budget_bytes, runner.environment.total_memory_bytes)
    return available_bytes() if known is None else known


def _nearest(ranking: Ranking, search: LimitSearch, map_axis: Axis, batch_axis: Axis) -> tuple[Nearest, ...]:
    exact = [option for option in ranking.options if option.exact and option.record.outcome is not Outcome.UNSUPPORTED]
    smaller_batch = _largest_of(exact, batch_axis, search) if ranking.workload.batch > 1 else []
    return (*smaller_batch, *fitting_approximations(ranking), *_largest_of(exact, map_axis, search))


def _largest_of(options: Iterable[Option], axis: Axis, search: LimitSearch) -> list[Nearest]:
    """Return the largest size on which any option fits, with the option that needs least memory there."""
    found = [search.find(axis, option.strategy) for option in options]
    fitting = [threshold for threshold in found if threshold.largest_ok]
    best = max(fitting, key=lambda t: (t.largest_ok or 0, -(t.peak_bytes or 0)), default=None)
    if best is None or best.record is None or best.record.measurement.memory is None:
        return []
    given_up = "map" if axis.vary == "hw" else axis.vary
    return [Nearest(given_up, best.record.case, need_bytes(best.record.measurement.memory))]
