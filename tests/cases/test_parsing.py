"""Values from Python, of any type: read, or told in one line that names the option."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strange import STRANGE, Broken, Endless

from attnprof.cases import parsing
from attnprof.errors import AttnprofError

READERS = {
    "hw": parsing.parse_sizes,
    "batch": lambda value: parsing.parse_numbers(value, "batch"),
    "step": lambda value: parsing.parse_number(value, "step"),
    "strategy": lambda value: parsing.parse_names(value, "strategy"),
    "vary": lambda value: parsing.parse_choice(value, "vary", {"hw": 1}),
    "resume": lambda value: parsing.parse_flag(value, "resume"),
    "gpu": lambda value: parsing.parse_cards_option(value, None),
    "context": lambda value: parsing.parse_cards_option("t4", value),
    "budget": lambda value: parsing.parse_memory(value, "budget"),
    "margin": parsing.parse_margin,
    "timeout": lambda value: parsing.parse_seconds(value, "timeout"),
    "days": parsing.parse_days,
    "seed": parsing.parse_seed,
    "device": parsing.parse_device,
    "out": lambda value: parsing.parse_path(value, "out"),
    "command": lambda value: parsing.parse_words(value, "command"),
    "input": parsing.parse_inputs,
    "aspect": parsing.parse_ratio,
}


def read(name, value):
    try:
        READERS[name](value)
    except AttnprofError as error:
        text = str(error)
        assert name in text
        assert text.isprintable()
        assert len(text) < 400
    else:
        return True
    return False


@pytest.mark.parametrize("name", READERS)
def test_no_value_is_too_strange(name):
    fine = [value for value in STRANGE if read(name, value)]
    assert not any(value is None or isinstance(value, bytes | Broken | Endless) for value in fine if name != "context")


PLAIN = st.one_of(st.integers(), st.floats(), st.text())


@given(st.sampled_from(list(READERS)), st.one_of(PLAIN, st.binary(), st.none(), st.lists(PLAIN)))
def test_any_value_is_read_or_told(name, value):
    read(name, value)


def test_what_is_welcome():
    assert parsing.parse_sizes([np.int64(8), (8, np.int32(16)), "4x2"]) == [(8, 8), (8, 16), (4, 2)]
    assert parsing.parse_numbers(range(1, 4), "batch") == [1, 2, 3]
    assert parsing.parse_memory(12e9, "budget") == 12 * 10**9
    assert parsing.parse_memory("9007199254740993", "budget") == 9007199254740993
    assert parsing.parse_memory("1.5PiB", "budget") == 3 * 2**49
    assert parsing.parse_flag(np.bool_(True), "amp") is True
    assert parsing.parse_inputs([(8, np.int64(3), 4), "8:long"]) == (8, "3x4+:long")
    assert parsing.parse_words(["python", Path("a.py")], "command") == ["python", "a.py"]
    assert parsing.parse_ratio(np.float64(1.5)) == 1.5
    assert parsing.parse_device("cuda:12") == "cuda:12"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch", 10**30, "batch: 1000000000000000000000000000000 is too large; write a number of at most 18 digits"),
        ("batch", [10**5000], "batch: <a number of 5001 digits> is too large"),
        ("batch", Endless(), "has more than 100000 entries; give fewer"),
        ("resume", "no", "resume: 'no' is not a switch; give True or False"),
        ("budget", "9999999999TB", "budget: '9999999999TB' is more than any memory: write at most 8000PiB"),
        ("timeout", 10**400, "is too long; write at most 1000000 seconds (11 days)"),
        ("timeout", "1e300", "timeout: '1e300' is too long"),
        ("seed", "9" * 26, "seed: '99999999999999999999999999' is not a whole number of 64 bits; write one"),
        ("device", "foo", "device: 'foo' is not a device; write auto, cpu, cuda or cuda:1"),
        ("gpu", ",".join(f"t4,memory={n}GB" for n in range(1, 99)), "gpu: 98 cards are named; name at most 64"),
        ("out", "a" * 256, "is too long for a path; name a file"),
        ("out", "a/" * 3000, "is too long for a path; name a file"),
        ("out", "\ud800", r"out: '\ud800' is not a path to a file; name a file"),
        ("strategy", "x" * 3000 + ",,", "has an empty entry"),
    ],
)
def test_what_is_told(name, value, message):
    with pytest.raises(AttnprofError) as caught:
        READERS[name](value)
    assert message in str(caught.value)
