"""The process that measures the case, as opposed to copies of it that the user's code forks."""

from __future__ import annotations

import os

# The plain functions, whatever a model puts in their place; while it runs, `os._exit` is one that notes who calls it.
_pid = os.getpid
exit_at_once = os._exit
_owner = _pid()


def become_owner() -> None:
    """Make this process the one that measures."""
    global _owner  # noqa: PLW0603 - a process has one
    _owner = _pid()


def is_owner() -> bool:
    """Return whether this process is the one that measures."""
    return _pid() == _owner


def leave_if_copy() -> None:
    """End this process if the user's code forked it and came back: a copy must not measure and answer as well."""
    if not is_owner():
        exit_at_once(0)
