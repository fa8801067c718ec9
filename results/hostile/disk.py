"""Disks and homes that are not as they should be: full, read-only, absent, changed underneath, or another user's.

A command must end with one line that says so, or work; it must not lose a record or any other file. Where a disk was
full, `--resume` must complete the file once there is room. Most situations run the scripted device as a real process.
"""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import disk_libraries  # noqa: F401 - adds its situations
import disk_outputs  # noqa: F401
from common import Tally, own_home, shortened
from disk_faults import FAULTS
from trial import (
    CASES,
    HERE,
    REAL,
    SITUATIONS,
    SWEEP,
    Trial,
    give_away,
    limited,
    situation,
    small_disk,
    without_privileges,
)


def attack(tally: Tally, count: int) -> None:
    """Try the first `count` situations."""
    for one in SITUATIONS[:count]:
        with own_home() as folder:
            try:
                one(Trial(tally, folder, one.__name__.replace("_", " ")))
            except OSError as error:
                tally.notes.setdefault("skipped", []).append(f"{one.__name__}: {error}")


@situation
def homes(trial):
    """Homes and state folders that are not there or are something else."""
    (trial.folder / "file").write_text("x")
    odd = [
        "",
        "relative/state",
        "/dev/null",
        str(trial.folder / "file"),
        "/proc",
        "a\nb",
        "\udcff",
        "/absent/state",
        "~",
    ]
    for value in odd:
        done = trial.run(SWEEP, environ={"XDG_STATE_HOME": value})
        where = done.err.rpartition("records: ")[2].strip()
        if done.code == 0 and value != "a\nb":
            trial.expect(len(trial.records(os.fsencode(where).decode("utf-8", "surrogateescape"))) == CASES
                         or value == "\udcff", "records lost", f"{value!r}: {where}")  # fmt: skip
        trial.run(SWEEP, environ={"HOME": value}, without=("XDG_STATE_HOME",))
    trial.run(SWEEP, without=("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "TMPDIR", "USER", "LOGNAME"))


@situation
def a_home_that_cannot_be_written(trial):
    """A home, a state folder and a current folder that belong to another user."""
    state = Path(os.environ["XDG_STATE_HOME"])
    state.mkdir()
    give_away(trial.folder, state, *trial.folder.parents[:3])
    rights = {"prefix": without_privileges()}
    trial.run(SWEEP, **rights)
    trial.run([*SWEEP, "--out", "x.jsonl"], **rights)
    trial.run(SWEEP, without=("XDG_STATE_HOME",), **rights)


@situation
def a_full_disk_for_records(trial):
    """The disk fills up in the middle of a sweep; there is room again before it is resumed."""
    with small_disk(trial.folder / "full", 24) as disk:
        (disk / "ballast").write_bytes(bytes(8000))
        out = disk / "x.jsonl"
        done = trial.run([*SWEEP, "--out", str(out)])
        trial.expect(done.code not in (0, 3), "full disk not told", done.err)
        kept = len(trial.records(out))
        trial.expect(f"{kept}" != "0", "records lost", "none was kept")
        trial.run([*SWEEP, "--out", str(out), "--resume"])
        trial.expect(len(trial.records(out)) >= kept, "records lost", f"{kept} before a second try")
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        trial.completes(out)


@situation
def a_limit_of_file_size(trial):
    """A limit of the size of files ends what is written in the middle of a line."""
    done = trial.run([*SWEEP, "--out", "x.jsonl"], preexec_fn=limited(resource.RLIMIT_FSIZE, 10_000))
    trial.expect(done.code not in (0, 3), "limit not told", done.err)
    trial.completes("x.jsonl")


@situation
def a_full_disk_for_csv(trial):
    """The CSV file does not fit; the records do and are named."""
    with small_disk(trial.folder / "full", 4) as disk:
        (disk / "ballast").write_bytes(bytes(4096))
        done = trial.run([*SWEEP, "--out", "x.jsonl", "--csv", str(disk / "x.csv")])
        trial.expect(done.code != 0, "full disk not told", done.err)
        if done.code == 1 or len(trial.records("x.jsonl")) == CASES:
            trial.expect("x.jsonl" in done.err, "records not named", done.err)


@situation
def a_full_temporary_folder(trial):
    """No room for temporary files, and no folder for them, while measuring really."""
    real = [*SWEEP[:3], "--hw", "4", "--strategy", "naive", "--mode", "forward", "--case-seconds", "0.01"]
    with small_disk(trial.folder / "full", 4) as disk:
        (disk / "ballast").write_bytes(bytes(4096))
        trial.run([*real, "--out", "a.jsonl"], environ={"TMPDIR": str(disk)}, program=REAL, limit=60)
    trial.run([*real, "--out", "b.jsonl"], environ={"TMPDIR": "/absent"}, program=REAL, limit=60)


@situation
def faults_of_the_disk(trial):
    """Calls that fail in the middle: fsync, write, open, rename."""
    for name, text in FAULTS.items():
        out = trial.folder / f"{name}.jsonl"
        script = trial.folder / f"{name}.py"
        script.write_text(text)
        done = trial.run([*SWEEP, "--out", str(out)], environ={"HOSTILE_FAULTS": str(script)})
        trial.expect(done.code not in (0, 3), "fault not told", f"{name}: {shortened(done.err)}")
        trial.completes(out)


CHANGED = """\
import os, scripted
OUT, measure, count = {out!r}, scripted.ScriptedDevice.measure, []
def changed(*arguments, **options):
    count.append(1)
    if len(count) == 5:
        {deed}
    return measure(*arguments, **options)
scripted.ScriptedDevice.measure = changed
"""


@situation
def a_record_file_that_changes(trial):
    """The file is removed, replaced, cut or added to while the sweep runs."""
    deeds = {
        "unlinked": "os.unlink(OUT)",
        "replaced": "open(OUT + '.n', 'w').write('mine'); os.replace(OUT + '.n', OUT)",
        "truncated": "os.truncate(OUT, 100)",
        "emptied": "os.truncate(OUT, 0)",
        "added to": "open(OUT, 'a').write('half a line')",
        "moved": "os.rename(OUT, OUT + '.moved')",
        "its folder removed": "import shutil; shutil.rmtree(os.path.dirname(OUT))",
        "made read-only": "os.chmod(OUT, 0)",
    }
    for name, deed in deeds.items():
        folder = trial.folder / name
        folder.mkdir()
        out, script = folder / "x.jsonl", trial.folder / "deed.py"
        script.write_text(CHANGED.format(out=str(out), deed=deed))
        done = trial.run(
            [*SWEEP, "--out", str(out)],
            environ={"HOSTILE_FAULTS": str(script), "PYTHONPATH": f"{os.environ['PYTHONPATH']}:{HERE}"},
        )
        kept = out.exists() and out.read_bytes().count(b"\n") >= CASES
        told = (
            done.code != 0
            or "attnprof: " in done.err
            or "warning" in done.err.lower()
            or str(out) in done.err.replace(f"records: {out}", "")
        )
        trial.expect(kept or told, "records lost without a word", f"{name}: {done.code}: {shortened(done.err[-300:])}")


@situation
def a_read_only_folder(trial):
    """Outputs in a folder of another user, with and without files there."""
    trial.run([*SWEEP, "--out", "x.jsonl"])
    (trial.folder / "elsewhere").mkdir()
    environ = {"XDG_STATE_HOME": str(trial.folder / "elsewhere")}
    give_away(trial.folder, trial.folder / "x.jsonl")
    before, rights = (trial.folder / "x.jsonl").read_bytes(), {"prefix": without_privileges()}
    for words in ([*SWEEP, "--out", "x.jsonl", "--resume"], [*SWEEP, "--out", "y.jsonl"], [*SWEEP, "--csv", "y.csv"]):
        done = trial.run(words, environ=environ, **rights)
        trial.expect(done.code == 2, "refused late", f"{words[-1]}: {done.code}: {shortened(done.err[-200:])}")
    trial.run(["recommend", "--from", "x.jsonl", "--hw", "8"], **rights)
    (trial.folder / "x.jsonl").chmod(0)
    trial.run(["recommend", "--from", "x.jsonl", "--hw", "8"], codes=(2,), **rights)
    trial.expect((trial.folder / "x.jsonl").read_bytes() == before, "records lost", "")


@situation
def a_read_only_disk(trial):
    """A disk that is mounted to be read: its records are answered from, and nothing is written."""
    with small_disk(trial.folder / "disk", 4000) as disk:
        trial.run([*SWEEP, "--out", str(disk / "x.jsonl")])
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        old, new, csv = (str(disk / name) for name in ("x.jsonl", "y.jsonl", "y.csv"))
        for words in (["--out", old, "--resume"], ["--out", new], ["--csv", csv]):
            done = trial.run([*SWEEP, *words])
            trial.expect(done.code == 2, "refused late", f"{words}: {done.code}: {shortened(done.err[-200:])}")
        done = trial.run(["recommend", "--from", str(disk / "x.jsonl"), "--hw", "8", "--budget", "4GB"])
        trial.expect(done.code == 0, "not read", f"{done.code}: {shortened(done.err[-200:])}")
