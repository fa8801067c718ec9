"""The script of `results/hostile` runs, and finds nothing in a few of its trials."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "results" / "hostile" / "run.py"


def test_a_hundred_random_command_lines(tmp_path):
    command = [sys.executable, SCRIPT, "--class", "arguments", "--count", "100", "--out", tmp_path / "counts.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    [counts] = map(json.loads, (tmp_path / "counts.jsonl").read_text().splitlines())
    assert counts["tried"] >= 100
    assert (counts["tracebacks"], counts["hangs"], counts["other_violations"]) == (0, 0, {})
