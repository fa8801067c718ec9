"""Values of options, read from what people write: `64,64x96` or `16:9`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from attnprof.errors import AttnprofError


def parse_sizes(text: str) -> list[tuple[int, int]]:
    """Return [(64, 64), (64, 96)], each (H, W), for `"64,64x96"`.

    Raises:
        AttnprofError: an entry is neither H nor HxW.
    """
    sizes = []
    for entry in parse_names(text, "hw"):
        match = re.fullmatch(r"([0-9]+)(?:[xX]([0-9]+))?", entry)
        if not match:
            raise AttnprofError(f"hw: {entry!r} is not a size; write 64 or 64x96")
        sizes.append((int(match[1]), int(match[2] or match[1])))
    return sizes


def parse_numbers(text: str, name: str) -> list[int]:
    """Return [1, 4] for `"1,4"`; `name` is the option's, for the message.

    Raises:
        AttnprofError: an entry is not a whole number.
    """
    for entry in parse_names(text, name):
        if not re.fullmatch(r"[0-9]+", entry):
            raise AttnprofError(f"{name}: {entry!r} is not a positive whole number")
    return [int(entry) for entry in parse_names(text, name)]


def parse_names(text: str, name: str) -> list[str]:
    """Return ["a", "b"] for `"a,b"`; `name` is the option's, for the message.

    Raises:
        AttnprofError: there is nothing between two commas.
    """
    entries = [entry.strip() for entry in text.split(",")]
    if not all(entries):
        raise AttnprofError(f"{name}: {text!r} has an empty entry; separate values by single commas")
    return entries


def parse_inputs(texts: Sequence[str]) -> tuple[int, str]:
    """Return the batch, and the inputs as `ModelWorkload` has them.

    `["8,4,64,64", "8:long"]` gives (8, "4x64x64+:long").

    Raises:
        AttnprofError: there is no input, one is not a shape, or the batches differ.
    """
    if not texts:
        raise AttnprofError(
            "input: the shape of the model's input is missing; write it batch first: --input 8,3,256,256"
        )
    batches, inputs = [], []
    for text in texts:
        match = re.fullmatch(r"([1-9][0-9]*)((?:,[1-9][0-9]*)*)(:long)?", text.replace(" ", ""))
        if not match:
            raise AttnprofError(f"input: {text!r} is not a shape; write 8,3,256,256, or 8,77:long for whole numbers")
        batches.append(int(match[1]))
        inputs.append(match[2].lstrip(",").replace(",", "x") + (match[3] or ""))
    if len(set(batches)) > 1:
        raise AttnprofError(f"input: the batches differ: {', '.join(map(str, batches))}; the first number is the batch")
    return batches[0], "+".join(inputs)


def require_known(name: str, values: Iterable[str], known: Iterable[str]) -> None:
    """Check that every value is known.

    Raises:
        AttnprofError: a value is not; the message contains those that are.
    """
    for value in values:
        if value not in known:
            raise AttnprofError(f"{name}: {value!r} is not one of {', '.join(known)}")


def parse_ratio(text: str) -> float:
    """Return width over height for `16:9` or `1.5`.

    Raises:
        AttnprofError: the text is neither, or not positive.
    """
    match = re.fullmatch(r"([0-9.]+)(?::([0-9.]+))?", text)
    try:
        ratio = float(match[1]) / float(match[2] or 1) if match else 0.0
    except (ValueError, ZeroDivisionError):
        ratio = 0.0
    if not ratio > 0:
        raise AttnprofError(f"aspect: {text!r} is not a width over a height: write 16:9 or 1.5")
    return ratio
