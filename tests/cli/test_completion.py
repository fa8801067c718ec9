"""Shell completion: of commands, and of the last entry of a list."""

import os
import subprocess
import sys

import pytest

from attnprof.cli import completion


def values(found):
    return [value for value, _ in found]


@pytest.mark.parametrize(
    ("complete", "incomplete", "expected"),
    [
        ("strategies", "on", ["online"]),
        ("strategies", "naive,ch", ["naive,chunked", "naive,checkpoint"]),
        ("strategies", "naive,pooled:2+sdpa-", ["naive,pooled:2+sdpa-pad", "naive,pooled:2+sdpa-split"]),
        ("cards", "t4,l4", ["t4,l4", "t4,l40s"]),
        ("cards", "t4,memory=8GB,v", ["t4,memory=8GB,v100"]),
        ("blocks", "sagan,d", ["sagan,danet"]),
        ("modes", "", ["forward", "train"]),
        ("dtypes", "fp32,b", ["fp32,bf16"]),
        ("optimizers", "adam", ["adam", "adamw"]),
        ("dtypes", "fp32,x", []),
    ],
)
def test_the_last_entry_is_completed(complete, incomplete, expected):
    assert values(getattr(completion, f"complete_{complete}")(incomplete)) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("attnprof recom", "recommend"),
        ("attnprof sweep --strategy naive,onl", "naive,online"),
        ("attnprof limits --vary b", "batch"),
        ("attnprof model net.py:Net --optimizer sgd-", "sgd-momentum"),
        ("attnprof snippet sdpa-s", "sdpa-split"),
        ("attnprof doctor --format m", "markdown"),
    ],
)
def test_bash_is_answered(words, expected):
    environ = {**os.environ, "_ATTNPROF_COMPLETE": "complete_bash", "COMP_WORDS": words,
               "COMP_CWORD": str(len(words.split()) - 1)}  # fmt: skip
    code = "import sys; sys.argv[0] = 'attnprof'; from attnprof.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [expected]
