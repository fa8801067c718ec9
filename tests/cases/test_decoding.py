"""Records from files: what is whole comes back, and every bad value is one line that names its place."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import ENVIRONMENT, SETTINGS, emulated_records, record, sweep_records

from attnprof.attention.blocks.catalogue import BLOCKS
from attnprof.cases.case import AS_IS, Case
from attnprof.cases.decoding import parse_json
from attnprof.cases.environment import Environment
from attnprof.cases.measurement import (
    Estimate,
    Exactness,
    Kernel,
    Latency,
    Measurement,
    Memory,
    Outcome,
    Source,
    StepPeak,
)
from attnprof.cases.plan import RECOMMENDED_STRATEGIES
from attnprof.cases.record import SCHEMA, Record
from attnprof.cases.record_lines import read_records
from attnprof.cases.workload import DTYPES, MODES, OPTIMIZERS, ModelWorkload, Workload
from attnprof.errors import AttnprofError

# The lines of results/hostile are counts.
RESULTS = [
    path
    for path in sorted((Path(__file__).parents[2] / "results").rglob("*.jsonl"))
    if path.parent.name not in ("hostile", "programs")  # they have rows of another kind
]

words = st.text(st.characters(codec="utf-8"), max_size=12)
counts = st.integers(0, 2**63 - 1)
sizes = st.integers(1, 2**20)
numbers = st.floats(0, allow_nan=False, allow_infinity=False)


def some(kind, **fields):
    return st.builds(kind, **fields)


def maybe(strategy):
    return st.none() | strategy


durations = st.floats(0, 1e10)
steps = st.floats(1e-12, 1e10)
measurements = some(
    Measurement,
    memory=maybe(
        some(
            Memory,
            baseline_bytes=counts,
            first_step_bytes=counts,
            retained_bytes=st.integers(-(2**40), 2**40),
            step_bytes=counts,
            peak_allocated_bytes=counts,
            peak_reserved_bytes=maybe(counts),
            device_bytes=maybe(counts),
            context_bytes=maybe(counts),
            peak_resident_bytes=maybe(counts),
        )
    ),
    latency=maybe(
        some(
            Latency,
            samples_seconds=st.lists(steps, max_size=3).map(tuple),
            runs_per_sample=sizes,
            median_seconds=steps,
            iqr_seconds=durations,
        )
    ),
    exactness=maybe(
        some(
            Exactness,
            max_abs_error=numbers,
            max_rel_error=numbers,
            grad_max_rel_error=maybe(numbers),
            rows=counts,
        )
    ),
    kernel=maybe(some(Kernel, name=words, refused=st.dictionaries(words, words, max_size=2))),
    flops=maybe(counts),
    matmul_flops_per_second=maybe(st.floats(1, 1e30)),
    passes_seconds=st.dictionaries(words, durations, max_size=2),
    notes=st.lists(words, max_size=2).map(tuple),
    estimate=maybe(some(Estimate, seconds=steps, basis=words)),
    peak=maybe(
        some(
            StepPeak,
            phase=words,
            module=words,
            operation=words,
            allocated_bytes=counts,
            held=st.dictionaries(words, counts, max_size=2),
            modules=st.dictionaries(words, counts, max_size=2),
        )
    ),
    patched=st.lists(words, max_size=2).map(tuple),
)
block_cases = some(
    Case,
    workload=some(
        Workload,
        batch=sizes,
        channels=sizes,
        height=sizes,
        width=sizes,
        dtype=st.sampled_from(DTYPES),
        mode=st.sampled_from(MODES),
        reduction=sizes,
        block=st.sampled_from([form.name for form in BLOCKS]),
    ),
    strategy=st.sampled_from(RECOMMENDED_STRATEGIES),
)
model_cases = some(
    Case,
    workload=some(
        ModelWorkload,
        batch=sizes,
        channels=st.just(1),
        height=st.just(1),
        width=st.just(1),
        dtype=st.sampled_from(DTYPES),
        mode=st.sampled_from(MODES),
        target=words,
        inputs=st.sampled_from(["3x8x8", "77:long", "4+4"]),
        digest=words,
        optimizer=st.sampled_from(["", *OPTIMIZERS]),
        amp=st.booleans(),
        checkpointing=st.booleans(),
        channels_last=st.booleans(),
    ),
    strategy=st.sampled_from([AS_IS, *RECOMMENDED_STRATEGIES]),
)
facts = dict.fromkeys(("attnprof", "torch", "python", "platform", "matmul_precision", "device"), words)
extras = st.dictionaries(words.map("other ".__add__), words | st.integers(-5, 5) | st.booleans(), max_size=2)
environments = some(
    Environment,
    **facts,
    device_name=words,
    threads=sizes,
    compute_capability=maybe(words),
    total_memory_bytes=maybe(counts),
    driver=maybe(words),
    cuda=maybe(words),
    cudnn=maybe(counts),
    tf32=maybe(st.dictionaries(words, st.booleans(), max_size=2)),
    cpu_capability=maybe(words),
    allocator=maybe(st.dictionaries(words, words, max_size=2)),
    gpu=words,
    context_bytes=maybe(counts),
    cudnn_plans=maybe(st.booleans()),
    extras=extras,
)
records = some(
    Record,
    case=block_cases | model_cases,
    outcome=st.sampled_from(Outcome),
    measurement=measurements,
    environment=environments,
    settings=st.just(SETTINGS),
    time=words,
    reason=words,
    implied_by=words,
    source=st.sampled_from(Source),
).filter(lambda one: one.measurement.memory or one.outcome is not Outcome.COMPLETED)


@given(records)
def test_every_record_comes_back(one):
    line = one.to_line()
    assert "\n" not in line
    assert Record.from_line(line) == one
    assert Record.from_line(line.encode()) == one


@given(st.binary(max_size=80) | st.text(max_size=80))
def test_any_other_text_is_one_line(text):
    with pytest.raises(ValueError) as refused:
        Record.from_line(text)
    assert str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_published_results_are_still_read(path):
    found = read_records(path)
    assert len(found) == len(path.read_text().splitlines())
    for one in found:
        assert Record.from_line(one.to_line()) == one


def test_an_environment_keeps_the_names_and_order_of_its_facts():
    line = {**ENVIRONMENT.to_json(), "cudnn": None, "moon": "full"}
    found = Environment.from_json(line)
    assert found.extras == {"moon": "full"}
    assert list(found.to_json()) == [*ENVIRONMENT.to_json(), "moon"]


BAD_VALUES = [
    ("measurement.memory.step_bytes", "9", "expected int, got str"),
    ("measurement.memory.step_bytes", 1.5, "expected int, got float"),
    ("measurement.memory.step_bytes", True, "expected int, got bool"),
    ("measurement.memory.step_bytes", None, "expected int, got null"),
    ("measurement.memory.step_bytes", -1, "expected int >= 0"),
    ("measurement.memory.step_bytes", 2**63, "expected int <= 9223372036854775807"),
    ("measurement.memory", {}, "object missing required field baseline_bytes"),
    ("measurement.latency.median_seconds", 0.0, "expected float >= 1e-12"),
    ("measurement.latency.median_seconds", 1e300, "expected float <= 10000000000.0"),
    ("measurement.latency.iqr_seconds", -0.1, "expected float >= 0.0"),
    ("measurement.latency.samples_seconds", [0.1, "fast"], "expected float, got str"),
    ("measurement.passes_seconds", {"memory": -1}, "expected float >= 0.0"),
    ("measurement", {}, "missing required field memory of a completed case"),
    ("measurement.notes", "one", "expected array, got str"),
    ("measurement", [], "expected object, got array"),
    ("case.strategy", "fastest", "unknown strategy 'fastest'"),
    ("case.strategy", 3, "expected str, got int"),
    ("case.block", "resnet", "unknown block 'resnet'"),
    ("case.dtype", "fp8", "'fp8' is not one of fp32, fp16, bf16, fp64"),
    ("case.mode", "sleep", "'sleep' is not one of forward, train"),
    ("case.height", 0, "expected int >= 1"),
    ("outcome", "fine", "unknown value 'fine'"),
    ("source", "guessed", "unknown value 'guessed'"),
    ("environment.threads", "two", "expected int, got str"),
    ("environment.device", None, "expected str, got null"),
    ("settings.budget_bytes", "2GB", "expected int | null, got str"),
    ("settings.timeout_seconds", -1, "expected float >= 0.0"),
]


@pytest.mark.parametrize(("place", "value", "why"), BAD_VALUES)
def test_a_bad_value_is_one_line_with_its_place(tmp_path, place, value, why):
    fields = json.loads(record().to_line())
    *outer, last = place.split(".")
    inner = fields
    for name in outer:
        inner = inner[name]
    inner[last] = value
    path = tmp_path / "results.jsonl"
    path.write_text(f"{record().to_line()}\n{json.dumps(fields)}\n")
    with pytest.raises(AttnprofError) as refused:
        read_records(path)
    text = str(refused.value)
    assert text.startswith(f"from: {path}, line 2: $.{place}")
    assert why in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("NaN", "not JSON: invalid character"),
        ("-Infinity", "not JSON: invalid "),
        ("1e999", r"\$\.measurement\.exactness\.max_abs_error: expected float <= "),
        ("-1e999", r"\$\.measurement\.exactness\.max_abs_error: expected float >= "),
        ("9" * 5000, "out of range"),
        ("[" * 100_000, "not JSON: nested too deeply"),
    ],
)
def test_numbers_that_are_none_and_endless_nesting(text, why):
    line = record(error=0.125).to_line().replace('"max_abs_error":0.125', f'"max_abs_error":{text}')
    with pytest.raises(ValueError, match=why):
        Record.from_line(line)


def test_an_emulated_record_needs_its_card():
    [one, *_] = emulated_records("t4")
    line = one.to_line().replace('"gpu":"t4",', "")
    with pytest.raises(ValueError, match=r"\$\.environment: object missing required field gpu"):
        Record.from_line(line)


def test_of_a_key_that_occurs_twice_the_last_counts():
    assert parse_json('{"a":1,"a":2}') == {"a": 2}
    line = record().to_line().replace("{", '{"schema":99,', 1)
    assert Record.from_line(line) == record()


def test_a_schema_of_the_future_is_refused_by_number():
    for one in sweep_records():
        line = one.to_line().replace(f'"schema":{SCHEMA}', f'"schema":{SCHEMA + 1}')
        with pytest.raises(ValueError, match=f"schema {SCHEMA + 1} is not known here"):
            Record.from_line(line)


@pytest.mark.parametrize("inputs", ["measured", "3x", "3x0", "3,4", "3:short", "9" * 30])
def test_inputs_that_are_no_shapes_are_refused(inputs):
    fields = Case(ModelWorkload(2, 1, 1, 1, target="net.py:Net", inputs="3x8x8+:long+77:long"), AS_IS).to_json()
    assert Case.from_json(fields).to_json() == fields
    with pytest.raises(ValueError, match=r"^\$\.inputs: .* is no shape of inputs"):
        Case.from_json({**fields, "inputs": inputs})
