"""Measuring a user's whole model, as it is and patched, and searching the largest batch of each that fits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from attnprof.cases.axis import Axis, Threshold
from attnprof.cases.case import AS_IS
from attnprof.cases.measurement import Outcome, Source
from attnprof.cases.plan import Plan
from attnprof.cases.record import Record
from attnprof.cases.record_file import RecordFile
from attnprof.cases.workload import Workload
from attnprof.errors import AttnprofError
from attnprof.measure.runner import Runner
from attnprof.studies.limits import PROBE_SHARE, Searching, has_capacity
from attnprof.studies.listener import StudyListener
from attnprof.studies.requests import ModelRequest
from attnprof.studies.side_by_side import side_by_side
from attnprof.studies.sweep import in_order, run_plan
from attnprof.studies.unbounded import needs_without_end


@dataclass(frozen=True)
class ModelProfile:
    """A model in one mode on one device.

    Attributes:
        records: as it is first, then patched with each strategy.
        needs: bytes that a strategy would take that is out of memory, on a card without an end.
        largest_batches: by strategy, where they were looked for.
        not_searched: why they were not.
    """

    workload: Workload
    records: tuple[Record, ...]
    needs: Mapping[str, int] = field(default_factory=dict)
    largest_batches: Mapping[str, Threshold] = field(default_factory=dict)
    not_searched: str = ""

    @property
    def as_is(self) -> Record:
        return self.records[0]


def unfinished(plan: Plan, records: Iterable[Record], finished: Sequence[ModelProfile]) -> list[ModelProfile]:
    """What an interrupted command knows of the rest: profiles of what was measured, no batch searched."""
    done = {(profile.workload, profile.as_is.card) for profile in finished}
    places = {case: place for place, case in enumerate(plan.cases)}
    known: dict[tuple[Workload, str | None], list[Record]] = {}
    for record in sorted((r for r in records if r.case in places), key=lambda r: places[r.case]):
        known.setdefault((record.case.workload, record.card), []).append(record)
    return [
        ModelProfile(key[0], tuple(mine), not_searched="interrupted before")
        for key, mine in known.items()
        if key not in done and mine[0].case.strategy == AS_IS
    ]


class ModelError(AttnprofError):
    """The user's model cannot be run; the message is its own, with the line."""

    exit_code = 1


def profile_model(
    request: ModelRequest, plan: Plan, runners: Sequence[Runner], file: RecordFile, listener: StudyListener
) -> Iterator[ModelProfile]:
    """Yield a profile of each mode on each runner's device, as they come.

    Raises:
        ModelError: the model, as it is, fails for another reason than memory or time.
        AttnprofError: a device is not here, the file is of another or cannot be written.
    """
    yield from side_by_side(runners, lambda runner: _on_device(request, plan, runner, file, listener))


def _on_device(
    request: ModelRequest, plan: Plan, runner: Runner, file: RecordFile, listener: StudyListener
) -> Iterator[ModelProfile]:
    settings = request.settings()
    records: list[Record] = []
    for record in run_plan(plan, settings, [runner], file, listener):
        failed = record.outcome in (Outcome.UNSUPPORTED, Outcome.CRASHED)
        if record.case.strategy == AS_IS and failed:
            raise ModelError(record.reason)
        records.append(record)
    for workload in dict.fromkeys(case.workload for case in plan.cases):
        mine = tuple(record for record in in_order(records, plan, []) if record.case.workload == workload)
        needs: Mapping[str, int] = {}
        if runner.source is Source.EMULATED:
            [card] = [card for card in request.cards() if str(card) == runner.environment.gpu]
            needs = needs_without_end(mine, card, request.runner_of, settings)
        searched, why_not = _largest_batches(request, workload, mine, runner, listener)
        yield ModelProfile(workload, mine, needs, searched, why_not)


def _largest_batches(
    request: ModelRequest, workload: Workload, records: Sequence[Record], runner: Runner, listener: StudyListener
) -> tuple[dict[str, Threshold], str]:
    if not request.largest_batch:
        return {}, "not asked for"
    settings = request.settings()
    share = 1 if runner.source is Source.EMULATED else PROBE_SHARE
    within = replace(settings, memory_only=True, timeout_seconds=share * settings.timeout_seconds)
    if not has_capacity(runner, within):
        return {}, "this device has no end of its own: say up to where with --budget 8GB, or emulate a card with --gpu"
    search, axis = Searching(runner, within, listener), Axis("batch", workload)
    runs = [r for r in records if r.outcome in (Outcome.COMPLETED, Outcome.OUT_OF_MEMORY)]
    return {r.case.strategy: search.find(axis, r.case.strategy, start=workload.batch) for r in runs}, ""
