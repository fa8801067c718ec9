"""The GPUs that can be emulated, from `data/gpus.csv` and `data/capabilities.csv`. Needs no torch."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from attnprof.errors import AttnprofError
from attnprof.text import harmless, shortened, shown
from attnprof.units import format_bytes, parse_bytes

_DATA = Path(__file__).with_name("data")
_OPTIONS = ("memory", "context")
_LONGEST_NAME = 60


@dataclass(frozen=True)
class Card:
    """A GPU as its driver describes it to PyTorch.

    Attributes:
        key: its name in `--gpu`.
        name: its name in `torch.cuda.get_device_name`.
        where: where people meet this card (Colab, AWS g4dn and so on).
        compute_capability: as `7.5`.
        multiprocessors, l2_cache_kib, clock_mhz, memory_clock_mhz, memory_bus_bits: of the card.
        threads_per_multiprocessor, blocks_per_multiprocessor: of its compute capability.
        registers_per_multiprocessor, shared_kib_per_multiprocessor, shared_kib_per_block: of its compute capability.
        total_bytes: `get_device_properties().total_memory`, the lowest over drivers.
        total_max_bytes: the same, the highest over drivers.
        context_bytes: allowance for what the CUDA context, loaded code and library handles take outside
            PyTorch's caching allocator. It differs by driver, torch and what has run: not exact.
        context_source: the source of the allowance.
        bandwidth_gb_s, fp32_tflops, fp16_tensor_tflops: the vendor's peaks; None if the card has no such unit.
        options: changes to the catalogue's entry, as `memory=8GB`.
    """

    key: str
    name: str
    where: str
    compute_capability: str
    multiprocessors: int
    l2_cache_kib: int
    clock_mhz: int
    memory_clock_mhz: int
    memory_bus_bits: int
    threads_per_multiprocessor: int
    blocks_per_multiprocessor: int
    registers_per_multiprocessor: int
    shared_kib_per_multiprocessor: int
    shared_kib_per_block: int
    total_bytes: int
    total_max_bytes: int
    context_bytes: int
    context_source: str
    bandwidth_gb_s: float
    fp32_tflops: float
    fp16_tensor_tflops: float | None
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the card as `--gpu` spells it."""
        return ",".join([self.key, *self.options])

    def with_option(self, option: str) -> Card:
        """Return the card with one property changed: `memory=8GB` or `context=300MiB`.

        Raises:
            AttnprofError: there is no such property, or the value is not a memory size that it can have.
        """
        name, _, value = (part.strip() for part in option.partition("="))
        if name not in _OPTIONS:
            raise AttnprofError(f"gpu: {shown(name)} is not a property that can be set: use {' or '.join(_OPTIONS)}")
        try:
            count = 0 if name == "context" and value == "0" else parse_bytes(value)
        except AttnprofError as error:
            raise AttnprofError(f"gpu: {name}: {error}") from None
        kept = tuple(other for other in self.options if not other.startswith(f"{name}="))
        changes = {"context_bytes": count} if name == "context" else {"total_bytes": count, "total_max_bytes": count}
        changed = dataclasses.replace(self, options=(*kept, f"{name}={value}"), **changes)  # type: ignore[arg-type]
        if changed.context_bytes >= changed.total_bytes:
            raise AttnprofError(
                f"gpu: on {shown(str(changed))} the CUDA context ({format_bytes(changed.context_bytes)}) would take "
                f"all of the memory ({format_bytes(changed.total_bytes)}): give it more memory or a smaller context"
            )
        return changed

    def flops_per_second(self, dtype: str) -> float:
        """Return the vendor's peak rate of a matrix product; float32 without TF32, which is PyTorch's default."""
        fp32 = self.fp32_tflops * 1e12
        if dtype == "float64":
            return fp32 / 2 if self.compute_capability in ("6.0", "7.0", "8.0", "9.0") else fp32 / 32
        # Pascal's tensor-less half precision is twice as fast; bfloat16 is computed in float32 before Ampere.
        halved = self.fp16_tensor_tflops * 1e12 if self.fp16_tensor_tflops else 2 * fp32
        native = dtype == "float16" or (dtype == "bfloat16" and float(self.compute_capability) >= 8)
        return halved if native else fp32

    def description(self) -> str:
        """Return every field of `Card` in emulation/native/emulator.h, for the emulated device."""
        fields = (
            "name",
            "compute_capability",
            "multiprocessors",
            "threads_per_multiprocessor",
            "blocks_per_multiprocessor",
            "registers_per_multiprocessor",
            "shared_kib_per_multiprocessor",
            "shared_kib_per_block",
            "l2_cache_kib",
            "clock_mhz",
            "memory_clock_mhz",
            "memory_bus_bits",
            "total_bytes",
            "context_bytes",
        )
        return ";".join(f"{field}={getattr(self, field)}" for field in fields)


@lru_cache(maxsize=1)
def catalogue() -> tuple[Card, ...]:
    """Return every card, in the order of the catalogue."""
    limits = {row["compute_capability"]: row for row in _rows("capabilities.csv")}
    return tuple(_card(row, limits[row["compute_capability"]]) for row in _rows("gpus.csv"))


def parse_cards(text: str, context: str | None = None) -> list[Card]:
    """Return the cards of `"t4,l4"` or `"t4,memory=8GB,l4"`; a property changes the card before it.

    Args:
        text: names of cards, and properties, separated by commas.
        context: an allowance for the CUDA context of every card that names none itself.

    Raises:
        AttnprofError: a card (the message contains near matches) or a property is unknown.
    """
    cards: list[Card] = []
    for entry in (part.strip() for part in text.split(",")):
        if "=" not in entry:
            cards.append(_find(entry))
        elif cards:
            cards[-1] = cards[-1].with_option(entry)
        else:
            example = shortened(f"t4,{harmless(entry)}", _LONGEST_NAME)
            raise AttnprofError(f"gpu: {shown(entry)} comes before any card: write a card first, as in {example}")
    if context is not None:
        cards = [
            card
            if any(option.startswith("context=") for option in card.options)
            else card.with_option(f"context={context}")
            for card in cards
        ]
    return list(dict.fromkeys(cards))


def _find(spelling: str) -> Card:
    names = {_plain(name): card for card in reversed(catalogue()) for name in (card.name, card.key)}
    card = names.get(_plain(spelling))
    if card is None:
        # Nothing is like a very long name, and the search would take long.
        alike = difflib.get_close_matches(_plain(spelling)[:_LONGEST_NAME], names, 3, 0.5)
        near = dict.fromkeys(names[match].key for match in alike)
        advice = f"did you mean {' or '.join(near)}? " if near else ""
        raise AttnprofError(
            f"gpu: {shown(spelling)} is not in the catalogue: {advice}attnprof gpus lists it; give any other card as a "
            f"similar one with its memory, as t4,memory=8GB"
        )
    return card


def _plain(name: str) -> str:
    """Return `rtx3090` for `NVIDIA GeForce RTX 3090`."""
    return re.sub(r"nvidia|geforce|tesla|[^a-z0-9]", "", name.lower())


def _rows(file: str) -> list[dict[str, str]]:
    with (_DATA / file).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _card(row: dict[str, str], limits: dict[str, str]) -> Card:
    texts = ("key", "name", "where", "compute_capability", "context_source")
    numbers = (
        "multiprocessors",
        "l2_cache_kib",
        "clock_mhz",
        "memory_clock_mhz",
        "memory_bus_bits",
        "total_bytes",
        "total_max_bytes",
        "context_bytes",
    )
    rates = ("bandwidth_gb_s", "fp32_tflops", "fp16_tensor_tflops")
    fields: dict[str, Any] = {
        **{name: row[name] for name in texts},
        **{name: int(row[name]) for name in numbers},
        **{name: int(value) for name, value in limits.items() if name != "compute_capability"},
        **{name: float(row[name]) if row[name] else None for name in rates},
    }
    return Card(**fields)
