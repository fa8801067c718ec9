"""Make the README's picture: a terminal with the output of a real run, as SVG.

Run `python docs/pictures.py` with the CUDA build of PyTorch installed; no GPU is needed.
"""

from __future__ import annotations

import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

COMMAND = ("recommend", "--hw", "256", "--batch", "8", "--mode", "train", "--gpu", "t4")
TARGET = Path(__file__).parent / "assets" / "recommend.svg"


def main() -> None:
    """Run the command and write its output as a picture."""
    done = subprocess.run(
        [sys.executable, "-m", "attnprof", *COMMAND], capture_output=True, text=True, check=True, env=_environ()
    )
    console = Console(record=True, width=82, file=StringIO())
    console.print(Text(f"$ attnprof {' '.join(COMMAND)}", style="bold green"))
    console.print(Text.from_ansi(done.stdout.partition("\nfrom attnprof")[0].partition("\n# ")[0].rstrip()))
    TARGET.write_text(console.export_svg(title="attnprof", unique_id="recommend"), encoding="utf-8")


def _environ() -> dict[str, str]:
    import os

    return {**os.environ, "COLUMNS": "80", "FORCE_COLOR": "1"}


if __name__ == "__main__":
    main()
