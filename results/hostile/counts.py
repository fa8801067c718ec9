"""Write the table of counts into README.md, from before.jsonl and after.jsonl: `python results/hostile/counts.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Replace what stands between the marks in README.md."""
    before, after = (_lines(HERE / name) for name in ("before.jsonl", "after.jsonl"))
    rows = ["| class | tries before | violations before | tries after | violations after |", "|---|---|---|---|---|"]
    for name in after:
        cells = [cell for line in (before.get(name), after[name]) for cell in _cells(line)]
        rows.append(f"| {' | '.join([name, *cells])} |")
    table = "\n".join(["<!-- counts -->", *rows, "<!-- end of counts -->"])
    readme = HERE / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(
        re.sub(r"<!-- counts -->.*?<!-- end of counts -->", lambda _: table, text, flags=re.DOTALL), encoding="utf-8"
    )


def _lines(path):
    """Return the newest line of each class."""
    return {line["class"]: line for line in map(json.loads, path.read_text(encoding="ascii").splitlines())}


def _cells(line):
    if line is None:
        return ["", ""]
    found = {"traceback": line["tracebacks"], "hang": line["hangs"], **line["other_violations"]}
    words = ", ".join(f"{kind} {count:,}" for kind, count in found.items() if count)
    return [f"{line['tried']:,}", words or "0"]


if __name__ == "__main__":
    main()
