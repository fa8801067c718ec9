"""Run real programs on an emulated card: `python results/programs/run.py CHECKOUTS --out FILE`.

CHECKOUTS is the folder with the repositories of README.md and the data of make_data.py. Each program runs under
`attnprof run --gpu CARD --format json`, once a mode, and appends a line to a file of JSON lines: how it ended, what it
allocated, which reads were true, and what it cost. table.py makes the tables from such files.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from catalogue import HERE, PROGRAMS, Program

_MODES = {"values": (), "no-values": ("--no-values",)}
_SITE = HERE / "site"
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "disabled",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "YOLO_OFFLINE": "true",
    "MPLBACKEND": "Agg",
}
_ERROR = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)\b.*|terminate called .*|Killed)$", re.M)
_PEAKS, _SUMS = ("peak_allocated_bytes", "peak_reserved_bytes"), ("allocations", "allocated_bytes_in_all")


def run_one(program: Program, checkouts: Path, options: argparse.Namespace, mode: str) -> dict[str, Any]:
    """Run one program once and return its row."""
    data = checkouts / "data"
    words = [one.replace("DATA", str(data)) for one in program.arguments]
    with tempfile.TemporaryDirectory() as folder:
        statistics = Path(folder) / "statistics"
        environ = {**os.environ, **_QUIET, "PROGRAM_STATISTICS": str(statistics)}
        environ["TORCH_HOME"] = str(data / "torch_home")
        paths = [options.attnprof, _SITE, checkouts / program.folder]
        environ["PYTHONPATH"] = os.pathsep.join(str(one) for one in paths if one)
        command = [sys.executable, "-m", "attnprof", "run", "--gpu", options.gpu, "--format", "json", *_MODES[mode]]
        command += ["--", sys.executable, *words]
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        answer, errors, late = _finished(command, checkouts / program.folder, environ, options.timeout)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        rows = [json.loads(line) for line in statistics.read_text().splitlines()] if statistics.exists() else []
    (options.logs / f"{program.name.replace(' ', '_')}.{mode}.log").write_text(answer + errors)
    document = _document(answer)
    return {
        "program": program.name,
        "origin": program.origin,
        "version": version(program.origin) if program.installed else _commit(checkouts / program.folder),
        "sized_by_values": program.sized_by_values,
        "mode": mode,
        "gpu": options.gpu,
        "ended": f"stopped after {options.timeout:.0f} s" if late else _ended(document, errors),
        **{name: sum(one[name] for one in document.get("processes", ())) or None for name in _PEAKS},
        **{name: sum(row[name] for row in rows) or None for name in _SUMS},
        "reads": _reads(document),
        "cpu_seconds": round(sum(_cpu(after)) - sum(_cpu(before)), 2),
        "wall_seconds": round(time.monotonic() - began, 2),
    }


def _finished(command: list[str], folder: Path, environ: dict[str, str], limit: float) -> tuple[str, str, bool]:
    """Run a command in a session of its own and return its two outputs and whether its time ran out."""
    with subprocess.Popen(
        command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, errors="replace", start_new_session=True,
    ) as process:  # fmt: skip
        try:
            return *process.communicate(timeout=limit), False
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
        try:
            return *process.communicate(timeout=20), True
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return *process.communicate(), True


def _document(answer: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(answer)
        return found
    except ValueError:
        return {}


def _ended(document: dict[str, Any], errors: str) -> str:
    """Return how a program ended, in a few words."""
    code = document.get("exit_code")
    if code == 0:
        return "finished"
    found = _ERROR.findall(errors)
    return f"exit code {code}: {found[-1] if found else errors.strip()[-100:]}"[:160]


def _reads(document: dict[str, Any]) -> dict[str, int] | None:
    """Return how many reads were true, drawn and made up; None if this version of attnprof does not tell them apart."""
    counts: Counter[str] = Counter()
    for process in document.get("processes", []):
        counts.update(process.get("reads") or {"untold": process["read_backs"]})
    return dict(counts)


def _cpu(usage: resource.struct_rusage) -> tuple[float, float]:
    return usage.ru_utime, usage.ru_stime


def _commit(folder: Path) -> str:
    command = ["git", "-C", str(folder), "log", "-1", "--format=%h"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Run the chosen programs in the chosen modes and append a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", type=Path, help="the folder of the checkouts")
    parser.add_argument("--out", type=Path, required=True, help="a file of JSON lines to append to")
    parser.add_argument("--attnprof", type=Path, help="a checkout of attnprof; default: the installed one")
    parser.add_argument("--gpu", default="t4")
    parser.add_argument("--mode", dest="modes", action="append", choices=_MODES, help="repeatable; default: values")
    parser.add_argument("--only", action="append", help="a program by its name; repeatable; default: all")
    parser.add_argument("--same-sizes", action="store_true", help="only programs whose sizes do not depend on values")
    parser.add_argument("--runs", type=int, default=1, help="runs of each program and mode")
    parser.add_argument("--timeout", type=float, default=150, help="seconds a run")
    parser.add_argument("--logs", type=Path, default=Path("/tmp/programs-logs"), help="a folder for their outputs")
    options = parser.parse_args()
    options.logs.mkdir(parents=True, exist_ok=True)
    checkouts = options.checkouts.resolve()
    for program in PROGRAMS:
        chosen = program.name in options.only if options.only else not (options.same_sizes and program.sized_by_values)
        if not chosen:
            continue
        for _ in range(options.runs):
            for mode in options.modes or ["values"]:
                row = run_one(program, checkouts, options, mode)
                with options.out.open("a", encoding="ascii") as stream:
                    stream.write(json.dumps(row) + "\n")
                print(
                    row["program"], mode, row["ended"], row["peak_allocated_bytes"], row["reads"], sep="; ", flush=True
                )


if __name__ == "__main__":
    main()
