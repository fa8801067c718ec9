"""Option values from an attacker: one line that names option and value, exit code 2, and nothing runs."""

import re
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.commands import attnprof_here

DIGITS = ("9" * 26, "9" * 400, "9" * 5000, "-1", "0", "1e300", "nan", "inf", "1_000", "٣")
WORDS = (
    "", " ", ",", "\x1b[2J\x1b]0;t\x07", "a\nb", "\u202e", "\udcff", "[red]x[/red]", "--hw", "x" * 100_000,
    "a+b+" * 1000, "1," * 10_000, "%s%n", "$(id)", "0x10", "1.5", "None",
)  # fmt: skip
NUMBERS = ["batch", "channels", "reduction", "seed", "timeout", "case-seconds", "hw"]
TEXTS = ["mode", "dtype", "block", "strategy", "device", "gpu", "budget", "context", "format", "retry"]
FINE = {
    ("seed", "-1"), ("seed", "0"), ("budget", "1.5"), ("context", "1.5"), ("context", "0"),
    *((option, value) for option in ("timeout", "case-seconds") for value in ("1.5", "1_000", "٣")),
}  # fmt: skip


def is_one_line(done, *, name=""):
    """Check that a command ended as bad input does."""
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("attnprof: ")
    assert done.stderr.count("\n") == 1
    assert done.stderr[:-1].isprintable()
    assert len(done.stderr) <= 500
    assert name in done.stderr
    return True


@pytest.mark.parametrize("option", [*NUMBERS, *TEXTS])
def test_no_value_is_too_strange_for_an_option(option):
    extra = ["--gpu", "t4"] if option == "context" else ["--out", "r", "--resume"] if option == "retry" else []
    for value in (*DIGITS, *WORDS):
        if (option, value) in FINE:
            continue
        start = time.monotonic()
        # Nothing is to be measured even if a value turns out to mean something.
        end = ["--csv", "no/such/folder/t.csv"]
        assert is_one_line(attnprof_here("sweep", f"--{option}", value, *extra, *end), name=option), value[:50]
        assert time.monotonic() - start < 5


@given(st.sampled_from([*NUMBERS, *TEXTS]), st.text(st.characters(exclude_characters="\0"), max_size=80))
@settings(max_examples=150)
def test_no_text_is_too_strange_for_an_option(option, value):
    # A value that means something would start a sweep: another option then ends it.
    done = attnprof_here("sweep", f"--{option}", value, "--format", "xml")
    assert is_one_line(done)


@given(st.lists(st.sampled_from(["sweep", "limits", "recommend", "model", "run", "snippet", "gpus", "records", "list",
                                 "--hw", "--", "--resume", "--seed=", "-x", "--help=1", "8", "\x1b[2J", "", "a b",
                                 "--no-largest-batch=1", "--gpu", "--out", "--format", "xml"]),
                min_size=1, max_size=6))  # fmt: skip
@settings(max_examples=150)
def test_no_command_line_is_too_strange(words):
    if not {"sweep", "limits", "recommend", "model"} & set(words):
        done = attnprof_here(*words)
    else:  # what might measure gets an end
        done = attnprof_here(*words, "--format", "xml", "--timeout", "x")
    assert done.returncode in (0, 2, 3)
    assert done.returncode == 0 or is_one_line(done)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "--seed"], "seed: its value is missing; write one"),
        (["sweep", "--resume=1"], "resume: takes no value; leave it out"),
        (["swep"], "'swep' is not a command: did you mean sweep?"),
        (["sweep", "5", "6"], "attnprof: '5 6': "),
        (["model"], "attnprof: MODEL: it is missing; see "),
        (["run", "--", "x"], "attnprof: gpu: it is missing; see "),
        (["sweep", "--sed", "1"], "'--sed' is not an option: did you mean --csv or --seed?"),
        (["records", "clean", "--days", "x"], "days: 'x' is not a number of days"),
        (["records", "list", "x" * 300], "folder: 'xxx"),
        (["records", "show", "x" * 300], "file: 'xxx"),
        (["records", "merge", "x", "--out", ""], "out: '' is not a path to a file"),
        (["limits", "--gpu", "t4", "--step", "9" * 21], "step: '999999999999999999999' is too large"),
        (["limits", "--gpu", "t4", "--step", "9" * 18], "step: 999999999999999999 is too large"),
        (["limits", "--gpu", "t4", "--aspect", "9" * 18], "aspect: '999999999999999999' is too far from 1"),
        (["limits", "--gpu", "t4", "--aspect", "0.00001"], "aspect: '0.00001' is too far from 1"),
        (["sweep", "--gpu", f"t4,memory={'9' * 400}"], "gpu: memory: '999"),
        (["sweep", "--gpu", "t4", "--context", "100GB"], "gpu: on 't4,context=100GB' the CUDA context"),
        (["sweep", "--gpu", ",".join(f"t4,memory={n}GB" for n in range(1, 99))], "gpu: 98 cards are named; name"),
        (["sweep", "--hw", ",".join(map(str, range(1, 5001))), "--batch", "1,2,3"], "hw: 5000 hw x 3 batch x 8 "),
        (["sweep", "--strategy", "online:" + "9" * 19], "is not a size; write 'online' or online:"),
        (["recommend", "--margin", "9" * 400], "margin: '999"),
        (["model", "\udcff.py:B", "--input", "1,3"], r"model: '\udcff.py:B' has bytes that are not text; rename"),
        (["model", "a.py:B", "--input", ",".join(["9" * 18] * 4)], "is too large for a tensor"),
        (["model", "a.py:B", "--input", ",".join(["1"] * 100)], "is too large for a tensor"),
    ],
)
def test_what_is_told_and_what_to_do(arguments, message):
    done = attnprof_here(*arguments)
    assert is_one_line(done)
    assert message in done.stderr


@pytest.mark.parametrize(
    "sizes",
    [
        {"hw": "9999999999", "batch": "99999999999", "channels": "8"},
        {"hw": "999999999999999999"},
        {"channels": "8000000000"},
        {"batch": "999999999999999999"},
    ],
)
def test_tensors_that_pytorch_cannot_describe_are_refused(sizes):
    done = attnprof_here("sweep", *(word for name, value in sizes.items() for word in (f"--{name}", value)))
    assert is_one_line(done)
    assert "makes tensors that PyTorch cannot describe; choose a smaller one" in done.stderr
    assert done.stderr.startswith(f"attnprof: {max(sizes, key=lambda name: int(sizes[name]))}: ")


def test_bytes_that_are_no_text_are_shown():
    done = subprocess.run([sys.executable, "-m", "attnprof", "sweep", "--hw", b"\xff\x1b"], capture_output=True,
                          check=False)  # fmt: skip
    assert done.returncode == 2
    assert re.fullmatch(rb"attnprof: hw: '\\udcff\\x1b' is not a size; write 64 or 64x96\n", done.stderr)
