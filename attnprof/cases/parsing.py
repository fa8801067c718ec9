"""Reads option values: text from the command line (`64,64x96`) and plain Python values (`[64, (64, 96)]`) alike.

Every function takes the name of its option, so that its error can begin with it. Numbers of NumPy, tuples and paths
are as good as text. Nothing below the requests reads an option's text again.
"""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias

from attnprof.cases.cards import Card, parse_cards
from attnprof.errors import AttnprofError
from attnprof.units import parse_bytes

Names: TypeAlias = str | Iterable[str]
Numbers: TypeAlias = str | SupportsIndex | Iterable[str | SupportsIndex]
Sizes: TypeAlias = str | SupportsIndex | Iterable[str | SupportsIndex | tuple[SupportsIndex, SupportsIndex]]
Cards: TypeAlias = str | Card | Iterable[str | Card]
Bytes: TypeAlias = str | SupportsIndex
Location: TypeAlias = str | os.PathLike[str]

_MOST_DIGITS = 18  # of a whole number that a signed 64-bit integer holds


@dataclass(frozen=True)
class Margin:
    """Memory that is to stay free: a share of the whole, or a fixed size.

    Attributes:
        share: between 0 and 1; 0 if the margin is a size.
        size_bytes: 0 if the margin is a share.
        text: the margin as the user wrote it.
    """

    share: float
    size_bytes: int
    text: str

    def of(self, total_bytes: int) -> int:
        """Return the margin of a memory of `total_bytes`, in bytes."""
        return self.size_bytes + round(self.share * total_bytes)


def parse_sizes(value: Sizes, name: str = "hw") -> list[tuple[int, int]]:
    """Read sizes of feature maps: `"64,64x96"` or `[64, (64, 96)]` becomes `[(64, 64), (64, 96)]`.

    Raises:
        AttnprofError: an entry is neither H nor HxW.
    """
    return [_size(entry, name) for entry in _entries(value, name)]


def parse_numbers(value: Numbers, name: str) -> list[int]:
    """Read positive whole numbers: `"1,4"`, `[1, 4]` or `1`.

    Raises:
        AttnprofError: an entry is not a positive whole number.
    """
    return [_positive(entry, name) for entry in _entries(value, name)]


def parse_number(value: str | SupportsIndex, name: str) -> int:
    """Read one positive whole number.

    Raises:
        AttnprofError: it is not one.
    """
    return _positive(value, name)


def parse_names(value: Names, name: str) -> list[str]:
    """Read names: `"a,b"` or `["a", "b"]` becomes `["a", "b"]`.

    Raises:
        AttnprofError: an entry is empty or not text.
    """
    entries = _entries(value, name)
    for entry in entries:
        if not isinstance(entry, str):
            raise AttnprofError(f"{name}: {entry!r} is not text; write names separated by commas, or a list of them")
    return entries


def parse_choice(value: str, name: str, known: Collection[str]) -> str:
    """Read one of the known names.

    Raises:
        AttnprofError: it is none of them; the message lists them.
    """
    require_known(name, [value], known)
    return value


def require_known(name: str, values: Iterable[object], known: Collection[str]) -> None:
    """Check that every value is known.

    Raises:
        AttnprofError: one is not; the message lists the known ones.
    """
    for value in values:
        if value not in known:
            raise AttnprofError(f"{name}: {value!r} is not one of {', '.join(known)}")


def parse_cards_option(value: Cards, context: Bytes | None) -> tuple[Card, ...]:
    """Read the cards to emulate: `"t4,l4"`, `["t4,memory=8GB", "l4"]`, or cards of the catalogue.

    Args:
        value: the cards.
        context: an allowance for the CUDA context of every card that names none itself.

    Raises:
        AttnprofError: an unknown card (the message has near matches) or property.
    """
    entries = [value] if isinstance(value, str | Card) else _listed(value, "gpu")
    for entry in entries:
        if not isinstance(entry, str | Card):
            raise AttnprofError(f"gpu: {entry!r} is not a card; write a name such as t4, or see attnprof gpus")
    if not entries:
        raise AttnprofError("gpu: no card is named; write a name such as t4, or see attnprof gpus")
    return tuple(parse_cards(",".join(map(str, entries)), None if context is None else _bytes_text(context)))


def parse_one_card(value: str | Card, context: Bytes | None = None) -> Card:
    """Read one card.

    Raises:
        AttnprofError: an unknown card or property, or several cards.
    """
    cards = parse_cards_option(value, context)
    if len(cards) > 1:
        raise AttnprofError(f"gpu: name one card; {', '.join(map(str, cards))} are {len(cards)}")
    return cards[0]


def parse_memory(value: Bytes, name: str) -> int:
    """Read a memory size: `"12GB"`, `"800MiB"` or a number of bytes.

    Raises:
        AttnprofError: it is no positive size.
    """
    try:
        return parse_bytes(_bytes_text(value))
    except AttnprofError as error:
        raise AttnprofError(f"{name}: {error}") from None


def parse_margin(value: Bytes) -> Margin:
    """Read what is to stay free: `"10%"`, `"1GiB"`, or a number of bytes.

    Raises:
        AttnprofError: it is neither below 100% nor a memory size.
    """
    text = _bytes_text(value).strip()
    percent = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*%", text)
    if percent and float(percent[1]) < 100:
        return Margin(float(percent[1]) / 100, 0, text)
    if percent or not text[:1].isdigit():
        raise AttnprofError(f"margin: {text!r} is neither below 100% nor a memory size; write 10% or 1GiB")
    return Margin(0.0, 0 if text == "0" else parse_memory(text, "margin"), text)


def parse_seconds(value: str | SupportsFloat, name: str) -> float:
    """Read a positive, finite number of seconds.

    Raises:
        AttnprofError: it is not one.
    """
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not (seconds > 0 and math.isfinite(seconds)):
        shown = f"{value:g}" if isinstance(value, float) else repr(value)
        raise AttnprofError(f"{name}: {shown} is not a positive number of seconds")
    return seconds


def parse_seed(value: str | SupportsIndex) -> int:
    """Read a random seed, as `torch.manual_seed` takes it.

    Raises:
        AttnprofError: it is not a whole number of at most 64 bits.
    """
    seed = _index(value)
    if seed is None or not -(2**63) <= seed < 2**64:
        raise AttnprofError(f"seed: {value!r} is not a whole number of 64 bits")
    return seed


def parse_device(value: object) -> str:
    """Read a device: `auto`, `cpu`, `cuda`, `cuda:1`, or a `torch.device`.

    Raises:
        AttnprofError: it is neither text nor a `torch.device`.
    """
    if isinstance(value, str) or type(value).__module__ == "torch":
        return str(value)
    raise AttnprofError(f"device: {value!r} is not a device; write auto, cpu, cuda or cuda:1")


def parse_path(value: Location, name: str) -> Path:
    """Read a path, from text or any path object.

    Raises:
        AttnprofError: it is not a path, or empty.
    """
    if not isinstance(value, str | os.PathLike) or not os.fspath(value) or "\0" in str(value):
        raise AttnprofError(f"{name}: {value!r} is not a path to a file")
    return Path(value)


def parse_inputs(values: str | Iterable[Any]) -> tuple[int, str]:
    """Read the shapes of a model's inputs.

    `["8,4,64,64", "8:long"]`, or `[(8, 4, 64, 64), "8:long"]`, becomes `(8, "4x64x64+:long")`: the batch, and the
    rest as `ModelWorkload.inputs` spells it.

    Raises:
        AttnprofError: there is none, one is no shape, or their batches differ.
    """
    shapes = [values] if isinstance(values, str) else _listed(values, "input")
    if shapes and all(_index(entry) is not None for entry in shapes):
        shapes = [tuple(shapes)]  # one shape, not in a list
    if not shapes:
        raise AttnprofError(
            "input: the shape of the model's input is missing; write it batch first: --input 8,3,256,256"
        )
    batches, inputs = [], []
    for shape in shapes:
        text = shape if isinstance(shape, str) else ",".join(map(str, _listed(shape, "input")))
        match = re.fullmatch(r"([1-9][0-9]{0,17})((?:,[1-9][0-9]{0,17})*)(:long)?", text.replace(" ", ""))
        if not match:
            raise AttnprofError(f"input: {text!r} is not a shape; write 8,3,256,256, or 8,77:long for whole numbers")
        batches.append(int(match[1]))
        inputs.append(match[2].lstrip(",").replace(",", "x") + (match[3] or ""))
    if len(set(batches)) > 1:
        raise AttnprofError(f"input: the batches differ: {', '.join(map(str, batches))}; the first number is the batch")
    return batches[0], "+".join(inputs)


def parse_ratio(value: str | SupportsFloat, name: str = "aspect") -> float:
    """Read a width over a height: `"16:9"`, `"1.5"` or `1.5`.

    Raises:
        AttnprofError: it is not a positive, finite ratio.
    """
    match = re.fullmatch(r"([0-9.]+)(?::([0-9.]+))?", str(value))
    try:
        ratio = float(match[1]) / float(match[2] or 1) if match else 0.0
    except (ValueError, ZeroDivisionError):
        ratio = 0.0
    if not (ratio > 0 and math.isfinite(ratio)):
        raise AttnprofError(f"{name}: {str(value)!r} is not a width over a height; write 16:9 or 1.5")
    return ratio


def _entries(value: Any, name: str) -> list[Any]:
    """Split text at its commas, and the text in a list as well; return other entries as they are."""
    listed = [value] if isinstance(value, str) or _index(value) is not None else _listed(value, name)
    entries: list[Any] = []
    for entry in listed:
        parts = [part.strip() for part in entry.split(",")] if isinstance(entry, str) else [entry]
        if isinstance(entry, str) and not all(parts):
            raise AttnprofError(f"{name}: {entry!r} has an empty entry; separate values by single commas")
        entries += parts
    return entries


def _listed(value: Any, name: str) -> list[Any]:
    try:
        return list(value)
    except TypeError:
        raise AttnprofError(f"{name}: {value!r} has the wrong type; give text, a number, or a list of them") from None


def _size(entry: Any, name: str) -> tuple[int, int]:
    if isinstance(entry, str):
        match = re.fullmatch(r"([0-9]{1,18})(?:[xX]([0-9]{1,18}))?", entry)
        sides: list[Any] = [match[1], match[2] or match[1]] if match else []
    else:
        side = _index(entry)
        sides = _listed(entry, name) if side is None else [side, side]
    if len(sides) != 2:
        raise AttnprofError(f"{name}: {entry!r} is not a size; write 64 or 64x96")
    return _positive(sides[0], name), _positive(sides[1], name)


def _positive(entry: Any, name: str) -> int:
    number = _index(entry)
    if number is None or number < 1:
        raise AttnprofError(
            f"{name}: {entry if isinstance(entry, int) else repr(entry)} is not a positive whole number"
        )
    return number


def _index(entry: Any) -> int | None:
    """Return a whole number, however it is written; None if it is something else."""
    if isinstance(entry, str):
        return int(entry) if re.fullmatch(rf"-?[0-9]{{1,{_MOST_DIGITS}}}", entry) else None
    if isinstance(entry, bool):
        return None
    try:
        return operator.index(entry)
    except TypeError:
        return None


def _bytes_text(value: Any) -> str:
    """Spell a memory size: text stays as it is, a number is one of bytes."""
    if isinstance(value, str):
        return value
    count = _index(value)
    return str(value if count is None else count)
