import re

import pytest

from attnprof.attention import COMPONENTS, StrategyError, parse_strategy


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("naive", "naive"),
        ("pooled", "pooled:2"),
        ("pooled+naive", "pooled:2"),
        ("fp16+sdpa-pad+pooled:2", "pooled:2+sdpa-pad+fp16"),
        ("checkpoint+chunked:1024", "chunked:1024+checkpoint"),
        (" online:512x2048 + amp ", "online:512x2048+amp"),
        ("fp16", "naive+fp16"),
        ("pooled:4+amp+checkpoint", "pooled:4+checkpoint+amp"),
    ],
)
def test_one_canonical_spelling(text, canonical):
    assert str(parse_strategy(text)) == canonical
    assert parse_strategy(canonical) == parse_strategy(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chunkd", "did you mean 'chunked'"),
        ("flash", "unknown strategy 'flash'"),
        ("", "known: naive, chunked"),
        ("naive+chunked", "naive and chunked exclude one another; nearest valid: 'naive'"),
        ("sdpa+fp16+amp", "fp16 and amp exclude one another; nearest valid: 'sdpa+fp16'"),
        ("sdpa:3", "sdpa takes no size; write 'sdpa'"),
        ("chunked:", "'' is not a size; write 'chunked' or chunked:QUERIES"),
        ("chunked:x", "'x' is not a size"),
        ("chunked:0", "each size at least 1"),
        ("online:4", "must be online:QUERIESxKEYS"),
    ],
)
def test_impossible_spellings_are_refused_with_the_reason(text, message):
    with pytest.raises(StrategyError) as caught:
        parse_strategy(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_exactness_is_told():
    assert parse_strategy("chunked+checkpoint").exact
    assert parse_strategy("pooled+sdpa-pad+fp16").approximation == "pooled keys, fp16"
    assert str(parse_strategy("pooled:3+online+fp16").definition()) == "pooled:3"


def test_every_attention_can_be_loaded():
    for component in COMPONENTS:
        if component.kind == "attention":
            assert callable(parse_strategy(component.name).implementation())


def test_every_part_says_what_it_costs_and_where_it_runs():
    for component in COMPONENTS:
        assert all(component.memory), component.name
        assert component.summary
        assert "CPU" in component.runs
        assert "CUDA" in component.runs


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: component.name)
def test_a_spelling_with_sizes_is_one_that_is_understood(component):
    sizes = re.fullmatch(r"[a-z0-9-]+(?:\[(:[A-Zx]+)\])?", component.spelling)[1] or ""
    spelling = component.name + re.sub("[A-Z]+", "4", sizes)
    assert spelling in str(parse_strategy(spelling))
