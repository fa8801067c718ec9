"""Run the programs of published memory figures on emulated cards and print real and emulated figures side by side.

`python results/published/run.py PYTHON...` takes the interpreters of environments with attnprof's dependencies and one
version of torch each: 2.6, 2.11 and any later one. `--write` renews the table in README.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BEGIN, END = "<!-- table -->", "<!-- end of the table -->"
ENVIRONMENT = """
import json, sys, torch
from attnprof.cases.cards import parse_cards
from attnprof.emulation import emulation_environment
[card] = parse_cards(sys.argv[1])
print(json.dumps([torch.__version__, emulation_environment(card)]))
"""


@dataclass(frozen=True)
class Case:
    """A program and the conditions under which it gives a published figure.

    Attributes:
        torch: the version, as `2.11`.
        card: the card, as `--gpu` spells it.
        options: PyTorch's allocator options.
        command: the program and its arguments.
    """

    torch: str
    card: str
    options: str
    command: str


def main() -> None:
    """Run every case for which there is an interpreter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", nargs="+", help="interpreters, one for each version of torch")
    parser.add_argument("--only", default="", help="run only the programs whose command contains this text")
    parser.add_argument("--write", action="store_true", help="renew the table in README.md")
    arguments = parser.parse_args()
    with (HERE / "figures.csv").open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if arguments.only in row["command"]]
    cases = dict.fromkeys(Case(row["torch"], row["card"], row["options"], row["command"]) for row in rows)
    interpreters = {version_of(python): python for python in arguments.python}
    found = {case: run(interpreters[case.torch], case) for case in cases if case.torch in interpreters}
    text = table(rows, found)
    print(text)
    if arguments.write and not arguments.only:
        page = (HERE / "README.md").read_text(encoding="utf-8")
        before, rest = page.split(BEGIN)
        page = f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"
        (HERE / "README.md").write_text(page, encoding="utf-8")


def version_of(python: str) -> str:
    """Return the version of an interpreter's torch, as `2.11`."""
    command = [python, "-W", "ignore", "-c", "import torch; print('.'.join(torch.__version__.split('.')[:2]))"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def run(python: str, case: Case) -> dict[str, Any]:
    """Return the figures that a program prints on an emulated card."""
    environ = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "PYTHONWARNINGS": "ignore"}
    asked = [python, "-c", ENVIRONMENT, case.card]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, env=environ)
    _, variables = json.loads(done.stdout)
    environ |= variables
    if case.options:
        environ["PYTORCH_CUDA_ALLOC_CONF"] = case.options
    program, *words = case.command.split()
    command = [python, str(HERE / program), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1:]}
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: list[dict[str, str]], found: dict[Case, dict[str, Any]]) -> str:
    """Return a Markdown table of all figures, and how many are equal."""
    lines = ["| source | program | quantity | real | emulated |", "|---|---|---|---|---|"]
    equal = compared = 0
    for row in rows:
        case = Case(row["torch"], row["card"], row["options"], row["command"])
        emulated = figure(found.get(case), row["quantity"])
        if case in found:
            compared += 1
            equal += emulated == row["real"]
        verdict = "equal" if emulated == row["real"] else emulated
        program = f"`{row['command']}`, {row['card']}, torch {row['torch']}"
        lines.append(f"| {row['source']} | {program} | {row['quantity']} | {row['real']} | {verdict} |")
    return f"{equal} of {compared} figures are equal.\n\n" + "\n".join(lines)


def figure(found: dict[str, Any] | None, quantity: str) -> str:
    """Return a figure as it was published, as text."""
    if found is None:
        return "not run"
    return str(found.get(quantity, "no such error" if quantity.startswith("out of memory") else found.get("error", "")))


if __name__ == "__main__":
    main()
