"""Reading JSON into the project's types: every bad value is reported in one line, with its place.

msgspec checks types and limits; the line is `$.measurement.memory.step_bytes: expected int, got str`, where
`$` stands for the whole document. NaN and infinity are not JSON and are refused. If a key occurs twice, its
last value counts, as in Python's own `json`.
"""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any, TypeVar

import msgspec

T = TypeVar("T")

_LARGEST = 2**63 - 1  # what a column of whole numbers can hold
_LONGEST_SECONDS = 1e10  # three centuries
_SHORTEST_STEP_SECONDS = 1e-12  # a step takes at least a call; reports divide by it

Bytes = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]
Count = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]
Size = Annotated[int, msgspec.Meta(ge=1, le=_LARGEST)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=_LONGEST_SECONDS)]
StepSeconds = Annotated[float, msgspec.Meta(ge=_SHORTEST_STEP_SECONDS, le=_LONGEST_SECONDS)]
Rate = Annotated[float, msgspec.Meta(ge=1, le=1e30)]
Magnitude = Annotated[float, msgspec.Meta(ge=0, le=sys.float_info.max)]

# `1e999` becomes infinite here and is refused with its place where a float has the limits above.
_DECODER = msgspec.json.Decoder(float_hook=float)


def parse_json(text: str | bytes) -> Any:
    """Return the JSON value that a text contains.

    Raises:
        ValueError: the text is not JSON, or is nested too deeply; the message is one line.
    """
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(_reason(error)) from None


def convert(value: Any, kind: type[T], place: str = "$") -> T:
    """Return a JSON value as an instance of a type, checked strictly. Unknown keys are ignored.

    Args:
        value: what `parse_json` returned, or a part of it.
        kind: a type that msgspec knows, such as a dataclass.
        place: where the value stands in the document, for the message.

    Raises:
        ValueError: the value does not fit; the message contains the place.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ValueError(_one_line(error, place)) from None


def convert_text(text: str | bytes, kind: Any) -> Any:
    """Return the JSON value of a text as an instance of a type, or of one type of a union.

    Unlike `convert` it takes whole numbers as the keys of an object, which JSON writes as text.

    Raises:
        ValueError: the text is not JSON or does not fit; the message is one line.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(_reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):  # of an untyped text: a number that nothing can hold
        return _one_line(error, "$")
    if isinstance(error, RecursionError):
        return "not JSON: nested too deeply"
    return f"not JSON: {str(error).removeprefix('JSON is malformed: ')}"


def _one_line(error: msgspec.ValidationError, place: str) -> str:
    """Turn msgspec's "Expected `int`, got `str` - at `$.a`" into "$.a: expected int, got str"."""
    words, _, path = str(error).partition(" - at ")
    within = re.search(r"\$([^`]*)", path)
    inner = within[1] if within else ""
    key = "key " if path.startswith("`key`") else ""
    words = words.replace("`", "").replace("Invalid enum value", "unknown value")
    return f"{place}{inner}: {key}{words[:1].lower()}{words[1:]}"
