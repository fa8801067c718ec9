"""Shell completion of option values. In a list separated by commas, the last entry is completed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attnprof.attention.blocks.catalogue import BLOCKS
from attnprof.attention.strategy import COMPONENTS
from attnprof.cases.cards import catalogue
from attnprof.cases.workload import DTYPES, MODES, OPTIMIZERS

Completer = Callable[[str], list[tuple[str, str]]]


def complete_strategies(incomplete: str) -> list[tuple[str, str]]:
    """Complete `naive,chunked+fp` to `naive,chunked+fp16`: the last part of the last strategy."""
    before, plus, _ = incomplete.rpartition(",")[2].rpartition("+")
    known = [(f"{before}{plus}{component.name}", component.summary) for component in COMPONENTS]
    return _last_entry(incomplete, known)


def complete_cards(incomplete: str) -> list[tuple[str, str]]:
    """Complete `t4,l` to `t4,l4`, with the names of the cards as descriptions."""
    return _last_entry(incomplete, [(card.key, card.name) for card in catalogue()])


def complete_blocks(incomplete: str) -> list[tuple[str, str]]:
    """Complete the names of attention blocks."""
    return _last_entry(incomplete, [(form.name, form.summary) for form in BLOCKS])


def complete_modes(incomplete: str) -> list[tuple[str, str]]:
    """Complete `forward` and `train`."""
    return _last_entry(incomplete, _plain(MODES))


def complete_dtypes(incomplete: str) -> list[tuple[str, str]]:
    """Complete data types."""
    return _last_entry(incomplete, _plain(DTYPES))


def complete_optimizers(incomplete: str) -> list[tuple[str, str]]:
    """Complete optimizers."""
    return _last_entry(incomplete, _plain(OPTIMIZERS))


def completer_of(names: Iterable[str]) -> Completer:
    """Return a function that completes these names."""
    known = _plain(names)
    return lambda incomplete: _last_entry(incomplete, known)


def _plain(names: Iterable[str]) -> list[tuple[str, str]]:
    return [(name, "") for name in names]


def _last_entry(incomplete: str, known: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the whole text with its last entry completed, and a description, for each known name that fits."""
    before, comma, last = incomplete.rpartition(",")
    return [(f"{before}{comma}{name}", summary) for name, summary in known if name.startswith(last)]
