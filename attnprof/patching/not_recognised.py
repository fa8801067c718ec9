"""The reasons why a block of a user's model cannot be patched, as errors that `patch` turns into its report."""

from __future__ import annotations


class NotRecognisedError(Exception):
    """A block cannot be patched; the message is the reason, in words.

    Attributes:
        attends: whether the block looks like attention; if not, the report does not mention it.
        is_leaf: whether the modules inside it need not be searched either.
    """

    def __init__(self, reason: str, *, attends: bool = True, is_leaf: bool = False) -> None:
        super().__init__(reason)
        self.attends, self.is_leaf = attends, is_leaf


class DoesNotRunError(NotRecognisedError):
    """The block's forward fails, at least in the dtype of this trial; another dtype may work."""


def first_line(error: Exception) -> str:
    """Return an error's type and the first line of its message, at most 120 characters of it."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:120]}" if text else type(error).__name__
