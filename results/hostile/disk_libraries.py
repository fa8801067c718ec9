"""Situations of the class `disk`: the cache of the stand-in libraries, scarce means, and junk that a program leaves."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from common import available, leftovers, shortened
from trial import CARD, NOBODY, REAL, SWEEP, limited, situation, small_disk


@situation
def a_full_disk_for_libraries(trial):
    """The stand-in libraries cannot be built: the reason is the disk, not the compiler."""
    with small_disk(trial.folder / "full", 400) as disk:
        done = trial.run(CARD, environ={"XDG_CACHE_HOME": str(disk)}, program=REAL, limit=60)
        trial.expect(done.code != 0, "full disk not told", done.err)
        trial.expect("install gcc" not in done.err, "wrong remedy", done.err)
        trial.expect("space" in done.err, "full disk not told", shortened(done.err))


@situation
def damaged_libraries(trial):
    """The built libraries are cut, emptied, removed or changed: they are built anew."""
    cache = trial.folder / "cache"
    shutil.copytree(os.environ["XDG_CACHE_HOME"], cache)
    environ = {"XDG_CACHE_HOME": str(cache)}
    trial.run([*CARD, "--out", "0.jsonl"], environ=environ, program=REAL, limit=120)
    deeds = {"cut": lambda p: os.truncate(p, 1000), "emptied": lambda p: os.truncate(p, 0), "removed": os.remove,
             "changed": lambda p: p.write_bytes(p.read_bytes()[:-100] + bytes(100))}  # fmt: skip
    for number, (deed, do) in enumerate(deeds.items(), start=1):
        names = ("libcublas.so.", "libcudart.so.", "libcuda.so.", "libcudnn.so.")
        library = next(p for p in cache.glob(f"attnprof/emulation/torch-*/{names[number - 1]}*") if p.suffix != ".map")
        do(library)
        done = trial.run([*CARD, "--out", f"{number}.jsonl"], environ=environ, program=REAL, limit=120)
        good = [record.outcome.value for record in trial.records(f"{number}.jsonl")] == ["completed"]
        trial.expect(
            done.code == 0 and good, "not repaired", f"{library.name} {deed}: {done.code}: {shortened(done.err[-300:])}"
        )


@situation
def planted_libraries(trial):
    """A library of another user, or in a folder that others can write, is not loaded."""
    cache = trial.folder / "cache"
    shutil.copytree(os.environ["XDG_CACHE_HOME"], cache)
    trial.run([*CARD, "--out", "first.jsonl"], environ={"XDG_CACHE_HOME": str(cache)}, program=REAL, limit=120)
    folder = next(iter(cache.glob("attnprof/emulation/torch-*")), None)
    if folder is None or not available("gcc"):
        raise OSError("no built libraries")
    source, loaded = trial.folder / "evil.c", trial.folder / "loaded"
    source.write_text(
        f'#include <stdio.h>\n__attribute__((constructor)) void go(void) {{ fclose(fopen("{loaded}", "a")); }}\n'
    )
    for name in ("another user's", "writable by others"):
        for path in (cache, *cache.rglob("*")):
            os.chown(path, NOBODY if name == "another user's" else os.getuid(), -1)
            if path.is_dir():
                path.chmod(0o755 if name == "another user's" else 0o777)
        subprocess.run(["gcc", "-shared", "-fPIC", source, "-o", folder / "libcuda.so.1"], check=True)
        trial.run([*CARD, "--out", f"{name}.jsonl"], environ={"XDG_CACHE_HOME": str(cache)}, program=REAL, limit=120)
        trial.expect(not loaded.exists(), "foreign code ran", name)
        loaded.unlink(missing_ok=True)


@situation
def scarce_means(trial):
    """Few files, little memory, no processes."""
    for kind, number in ((resource.RLIMIT_NOFILE, 12), (resource.RLIMIT_NOFILE, 8), (resource.RLIMIT_AS, 200 * 2**20)):
        trial.run([*SWEEP, "--out", f"{kind}-{number}.jsonl"], preexec_fn=limited(kind, number), codes=(0, 1, 2))
    real = [
        "sweep",
        "--device",
        "cpu",
        "--hw",
        "4",
        "--strategy",
        "naive",
        "--mode",
        "forward",
        "--case-seconds",
        "0.01",
    ]
    for number in (300 * 2**20, 2**30, 3 * 2**30):
        trial.run([*real, "--out", f"{number}.jsonl"], preexec_fn=limited(resource.RLIMIT_AS, number), program=REAL,
                  limit=60)  # fmt: skip
    trial.expect(
        not leftovers(Path(os.environ["TMPDIR"])), "temporary files left", leftovers(Path(os.environ["TMPDIR"]))
    )


JUNK = """\
import os
folder = os.environ["ATTNPROF_WATCH_FOLDER"]
open(folder + "/1.json", "wb").write(os.fsencode({text!r}))
os.mkdir(folder + "/2.json")
os.mkfifo(folder + "/3.json")
os.symlink("/dev/zero", folder + "/4.json")
"""


@situation
def junk_of_a_program(trial):
    """A program of `attnprof run` that leaves junk where its findings are collected."""
    junk = {
        "not JSON": "{",
        "a list": "[]",
        "null": "null",
        "deep": "[" * 9000,
        "binary": "\udcff",
        "a number": "1e999",
    }
    for name, text in junk.items():
        script = trial.folder / "program.py"
        script.write_text(JUNK.format(text=text))
        done = trial.run(["run", "--gpu", "t4", "--", sys.executable, str(script)], program=REAL, limit=15,
                         codes=(0, 1, 2))  # fmt: skip
        trial.expect(not leftovers(Path(os.environ["TMPDIR"])), "temporary files left", f"{name}: {done.code}")
