"""Situations of the class `disk`: outputs that name one file, are no files, or cannot be written or shown."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from common import check_end, run, shortened
from trial import HERE, SCRIPTED, SWEEP, situation


@situation
def one_file_for_two_outputs(trial):
    """`--out` and `--csv` name one file, also through links, or a file that is not attnprof's."""
    folder = trial.folder
    (folder / "net.py").write_text("# mine\n")
    (folder / "mine.csv").write_text("my,own\n1,2\n")
    trial.run([*SWEEP, "--out", "old.jsonl"])
    (folder / "link").symlink_to("old.jsonl")
    os.link(folder / "old.jsonl", folder / "hard")
    (folder / "here").symlink_to(".")
    old = (folder / "old.jsonl").read_bytes()
    for csv in ("old.jsonl", "link", "hard", "./old.jsonl", "here/old.jsonl", f"../c/{'old.jsonl'}"):
        done = trial.run([*SWEEP, "--out", "old.jsonl", "--resume", "--csv", csv])
        trial.expect((folder / "old.jsonl").read_bytes() == old, "records lost", f"--csv {csv}")
        trial.expect(done.code == 2, "not refused", f"--csv {csv}: {done.code}")
        (folder / "old.jsonl").write_bytes(old)
        (folder / "hard").unlink()
        os.link(folder / "old.jsonl", folder / "hard")
    done = trial.run([*SWEEP, "--out", "new.jsonl", "--csv", "new.jsonl"])
    trial.expect(done.code == 2, "not refused", "--out new.jsonl --csv new.jsonl")
    for csv in ("net.py", "mine.csv"):
        before = (folder / csv).read_bytes()
        done = trial.run([*SWEEP, "--out", f"{csv}.jsonl", "--csv", csv])
        trial.expect((folder / csv).read_bytes() == before, "a foreign file lost", f"--csv {csv}: {done.code}")
    for out in ("net.py", "mine.csv"):
        before = (folder / out).read_bytes()
        for more in ([], ["--resume"]):
            trial.run([*SWEEP, "--out", out, *more], codes=(2,))
            trial.expect((folder / out).read_bytes() == before, "a foreign file lost", f"--out {out} {more}")


@situation
def outputs_that_are_no_files(trial):
    """Folders, devices, pipes, links to nothing, and names that are too long."""
    folder = trial.folder
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("absent/x")
    (folder / "dangling2").symlink_to("x2")
    places = ["folder", "fifo", "loop", "dangling", "dangling2", "/dev/null", "/dev/full", "/dev/stdout",
              "x" * 300, "net/",
              "absent/x", "a\nb", "\x1b[2J", "old.jsonl/x", "/proc/self/fd/1"]  # fmt: skip
    for place in places:
        for option in ("--out", "--csv"):
            words = [*SWEEP, option, place, *(["--out", "kept.jsonl"] if option == "--csv" else [])]
            (folder / "kept.jsonl").unlink(missing_ok=True)
            done = trial.run(words)
            if done.code not in (0, 2):
                trial.violate("refused late", f"{option} {place!r}: {done.code}: {shortened(done.err[-200:])}")
            if (
                option == "--csv"
                and done.code
                and (folder / "kept.jsonl").exists()
                and (folder / "kept.jsonl").stat().st_size
            ):
                trial.expect(
                    "kept.jsonl" in done.err, "records not named", f"--csv {place!r}: {shortened(done.err[-200:])}"
                )


@situation
def outputs_that_cannot_be_written(trial):
    """Standard output and error on a full device, or closed."""
    for words in (SWEEP, ["gpus"], ["gpus", "--format", "json"], ["--help"], ["sweep", "--help"],
                  ["snippet", "chunked"],
                  ["--version"], ["strategies"], ["sweep", "--hw", "x"]):  # fmt: skip
        with Path("/dev/full").open("wb") as full:
            done = trial.run(words, stdout=full)
            trial.expect(done.code != 0 or words[-1] == "x", "full output not told", words)
            trial.run(words, stderr=full)
            trial.run(words, stdout=full, stderr=full)
        for closed in ((1,), (2,), (1, 2), (0, 1, 2)):
            trial.run(words, preexec_fn=lambda closed=closed: [os.close(one) for one in closed],
                      stderr=subprocess.DEVNULL if 2 in closed else None or subprocess.PIPE)  # fmt: skip


@situation
def a_folder_that_is_gone(trial):
    """The current folder was removed, or cannot be read."""
    for words in (SWEEP, [*SWEEP, "--out", "x.jsonl"], [*SWEEP, "--csv", "x.csv"], ["gpus"], ["recommend",
                  "--from", "x.jsonl"],
                  ["model", "net.py:Net", "--input", "1"], ["run", "--gpu", "t4", "--", "true"]):  # fmt: skip
        gone = trial.folder / "gone"
        gone.mkdir()
        trial.run(words, program=("-c", f"import os, sys, runpy; os.rmdir(os.getcwd()); sys.argv[0] = {SCRIPTED[0]!r}; "
                                  f"sys.path.insert(0, {str(HERE)!r}); "
                                  "runpy.run_path(sys.argv[0], run_name='__main__')"),
                  cwd=gone)  # fmt: skip


@situation
def odd_locales(trial):
    """Encodings that cannot show everything."""
    odd = [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "utf-16"},
        {"LC_ALL": "C", "PYTHONUTF8": "0"},
        {"LC_ALL": "xx_YY"},
        {"TERM": "\x1b"},
        {"TZ": "\x1b"},
        {"COLUMNS": "x"},
        {"FORCE_COLOR": "1", "COLUMNS": "3"},
    ]
    for environ in odd:
        for words in (["gpus"], [*SWEEP[:4], "8"], ["snippet", "chunked"], ["--help"], ["sweep", "--hw", "é\udcff"]):
            done = run([os.fsencode(word) for word in words], program=SCRIPTED, limit=20, env={**os.environ, **environ})
            trial.tally.tried[trial.name] += 1
            if "utf-16" not in environ.values() and "1" not in environ.values():
                check_end(trial.tally, done, f"{trial.name}: {environ} {shortened(' '.join(words))}")
