"""Measuring a user's whole model, as it is and patched, and searching the largest batch of each that fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from attnprof import limits, pipeline
from attnprof.errors import AttnprofError
from attnprof.limits import PROBE_SHARE, Searching, has_capacity
from attnprof.measure.runner import Runner
from attnprof.model.answer import ModelProfile
from attnprof.plan import AS_IS, Plan
from attnprof.recommend.from_runs import needs_without_end
from attnprof.record import Outcome, Record, RecordFile, Source
from attnprof.request import ModelRequest
from attnprof.thresholds import Axis, Threshold
from attnprof.workload import Workload


class ModelError(AttnprofError):
    """The user's model cannot be run; the message is its own, with the line."""

    exit_code = 1


class Listener(pipeline.Listener, limits.Listener, Protocol):
    """Told what happens, to show it."""


def profile_model(
    request: ModelRequest, plan: Plan, runners: Sequence[Runner], file: RecordFile, listener: Listener
) -> Iterator[ModelProfile]:
    """Yield a profile of each mode on each runner's device, as they come.

    Raises:
        ModelError: the model, as it is, fails for another reason than memory or time.
        AttnprofError: a device is not here, the file is of another or cannot be written.
    """
    yield from pipeline.side_by_side(runners, lambda runner: _on_device(request, plan, runner, file, listener))


def _on_device(
    request: ModelRequest, plan: Plan, runner: Runner, file: RecordFile, listener: Listener
) -> Iterator[ModelProfile]:
    settings = request.settings()
    records: list[Record] = []
    for record in pipeline.run_plan(plan, settings, [runner], file, listener):
        failed = record.outcome in (Outcome.UNSUPPORTED, Outcome.CRASHED)
        if record.case.strategy == AS_IS and failed:
            raise ModelError(record.reason)
        records.append(record)
    for workload in dict.fromkeys(case.workload for case in plan.cases):
        mine = tuple(record for record in pipeline.in_order(records, plan, []) if record.case.workload == workload)
        needs: Mapping[str, int] = {}
        if runner.source is Source.EMULATED:
            [card] = [card for card in request.cards() if str(card) == runner.environment["gpu"]]
            needs = needs_without_end(mine, card, request.runner_of, settings)
        searched, why_not = _largest_batches(request, workload, mine, runner, listener)
        yield ModelProfile(workload, mine, needs, searched, why_not)


def _largest_batches(
    request: ModelRequest, workload: Workload, records: Sequence[Record], runner: Runner, listener: Listener
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
