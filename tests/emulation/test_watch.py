"""`attnprof run`: programs as users have them, on an emulated card, and what is said of them."""

import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from textwrap import dedent

import pytest
from rich.console import Console

from attnprof.cases.cards import parse_cards
from attnprof.emulation.findings_file import findings_from_json
from attnprof.emulation.watch.findings import (
    BACKWARD,
    BRANCH,
    GRADIENTS,
    PRINTED,
    SIZE,
    Line,
    LineHolder,
    OutOfMemory,
    ProcessFindings,
    ProgramPeak,
    ReadCounts,
    ReadLine,
    to_json,
)
from attnprof.emulation.watch.notes import Notes
from attnprof.emulation.watch.program_peak import find_peak
from attnprof.emulation.watch.read_backs import ReadBacks
from attnprof.report.program import program_page
from attnprof.studies.program import ProgramRun

MIB = 2**20
SCORES_BYTES = 4 * 4096 * 4096  # one map of 64x64, float32

BLOCK = """
import torch
from torch import nn


class SelfAttention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 8, 1)
        self.key = nn.Conv2d(channels, channels // 8, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        b, c, h, w = x.shape
        query = self.query(x).view(b, -1, h * w).permute(0, 2, 1)
        key = self.key(x).view(b, -1, h * w)
        scores = torch.bmm(query, key)
        attention = torch.softmax(scores, dim=-1)
        value = self.value(x).view(b, -1, h * w)
        out = torch.bmm(value, attention.permute(0, 2, 1)).view(b, c, h, w)
        return self.gamma * out + x


block = SelfAttention(128).cuda()
"""

TRAINING = f"""{BLOCK}
optimizer = torch.optim.Adam(block.parameters())
x = torch.randn(1, 128, 64, 64, device="cuda")
for _ in range(4):
    loss = block(x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print("own figures", torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved())
"""


@pytest.fixture
def command(on_card, tmp_path):
    """The command line that runs this text as a program, in a folder of its own."""

    def words(text, *options, card="t4"):
        (tmp_path / "train.py").write_text(dedent(text))
        return [sys.executable, "-m", "attnprof", "run", "--gpu", card, *options, "--", sys.executable, "train.py"]

    return words


@pytest.fixture
def run(command, tmp_path):
    """What is found of a program, as JSON, and what the program wrote."""

    def found(text, *options, card="t4", code=0):
        done = subprocess.run(
            command(text, "--format", "json", *options, card=card),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        report = json.loads(done.stdout)
        assert (report["source"], report["exit_code"]) == ("emulated", code)
        assert [process["notes"] for process in report["processes"]] == [[]] * len(report["processes"])
        return report, done.stderr

    return found


def only_process(report):
    [process] = report["processes"]
    return process


def text_of(line):
    return line["source"] if line else None


# ---- a program that fits ------------------------------------------------------------------------------


def test_the_peak_of_training_is_the_programs_own_figure_and_has_its_holders(run):
    report, said = run(TRAINING)
    found = only_process(report)
    allocated, reserved = map(int, said.rpartition("own figures")[2].split())
    assert (found["peak_allocated_bytes"], found["peak_reserved_bytes"]) == (allocated, reserved)
    assert found["taken_bytes"] == reserved + report["context_bytes"]
    assert (found["steps"], found["optimizers"], found["ended"]) == (4, 1, True)
    assert list(found["peaks_so_far"]) == ["1", "2", "3", "4"]
    # Adam's state arrives with the first step, so that a later one has the peak.
    assert found["peaks_so_far"]["1"] < found["peaks_so_far"]["2"] == found["peaks_so_far"]["4"] == allocated
    assert found["peak_step"] == found["peak"]["step"] == 2
    holders = found["peak"]["holders"]
    assert sum(one["total_bytes"] for one in holders) == found["peak"]["allocated_bytes"] == allocated
    by_line = {text_of(one["line"]): one for one in holders if not one["part"]}
    assert by_line["attention = torch.softmax(scores, dim=-1)"]["total_bytes"] == SCORES_BYTES
    assert by_line["block = SelfAttention(128).cuda()"]["blocks"] == 7
    assert by_line["block = SelfAttention(128).cuda()"]["largest_tensor"] == "128x128x1x1 float32"
    # Softmax's backward, as in test_emulation: beside the attention four more of its size.
    backward = [one for one in holders if one["part"] == BACKWARD]
    assert backward[0]["largest_bytes"] == SCORES_BYTES
    assert 4 * SCORES_BYTES < sum(one["total_bytes"] for one in backward) < 5 * SCORES_BYTES
    assert found["out_of_memory"] is None
    assert (sum(found["reads"].values()), found["read_lines"]) == (0, [])


def test_a_peak_that_the_program_resets_is_kept(run):
    report, said = run("""
        import torch
        big = torch.empty(100 << 20, dtype=torch.uint8, device="cuda")
        del big
        torch.cuda.reset_peak_memory_stats()
        print("own figures", torch.cuda.max_memory_allocated())
    """)
    assert said.rpartition("own figures")[2].split() == ["0"]
    assert only_process(report)["peak_allocated_bytes"] == 100 * MIB
    assert text_of(only_process(report)["peak"]["line"]).startswith("big = torch.empty(")


# ---- a program that does not --------------------------------------------------------------------------


def test_out_of_memory_in_forward_has_its_line_and_who_held_the_memory(command, run, tmp_path):
    card = "t4,memory=280MB"  # with the context room for one matrix and not for two
    report, said = run(TRAINING, card=card, code=1)
    failure = only_process(report)["out_of_memory"]
    assert (failure["phase"], failure["steps_before"], failure["requested_bytes"]) == ("forward", 0, SCORES_BYTES)
    assert [text_of(line) for line in failure["stack"]] == [
        "loss = block(x).square().mean()", "attention = torch.softmax(scores, dim=-1)",
    ]  # fmt: skip
    assert failure["message"].startswith("CUDA out of memory. Tried to allocate 64.00 MiB.")
    assert f"torch.OutOfMemoryError: {failure['message']}" in said  # the program's own traceback
    largest = failure["holders"][0]
    assert text_of(largest["line"]) == "scores = torch.bmm(query, key)"
    assert (largest["largest_bytes"], largest["largest_tensor"]) == (SCORES_BYTES, "1x4096x4096 float32")
    assert sum(one["total_bytes"] for one in failure["holders"]) == failure["allocated_bytes"]
    assert only_process(report)["out_of_memory_count"] == 1
    assert only_process(report)["peak"] is None

    table = subprocess.run(command(TRAINING, card=card), cwd=tmp_path, capture_output=True, text=True, check=False,
                           env={**os.environ, "COLUMNS": "80"})  # fmt: skip
    assert table.returncode == 1
    assert max(map(len, table.stdout.splitlines())) <= 80
    assert "Out of memory before the first optimizer step was done, in forward" in " ".join(table.stdout.split())
    softmax = "attention = torch.softmax(scores, dim=-1)"
    number = TRAINING.splitlines().index(f"        {softmax}") + 1
    assert f"  train.py:{number}  {softmax}" in table.stdout
    assert " ".join(failure["message"].split()[:12]) in " ".join(table.stdout.split())


def test_out_of_memory_in_backward_has_the_line_that_called_it(run):
    report, _ = run(TRAINING, card="t4,memory=400MB", code=1)
    failure = only_process(report)["out_of_memory"]
    assert (failure["phase"], failure["node"]) == ("backward", "SoftmaxBackward0")
    assert [text_of(line) for line in failure["stack"]] == ["loss.backward()"]
    tensors = [one for one in failure["holders"] if not one["workspace"]]
    held = {(text_of(one["line"]), one["part"]): one["largest_bytes"] for one in tensors}
    assert held["attention = torch.softmax(scores, dim=-1)", ""] == SCORES_BYTES
    product = "out = torch.bmm(value, attention.permute(0, 2, 1)).view(b, c, h, w)"
    marked = failure["forward_line"] is not None  # from torch 2.14 on
    assert held[product if marked else None, BACKWARD] == SCORES_BYTES
    assert not marked or text_of(failure["forward_line"]) == "attention = torch.softmax(scores, dim=-1)"


def test_an_error_that_the_program_catches_is_reported_and_the_program_goes_on(run):
    program = f"""{BLOCK}
for batch in (8, 4, 2, 1):
    try:
        block(torch.randn(batch, 128, 64, 64, device="cuda"))
        break
    except torch.cuda.OutOfMemoryError:
        pass
print("fits", batch)
"""
    report, said = run(program, card="t4,memory=600MB")
    assert "fits 2" in said
    found = only_process(report)
    assert (found["out_of_memory_count"], found["avoided_count"]) == (2, 0)
    failure = found["out_of_memory"]
    assert failure["requested_bytes"] == 8 * SCORES_BYTES
    assert failure["message"].startswith("CUDA out of memory. Tried to allocate 512.00 MiB.")
    assert text_of(failure["stack"][-1]) == "scores = torch.bmm(query, key)"


# ---- what emulation cannot follow ---------------------------------------------------------------------


def test_lines_that_read_values_are_named(run):
    program = """
        import torch
        x = torch.ones(8, device="cuda", requires_grad=True)
        for _ in range(3):
            x.sum().backward()
            if x.grad.norm().item() > 1:
                print("always")
        print(x.nonzero().shape)
    """
    report, _ = run(program)
    found = only_process(report)
    lines = {text_of(one["line"]): (one["use"], sum(one["reads"].values())) for one in found["read_lines"]}
    assert lines == {"if x.grad.norm().item() > 1:": ("", 3), "print(x.nonzero().shape)": ("", 1)}
    assert found["reads"] == {"true": 4, "drawn": 0, "made_up": 0}
    report, _ = run(program, "--no-values")
    found = only_process(report)
    lines = {text_of(one["line"]): (one["use"], one["reads"]["made_up"]) for one in found["read_lines"]}
    assert lines == {"if x.grad.norm().item() > 1:": (BRANCH, 3), "print(x.nonzero().shape)": (SIZE, 1)}


def test_a_library_that_reads_is_named_with_what_it_decides(run, tmp_path):
    package = tmp_path / "site-packages" / "trainer"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        dedent("""
            def fit(model):
                best = 0
                for _ in range(3):
                    if accuracy(model) > best:
                        best = 1
                report(model)

            def accuracy(model):
                value = model.sum().item()
                return round(value, 3)

            def report(model):
                print(f"{model.sum():.3f}")
        """)
    )
    report, _ = run(f"""
        import sys
        sys.path.insert(0, {str(package.parent)!r})
        import torch, trainer
        trainer.fit(torch.ones(2048, 2048, device="cuda") @ torch.ones(2048, 2048, device="cuda"))
    """)
    reads = {one["use"]: one for one in only_process(report)["read_lines"]}
    assert set(reads) == {BRANCH, PRINTED}
    assert {text_of(one["line"]).partition("(")[0] for one in reads.values()} == {"trainer.fit"}
    assert text_of(reads[BRANCH]["package_line"]) == "value = model.sum().item()"
    assert text_of(reads[BRANCH]["decides"]) == "if accuracy(model) > best:"
    assert reads[BRANCH]["reads"] == {"true": 0, "drawn": 0, "made_up": 3}


def test_a_loop_that_waits_for_a_made_up_value_is_named_while_it_runs(run):
    report, err = run("""
        import sys, torch
        x = torch.ones(2048, 2048, device="cuda") @ torch.ones(2048, 2048, device="cuda")
        tries = 0
        while x.sum().item() > 5 or tries < 2100:
            tries += 1
            if tries == 2100:
                print("the end", file=sys.stderr)
                break
    """)
    [told] = [line for line in err.splitlines() if line.startswith("attnprof: ")]
    assert "train.py:5  while x.sum().item() > 5 or tries < 2100:: has read a made-up value 2000 times" in told
    assert err.index(told) < err.index("the end")
    assert [one["repeated"] for one in only_process(report)["read_lines"]] == [True]


def test_processes_have_a_card_each(run):
    report, _ = run("""
        import multiprocessing, subprocess, sys, torch
        def forked():
            torch.empty(30 << 20, dtype=torch.uint8, device="cuda")
        child = multiprocessing.get_context("fork").Process(target=forked)
        child.start()
        child.join()
        torch.empty(10 << 20, dtype=torch.uint8, device="cuda")
        code = "import torch; torch.empty(20 << 20, dtype=torch.uint8, device='cuda')"
        subprocess.run([sys.executable, "-c", code], check=True)
    """)
    peaks = {process["peak_allocated_bytes"] // MIB: process for process in report["processes"]}
    assert sorted(peaks) == [10, 20, 30]
    assert all(process["used_cuda"] and process["ended"] for process in peaks.values())
    shown = drawn(*(process(pid=n, used_cuda=True) for n in (1, 2)))
    assert "2 processes used CUDA, and each saw a card of its own" in shown


def test_a_program_without_cuda_or_torch_says_so(command, tmp_path):
    for text, words in (("import torch", "it initialised no CUDA"), ("pass", "it did not import torch")):
        done = subprocess.run(command(text), cwd=tmp_path, capture_output=True, text=True, check=True)
        assert words in done.stdout


# ---- the program stays as it is -----------------------------------------------------------------------


def test_a_program_fails_for_its_own_reason(command, tmp_path):
    done = subprocess.run(command('raise KeyError("mine")'), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("KeyError: 'mine'\n")
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(("end", "code"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)])
def test_the_exit_code_is_the_programs_own(run, end, code):
    report, _ = run(f"import os, sys, torch\ntorch.empty(8, device='cuda')\n{end}", code=code)
    found = only_process(report)
    assert found["used_cuda"]
    assert found["ended"] == (code == 7)


def test_arguments_input_and_the_hidden_sitecustomize_reach_the_program(command, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.hidden = 'run'\n")
    text = "import sys\nprint(sys.hidden, sys.argv[1:], sys.stdin.read(), [p for p in sys.path if 'watch' in p])"
    arguments = ["--gpu", "none", "--", "-h"]
    done = subprocess.run([*command(text), *arguments], cwd=tmp_path, input="in", capture_output=True, text=True,
                          check=True, env={**os.environ, "PYTHONPATH": python_path(tmp_path)})  # fmt: skip
    assert done.stdout.startswith(f"run {arguments} in []\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_goes_to_the_program_and_its_report_is_shown(command, tmp_path, number, code):
    text = """
        import time, torch
        x = torch.empty(10 << 20, dtype=torch.uint8, device="cuda")
        print("ready", flush=True)
        time.sleep(60)
    """
    process = subprocess.Popen(command(text), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    shown, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert "optimizer steps" in shown
    assert ("KeyboardInterrupt" in said) == (number == signal.SIGINT)
    assert shown.startswith("Still running when ")
    assert "peak allocated at least 10.0 MiB" in " ".join(shown.split())


# ---- bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "gpu: it is missing"),
        (["--gpu", "t4"], "name a program after the options"),
        (["--gpu", "t4", "--", "no-such-program"], "run: 'no-such-program': no such program"),
        (["--gpu", "t4", "--", "/"], "run: '/': no such program, or not executable"),
        (["--gpu", "t4,l4", "--", "python"], "gpu: 't4,l4' are 2 cards; name one"),
        (["--gpu", "t5", "--", "python"], "'t5' is not in the catalogue"),
        (["--gpu", "t4", "--format", "xml", "--", "python"], "format: 'xml' is not one of table, csv, json"),
        (["--gpu", "t4", "--context", "some", "--", "python"], "'some' is not a memory size"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message):
    done = subprocess.run(
        [sys.executable, "-m", "attnprof", "run", *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


# ---- parts --------------------------------------------------------------------------------------------


def test_findings_survive_their_way_as_json():
    line = Line("train.py", 3, "step", "loss.backward()")
    holders = (LineHolder(line, line, "", 1024, 2, 512, "128 float32"), LineHolder(None, None, GRADIENTS, 512, 1, 512))
    found = process(
        peaks_so_far={1: 10, 7: 20},
        peak=ProgramPeak(7, 20, None, holders),
        out_of_memory=OutOfMemory("CUDA out of memory.", 5, 1, "backward", "BmmBackward0", (line,), 1, 2, holders),
        reads=ReadCounts(1, 2, 3),
        read_lines=(
            ReadLine(line, None, ReadCounts(made_up=3), BRANCH, line, True),
            ReadLine(None, line, ReadCounts(1)),
        ),
        notes=("one",),
    )
    assert findings_from_json(to_json(found)) == found
    assert findings_from_json('{"pid": 1, "command": "python"}') == ProcessFindings(1, "python")


def test_findings_that_do_not_fit_are_one_line():
    with pytest.raises(ValueError, match=r"^\$\.peak: object missing required field step$"):
        findings_from_json('{"pid": 1, "command": "python", "peak": {}}')
    with pytest.raises(ValueError, match=r"^not JSON: "):
        findings_from_json('{"pid": 1')


def test_the_peak_is_found_in_the_past():
    frames = {name: [{"filename": "train.py", "line": n, "name": "f"}] for n, name in enumerate(["kept", "big", "now"])}

    def call(action, address, size, name="kept"):
        return {"action": action, "addr": address, "size": size, "time_us": 0, "frames": frames[name]}

    def block(address, size, name):
        return {"address": address, "size": size, "state": "active_allocated", "frames": frames[name]}

    # kept lives on; big comes, takes 1000 in blocks of 512, and goes; now comes to big's address.
    calls = [
        call("alloc", 1, 512), call("segment_alloc", 9, 2 * MIB), call("alloc", 2, 1000, "big"),
        call("free_requested", 2, 1000), call("free_completed", 2, 1000), call("alloc", 2, 100, "now"),
    ]  # fmt: skip
    snapshot = {"segments": [{"blocks": [block(1, 512, "kept"), block(2, 512, "now")]}], "device_traces": [calls]}
    found = find_peak(snapshot, 0, step=3, peak_bytes=1536)
    assert (found.step, found.allocated_bytes, found.line.line) == (3, 1536, 1)
    assert [(one.line.line, one.total_bytes) for one in found.holders] == [(1, 1024), (0, 512)]
    # A history that begins later does not know of it.
    assert find_peak({**snapshot, "device_traces": [calls[-1:]]}, 0, 3, peak_bytes=1536) is None


@pytest.mark.parametrize(("error", "number"), [(None, 0), (KeyboardInterrupt, signal.SIGINT), (OSError, 0)])
def test_what_a_signal_raises_does_not_get_lost_in_c(error, number):
    def heard():
        if error:
            raise error

    notes = Notes()
    assert ReadBacks(notes, heard)._read(2) == number
    assert len(notes.lines()) == (error is OSError)


def test_a_program_that_was_written_for_another_torch_is_told():
    assert "The program's torch is 2.6.0, but the emulated device is built for 2.14.1" in drawn(process(torch="2.6.0"))


def process(**fields):
    return replace(ProcessFindings(1, "python train.py", torch="2.14.1", used_cuda=True, ended=True), **fields)


def drawn(*processes):
    """The table's words, a space between them."""
    text = io.StringIO()
    run = ProgramRun(parse_cards("t4")[0], ("python", "train.py"), 0, "2.14.1", processes)
    Console(file=text, width=80).print(program_page(run).table())
    return " ".join(text.getvalue().split())


def python_path(folder):
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


@pytest.mark.parametrize("seed", ["", "torch.manual_seed(3)"])
def test_two_runs_of_a_program_that_draws_go_the_same_way(run, seed):
    def peak():
        report, _ = run(f"""
            import torch
            {seed}
            chosen = (torch.rand(100000, device="cuda") + torch.rand(100000).cuda()).ge(1).nonzero()
            kept = torch.zeros(len(chosen), 100, device="cuda")
        """)
        return only_process(report)["peak_allocated_bytes"]

    assert peak() == peak()
