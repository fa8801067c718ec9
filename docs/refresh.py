"""Run the commands whose output the pages show, and put what they print today into the pages.

A block that follows `<!-- output: COMMAND -->` holds the command's standard output. A block that follows
`<!-- file: NAME -->` is a file that the commands of the same page find in their folder. A block that follows
`<!-- records: FILE HxW -->` holds the table of the records of that map size.

Run `python docs/refresh.py` in the root of the repository, with the CUDA build of PyTorch and torchvision installed, or
`python docs/refresh.py PAGE...` for some pages. Emulated output is the same each time.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^<!-- (output|records|file): (.*?) -->\n```([a-z]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def main() -> None:
    """Refresh the pages that are named, or all."""
    pages = [Path(name) for name in sys.argv[1:]] or sorted((ROOT / "docs").rglob("*.md"))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            new = _BLOCK.sub(lambda found: _renewed(found, Path(folder)), text)
        if new != text:
            page.write_text(new, encoding="utf-8")
            print(f"changed: {page}")


def _renewed(found: re.Match[str], folder: Path) -> str:
    kind, what, language, body = found.groups()
    if kind == "file":
        (folder / what).write_text(body, encoding="utf-8")
        return found[0]
    body = _records(what) if kind == "records" else _output(what, folder)
    lines = "\n".join(line.rstrip() for line in body.strip("\n").splitlines())
    return f"<!-- {kind}: {what} -->\n```{language}\n{lines}\n```"


def _output(command: str, folder: Path) -> str:
    program, *arguments = shlex.split(command)
    words = [sys.executable, *(["-m", "attnprof"] if program == "attnprof" else []), *arguments]
    print(f"running: {command}", flush=True)
    path = os.pathsep.join([str(ROOT), str(Path(sys.executable).parent), os.environ["PATH"]])
    environ = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(ROOT), "PATH": path}
    done = subprocess.run(words, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    # The code to paste is on the page of the snippet.
    return done.stdout.partition("\n# attnprof is installed")[0]


def _records(what: str) -> str:
    from rich.console import Console

    from attnprof.cases.record_lines import read_records
    from attnprof.report.sweep import sweep_page

    path, _, size = what.partition(" ")
    height, width = map(int, size.split("x"))
    records = [
        record
        for record in read_records(ROOT / path, "file")
        if (record.case.workload.height, record.case.workload.width) == (height, width)
    ]
    console = Console(width=80, file=StringIO(), highlight=False)
    console.print(sweep_page(records).table(), crop=False)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


if __name__ == "__main__":
    main()
