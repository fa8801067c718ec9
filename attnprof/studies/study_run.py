"""Carries a study out: opens its runners and its file, serves each device, and keeps the results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from attnprof.cases.case import Case
from attnprof.cases.measurement import Result
from attnprof.cases.record import Record
from attnprof.cases.record_file import RecordFile
from attnprof.cases.settings import Settings
from attnprof.measure.runner import Runner
from attnprof.studies.devices import RunnerMaker, make_runner
from attnprof.studies.listener import Listener
from attnprof.studies.side_by_side import side_by_side
from attnprof.studies.study import Study

S = TypeVar("S", bound=Study)
T = TypeVar("T")


class StudyRun(ABC, Generic[S, T]):
    """A study that is carried out once, and its results so far.

    Whatever ends `carry_out` early, Ctrl-C included, `results` returns what is known by then. Records are the truth
    for it: each is in the study's file before the next case of its device begins.

    Args:
        study: what is to be found out.
        make_runner: makes the runner of each device.

    Attributes:
        study: what is to be found out.
        unit: what `total_count` counts, for messages.
    """

    unit: ClassVar[str] = "cases"

    def __init__(self, study: S, make_runner: RunnerMaker = make_runner) -> None:
        self.study = study
        self._make_runner = make_runner
        self._file: RecordFile | None = None
        self._opened: set[str | None] = set()

    def carry_out(self, listener: Listener) -> None:
        """Measure everything that the file does not have yet.

        Raises:
            AttnprofError: a device is not here, the file comes from another environment or other settings, or it
                cannot be written.
        """
        study = self.study
        with ExitStack() as stack:
            runners = [
                stack.enter_context(self._make_runner(study.settings, card, listener.tell))
                for card in study.cards or (None,)
            ]
            file = self._file = stack.enter_context(RecordFile(study.path, resume=study.resume, tell=listener.tell))

            def serve(runner: Runner) -> None:
                runner.open()
                file.require_same(runner.environment, study.settings.to_json(), card=runner.card_name)
                self._opened.add(runner.card_name)
                if study.settings.device == "auto" and not study.cards and runner.environment.device == "cpu":
                    listener.tell("no CUDA device: measuring on this CPU; --gpu t4 answers for a GPU that is not here")
                self._serve(runner, file, listener)

            side_by_side(runners, serve)

    @property
    def records(self) -> list[Record]:
        """The file's records of the devices that were opened, in the order in which they were written."""
        kept = self._file.records if self._file is not None else ()
        return [record for record in kept if record.card in self._opened]

    @property
    def path(self) -> Path:
        """The file that has the records; another than the study's if that was taken away while it was written."""
        return self.study.path if self._file is None else self._file.path

    @property
    @abstractmethod
    def total_count(self) -> int:
        """The number of units when the study is complete."""

    @property
    def step_count(self) -> int:
        """The number of cases or searches that a listener learns the end of, on all devices."""
        return self.total_count

    @property
    @abstractmethod
    def done_count(self) -> int:
        """The number of units that are complete."""

    @abstractmethod
    def results(self) -> Sequence[T]:
        """Return the results so far, those of the first card first."""

    def records_so_far(self) -> Sequence[Record]:
        """Return the records to show if the study ends early; none if its results show more."""
        return ()

    @abstractmethod
    def _serve(self, runner: Runner, file: RecordFile, listener: Listener) -> None:
        """Carry out the study on one device, which is open."""


def recorded(case: Case, result: Result, runner: Runner, settings: Settings, *, implied_by: str = "") -> Record:
    """Return the record of a result: with where and how it was found, and the time now."""
    return Record(
        case=case,
        outcome=result.outcome,
        reason=result.reason,
        implied_by=implied_by,
        measurement=result.measurement,
        environment=runner.environment,
        settings=settings.to_json(),
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        source=runner.source,
    )
