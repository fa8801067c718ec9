"""What a set of records says: groups by workload, the best of each, and what to pick."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from attnprof.cases.measurement import Outcome, Source
from attnprof.cases.record import Record
from attnprof.report.groups import Group, has_latency, median_seconds
from attnprof.units import format_bytes

OUTCOME_WORDS = {
    Outcome.OUT_OF_MEMORY: "OOM",
    Outcome.UNSUPPORTED: "unsupported",
    Outcome.TIMED_OUT: "timed out",
    Outcome.CRASHED: "crashed",
}


def outcome_text(record: Record) -> str:
    """In at most 12 characters, unless implied."""
    return OUTCOME_WORDS[record.outcome] + (", implied" if record.implied_by else "")


def strategy_text(record: Record) -> str:
    """Its spelling, marked where it is approximate."""
    return record.case.strategy if record.case.parsed.exact else f"~{record.case.strategy}"


def pick_remarks(groups: Sequence[Group]) -> list[str]:
    """For each device and block a sentence on what to use, from the largest workload where an exact strategy ran.

    Cards of which the same is to be said share a line.
    """
    told: dict[str, list[str]] = {}
    for device, source, block in dict.fromkeys((one.device, one.source, one.workload.block) for one in groups):
        mine = [one for one in groups if (one.device, one.source, one.workload.block) == (device, source, block)]
        best = next((one for one in sorted(mine, key=lambda g: g.workload.flops, reverse=True) if one.pick), None)
        told.setdefault(_pick(best) if best else _NOTHING_RAN, []).extend([device] if source is Source.EMULATED else [])
    return [f"{', '.join(cards)}: {line}" if cards else line for line, cards in told.items()] or [_NOTHING_RAN]


def kernel_remarks(records: Iterable[Record]) -> list[str]:
    """Which SDPA kernel each strategy got and why not a better one, each different answer once."""
    answers: dict[tuple[str, str], dict[str | None, None]] = {}
    for record in records:
        kernel = record.measurement.kernel
        if kernel and kernel.refused:
            reasons = "; ".join(f"no {name}: {why}" for name, why in kernel.refused.items())
            key = (record.case.strategy, f"{kernel.name} ({reasons})")
            answers.setdefault(key, {})[record.card] = None
    return [
        f"{strategy}{_on([card for card in cards if card])}: {answer}" for (strategy, answer), cards in answers.items()
    ]


def failure_remarks(records: Iterable[Record]) -> list[str]:
    """Why cases have no numbers, where that is not for want of memory; each reason once."""
    strategies: dict[tuple[str, str | None], dict[str, None]] = {}
    for record in records:
        if record.outcome not in (Outcome.COMPLETED, Outcome.OUT_OF_MEMORY):
            why = f"{record.outcome.value.replace('_', ' ')} ({record.reason})"
            strategies.setdefault((why, record.card), {})[record.case.strategy] = None
    cards: dict[tuple[str, str], list[str]] = {}
    for (why, card), names in strategies.items():
        cards.setdefault((", ".join(names), why), []).extend([card] if card else [])
    return [f"{names}{_on(where)}: {why}" for (names, why), where in cards.items()]


def note_remarks(records: Iterable[Record]) -> list[str]:
    """Each note once, without the figures that differ from case to case, and how often it stands."""
    counts = Counter(re.sub(r"\d+%", "much", note) for record in records for note in record.measurement.notes)
    return [f"? {note} ({count} {'case' if count == 1 else 'cases'})" for note, count in counts.items()]


def another_attention_remarks(records: Iterable[Record]) -> list[str]:
    """Which strategies compute something else than the plain block; at most one line."""
    names = dict.fromkeys(r.case.strategy for r in records if r.case.parsed.another_attention)
    return [f"another attention than naive's: {', '.join(names)}"] if names else []


_NOTHING_RAN = "No exact strategy ran: try smaller maps (--hw) or a smaller batch (--batch)."


def _pick(one: Group) -> str:
    pick = one.pick
    assert pick is not None
    verdict = "Pick" if has_latency(pick) else "Smallest exact is"
    return f"{verdict} {pick.case.strategy}: {_against_naive(pick, one.naive)} at {one.workload}."


def _on(cards: Sequence[str]) -> str:
    return f" on {', '.join(cards)}" if cards else ""


def _against_naive(pick: Record, naive: Record | None) -> str:
    memory = pick.measurement.memory
    assert memory is not None
    peak = f"peak {format_bytes(memory.peak_allocated_bytes)}"
    if naive is None or naive is pick:
        return peak
    if naive.outcome is not Outcome.COMPLETED or naive.measurement.memory is None:
        return f"{peak} where naive is {naive.outcome.value.replace('_', ' ')}"
    smaller = naive.measurement.memory.step_bytes / max(1, memory.step_bytes)
    size = f"{smaller:.1f}x less" if smaller >= 1 else f"{1 / smaller:.1f}x more"
    if not (has_latency(naive) and has_latency(pick)):
        return f"{peak}, {size} step memory than naive"
    faster = median_seconds(naive) / median_seconds(pick)
    speed = f"{faster:.1f}x faster" if faster >= 1 else f"{1 / faster:.1f}x slower"
    return f"{speed} than naive, {size} step memory"
