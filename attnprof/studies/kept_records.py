"""`attnprof records`: the files of records that stand in a folder, and making one of several. Runs nothing."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from attnprof.cases.case import AS_IS
from attnprof.cases.measurement import Outcome
from attnprof.cases.record import Record
from attnprof.cases.record_file import RecordFile, difference_between, is_being_written
from attnprof.cases.record_lines import newest, open_regular, read_lines, read_records
from attnprof.cases.state_folder import state_folder
from attnprof.cases.workload import ModelWorkload
from attnprof.errors import AttnprofError
from attnprof.studies.model import ModelProfile

_DAY_SECONDS = 24 * 3600
_UNSETTLED = (Outcome.CRASHED, Outcome.TIMED_OUT)


@dataclass(frozen=True)
class KeptFile:
    """A file of records in a folder.

    Attributes:
        path: where it is.
        modified: when it was last written, UTC.
        size_bytes: its size.
        records: the newest record of each case and device; none if the file cannot be read.
        problem: why it cannot be read, one line; "" if it can.
        in_use: whether an attnprof writes it at this moment.
    """

    path: Path
    modified: datetime
    size_bytes: int
    records: tuple[Record, ...]
    problem: str
    in_use: bool

    @property
    def outcomes(self) -> dict[Outcome, int]:
        """The number of records of each outcome."""
        counts = Counter(record.outcome for record in self.records)
        return {outcome: counts[outcome] for outcome in Outcome if counts[outcome]}

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices and emulated cards that the records are of."""
        return tuple(dict.fromkeys(record.card or record.environment.device for record in self.records))


@dataclass(frozen=True)
class Merged:
    """The records of several files as one list.

    Attributes:
        records: one for each case and device.
        left_out: a line of text for each line of a file that is not a record.
    """

    records: tuple[Record, ...]
    left_out: tuple[str, ...]


def kept_files(folder: Path) -> list[KeptFile]:
    """Return the files of records (`*.jsonl`) in a folder, the newest first; none if there is no such folder.

    Raises:
        AttnprofError: the folder cannot be read.
    """
    try:
        paths = [entry for entry in folder.iterdir() if entry.suffix == ".jsonl" and entry.is_file()]
        found = [one for path in paths if (one := _kept(path)) is not None]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise AttnprofError(f"records: cannot read {folder}: {error.strerror}; name another folder") from None
    return sorted(found, key=lambda one: (one.modified, one.path.name), reverse=True)


def file_named(text: str) -> Path:
    """Return the path of a file that is named by its path, or by its name in the state folder."""
    path = Path(text)
    return path if path.name != text or path.exists() else _in_state_folder(path)


def removable(files: Iterable[KeptFile], days: float) -> list[KeptFile]:
    """Return the files that are older than so many days, and those without a record; none that is in use or foreign.

    Args:
        files: candidates.
        days: the least age.
    """
    before = time.time() - days * _DAY_SECONDS
    mine = [one for one in files if not one.problem and not one.in_use]
    return [one for one in mine if not one.records or one.modified.timestamp() <= before]


def merge(paths: Sequence[Path]) -> Merged:
    """Return the records of several files, one for each case and device.

    Of two records of a case, one that settled it counts before one that crashed or timed out, then the newer one.
    A line that is not a record is left out.

    Raises:
        AttnprofError: a file cannot be read; or records of one device differ in environment or settings, so that
            they cannot be compared.
    """
    kept: dict[object, Record] = {}
    places: dict[object, tuple[Record, Path]] = {}
    left_out: list[str] = []
    for path in paths:
        for record in _readable_records(path, left_out):
            device = record.card, record.environment.device
            first, where = places.setdefault(device, (record, path))
            difference = difference_between(first, record.environment, record.settings)
            if difference:
                key, one, other = difference
                raise AttnprofError(
                    f"merge: {path} has {key} = {other} for {record.card or record.environment.device}, and {where} "
                    f"has {one}: they cannot be compared; merge them into files of their own"
                )
            if record.key not in kept or _rank(record) >= _rank(kept[record.key]):
                kept[record.key] = record
    return Merged(tuple(kept.values()), tuple(left_out))


def write_merged(merged: Merged, path: Path) -> None:
    """Write merged records to a new file.

    Raises:
        AttnprofError: the file exists or cannot be written.
    """
    with RecordFile(path, resume=False) as file:
        file.append(*merged.records)


def model_profiles(records: Sequence[Record]) -> list[ModelProfile]:
    """Return the profiles that the records of models make: the unmodified model's record first in each.

    Raises:
        AttnprofError: the record of an unmodified model is missing.
    """
    groups: dict[object, list[Record]] = {}
    for record in records:
        groups.setdefault((record.case.workload, record.card, record.environment.device), []).append(record)
    profiles = []
    for mine in groups.values():
        mine.sort(key=lambda record: record.case.strategy != AS_IS)
        if mine[0].case.strategy != AS_IS:
            raise AttnprofError(
                f"records: the record of {mine[0].case.workload} unmodified is missing; measure it again"
            )
        profiles.append(ModelProfile(mine[0].case.workload, tuple(mine), not_searched="not recorded"))
    return profiles


def is_of_models(records: Sequence[Record]) -> bool:
    """Return whether records are of whole models and not of attention blocks.

    Raises:
        AttnprofError: they are of both.
    """
    kinds = {isinstance(record.case.workload, ModelWorkload) for record in records}
    if len(kinds) > 1:
        raise AttnprofError(
            "records: the file has records of whole models and of attention blocks; show one kind alone"
        )
    return kinds == {True}


def _kept(path: Path) -> KeptFile | None:
    """Return a file with its records; None if it has been removed meanwhile."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    try:
        records, problem = tuple(read_records(path, "records")), ""
    except AttnprofError as error:
        records, problem = (), str(error)
    modified = datetime.fromtimestamp(state.st_mtime, timezone.utc)
    return KeptFile(path, modified, state.st_size, records, problem, is_being_written(path))


def _readable_records(path: Path, left_out: list[str]) -> Iterator[Record]:
    with closing(os.fdopen(open_regular(path, os.O_RDONLY, "merge"), "rb")) as stream:
        records = []
        for line in read_lines(stream, path, "merge"):
            if line.problem:
                left_out.append(f"{path}, line {line.number} is left out: {line.problem}")
            records.append(line.record)
    yield from newest(records)


def _rank(record: Record) -> tuple[bool, str]:
    return record.outcome not in _UNSETTLED, record.time


def _in_state_folder(path: Path) -> Path:
    kept = state_folder() / path
    return kept if kept.exists() else path
