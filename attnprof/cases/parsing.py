"""Reads option values: text from the command line (`64,64x96`) and plain Python values (`[64, (64, 96)]`) alike.

Every function takes the name of its option, so that its error can begin with it. Numbers of NumPy, tuples and paths
are as good as text. Nothing below the requests reads an option's text again.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias

from attnprof.cases.cards import Card, parse_cards
from attnprof.cases.entries import (
    bytes_text,
    digits_of,
    entries_of,
    listed,
    number_of,
    positive,
    size_of,
    whole_number,
    word_of,
)
from attnprof.cases.workload import LARGEST_TENSOR
from attnprof.errors import AttnprofError
from attnprof.text import shown
from attnprof.units import parse_bytes

Names: TypeAlias = str | Iterable[str]
Numbers: TypeAlias = str | SupportsIndex | Iterable[str | SupportsIndex]
Sizes: TypeAlias = str | SupportsIndex | Iterable[str | SupportsIndex | tuple[SupportsIndex, SupportsIndex]]
Cards: TypeAlias = str | Card | Iterable[str | Card]
Bytes: TypeAlias = str | SupportsIndex
Location: TypeAlias = str | os.PathLike[str]

_MOST_CARDS = 64  # each has a process of its own
_MOST_SHAPE = 32  # sizes of a tensor
_LONGEST_SECONDS = 10**6  # 11 days; the system's calls for waiting take no more than 24
_WIDEST_RATIO = 1000
_MOST_DAYS = 36_500
_LONGEST_PATH, _LONGEST_PART = 4095, 255  # bytes: PATH_MAX and NAME_MAX of Linux


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
    return [size_of(entry, name) for entry in entries_of(value, name)]


def parse_numbers(value: Numbers, name: str) -> list[int]:
    """Read positive whole numbers: `"1,4"`, `[1, 4]` or `1`.

    Raises:
        AttnprofError: an entry is not a positive whole number.
    """
    return [positive(entry, name) for entry in entries_of(value, name)]


def parse_number(value: str | SupportsIndex, name: str) -> int:
    """Read one positive whole number.

    Raises:
        AttnprofError: it is not one.
    """
    return positive(value, name)


def parse_names(value: Names, name: str) -> list[str]:
    """Read names: `"a,b"` or `["a", "b"]` becomes `["a", "b"]`.

    Raises:
        AttnprofError: an entry is empty or not text.
    """
    entries = entries_of(value, name)
    for entry in entries:
        if not isinstance(entry, str):
            raise AttnprofError(
                f"{name}: {shown(entry)} is not text; write names separated by commas, or a list of them"
            )
    return entries


def parse_choice(value: str, name: str, known: Collection[str]) -> str:
    """Read one of the known names.

    Raises:
        AttnprofError: it is none of them; the message lists them.
    """
    require_known(name, [value], known)
    return value


def parse_flag(value: object, name: str) -> bool:
    """Read a switch of the Python API. Text such as `"no"` would otherwise count as true.

    Raises:
        AttnprofError: it is neither True nor False.
    """
    if type(value).__name__ not in ("bool", "bool_"):  # NumPy's own as well
        raise AttnprofError(f"{name}: {shown(value)} is not a switch; give True or False")
    return bool(value)


def require_known(name: str, values: Iterable[object], known: Collection[str]) -> None:
    """Check that every value is known.

    Raises:
        AttnprofError: one is not; the message lists the known ones.
    """
    for value in values:
        if not isinstance(value, str) or value not in known:
            raise AttnprofError(f"{name}: {shown(value)} is not one of {', '.join(known)}")


def parse_cards_option(value: Cards, context: Bytes | None) -> tuple[Card, ...]:
    """Read the cards to emulate: `"t4,l4"`, `["t4,memory=8GB", "l4"]`, or cards of the catalogue.

    Args:
        value: the cards.
        context: an allowance for the CUDA context of every card that names none itself.

    Raises:
        AttnprofError: an unknown card (the message has near matches) or property.
    """
    entries = [value] if isinstance(value, str | Card) else listed(value, "gpu")
    for entry in entries:
        if not isinstance(entry, str | Card):
            raise AttnprofError(f"gpu: {shown(entry)} is not a card; write a name such as t4, or see attnprof gpus")
    if not entries:
        raise AttnprofError("gpu: no card is named; write a name such as t4, or see attnprof gpus")
    cards = parse_cards(",".join(map(str, entries)), None if context is None else bytes_text(context, "context"))
    if len(cards) > _MOST_CARDS:
        raise AttnprofError(f"gpu: {len(cards)} cards are named; name at most {_MOST_CARDS}")
    return tuple(cards)


def parse_one_card(value: str | Card, context: Bytes | None = None) -> Card:
    """Read one card.

    Raises:
        AttnprofError: an unknown card or property, or several cards.
    """
    cards = parse_cards_option(value, context)
    if len(cards) > 1:
        raise AttnprofError(f"gpu: {shown(','.join(map(str, cards)))} are {len(cards)} cards; name one")
    return cards[0]


def parse_memory(value: Bytes, name: str) -> int:
    """Read a memory size: `"12GB"`, `"800MiB"` or a number of bytes.

    Raises:
        AttnprofError: it is no positive size.
    """
    text = bytes_text(value, name)
    try:
        return parse_bytes(text)
    except AttnprofError as error:
        raise AttnprofError(f"{name}: {error}") from None


def parse_margin(value: Bytes) -> Margin:
    """Read what is to stay free: `"10%"`, `"1GiB"`, or a number of bytes.

    Raises:
        AttnprofError: it is neither below 100% nor a memory size.
    """
    text = bytes_text(value, "margin").strip()
    percent = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*%", text)
    if percent and float(percent[1]) < 100:
        return Margin(float(percent[1]) / 100, 0, text)
    if percent or not text[:1].isdigit():
        raise AttnprofError(f"margin: {shown(text)} is neither below 100% nor a memory size; write 10% or 1GiB")
    return Margin(0.0, 0 if text == "0" else parse_memory(text, "margin"), text)


def parse_seconds(value: str | SupportsFloat, name: str) -> float:
    """Read a positive, finite number of seconds.

    Raises:
        AttnprofError: it is not one.
    """
    seconds = number_of(value)
    if not seconds > 0:
        raise AttnprofError(f"{name}: {shown(value)} is not a positive number of seconds; write one, such as 60")
    if seconds > _LONGEST_SECONDS:
        raise AttnprofError(f"{name}: {shown(value)} is too long; write at most {_LONGEST_SECONDS} seconds (11 days)")
    return seconds


def parse_days(value: str | SupportsFloat, name: str = "days") -> float:
    """Read a number of days, which may be 0.

    Raises:
        AttnprofError: it is not one.
    """
    days = number_of(value)
    if not 0 <= days <= _MOST_DAYS:
        raise AttnprofError(f"{name}: {shown(value)} is not a number of days; write one, such as 30")
    return days


def parse_seed(value: str | SupportsIndex) -> int:
    """Read a random seed, as `torch.manual_seed` takes it.

    Raises:
        AttnprofError: it is not a whole number of at most 64 bits.
    """
    seed = whole_number(value, digits=20)
    if seed is None or not -(2**63) <= seed < 2**64:
        raise AttnprofError(f"seed: {shown(value)} is not a whole number of 64 bits; write one, such as 0")
    return seed


def parse_device(value: object) -> str:
    """Read a device: `auto`, `cpu`, `cuda`, `cuda:1`, or a `torch.device`.

    Raises:
        AttnprofError: it is none of them. Whether this machine has the device is known later.
    """
    if isinstance(value, str) or type(value).__module__ == "torch":
        text = str(value)
        if re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", text):
            return text
    raise AttnprofError(f"device: {shown(value)} is not a device; write auto, cpu, cuda or cuda:1")


def parse_path(value: Location, name: str) -> Path:
    """Read a path, from text or any path object.

    Raises:
        AttnprofError: it is not a path, or empty, or longer than the system allows.
    """
    text = word_of(value)
    if not text:
        raise AttnprofError(f"{name}: {shown(value)} is not a path to a file; name a file")
    path = Path(text)
    if len(os.fsencode(text)) > _LONGEST_PATH or any(len(os.fsencode(part)) > _LONGEST_PART for part in path.parts):
        raise AttnprofError(f"{name}: {shown(text)} is too long for a path; name a file")
    return path


def parse_words(value: Iterable[Location], name: str) -> list[str]:
    """Read the words of a command: text or paths.

    Raises:
        AttnprofError: it is no list of words, or empty.
    """
    words = [] if isinstance(value, str | os.PathLike) else [word_of(word) for word in listed(value, name)]
    if not words or None in words:
        raise AttnprofError(f"{name}: {shown(value)} is not a list of words; write it as ['python', 'train.py']")
    return [word for word in words if word is not None]


def parse_inputs(values: str | Iterable[Any]) -> tuple[int, str]:
    """Read the shapes of a model's inputs.

    `["8,4,64,64", "8:long"]`, or `[(8, 4, 64, 64), "8:long"]`, becomes `(8, "4x64x64+:long")`: the batch, and the
    rest as `ModelWorkload.inputs` spells it.

    Raises:
        AttnprofError: there is none, one is no shape, or their batches differ.
    """
    shapes = [values] if isinstance(values, str) else listed(values, "input")
    if shapes and all(whole_number(entry) is not None for entry in shapes):
        shapes = [tuple(shapes)]  # one shape, not in a list
    if not shapes:
        raise AttnprofError(
            "input: the shape of the model's input is missing; write it batch first: --input 8,3,256,256"
        )
    batches, inputs = [], []
    for shape in shapes:
        text = shape if isinstance(shape, str) else ",".join(map(digits_of, listed(shape, "input")))
        match = re.fullmatch(r"([1-9][0-9]{0,17})((?:,[1-9][0-9]{0,17})*)(:long)?", text.replace(" ", ""))
        if not match:
            raise AttnprofError(
                f"input: {shown(shape)} is not a shape; write 8,3,256,256, or 8,77:long for whole numbers"
            )
        sizes = [int(size) for size in f"{match[1]}{match[2]}".split(",")]
        if len(sizes) > _MOST_SHAPE or math.prod(sizes) > LARGEST_TENSOR:
            raise AttnprofError(f"input: {shown(shape)} is too large for a tensor; write a smaller shape")
        batches.append(sizes[0])
        inputs.append("x".join(map(str, sizes[1:])) + (match[3] or ""))
    if len(set(batches)) > 1:
        different = shown(", ".join(map(str, dict.fromkeys(batches))))
        raise AttnprofError(f"input: the batches differ: {different}; the first number of every shape is the batch")
    return batches[0], "+".join(inputs)


def parse_ratio(value: str | SupportsFloat, name: str = "aspect") -> float:
    """Read a width over a height: `"16:9"`, `"1.5"` or `1.5`.

    Raises:
        AttnprofError: it is not a positive, finite ratio.
    """
    match = re.fullmatch(r"([0-9.]+):([0-9.]+)", value) if isinstance(value, str) else None
    over = number_of(match[2]) if match else 1.0
    ratio = number_of(match[1] if match else value) / (over or math.nan)
    if not 0 < ratio < math.inf:
        raise AttnprofError(f"{name}: {shown(value)} is not a width over a height; write 16:9 or 1.5")
    if not 1 / _WIDEST_RATIO <= ratio <= _WIDEST_RATIO:
        raise AttnprofError(f"{name}: {shown(value)} is too far from 1; write at most {_WIDEST_RATIO}:1, such as 16:9")
    return ratio
