"""The folder of the user in which records are kept if no other place is named."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from platformdirs import user_state_path

from attnprof.errors import AttnprofError


def state_folder() -> Path:
    """Return the folder; it may not exist yet.

    Raises:
        AttnprofError: this user has no home folder.
    """
    try:
        return user_state_path("attnprof")
    except RuntimeError:  # Path.home: HOME is not set, and the user is in no list of users
        raise AttnprofError("out: there is no home folder to keep the records in; name a file with --out") from None


def new_record_path(command: str) -> Path:
    """Return the path of a new file in the state folder, named after the command and the time.

    Raises:
        AttnprofError: this user has no home folder.
    """
    started = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    return state_folder() / f"{command}-{started}.jsonl"
