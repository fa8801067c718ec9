"""A situation of the class `disk`: runs commands in a folder of its own, and means to make that folder hostile."""

from __future__ import annotations

import os
import resource
import subprocess
from contextlib import contextmanager
from pathlib import Path

from common import NONSENSE, Tally, available, check_end, run, shortened

HERE = Path(__file__).parent
SCRIPTED = (str(HERE / "scripted.py"),)
REAL = ("-m", "attnprof")
SWEEP = ["sweep", "--device", "cpu", "--hw", "4,6,8,10,12", "--strategy", "naive,chunked,sdpa-pad"]
CASES = 30
CARD = ["sweep", "--gpu", "t4", "--hw", "8", "--strategy", "naive", "--mode", "forward"]
NOBODY = 65534
SITUATIONS = []


class Trial:
    """A situation: runs commands in its folder and counts what they must not do."""

    def __init__(self, tally: Tally, folder: Path, name: str) -> None:
        self.tally, self.folder, self.name = tally, folder, name

    def run(self, words, program=SCRIPTED, limit=10.0, codes=(0, 1, 2, 3), environ=(), without=(), **options):
        """Run a command; returns how it ended."""
        environ = {key: value for key, value in {**os.environ, **dict(environ)}.items() if key not in without}
        done = run(words, program=program, limit=limit, env=environ, **options)
        self.tally.tried[self.name] += 1
        heard = options.get("stderr") in (None, subprocess.PIPE)
        check_end(self.tally, done, f"{self.name}: {shortened(' '.join(map(str, words)))}", codes, heard=heard)
        lines = [line for line in done.err.splitlines() if line.startswith("attnprof: ")]
        if done.code not in (0, 3) and heard and len(lines) != 1:
            self.violate("not told in one line", f"{done.code}: {shortened(done.err)}")
        if not done.out.startswith("{") and NONSENSE.search(done.out):
            self.violate("nonsense shown", shortened(done.out))
        return done

    def violate(self, kind, what):
        """Count a violation of this situation."""
        self.tally.violate(kind, f"{self.name}: {what}")

    def expect(self, right, kind, what):
        """Count a violation if something is not as it must be."""
        if not right:
            self.violate(kind, what)

    def records(self, path):
        """Return the whole records of a file; a line in the middle that is none is a violation."""
        from attnprof.cases.record import Record

        if not Path(path).exists():
            return []
        *lines, _ = Path(path).read_bytes().split(b"\n")
        found = []
        for line in lines:
            try:
                found.append(Record.from_line(line))
            except ValueError as error:
                self.violate("torn line", error)
        return found

    def completes(self, path, **options):
        """Resume a file and check that every case stands in it once."""
        before = [record.to_line() for record in self.records(path)]
        done = self.run([*SWEEP, "--out", str(path), "--resume"], **options)
        after = [record.to_line() for record in self.records(path)]
        self.expect(done.code == 0 and len(after) == CASES, "does not resume", f"{done.code}: {shortened(done.err)}")
        self.expect(all(line in after for line in before), "records lost", f"{len(before)} before, {len(after)} after")
        self.expect(len({str(record.case) for record in self.records(path)}) == len(after), "doubled", len(after))


def situation(function):
    """Add a function to the situations."""
    SITUATIONS.append(function)
    return function


@contextmanager
def small_disk(folder, kib):
    """Mount a disk of some KiB; raises OSError where that is not allowed."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=1777", "none", folder], check=False)
    if done.returncode:
        raise OSError("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def without_privileges():
    """Return a command that takes the right to write everything from root, whom files of others then stop as well."""
    if os.getuid() != 0:
        return ()
    if not available("setpriv"):
        raise OSError("root's privileges cannot be dropped here")
    rights = "-dac_override,-dac_read_search,-fowner"
    return ("setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}")


def limited(kind, number):
    """Return a function that limits a process before it starts."""
    return lambda: resource.setrlimit(kind, (number, number))


def give_away(*paths):
    """Make files and folders another user's, who lets everybody read them."""
    for path in paths:
        os.chown(path, NOBODY, -1)
        path.chmod(0o755 if path.is_dir() else 0o644)
