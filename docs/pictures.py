"""Make the pictures of the pages: a terminal with the output of a real run, and the layers of the packages.

Run `python docs/pictures.py` in the root of the repository, with the CUDA build of PyTorch installed; no GPU is needed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "docs" / "assets"
COMMAND = ("recommend", "--hw", "256", "--batch", "8", "--mode", "train", "--gpu", "t4")
# The modules of the lowest layer have names that explain themselves.
CONCERNS = {
    "cli": "commands",
    "api": "the same from Python",
    "progress": "what is shown while a command runs",
    "report": "what is shown at the end",
    "studies": "sweep, limits, recommend, model, run, doctor",
    "measure": "the runner, and the worker that it starts",
    "emulation": "the emulated card",
    "patching": "blocks in a user's model",
    "cases": "workload, case, plan, record, card",
    "attention": "blocks and strategies",
    "units": "bytes as text",
}
# rich names a font of a content delivery network; the reader's own serves, and nothing is loaded.
_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_FONT_FAMILY = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def main() -> None:
    """Make both pictures."""
    (ASSETS / "recommend.svg").write_text(terminal(), encoding="utf-8")
    (ASSETS / "layers.svg").write_text(layers_picture(), encoding="utf-8")


def terminal() -> str:
    """Run the command and return its output, without the code to paste, as a picture."""
    environ = {**os.environ, "COLUMNS": "80", "FORCE_COLOR": "1", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "attnprof", *COMMAND]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environ)
    report = Text.from_ansi(done.stdout)
    # The code begins with a comment in a colour of its own.
    code = re.search(r"^#", report.plain, re.MULTILINE)
    report = report[: code.start()] if code else report
    report.rstrip()
    console = Console(record=True, width=82, file=StringIO())
    console.print(Text(f"$ attnprof {' '.join(COMMAND)}", style="bold green"))
    console.print(report)
    picture = _FONT.sub("", console.export_svg(title="attnprof", unique_id="recommend"))
    picture = re.sub(r"font-family: Fira Code, monospace", f"font-family: {_FONT_FAMILY}", picture)
    return "\n".join(line.rstrip() for line in picture.splitlines()) + "\n"


def layers() -> list[list[str]]:
    """Return the layers of the import-linter contract in pyproject.toml, the top one first."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^type = "layers"$.*?^layers = \[\n(.*?)^\]', text, re.MULTILINE | re.DOTALL)
    assert found, "pyproject.toml has no contract of type layers"
    return [re.split(r" [|:] ", line) for line in re.findall(r'"(.*)"', found[1])]


def layers_picture() -> str:
    """Draw each layer as a row of boxes."""
    rows = [row for row in layers() if row != ["__main__"]]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {len(rows) * 56}" role="img"'
        ' font-family="sans-serif" font-size="14">',
        "<title>The layers of attnprof: each package imports only from the layers below its own</title>",
    ]
    for number, row in enumerate(rows):
        lines += _row(row, number * 56 + 2, last=number == len(rows) - 1)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _row(packages: list[str], y: int, *, last: bool) -> Iterator[str]:
    width = (620 - 10 * (len(packages) - 1)) / len(packages)
    for place, package in enumerate(packages):
        x = 10 + place * (width + 10)
        yield f'<rect x="{x:g}" y="{y}" width="{width:g}" height="40" rx="6" fill="#e8eaf6" stroke="#3f51b5"/>'
        yield f'<text x="{x + 12:g}" y="{y + 25}" fill="#1a237e" font-weight="bold">{package}</text>'
        yield f'<text x="{x + 104:g}" y="{y + 25}" fill="#333">{CONCERNS.get(package, "")}</text>'
    if not last:
        yield f'<path d="M 320 {y + 40} v 6 h 5 l -5 7 l -5 -7 h 5" fill="#3f51b5" stroke="#3f51b5"/>'


if __name__ == "__main__":
    main()
