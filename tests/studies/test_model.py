"""Users' whole models: loading, the step, what holds the peak, and the report."""

import json
import sys

import pytest
import torch
from support.cublas import KEPT, WORKSPACE
from support.models import NET
from support.sagan import SaganBlock
from torch import nn

from attnprof.cases.case import AS_IS, Case
from attnprof.cases.measurement import Outcome
from attnprof.cases.parsing import parse_inputs
from attnprof.cases.settings import Settings
from attnprof.cases.workload import ModelWorkload, Workload
from attnprof.errors import AttnprofError
from attnprof.measure.runner import Runner
from attnprof.measure.worker.checkpointing import checkpoint_members
from attnprof.measure.worker.devices.cpu import CpuDevice
from attnprof.measure.worker.model_step import ModelStep
from attnprof.measure.worker.user_model import UserModelError, blamed, load_model
from attnprof.report.model import rolled_up, within
from attnprof.studies.requests import model_study


@pytest.fixture
def net(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # which loading a model adds to
    return tmp_path / "net.py"


def step_of(target, batch=64, inputs="1000", mode="train", **options):
    optimizer = options.pop("optimizer", "adam" if mode == "train" else "")
    workload = ModelWorkload(batch, 1, 1, 1, mode=mode, target=target, inputs=inputs, optimizer=optimizer, **options)
    return ModelStep(Case(workload, AS_IS), CpuDevice(), seed=0)


def test_a_model_is_found_by_class_function_instance_and_package(net):
    assert type(load_model("net.py:Net")).__name__ == "Net"
    assert type(load_model("net.py:net")).__name__ == "Net"
    assert isinstance(load_model("torch.nn:Identity"), nn.Identity)
    (net.parent / "json.py").write_text(NET)  # of the name of a module that is there already
    assert type(load_model("json.py:Net")).__name__ == "Net"
    assert json.loads("1") == 1
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("net.py:Nett", r"net\.py has no 'Nett': it has Net, Fails, Constant, make, needs"),
        ("net.py:make", r"net\.py:make\(\) made no torch\.nn\.Module, but dict"),
        ("net.py:number", r"net\.py:number is no module and nothing that makes one, but int"),
        ("net.py:needs", r"net\.py:needs: TypeError: needs\(\) missing 1 required positional argument: 'size'"),
        ("nowhere.at.all:Net", r"ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_what_is_no_model_is_told_in_a_line(net, target, message):
    with pytest.raises(UserModelError, match=message) as caught:
        load_model(target)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import torch\nfrom torch import nn\nimport nothing_of_this_name\n",
         r"bad\.py, line 3, in <module>: import nothing_of_this_name: ModuleNotFoundError"),
        ("x = 1\ndef f(:\n", r"bad\.py, line 2: SyntaxError"),
        ("def size():\n    return 1 / 0\nwidth = size()\n",
         r"bad\.py, line 2, in size: return 1 / 0: ZeroDivisionError"),
        ("import sys\nsys.exit('usage: bad')\n", r"bad\.py, line 2, in <module>: .*SystemExit: usage: bad"),
    ],
)  # fmt: skip
def test_an_import_that_fails_names_the_line(tmp_path, monkeypatch, source, message):
    (tmp_path / "bad.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserModelError, match=message):
        load_model("bad.py:Net")


def test_a_step_that_fails_names_the_users_line_and_not_torchs(net):
    step = step_of("net.py:Fails")
    with pytest.raises(RuntimeError) as caught:
        step()
    assert str(blamed(caught.value, "net.py:Fails")).startswith(
        "net.py, line 17, in forward: return super().forward(x) @ torch.zeros(4, 5): RuntimeError: "
    )
    with pytest.raises(UserModelError, match=r"net\.py:Constant has no tensor that depends on its parameters"):
        step_of("net.py:Constant")()


def test_what_holds_the_peak_is_known_to_the_byte(net):
    step = step_of("net.py:Net")
    step()
    peak, out_of_memory = step.located()
    weights = 4 * (1000 * 2000 + 2000 * 500)
    assert not out_of_memory
    assert peak.held["parameters"] == peak.held["gradients"] == weights
    assert peak.held["optimizer state"] == 2 * weights + 2 * 4  # and each parameter's count of steps
    assert peak.held["input"] == 64 * 1000 * 4
    # Adam goes over all parameters at once.
    assert peak.phase == "optimizer step"
    assert peak.held["optimizer temporaries"] >= weights
    assert sum(peak.held.values()) == peak.allocated_bytes


def test_activations_belong_to_the_module_that_made_them(net):
    step = step_of("net.py:Net", batch=8192, optimizer="sgd")
    step()
    peak, _ = step.located()
    hidden, loss = 8192 * 2000 * 4, 4
    # ReLU keeps what it gave, and the linear layer before it only its input.
    assert (peak.phase, peak.module) == ("backward", "second.0")
    assert peak.held["activations"] == hidden + loss
    # Of what ReLU gave, which the linear layer behind it computes, and of what it was given.
    assert peak.held["activation gradients"] == 2 * hidden + loss
    assert peak.modules == {"second.0": 2 * hidden, "second.1": hidden}


def test_forward_alone_keeps_no_gradients(net):
    step = step_of("net.py:Net", mode="forward")
    step()
    peak, _ = step.located()
    assert peak.phase == "forward"
    assert set(peak.held) == {"parameters", "input", "activations"}
    assert not any(p.grad is not None for p in step.model.parameters())


def test_checkpointing_takes_the_repeated_parts_and_gives_the_same_gradients():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            part = [nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3)]
            self.stages = nn.Sequential(*part)
            self.lists = nn.ModuleList([nn.ModuleList([SaganBlock(8)]), nn.Identity()])
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.stages(x))

    torch.manual_seed(0)
    model, x = Two(), torch.randn(3, 4)
    expected = torch.autograd.grad(model(x).sum(), list(model.stages.parameters()))
    assert checkpoint_members(model) == ["stages.0", "stages.1", "stages.2", "lists.0.0"]
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (saved.append(t.shape), t)[1], lambda t: t):
        out = model(x)
    assert len(saved) < 8
    for found, wanted in zip(torch.autograd.grad(out.sum(), list(model.stages.parameters())), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    with pytest.raises(UserModelError, match=r"no nn\.Sequential or nn\.ModuleList of parts"):
        checkpoint_members(nn.Sequential(nn.Linear(1, 1), nn.ReLU()))


def test_modules_roll_up_to_where_most_of_it_is():
    held = {"a.0.conv": 1, "a.1.conv": 1, "a.2.conv": 1, "b.inner.big": 90, "b.inner.small": 5, "b.other": 2, "c": 9}
    assert rolled_up([held]) == ["b.inner.big", "c", "b.inner.small", "a", "b.other"]
    assert within(held, "a") == 3
    assert sum(within(held, part) for part in rolled_up([held])) == sum(held.values())
    assert rolled_up([{}]) == []
    # A module that holds something itself is named as a whole.
    assert rolled_up([{"attn": 5, "attn.softmax": 50}]) == ["attn"]


def test_inputs_are_shapes_of_one_batch():
    assert parse_inputs(["8,3,256,256"]) == (8, "3x256x256")
    assert parse_inputs(["8,4,64,64", "8:long", "8, 77:long"]) == (8, "4x64x64+:long+77:long")
    workload = ModelWorkload(8, 1, 1, 1, target="net.py:Net", inputs="4x64x64+:long+77:long")
    assert workload.input_shapes() == [((8, 4, 64, 64), "float"), ((8,), "long"), ((8, 77), "long")]
    for texts, message in [
        ([], "input: the shape of the model's input is missing"),
        (["8,0"], "'8,0' is not a shape"), (["8x3"], "'8x3' is not a shape"),
        (["8,3", "4,3"], "the batches differ: '8, 4'"),
    ]:  # fmt: skip
        with pytest.raises(AttnprofError, match=message):
            parse_inputs(texts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "net.py"}, "'net.py' names no model; write PATH.py:NAME"),
        ({"target": "other.py:Net"}, "cannot read 'other.py': No such file"),
        ({"optimizer": "lion"}, "optimizer: 'lion' is not one of sgd, sgd-momentum, adam, adamw"),
        ({"mode": "eval"}, "mode: 'eval' is not one of"),
        ({"strategy": "sdpa-pda"}, "unknown strategy 'sdpa-pda'"),
        ({"input": ()}, "input: the shape of the model's input is missing"),
    ],
)
def test_a_request_that_means_nothing_is_told_before_anything_runs(net, options, message):
    with pytest.raises(AttnprofError, match=message):
        model_study(**{"target": "net.py:Net", "input": ("8,1000",), **options})


def test_a_plan_has_the_model_as_it_is_first(net):
    plan = model_study("net.py:Net", input=("8,1000",), strategy="chunked,as-is", mode="forward,train").plan
    assert [(c.workload.mode, c.strategy) for c in plan.cases] == [
        ("forward", "as-is"), ("forward", "chunked"), ("train", "as-is"), ("train", "chunked"),
    ]  # fmt: skip
    assert plan.cases[0].workload.optimizer == ""
    again = [Case.from_json(json.loads(json.dumps(case.to_json()))) for case in plan.cases]
    assert again == list(plan.cases)
    net.write_text(NET + "\n")
    assert model_study("net.py:Net", input="8,1000").plan.cases[0].workload not in [
        case.workload for case in plan.cases
    ]


def test_only_a_larger_batch_of_the_same_model_is_implied():
    small = ModelWorkload(2, 1, 1, 1, target="a.py:A", inputs="3")
    large = ModelWorkload(3, 1, 1, 1, target="a.py:A", inputs="3")
    assert small.is_within(large)
    assert not large.is_within(small)
    assert not small.is_within(small)
    assert not small.is_within(ModelWorkload(3, 1, 1, 1, target="b.py:A", inputs="3"))
    assert not Workload(2, 1, 1, 1).is_within(large)


def test_a_training_step_on_an_emulated_card_is_the_sum_made_by_hand(on_card, tmp_path):
    """Second step, at ReLU's backward: what is alive, and nothing else."""
    (tmp_path / "net.py").write_text(NET.replace("1000", "1024").replace("2000", "2048").replace("500", "512"))
    target = f"{tmp_path / 'net.py'}:Net"
    first, second, images, hidden = 4 * 1024 * 2048, 4 * 2048 * 512, 4 * 4096 * 1024, 4 * 4096 * 2048
    workspaces = 2 * WORKSPACE if KEPT else 0  # of the thread that runs forward and of autograd's
    loss, loss_gradient = 512, 512  # a block each
    at_relu = first + second + images + second + 3 * hidden + workspaces + loss + loss_gradient
    with Runner(Settings(device="cuda"), environ=on_card("t4")) as runner:
        for optimizer, states in {"sgd": 0, "sgd-momentum": 1, "adam": 2}.items():
            workload = ModelWorkload(4096, 1, 1, 1, mode="train", target=target, inputs="1024", optimizer=optimizer)
            result = runner.measure(Case(workload, AS_IS))
            state = states * (first + second)
            assert result.outcome is Outcome.COMPLETED, result.reason
            assert result.measurement.memory.peak_allocated_bytes == at_relu + state
            peak = result.measurement.peak
            assert (peak.phase, peak.module, peak.allocated_bytes) == ("backward", "second.0", at_relu + state)
            assert peak.held.get("optimizer state", 0) == state


def test_where_an_emulated_card_is_out_of_memory_and_what_holds_it(on_card, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    batch = 4 * 2**20
    workload = ModelWorkload(
        batch, 1, 1, 1, mode="train", target=f"{tmp_path / 'net.py'}:Net", inputs="1000", optimizer="adam"
    )
    with Runner(Settings(device="cuda"), environ=on_card("t4,memory=64GiB")) as runner:
        result = runner.measure(Case(workload, AS_IS))
    images, hidden = 4 * batch * 1000, 4 * batch * 2000
    assert result.outcome is Outcome.OUT_OF_MEMORY
    peak = result.measurement.peak
    # Images and the first map are there; a second map of 31 GiB is not to be had.
    assert (peak.phase, peak.module) == ("forward", "second.0")
    assert peak.modules == {"first": hidden}
    assert peak.held["input"] == images


MEDDLING = """
import json, os, torch
from torch import nn

class Meddling(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def forward(self, x):
        {meddle}
        return self.layer(x)
"""


@pytest.mark.parametrize(
    "meddle", ["os.chdir('/'); torch.set_default_dtype(torch.float64)", "json.dumps = nn.relu = None"]
)
def test_what_a_model_changes_is_not_there_for_the_next_case(on_card, tmp_path, monkeypatch, meddle):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "meddling.py").write_text(MEDDLING.format(meddle=meddle))
    workload = ModelWorkload(8, 1, 1, 1, mode="forward", target="meddling.py:Meddling", inputs="64")
    with Runner(Settings(device="cuda"), environ=on_card("t4")) as runner:
        results = [runner.measure(Case(workload, AS_IS)) for _ in range(2)]
    assert [result.outcome for result in results] == [Outcome.COMPLETED] * 2
    assert results[0].measurement.memory == results[1].measurement.memory
