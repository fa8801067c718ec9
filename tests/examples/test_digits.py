"""The example as a user runs it: a process of its own, trained on the real images, but small and short."""

import csv
import math
import re
import signal
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

for package in ("sklearn", "matplotlib"):
    pytest.importorskip(package)

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMAND = [sys.executable, str(EXAMPLES / "classify_digits.py"), "--device", "cpu"]


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    import classify_digits

    return classify_digits


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits") / "new"
    arguments = ["--size", "8", "--epochs", "1", "--strategy", "chunked:7,sdpa-pad,pooled:2", "--out", str(folder)]
    ran = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran, folder


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_exact_strategies_learn_what_naive_learns_and_pooled_something_else(done):
    steps = {name: list(some) for name, some in groupby(rows(done[1] / "steps.csv"), key=lambda row: row["strategy"])}
    assert list(steps) == ["naive", "chunked:7", "sdpa-pad", "pooled:2"]
    first = {name: [float(row["loss"]) for row in some[:20]] for name, some in steps.items()}
    assert first["naive"][0] == pytest.approx(math.log(10), rel=0.02)  # untrained: ten classes alike
    assert abs(float(steps["naive"][19]["gamma"])) > 1e-3  # else the block does nothing yet and all agree
    for name in ("chunked:7", "sdpa-pad"):
        assert first[name] == pytest.approx(first["naive"], rel=1e-5)
    assert first["pooled:2"] != pytest.approx(first["naive"], rel=1e-5)
    # At the start gamma is 0: whatever the attention is, the loss is the same.
    assert first["pooled:2"][0] == first["naive"][0]


def test_what_it_saves_and_prints(done):
    ran, folder = done
    assert sorted(path.name for path in folder.iterdir()) == ["plot.png", "steps.csv", "table.csv", "table.md"]
    assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    markdown = (folder / "table.md").read_text()
    for row in rows(folder / "table.csv"):
        right, tested = int(row["test_correct"]), int(row["test_images"])
        assert tested == 360
        assert right > 180  # it has learnt something
        assert int(row["step_bytes"]) > 0
        assert row["torch"] in markdown
        assert f"{row['strategy']} | {right}/{tested} | {right / tested:.1%}" in markdown
        assert f"{right}/{tested}" in ran.stdout
    assert str(folder) not in markdown
    assert max(map(len, ran.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--strategy", "nave"], "classify_digits: unknown strategy 'nave': did you mean 'naive'"),
        (["--size", "2"], "classify_digits: size: 2 is too small"),
        (["--epochs", "two"], "classify_digits: argument --epochs: invalid int value"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, words):
    ran = subprocess.run([*COMMAND, "--out", str(tmp_path), *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    [line] = ran.stderr.splitlines()
    assert line.startswith(words)
    assert ran.stdout == ""


def test_a_device_that_is_not_there_is_bad_input(example):
    from digits.device import Device

    with pytest.raises(example.ExampleError, match="device: cannot use 'abacus'"):
        Device("abacus")


def test_an_emulated_card_is_refused(example, monkeypatch):
    import torch
    from digits.device import Device

    monkeypatch.setenv("ATTNPROF_GPU", "t4")
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    with pytest.raises(example.ExampleError, match="computes nothing"):
        Device("cuda")


def test_it_uses_the_public_api_alone():
    text = "".join(path.read_text() for path in [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*/*.py")])
    assert set(re.findall(r"^\s*(?:from|import) (attnprof[\w.]*)", text, re.MULTILINE)) == {
        "attnprof", "attnprof.attention",
    }  # fmt: skip


def test_ctrl_c_keeps_what_is_done(tmp_path):
    arguments = ["--size", "8", "--epochs", "20", "--strategy", "chunked", "--out", str(tmp_path)]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith("[1/2] naive"):
                break
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "stopped after 1 of 2 strategies"
    assert "naive" in stdout
    assert [row["strategy"] for row in rows(tmp_path / "table.csv")] == ["naive"]


def test_an_exact_strategy_off_naive_is_an_error(example):
    from digits.training import Run, Step

    def run(strategy, *losses):
        return Run(strategy, tuple(Step(loss, 0.1, 0.01) for loss in losses))

    naive = run("naive", 2.0, 1.0)
    example.require_agreement([naive, run("chunked", 2.0, 1.000001), run("pooled:2", 2.0, 1.5), run("sdpa")])
    for losses in [(2.0, 1.001), (2.0, math.nan)]:
        with pytest.raises(example.OffNaiveError, match="online by") as caught:
            example.require_agreement([naive, run("online", *losses)])
        assert caught.value.exit_code == 1


def test_what_a_device_refuses_is_a_row(example, monkeypatch):
    import torch
    from digits import training
    from digits.device import Device
    from digits.report import to_csv, to_markdown

    def refuse(*_):
        raise torch.OutOfMemoryError("DefaultCPUAllocator: can't allocate memory")

    device = Device("cpu")
    digits = training.load(8, 0, "cpu")
    monkeypatch.setattr(training.Training, "timed", refuse)
    run = training.train("naive", digits, device, epochs=1, batch=32, seed=0, tell=lambda _: None)
    assert run.reason == "out of memory"
    assert run.step_bytes is None
    assert "- naive: out of memory" in to_markdown([run], "title", "command", "place")
    assert "out of memory" in to_csv([run], {})
