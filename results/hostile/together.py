"""Two of everything at once: writers of one file, and a hostile model beside a full disk, a kill beside a resume.

Each case stands once in the file, every line is a whole record, and a command that is refused says so in one line.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

from common import Tally, check_end, ended, leftovers, own_home, processes_with, shortened
from hostile_models import sources
from trial import REAL as COMMAND
from trial import SCRIPTED, limited, small_disk

CASES = 48
SWEEP = [
    "sweep",
    "--device",
    "cpu",
    "--hw",
    "4,6,8,10,12,14,16,18",
    "--strategy",
    "naive,chunked,sdpa-pad",
    "--mode",
    "forward,train",
]
SLOW = """\
import scripted, time
measure = scripted.ScriptedDevice.measure
def slow(*arguments, **options):
    time.sleep(0.02)
    return measure(*arguments, **options)
scripted.ScriptedDevice.measure = slow
"""
REAL = ["--device", "cpu", "--hw", "4", "--strategy", "naive", "--mode", "forward", "--case-seconds", "0.01"]


def attack(tally: Tally, count: int) -> None:
    """Try `count` pairs, at least one of each kind."""
    chosen = random.Random(tally.seed)
    writers = {
        "new": [*SWEEP, "--out", "x.jsonl"],
        "resumed": [*SWEEP, "--out", "x.jsonl", "--resume"],
        "resumed through a link": [*SWEEP, "--out", "link.jsonl", "--resume"],
        "limits": ["limits", "--budget", "4GB", "--out", "x.jsonl", "--resume"],
        "csv": [*SWEEP, "--csv", "x.jsonl"],
        "reader": ["recommend", "--from", "x.jsonl", "--hw", "8"],
        "merge": ["records", "merge", "x.jsonl", "y.jsonl", "--out", "z.jsonl"],
        "forced": [*SWEEP, "--out", "x.jsonl", "--force"],
        "killed": [*SWEEP, "--out", "x.jsonl", "--resume"],
    }
    pairs = [*combinations(writers, 2), *((name, name) for name in writers)]
    chosen.shuffle(pairs)
    for pair in pairs[: max(count, 10)]:
        _writers(tally, chosen, pair, writers)
    _libraries(tally)
    _model_on_a_full_disk(tally)
    _shadow_and_kill(tally, chosen)


def _start(words, program=SCRIPTED, **options):
    return subprocess.Popen(
        [sys.executable, *program, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True, **options,
    )  # fmt: skip


def _end(tally, process, what, limit=60, codes=(0, 1, 2, 3)):
    done = ended(process, limit, time.monotonic())
    check_end(tally, done, what, codes)
    return done


def _writers(tally, chosen, pair, writers):
    """Run two commands on one file at once; then see that nothing is doubled, torn or lost."""
    with own_home() as folder:
        (folder / "slow.py").write_text(SLOW)
        (folder / "link.jsonl").symlink_to("x.jsonl")
        os.environ["HOSTILE_FAULTS"] = str(folder / "slow.py")
        before = b""
        if (pair[0] != "new" and pair[1] != "new") or "csv" in pair:
            _end(tally, _start([*SWEEP[:4], "4,6", *SWEEP[5:], "--out", "x.jsonl"]), "prepared")
            _end(tally, _start([*SWEEP[:4], "4,6", *SWEEP[5:], "--out", "y.jsonl"]), "prepared")
            before = (folder / "x.jsonl").read_bytes()
        first = _start(writers[pair[0]])
        time.sleep(chosen.choice([0, 0, 0.1, 0.5, 0.8]))
        second = _start(writers[pair[1]])
        what = " and ".join(pair)
        if "killed" in pair:
            time.sleep(chosen.uniform(0.3, 1.2))
            (first if pair[0] == "killed" else second).kill()
        done = [_end(tally, process, what, codes=(0, 1, 2, 3, -9)) for process in (first, second)]
        tally.tried["pairs on one file"] += 1
        _check_file(
            tally, folder / "x.jsonl", before, f"{what}: {[(one.code, shortened(one.err[-150:])) for one in done]}"
        )


def _check_file(tally, path, before, what):
    from attnprof.cases.record import Record

    if not path.exists():
        tally.violate("records lost", f"{what}: no file")
        return
    *lines, cut = path.read_bytes().split(b"\n")
    cases, torn = [], ""
    for line in lines:
        try:
            record = Record.from_line(line)
        except ValueError as error:
            torn = torn or str(error)
            continue
        cases.append((str(record.case), record.settings.get("memory_only"), str(record.settings.get("budget_bytes"))))
    if torn:
        tally.violate("torn line", f"{what}: {torn}")
    if len(cases) != len(set(cases)):
        tally.violate("doubled", f"{what}: {len(cases)} records of {len(set(cases))} cases")
    if cut and "killed" not in what:
        tally.violate("torn line", f"{what}: {shortened(cut.decode('utf-8', 'replace'))}")
    if "forced" not in what and not set(before.split(b"\n")) <= {*lines, b""}:
        tally.violate("records lost", what)


def _libraries(tally):
    """Two commands build the stand-in libraries in one new cache, and one of two is killed meanwhile."""
    card = ["sweep", "--gpu", "t4", "--hw", "4", "--strategy", "naive", "--mode", "forward"]
    for kill in (False, True):
        with own_home() as folder:
            environ = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
            both = [_start([*card, "--out", f"{n}.jsonl"], COMMAND, env=environ) for n in "ab"]
            if kill:
                time.sleep(1.0)
                os.killpg(both[0].pid, signal.SIGKILL)
            done = [_end(tally, one, f"two builds, kill {kill}", 120, (0, -9)) for one in both]
            tally.tried["two builds"] += 1
            if done[1].code != 0:
                tally.violate("broken", f"two builds, kill {kill}: {shortened(done[1].err[-300:])}")
            stray = [path.name for path in (folder / "cache").glob("attnprof/emulation/*") if path.name != "lock"]
            if len(stray) != 1 and not kill:
                tally.violate("build files left", stray)


def _model_on_a_full_disk(tally):
    """A hostile model's record does not fit on the disk, and few descriptors are left."""
    for name in ("garbage to every descriptor", "a fork whose child returns", "prints megabytes"):
        with own_home() as folder:
            (folder / "net.py").write_text(sources()[name][0])
            words = ["model", "net.py:Net", "--input", "4,256", "--device", "cpu", "--case-seconds",
                     "0.01", "--timeout", "10",
                     "--no-largest-batch"]  # fmt: skip
            try:
                with small_disk(folder / "full", 4) as disk:
                    (disk / "ballast").write_bytes(bytes(4096))
                    process = _start([*words, "--out", str(disk / "x.jsonl")], COMMAND,
                                     preexec_fn=limited(resource.RLIMIT_NOFILE, 64))  # fmt: skip
                    done = _end(tally, process, f"{name} on a full disk", 60, (0, 1, 2))
            except OSError as error:
                tally.notes["skipped"] = str(error)
                return
            tally.tried["hostile model on a full disk"] += 1
            if done.code == 0:
                tally.violate("full disk not told", name)


def _shadow_and_kill(tally, chosen):
    """A shadowed module in the folder, a closed stdout, and a kill of the group, all at once."""
    with own_home() as folder:
        os.environ["HOSTILE_MARK"] = mark = f"{os.getpid()}.{time.time()}"
        for name in ("random", "types", "json"):
            (folder / f"{name}.py").write_text("raise RuntimeError('shadow')\n")
        console = (
            "-c",
            "import sys; sys.path.pop(0); sys.argv[0] = 'attnprof'; from attnprof.cli.app import main; main()",
        )
        process = _start(["sweep", *REAL, "--out", "x.jsonl"], console)
        process.stdout.close()
        time.sleep(chosen.uniform(1, 4))
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        tally.tried["shadow, closed pipe and signal"] += 1
        again = _end(tally, _start(["sweep", *REAL, "--out", "x.jsonl", "--resume"], console), "shadow and kill", 60)
        if again.code != 0:
            tally.violate("broken", f"shadow and kill: {again.code}: {shortened(again.err[-300:])}")
        time.sleep(0.5)
        if processes_with(mark):
            tally.violate("process left", processes_with(mark))
        if leftovers(Path(os.environ["TMPDIR"])):
            tally.violate("temporary files left", leftovers(Path(os.environ["TMPDIR"])))
