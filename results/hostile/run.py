"""The long form of the tests of hostile conditions: `python results/hostile/run.py --class arguments --count 10000`.

Set PYTHONPATH to the checkout of attnprof that is to be tried. Each class prints one line of counts and appends it to a
file of JSON lines. README.md in this folder describes the classes.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

COUNTS = {
    "arguments": 10_000,
    "records": 2_000,
    "kills": 200,
    "models": 100,
    "disk": 20,
    "shadows": 24,
    "together": 20,
}


def main() -> None:
    """Run one class or all, and exit with 1 if there was a violation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--class", dest="names", action="append", choices=COUNTS, help="repeatable; default: all")
    parser.add_argument(
        "--count", type=int, help="trials; default: " + ", ".join(f"{k} {n}" for k, n in COUNTS.items())
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a file of JSON lines to append the counts to")
    options = parser.parse_args()
    out = options.out and options.out.resolve()
    clean = True
    for name in options.names or COUNTS:
        from common import Tally

        tally = Tally(name, options.seed)
        importlib.import_module(name).attack(tally, options.count or COUNTS[name])
        line = tally.line()
        print(line)
        for kind, examples in tally.examples.items():
            print(f"  {name}: {kind} ({tally.violations[kind]})", file=sys.stderr)
            for example in examples:
                print(f"    {example}", file=sys.stderr)
        if out:
            with out.open("a", encoding="ascii") as stream:
                stream.write(line + "\n")
        clean = clean and not sum(tally.violations.values())
    sys.exit(not clean)


if __name__ == "__main__":
    main()
