"""Running the compiler and its tools, with errors of one line that say what to do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from attnprof.emulation.cache import remedy
from attnprof.emulation.toolkit import EmulationError


def run_compiler(*command: str | Path) -> str:
    """Run a command and return its output; raise EmulationError if it fails.

    Its temporary files go beside what it builds, so that only the cache folder needs room.
    """
    words = [str(word) for word in command]
    output = Path(words[words.index("-o") + 1]).parent if "-o" in words else None
    environ = {**os.environ, "LC_ALL": "C", **({"TMPDIR": str(output)} if output else {})}
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False, env=environ)
    except OSError as error:
        raise EmulationError(f"cannot run {command[0]}: {error.strerror}; set CC to a C compiler") from None
    if done.returncode:
        raise EmulationError(_compiler_failure(words[0], done))
    return done.stdout


def _compiler_failure(name: str, done: subprocess.CompletedProcess[str]) -> str:
    """Return one line on a compiler that failed."""
    said = done.stderr.strip().splitlines() or [_how_it_ended(done.returncode)]
    words = next((line for line in said if remedy(line)), None)
    words = words or next((line for line in said if "error" in line), said[-1])
    if done.returncode < 0 or "Killed" in done.stderr:
        action = "end other programs if the machine is out of memory, and try again"
    else:
        action = remedy(words) or "install gcc with the C library's headers (build-essential), or set CC to another"
    return f"the emulated device cannot be compiled: {name}: {words}; {action}"


def _how_it_ended(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"ended by signal {-code}"
