"""What all classes share: counts, a home of its own for every trial, and processes with a time limit."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import attnprof

ROOT = Path(attnprof.__file__).resolve().parents[1]  # the checkout under test
HANG_SECONDS = 5.0
EXIT_CODES = {0, 1, 2, 3, 130, 143}
# C0 controls but newline and tab, DEL, C1 controls, and the marks that change the direction of text.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
NONSENSE = re.compile(
    r"(?<![\w.-])-\d[\d.,]*(?:e[+-]?\d+)? ?(?:B|[KMGTPE]iB|us|ms|s|min|h|x)\b|\bnan\b|\binf(?:inity)?\b|\d{25}"
    r"|\d(?:\.\d+)?e\+(?!308)\d{3,}", re.IGNORECASE
)  # fmt: skip
EXAMPLES_KEPT = 4


def versions() -> dict[str, str]:
    """Return the versions of Python, torch and attnprof, the last with its commit."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain", "attnprof"], capture_output=True, text=True, check=False)
    name = commit.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
    return {"python": platform.python_version(), "torch": version("torch"), "attnprof": name or "unknown"}


@dataclass
class Tally:
    """The counts of one class: trials, and violations by kind with the first examples of each.

    Attributes:
        name: the class.
        tried: trials so far, by kind.
    """

    name: str
    seed: int
    tried: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, object] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=versions)
    started: float = field(default_factory=time.monotonic)

    def violate(self, kind: str, what: object) -> None:
        """Count a violation and keep it as an example if there are few of its kind."""
        self.violations[kind] += 1
        kept = self.examples.setdefault(kind, [])
        if len(kept) < EXAMPLES_KEPT:
            kept.append(shortened(str(what), 400))

    def line(self) -> str:
        """Return the counts as one line of JSON, with date, machine and versions."""
        fields = {
            "class": self.name,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seed": self.seed,
            "tried": sum(self.tried.values()),
            "by_kind": dict(sorted(self.tried.items())),
            "tracebacks": self.violations["traceback"],
            "hangs": self.violations["hang"],
            "other_violations": {
                kind: count
                for kind, count in sorted(self.violations.items())
                if kind not in ("traceback", "hang") and count
            },
            **self.notes,
            "seconds": round(time.monotonic() - self.started),
            "machine": machine(),
            "versions": self.versions,
        }
        return json.dumps(fields, ensure_ascii=True)


@dataclass(frozen=True)
class Done:
    """A command that ended: its exit code, its output, and whether it had to be stopped."""

    code: int | None
    out: str
    err: str
    hang: bool = False
    seconds: float = 0.0


def machine() -> dict[str, object]:
    """Return the cores and the processor of this machine."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = names[0].partition(":")[2].strip() if names else platform.machine()
    return {"cores": len(os.sched_getaffinity(0)), "cpu": name}


def shortened(text: str, limit: int = 200) -> str:
    """Return a text in printable characters, cut in its middle if it is long."""
    text = text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"
    return "".join(letter if " " <= letter <= "~" else ascii(letter)[1:-1] for letter in text)


@contextmanager
def own_home():
    """Enter a new folder with a home and XDG folders of its own; leave and remove it at the end.

    The built stand-in libraries are shared, since building them takes seconds.
    """
    before, environ = Path.cwd(), dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        home = Path(name)
        cache = Path(tempfile.gettempdir()) / f"hostile-cache-{os.getuid()}"
        cache.mkdir(mode=0o700, exist_ok=True)
        work = home / "a" / "b" / "c"  # so that ../.. is still inside
        work.mkdir(parents=True)
        places = {"HOME": home, "XDG_STATE_HOME": home / "state", "XDG_CACHE_HOME": cache, "TMPDIR": home / "tmp"}
        (home / "tmp").mkdir()
        os.environ.update({**{key: str(value) for key, value in places.items()}, "PYTHONPATH": str(ROOT)})
        os.chdir(work)
        try:
            yield work
        finally:
            os.chdir(before)
            os.environ.clear()
            os.environ.update(environ)
            for path in (home, *home.rglob("*")):
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o700)


def run(words, limit=60.0, program=("-m", "attnprof"), prefix=(), **options) -> Done:
    """Run a command in a session of its own; after the limit it is killed and counted as a hang.

    Args:
        words: the arguments.
        limit: seconds.
        program: what Python runs.
        prefix: a command that runs Python.
        options: of `subprocess.Popen`.
    """
    started = time.monotonic()
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    process = subprocess.Popen(
        [*prefix, sys.executable, *program, *words], stdin=subprocess.DEVNULL, start_new_session=True, **options
    )
    return ended(process, limit, started)


def ended(process, limit, started) -> Done:
    """Wait for a command; after the limit in seconds it is killed and counted as a hang."""
    hang = False
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        hang = True
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
    text = [(stream or b"").decode("utf-8", "replace") for stream in (out, err)]
    return Done(process.returncode, *text, hang=hang, seconds=time.monotonic() - started)


def check_end(tally: Tally, done: Done, what: object, codes=EXIT_CODES, *, heard=True) -> bool:
    """Count what no command may do, however it is called; returns whether nothing was found.

    Args:
        tally: the counts.
        done: the command's end.
        what: the situation, for the examples.
        codes: the exit codes that are right here.
        heard: whether its standard error was kept.
    """
    before = sum(tally.violations.values())
    last = done.err.strip().splitlines()[-1:] or [""]
    if "Traceback (most recent call last)" in done.err + done.out:
        tally.violate("traceback", f"{what}: {last[0]}")
    elif done.hang:
        tally.violate("hang", what)
    elif done.code not in codes:
        tally.violate("exit code", f"{what}: {done.code}: {last[0]}")
    if CONTROLS.search(done.err) or CONTROLS.search(done.out):
        tally.violate("control characters", f"{what}: {CONTROLS.findall(done.out + done.err)[:5]}")
    if heard and done.code == 2 and not last[0].startswith("attnprof: "):
        tally.violate("no message", f"{what}: {last[0]}")
    return sum(tally.violations.values()) == before


def processes_with(mark: str) -> list[str]:
    """Return the command lines of running processes whose environment contains a mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if (
                mark.encode() in (entry / "environ").read_bytes()
                and "\nState:\tZ" not in (entry / "status").read_text()
            ):
                found.append(f"{entry.name}: " + (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:120])
        except OSError:
            continue
    return found


def leftovers(folder: Path) -> list[str]:
    """Return what stands in a folder of temporary files."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def available(program: str) -> bool:
    """Return whether a program is installed."""
    return shutil.which(program) is not None
