"""The process that measures the case, as opposed to copies of it that the user's code forks."""

from __future__ import annotations

import os

exit_at_once = os._exit  # the plain one: while a model runs, another in its place notes who calls it
_owner = os.getpid()


def become_owner() -> None:
    """Make this process the one that measures."""
    global _owner  # noqa: PLW0603 - a process has one
    _owner = os.getpid()


def is_owner() -> bool:
    """Return whether this process is the one that measures."""
    return os.getpid() == _owner


def leave_if_copy() -> None:
    """End this process if the user's code forked it and came back: a copy must not measure and answer as well."""
    if not is_owner():
        exit_at_once(0)
