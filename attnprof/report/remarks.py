"""Sentences under a table: why cases failed, which kernels ran, and what to pick."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from attnprof.cases.measurement import Outcome, Source
from attnprof.cases.record import Record
from attnprof.report.groups import Group
from attnprof.studies.recommend.ranking import Option, option_of
from attnprof.units import format_bytes

_SHORT_OUTCOMES = {Outcome.OUT_OF_MEMORY: "OOM"}
_VERBS = {
    Outcome.COMPLETED: "ran",
    Outcome.OUT_OF_MEMORY: "runs out of memory",
    Outcome.UNSUPPORTED: "is unsupported",
    Outcome.TIMED_OUT: "timed out",
    Outcome.CRASHED: "crashed",
}
_NOTHING_RAN = "No exact strategy ran: try smaller maps (--hw) or a smaller batch (--batch)."


def outcome_text(outcome: Outcome) -> str:
    """Return the outcome in at most 12 characters, for a cell."""
    return _SHORT_OUTCOMES.get(outcome, outcome.words)


def case_outcome_text(record: Record) -> str:
    """Return the outcome of a record's case, and whether it was inferred from a smaller case."""
    return outcome_text(record.outcome) + (", implied" if record.implied_by else "")


def strategy_text(record: Record) -> str:
    """Return the strategy's spelling, after `~` if it is approximate."""
    return record.case.strategy if record.case.parsed.exact else f"~{record.case.strategy}"


def pick_remarks(groups: Sequence[Group]) -> list[str]:
    """Return, for each device and block, which strategy to use at the largest workload where an exact one ran.

    Cards with the same answer share a line.
    """
    answers: dict[str, list[str]] = {}
    for device, source, block in dict.fromkeys((one.device, one.source, one.workload.block) for one in groups):
        mine = [one for one in groups if (one.device, one.source, one.workload.block) == (device, source, block)]
        best = next((one for one in sorted(mine, key=lambda g: g.workload.flops, reverse=True) if one.pick), None)
        cards = [device] if source is Source.EMULATED else []
        answers.setdefault(_pick_remark(best) if best else _NOTHING_RAN, []).extend(cards)
    return [f"{', '.join(cards)}: {line}" if cards else line for line, cards in answers.items()] or [_NOTHING_RAN]


def against_naive(pick: Option, naive: Option) -> str:
    """Compare the pick with the plain form, which is another option: `11.5x less memory than naive, 3.8x faster`."""
    if naive.record.outcome is not Outcome.COMPLETED or naive.need_bytes is None or pick.need_bytes is None:
        needs = f": it needs {format_bytes(naive.need_bytes)}" if naive.need_bytes else ""
        return f"naive {_VERBS[naive.record.outcome]}{needs}"
    memory = f"{_times(naive.need_bytes / max(1, pick.need_bytes), 'less', 'more')} memory than naive"
    if naive.time is None or pick.time is None:
        return memory
    estimated = "" if pick.time.measured and naive.time.measured else " (estimated)"
    return f"{memory}, {_times(naive.time.seconds / pick.time.seconds, 'faster', 'slower')}{estimated}"


def kernel_remarks(records: Iterable[Record]) -> list[str]:
    """Return which SDPA kernel each strategy ran and why not a better one, each different answer once."""
    answers: dict[tuple[str, str], dict[str | None, None]] = {}
    for record in records:
        kernel = record.measurement.kernel
        if kernel and kernel.refused:
            reasons = "; ".join(f"no {name}: {why}" for name, why in kernel.refused.items())
            key = (record.case.strategy, f"the {kernel.name} kernel runs ({reasons})")
            answers.setdefault(key, {})[record.card] = None
    return [
        f"{strategy}{_on([card for card in cards if card])}: {answer}" for (strategy, answer), cards in answers.items()
    ]


def failure_remarks(records: Iterable[Record]) -> list[str]:
    """Return why cases have no numbers, except for want of memory; each reason once."""
    strategies: dict[tuple[str, str | None], dict[str, None]] = {}
    for record in records:
        if record.outcome not in (Outcome.COMPLETED, Outcome.OUT_OF_MEMORY):
            why = f"{record.outcome.words} ({record.reason})"
            strategies.setdefault((why, record.card), {})[record.case.strategy] = None
    cards: dict[tuple[str, str], list[str]] = {}
    for (why, card), names in strategies.items():
        cards.setdefault((", ".join(names), why), []).extend([card] if card else [])
    return [f"{names}{_on(where)}: {why}" for (names, why), where in cards.items()]


def note_remarks(records: Iterable[Record]) -> list[str]:
    """Return each note once, without the percentage that differs from case to case, and how many cases have it."""
    counts = Counter(re.sub(r" by \d+%", "", note) for record in records for note in record.measurement.notes)
    return [f"{count} {'case' if count == 1 else 'cases'}: {note}" for note, count in counts.items()]


def another_attention_remarks(records: Iterable[Record]) -> list[str]:
    """Return which strategies compute another function than the plain block, in at most one line."""
    names = dict.fromkeys(r.case.strategy for r in records if r.case.parsed.another_attention)
    return [f"Another attention than naive's (weights need training again): {', '.join(names)}"] if names else []


def _pick_remark(one: Group) -> str:
    assert one.pick is not None
    pick, naive = option_of(one.pick), one.naive
    needs = f"it needs {format_bytes(pick.need_bytes)}"
    if pick.time is None:
        needs = f"it needs the least memory of the exact strategies, {format_bytes(pick.need_bytes)}"
    against = "" if naive is None or naive is one.pick else f"; {against_naive(pick, option_of(naive))}"
    return f"Pick {pick.strategy} for {one.workload}: {needs}{against}."


def _times(ratio: float, more: str, less: str) -> str:
    """Return `3.8x` and a word for it, with a ratio of at least 1."""
    return f"{ratio:.1f}x {more}" if ratio >= 1 else f"{1 / ratio:.1f}x {less}"


def _on(cards: Sequence[str]) -> str:
    return f" on {', '.join(cards)}" if cards else ""
