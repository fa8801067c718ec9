"""A file without a name. Needs no torch."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress


def nameless_file() -> int:
    """Return the descriptor of a new file that is gone when it is closed; on Linux it needs no disk.

    Raises:
        OSError: the system refuses it.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            return os.memfd_create("attnprof", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with tempfile.TemporaryFile() as stream:
        return os.dup(stream.fileno())
