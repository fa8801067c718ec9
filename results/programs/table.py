"""Print tables of what run.py wrote: `python results/programs/table.py --before FILE --after FILE [--cost FILE]`.

The first compares an attnprof without values with one that has them. The second compares values on and off, to the
byte. The third has the medians of CPU time.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

Row = dict[str, Any]
_FIGURES = ("peak_allocated_bytes", "peak_reserved_bytes", "allocations", "allocated_bytes_in_all")
_LETTERS = 90  # of an error


def read(path: Path) -> dict[tuple[str, str], list[Row]]:
    """Return the rows of a file by program and mode, in their order."""
    rows: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for line in path.read_text(encoding="ascii").splitlines():
        row = json.loads(line)
        rows[row["program"], row["mode"]].append(row)
    return rows


def comparison(before: dict[tuple[str, str], list[Row]], after: dict[tuple[str, str], list[Row]]) -> list[str]:
    """Return the lines of the table of all programs; the last run of each counts."""
    lines = [
        "| program | from | before | peak | with values | peak | reserved | true | drawn | made up |",
        "|---" * 10 + "|",
    ]
    for (name, mode), rows in after.items():
        if mode != "values":
            continue
        new, old = rows[-1], before[name, mode][-1]
        reads = (new["reads"].get(level, 0) for level in ("true", "drawn", "made_up"))
        cells = [
            name,
            f"{new['origin']} {new['version']}",
            _short(old),
            _bytes(old["peak_allocated_bytes"]),
            _short(new),
        ]
        cells += [_bytes(new[one]) for one in _FIGURES[:2]] + [f"{one:,}" for one in reads]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def bytes_for_bytes(after: dict[tuple[str, str], list[Row]]) -> list[str]:
    """Return the lines of the table of programs whose sizes do not depend on values."""
    lines = ["| program | peak | reserved | allocations | bytes in all | values on and off |", "|---" * 6 + "|"]
    for (name, mode), rows in after.items():
        off = after.get((name, "no-values"))
        if mode != "values" or not off or rows[-1]["sized_by_values"]:
            continue
        figures = [rows[-1][one] for one in _FIGURES]
        same = figures == [off[-1][one] for one in _FIGURES]
        verdict = "equal" if same else f"off: {', '.join(_bytes(off[-1][one]) for one in _FIGURES)}"
        lines.append(f"| {name} | {' | '.join(map(_bytes, figures))} | {verdict} |")
    return lines


def cost(rows: dict[tuple[str, str], list[Row]]) -> list[str]:
    """Return the lines of the table of CPU seconds, the median and the extremes of the runs."""
    lines = ["| program | runs | values off, CPU s | values on, CPU s | more |", "|---" * 5 + "|"]
    for name in dict.fromkeys(name for name, _ in rows):
        off, on = ([row["cpu_seconds"] for row in rows[name, mode]] for mode in ("no-values", "values"))
        more = f"{100 * (median(on) / median(off) - 1):.0f} %"
        lines.append(f"| {name} | {len(on)} | {_spread(off)} | {_spread(on)} | {more} |")
    return lines


def _spread(seconds: list[float]) -> str:
    return f"{median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


def _short(row: Row) -> str:
    text = str(row["ended"]).replace("exit code 1: ", "").replace("|", "/")
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]}..."


def _bytes(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def main() -> None:
    """Print the tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--after", type=Path, required=True)
    parser.add_argument("--cost", type=Path)
    options = parser.parse_args()
    after = read(options.after)
    tables = [comparison(read(options.before), after), bytes_for_bytes(after)]
    if options.cost:
        tables.append(cost(read(options.cost)))
    print("\n\n".join("\n".join(lines) for lines in tables))


if __name__ == "__main__":
    main()
