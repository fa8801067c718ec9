"""The Python API: its examples run, its arguments are forgiving, and its defaults are the command line's."""

import doctest
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import attnprof
from attnprof import api
from attnprof.cases.record_lines import read_records
from attnprof.cli import study_commands
from attnprof.studies import requests
from attnprof.studies.requests import limits_study, model_study, recommend_study, sweep_study

PAIRS = {"sweep": "sweep", "limits": "limits", "recommend": "recommend", "profile_model": "model"}


@pytest.mark.parametrize("name", [*PAIRS, "cards", "find_card", "run_program"])
def test_the_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function = getattr(attnprof, name)
    runner = doctest.DocTestRunner(verbose=False)
    for example in doctest.DocTestFinder(recurse=False).find(function, name, globs={}):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0


def spelled(value):
    """A default as text: lists of the command line have a space after the comma."""
    return ", ".join(value) if isinstance(value, tuple) else value if value is None else str(value)


@pytest.mark.parametrize(("function", "command"), PAIRS.items())
def test_defaults_are_those_of_the_command_line(function, command):
    ours = inspect.signature(getattr(api, function)).parameters
    door = inspect.signature(getattr(requests, f"{command}_study")).parameters
    typed = inspect.signature(getattr(study_commands, command)).parameters
    assert set(typed) - {"csv", "force", "format"} == set(ours) == set(door)
    for name in set(ours) - {"target", "input"}:
        assert ours[name].default == door[name].default, name
        assert spelled(ours[name].default) == spelled(typed[name].default), name


def test_everything_public_is_shown_and_is_there():
    assert dir(attnprof) == sorted(attnprof.__all__)
    assert all(getattr(attnprof, name) is not None for name in attnprof.__all__)
    assert all(getattr(attnprof, name).__doc__ for name in attnprof.__all__ if name != "__version__")
    with pytest.raises(AttributeError, match="no attribute 'swep'"):
        _ = attnprof.swep


def test_numpy_numbers_tuples_paths_and_devices_are_welcome(tmp_path):
    text = sweep_study(hw="8,8x16", batch="1,2", channels="16", device="cpu", out=str(tmp_path / "r"), seed=3)
    values = sweep_study(
        hw=[np.int64(8), (8, np.int32(16))],
        batch=np.array([1, 2]),
        channels=np.int64(16),
        device=torch.device("cpu"),
        out=tmp_path / "r",
        seed=np.int64(3),
        case_seconds=np.float32(1.0),
        timeout=300,
    )
    assert values == text
    assert sweep_study(hw=(8, "16x4")).plan == sweep_study(hw="8,16x4").plan
    assert model_study("a:b", input=(8, 3, 4)).plan == model_study("a:b", input="8,3,4").plan
    assert model_study("a:b", input=[(8, 3), "8:long"]).plan == model_study("a:b", input=["8,3", "8:long"]).plan
    both = sweep_study(gpu=["t4,memory=8GB", attnprof.find_card("l4")], context=300 * 2**20, budget=10**9)
    assert [str(card) for card in both.cards] == [f"{one},context=314572800" for one in ("t4,memory=8GB", "l4")]
    assert both.settings.budget_bytes == 10**9
    assert recommend_study(margin=1024).margin.of(2048) == 1024


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hw": 64.0}, r"^hw: 64\.0 has the wrong type"),
        ({"hw": [(8, 8, 8)]}, r"^hw: \(8, 8, 8\) is not a size; write 64 or 64x96"),
        ({"hw": True}, "^hw: True has the wrong type"),
        ({"hw": 0}, "^hw: 0 is not a positive whole number"),
        ({"hw": []}, "^nothing to run: hw is empty"),
        ({"batch": None}, "^batch: None has the wrong type"),
        ({"batch": [1.5]}, r"^batch: 1\.5 is not a positive whole number"),
        ({"batch": "9" * 5000}, "^batch: '999"),
        ({"channels": "1,,2"}, "^channels: '1,,2' has an empty entry"),
        ({"strategy": 3}, "^strategy: 3 is not text"),
        ({"strategy": ["nave"]}, "did you mean 'naive'"),
        ({"dtype": torch.float16}, "^dtype: torch.float16 has the wrong type"),
        ({"reduction": 0}, "^reduction: 0 is not a positive whole number"),
        ({"device": 0}, "^device: 0 is not a device; write auto, cpu, cuda or cuda:1"),
        ({"gpu": []}, "^gpu: no card is named"),
        ({"gpu": 4}, "^gpu: 4 has the wrong type"),
        ({"gpu": "t4", "device": "cpu"}, "^gpu: 't4' is emulated, and --device cpu measures"),
        ({"context": "1GiB"}, "^context: only an emulated card has this allowance"),
        ({"budget": -1}, "^budget: -1 is not a memory size"),
        ({"timeout": "soon"}, "^timeout: 'soon' is not a positive number of seconds"),
        ({"case_seconds": float("nan")}, "^case-seconds: nan is not"),
        ({"seed": 2**64}, "^seed: 18446744073709551616 is not a whole number of 64 bits"),
        ({"out": 3}, "^out: 3 is not a path to a file"),
        ({"resume": True}, "^resume: --resume continues a file"),
    ],
)
def test_a_wrong_argument_is_one_sentence_that_names_it(options, message):
    with pytest.raises(attnprof.AttnprofError, match=message) as caught:
        attnprof.sweep(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attnprof.limits("depth"), "^vary: 'depth' is not one of hw, batch, channels"),
        (lambda: attnprof.limits(aspect=float("inf")), "^aspect: inf is not a width over a height"),
        (lambda: attnprof.limits(step=-8), "^step: -8 is not a positive whole number"),
        (lambda: attnprof.recommend([32, 64]), "^hw: recommend answers for one workload"),
        (lambda: attnprof.recommend(gpu=["t4", "l4"]), "^gpu: recommend answers for one card; choose one of t4, l4"),
        (lambda: attnprof.profile_model(torch.nn.ReLU(), (1, 3)), "^model: give the place of the model as text"),
        (lambda: attnprof.profile_model("net.py:Net", ()), "^input: the shape of the model's input is missing"),
        (lambda: attnprof.run_program("python train.py", "t4"), "^command: 'python train.py' is not a list of words"),
        (lambda: attnprof.run_program(["python"], "t4,l4"), "^gpu: 't4,l4' are 2 cards; name one"),
        (lambda: attnprof.find_card("t5"), "^gpu: 't5' is not in the catalogue: did you mean t4"),
    ],
)
def test_wrong_calls_are_one_sentence(call, message):
    with pytest.raises(attnprof.AttnprofError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_limits_have_a_bound_before_anything_runs():
    assert limits_study(gpu="t4").axes[0].step == 1
    assert limits_study(budget="1GB", vary="channels", block="danet,sagan").axes[0].step % 8 == 0


def test_a_recommendation_reads_well_and_answers_from_a_file(tmp_path):
    options = {"channels": 16, "mode": "forward", "device": "cpu"}
    attnprof.sweep(8, strategy="naive,chunked", case_seconds=0.01, out=tmp_path / "r.jsonl", **options)
    answer = attnprof.recommend(8, records=tmp_path / "r.jsonl", budget="1GB", **options)
    assert str(answer).startswith(f"Use {answer.strategy} for 1x16x8x8 fp32 forward: it needs ")
    assert repr(answer) == f"<Recommendation: {answer}>"
    assert answer.pick.strategy == answer.strategy
    assert f'"{answer.strategy}"' in answer.snippet
    none = attnprof.recommend(8, records=tmp_path / "r.jsonl", budget=1024, **options)
    assert (none.strategy, none.snippet) == (None, "")
    assert str(none) == "Nothing fits 1x16x8x8 fp32 forward in 922 B."
    assert len(read_records(tmp_path / "r.jsonl")) == 2


def test_help_shows_the_api_and_imports_no_torch():
    code = "import attnprof, pydoc, sys; dir(attnprof); assert not {'torch', 'pandas'} & set(sys.modules); "
    code += "print(pydoc.plain(pydoc.render_doc(attnprof)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("sweep(", "limits(", "recommend(", "profile_model(", "run_program(", "class Card"):
        assert name in done.stdout


def test_types_are_shipped():
    assert (Path(attnprof.__file__).parent / "py.typed").exists()
