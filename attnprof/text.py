"""Text that is safe to print, whoever wrote it.

A value, a file, an environment or an exception can contain escape sequences, line breaks or letters that change the
direction of writing. Everything that attnprof prints goes through `harmless`, so a terminal shows such characters and
does not obey them.
"""

from __future__ import annotations

import math
import os
import shlex
import signal

_VALUE_LETTERS = 60  # of a value in a message
_MESSAGE_LETTERS = 400  # of a text that cannot be taken apart
_ELLIPSIS = "..."
_RUN_BY_SPREADSHEETS = tuple("=+-@＝＋－＠")  # noqa: RUF001 - the wide ones are run as well


def harmless(text: str, encoding: str = "utf-8") -> str:
    r"""Return the text in one line, with a visible escape for every character that is not printable.

    Python's `repr` has the same rule: control and format characters, surrogates, and separators other than the space
    are escaped, as in `\x1b` and `\u202e`.

    Args:
        text: anything.
        encoding: of the output; characters that it lacks are escaped as well.
    """
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else _escape(letter) for letter in text)
    try:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    except LookupError:
        return text


def harmless_lines(text: str, encoding: str = "utf-8") -> list[str]:
    """Return the lines of a text of several lines, such as code; its line breaks are its author's."""
    return [harmless(line, encoding) for line in text.split("\n")]


def shown(value: object, letters: int = _VALUE_LETTERS) -> str:
    """Return a value as a message shows it: as Python writes it, in one line of at most so many characters."""
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
        if isinstance(value, int):  # Python refuses to write numbers of thousands of digits
            text = f"<a number of {math.floor(value.bit_length() * math.log10(2)) + 1} digits>"
    return shortened(harmless(text), letters)


def shortened(text: str, letters: int = _MESSAGE_LETTERS) -> str:
    """Return the text with an ellipsis in place of its middle if it is longer than this."""
    if len(text) <= letters:
        return text
    kept = letters - len(_ELLIPSIS)
    return text[: kept - kept // 2] + _ELLIPSIS + text[len(text) - kept // 2 :]


def spreadsheet_cell(text: str) -> str:
    """Return the text as a CSV field: harmless, and after an apostrophe if a spreadsheet would run it as a formula."""
    text = harmless(text)
    return f"'{text}" if text.lstrip().startswith(_RUN_BY_SPREADSHEETS) else text


def shell_word(word: str) -> str:
    """Return a word as a shell reads it; bytes that a terminal cannot show stand in `$'...'`, which bash reads."""
    if word.isprintable():
        return shlex.quote(word)
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}" for byte in _bytes_of(word))
    return f"$'{''.join(plain)}'"


def signal_name(number: int) -> str:
    """Return the name of a signal, as `SIGKILL`; its number if it has no name here."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _bytes_of(word: str) -> bytes:
    """Return the bytes of a word of the command line, in which surrogates stand for bytes that are not text."""
    try:
        return os.fsencode(word)
    except UnicodeEncodeError:
        return word.encode("utf-8", "backslashreplace")


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
