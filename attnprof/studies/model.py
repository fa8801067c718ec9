"""`attnprof model`: measures a user's whole model, unmodified and patched, and searches the largest batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from attnprof.cases.axis import Axis, Threshold
from attnprof.cases.case import AS_IS
from attnprof.cases.measurement import Outcome
from attnprof.cases.record import Record
from attnprof.cases.record_file import RecordFile
from attnprof.cases.workload import Workload
from attnprof.errors import AttnprofError
from attnprof.measure.runner import Runner
from attnprof.studies.devices import RunnerMaker, make_runner
from attnprof.studies.limits import LimitSearch, has_capacity, probe_settings
from attnprof.studies.listener import Listener
from attnprof.studies.study import ModelStudy
from attnprof.studies.study_run import StudyRun
from attnprof.studies.sweep import measure_cases
from attnprof.studies.unbounded import unbounded_needs


@dataclass(frozen=True)
class ModelProfile:
    """A model in one mode on one device.

    Attributes:
        workload: the model, its inputs and the mode.
        records: the unmodified model's first, then one for each strategy.
        needs: for strategies that ran out of memory, the bytes they would need.
        largest_batches: the largest batch that fits, by strategy.
        not_searched: why no batch was searched; "" if it was.
    """

    workload: Workload
    records: tuple[Record, ...]
    needs: Mapping[str, int] = field(default_factory=dict)
    largest_batches: Mapping[str, Threshold] = field(default_factory=dict)
    not_searched: str = ""

    @property
    def as_is(self) -> Record:
        """The record of the unmodified model."""
        return self.records[0]


class ModelError(AttnprofError):
    """The user's model cannot be run; the message is its own, with the line."""

    exit_code = 1


class ModelRun(StudyRun[ModelStudy, ModelProfile]):
    """The profiles of a model: one for each mode on each device."""

    unit = "profiles"

    def __init__(self, study: ModelStudy, make_runner: RunnerMaker = make_runner) -> None:
        super().__init__(study, make_runner)
        self._complete: list[ModelProfile] = []
        self._model_failed = False
        self._workloads = tuple(dict.fromkeys(case.workload for case in study.plan.cases))

    @property
    def total_count(self) -> int:
        """The number of profiles, on all devices."""
        return len(self._workloads) * self.study.device_count

    @property
    def step_count(self) -> int:
        """The number of cases; the searches of the largest batches come on top."""
        return len(self.study.plan.cases) * self.study.device_count

    @property
    def done_count(self) -> int:
        """The number of profiles that are complete."""
        return len(self._complete)

    def results(self) -> list[ModelProfile]:
        """Return the profiles: complete ones, and what an interrupted command measured of the others."""
        found = [*self._complete, *self._incomplete()]
        return sorted(found, key=lambda profile: self.study.card_rank(profile.as_is.card))

    def _serve(self, runner: Runner, file: RecordFile, listener: Listener) -> None:
        records: list[Record] = []
        study = self.study
        for record in measure_cases(study.plan, study.settings, runner, file, listener, study.retry):
            if record.case.strategy == AS_IS and record.outcome in (Outcome.UNSUPPORTED, Outcome.CRASHED):
                self._model_failed = True
                raise ModelError(record.reason)
            records.append(record)
        for workload in self._workloads:
            mine = self._in_order(records, workload)
            needs = unbounded_needs(mine, runner.card, study.settings, self._make_runner)
            largest, why_not = self._largest_batches(mine, runner, listener)
            self._complete.append(ModelProfile(workload, mine, needs, largest, why_not))

    def _largest_batches(
        self, records: Sequence[Record], runner: Runner, listener: Listener
    ) -> tuple[dict[str, Threshold], str]:
        """Search the largest batch of each strategy that ran; return them, or why there are none."""
        if not self.study.largest_batch:
            return {}, "not asked for"
        settings = probe_settings(runner, self.study.settings)
        if not has_capacity(runner, settings):
            return {}, "this device has no fixed memory size; pass --budget 8GB, or --gpu to emulate a card"
        search = LimitSearch(runner, settings, listener)
        return {
            record.case.strategy: search.find(
                Axis("batch", record.case.workload), record.case.strategy, start=record.case.workload.batch
            )
            for record in records
            if record.outcome in (Outcome.COMPLETED, Outcome.OUT_OF_MEMORY)
        }, ""

    def _incomplete(self) -> list[ModelProfile]:
        """Return what an interrupted command knows beyond the complete profiles: records, and no batch searched."""
        if self._model_failed:
            return []
        complete = {(profile.workload, profile.as_is.card) for profile in self._complete}
        found = []
        for card in dict.fromkeys(record.card for record in self.records):
            mine = [record for record in self.records if record.card == card]
            for workload in self._workloads:
                records = self._in_order(mine, workload)
                if (workload, card) not in complete and records and records[0].case.strategy == AS_IS:
                    found.append(ModelProfile(workload, records, not_searched="interrupted before"))
        return found

    def _in_order(self, records: Sequence[Record], workload: Workload) -> tuple[Record, ...]:
        """Return one device's records of a workload in the order of the plan."""
        by_case = {record.case: record for record in records}
        cases = (case for case in self.study.plan.cases if case.workload == workload)
        return tuple(by_case[case] for case in cases if case in by_case)
