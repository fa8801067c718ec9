"""Running the compiler and its tools, with errors of one line that say what to do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from attnprof.emulation.cache import remedy
from attnprof.emulation.toolkit import EmulationError


class CompilerError(EmulationError):
    """A compiler that failed.

    Attributes:
        passing: whether it may succeed another time, as when a disk was full.
    """

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


def run_compiler(*command: str | Path, builds: str = "the emulated device", variable: str = "CC") -> str:
    """Run a command and return its output.

    Its temporary files go beside what it builds, so that only the cache folder needs room.

    Args:
        command: the program and its arguments.
        builds: what is compiled, for the error.
        variable: the environment variable that chooses another compiler, likewise.

    Raises:
        CompilerError: it fails.
    """
    words = [str(word) for word in command]
    output = Path(words[words.index("-o") + 1]).parent if "-o" in words else None
    environ = {**os.environ, "LC_ALL": "C", **({"TMPDIR": str(output)} if output else {})}
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False, env=environ)
    except OSError as error:
        text = f"cannot run {command[0]}: {error.strerror}; set {variable} to a compiler"
        raise CompilerError(text, passing=False) from None
    if done.returncode:
        raise _failure(words[0], done, builds, variable)
    return done.stdout


def _failure(name: str, done: subprocess.CompletedProcess[str], builds: str, variable: str) -> CompilerError:
    """Return the error of a compiler that failed, in one line."""
    said = done.stderr.strip().splitlines() or [_how_it_ended(done.returncode)]
    words = next((line for line in said if remedy(line)), None)
    words = words or next((line for line in said if "error" in line), said[-1])
    known = remedy(words)
    killed = done.returncode < 0 or "Killed" in done.stderr
    if killed:
        action = "end other programs if the machine is out of memory, and try again"
    else:
        kind = "gcc" if variable == "CC" else "g++"
        otherwise = f"install {kind} with the C library's headers (build-essential), or set {variable} to another"
        action = known or otherwise
    return CompilerError(f"{builds} cannot be compiled: {name}: {words}; {action}", passing=killed or bool(known))


def _how_it_ended(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"ended by signal {-code}"
