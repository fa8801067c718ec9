"""Small values on the emulated card: what a program reads is what the CPU computes, and memory stays as it is."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from attnprof.emulation import values_library
from attnprof.emulation.toolkit import find_toolkit
from attnprof.emulation.values_library import values_environment

CHECKS = Path(__file__).parents[1] / "support" / "small_values.py"
EXPANDABLE = {"PYTORCH_ALLOC_CONF": "expandable_segments:True", "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}

MEMORY = """
import json
keys = ["allocated_bytes.all.peak", "reserved_bytes.all.peak", "allocation.all.allocated"]
print(json.dumps([torch.cuda.memory_stats()[key] for key in [*keys, "allocated_bytes.all.allocated"]]))
"""
CONVOLUTIONS = """
import torch
from torch import nn
net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.LazyLinear(10))
net.cuda()(torch.randn(2, 3, 64, 64, device="cuda"))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for _ in range(3):
    x, y = torch.randn(16, 3, 64, 64).cuda(), torch.randint(10, (16,)).cuda()
    loss = nn.functional.cross_entropy(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
"""
ATTENTION = """
import torch
from torch import nn
layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True).cuda()
embed, head = nn.Embedding(1000, 64).cuda(), nn.Linear(64, 1000).cuda()
parameters = [*layer.parameters(), *embed.parameters(), *head.parameters()]
optimizer, scaler = torch.optim.Adam(parameters), torch.amp.GradScaler("cuda")
for _ in range(3):
    words = torch.randint(1000, (8, 128), device="cuda")
    with torch.autocast("cuda", dtype=torch.float16):
        loss = nn.functional.cross_entropy(head(layer(embed(words))).flatten(0, 1), words.flatten())
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    scaler.step(optimizer)
    scaler.update()
assert len(optimizer.state) == len(parameters), "a step was skipped"
assert scaler.get_scale() == 65536.0
"""
SORTS = """
import torch
x = torch.randn(2000, 300, device="cuda")
for _ in range(3):
    values, places = x.sort(dim=1)
    y = torch.cat([values, x.gather(1, places)], 1).softmax(1).cumsum(1)
    z = torch.einsum("ij,kj->ik", y[:500], y[:500]).topk(9).indices
"""


@pytest.fixture(scope="module")
def printed(on_card):
    """What a program prints as JSON on a T4; with small values, unless told otherwise."""

    def run(code, *, values=True, **variables):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
            capture_output=True, text=True, check=False,
            env={**os.environ, **on_card("t4", values=values), **variables},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.mark.parametrize("variables", [{}, EXPANDABLE], ids=["segments", "expandable segments"])
def test_what_a_program_reads_is_true(printed, variables):
    found = printed(f"import runpy; runpy.run_path({str(CHECKS)!r}, run_name='__main__')", **variables)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
    assert len(found) >= 80


def test_without_the_library_everything_is_zeros(printed):
    code = "import torch; print(torch.arange(3, device='cuda').tolist())"
    assert printed(code, values=False) == [0, 0, 0]
    assert printed(code) == [0, 1, 2]


@pytest.mark.parametrize("program", [CONVOLUTIONS, ATTENTION, SORTS], ids=["convolutions", "attention", "sorts"])
def test_memory_is_the_same_with_and_without(printed, program):
    assert printed(program + MEMORY) == printed(program.replace("assert", "pass;") + MEMORY, values=False)


LEVELS = """
import ctypes, json, torch
levels = []
heard = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda level: levels.append(level) or 0)
driver = ctypes.CDLL("libcuda.so.1")
driver.attnprof_on_read_back(heard)
def level_of(tensor):
    levels.clear()
    tensor.flatten()[0].item()
    return levels[-1]
"""
TRUE, DRAWN, MADE_UP = range(3)


@pytest.mark.parametrize(
    ("tensor", "level"),
    [
        ("torch.ones(3).cuda().cumsum(0)", TRUE),
        ("torch.full((3000, 1000), 2.0, device='cuda')", TRUE),
        ("torch.randn(3, device='cuda').exp()", DRAWN),
        ("torch.ones(3, device='cuda') + torch.randperm(3, device='cuda')", DRAWN),
        ("torch.randn(3000, 1000, device='cuda').sum()", MADE_UP),
        ("torch.empty(3, device='cuda')", MADE_UP),
        ("torch.conv2d(torch.ones(1, 1, 3, 3, device='cuda'), torch.ones(1, 1, 1, 1, device='cuda'))", MADE_UP),
        ("torch.ones(3, device='cuda') * torch.randn(3000, 1000, device='cuda').mean()", MADE_UP),
    ],
)
def test_how_far_a_value_can_be_trusted(printed, tensor, level):
    assert printed(LEVELS + f"print(json.dumps(level_of({tensor})))") == level


def test_a_write_of_true_values_over_made_up_ones_is_true_where_it_wrote(printed):
    levels = printed(
        LEVELS
        + """
x = torch.randn(3000, 1000, device="cuda").mean().expand(1024).clone()
before = level_of(x)
x[256:] = 1
print(json.dumps([before, level_of(x[:256]), level_of(x[256:]), level_of(x.fill_(2))]))
"""
    )
    assert levels == [MADE_UP, MADE_UP, TRUE, TRUE]


def test_what_an_unknown_kernel_may_write_is_made_up(printed, tmp_path):
    """A library of the program launches a kernel of its own, past PyTorch's operators."""
    source, library = tmp_path / "stray.c", tmp_path / "stray.so"
    source.write_text("""
        int cuLaunchKernel(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *,
                           void **, void **);
        int run(void *output, int count) {
          void *arguments[] = {&count, &output};
          return cuLaunchKernel("kernel", 1, 1, 1, 1, 1, 1, 0, 0, arguments, 0);
        }
    """)
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", library], check=True)
    levels = printed(
        LEVELS
        + f"""
stray = ctypes.CDLL({str(library)!r})
x, y = torch.ones(3, device="cuda"), torch.ones(3, device="cuda")
assert stray.run(ctypes.c_void_p(x.data_ptr()), 3) == 0
print(json.dumps([level_of(x), level_of(y)]))
"""
    )
    assert levels == [MADE_UP, TRUE]


def test_an_index_out_of_range_is_noted(printed):
    assumed = printed("""
        import ctypes, json, torch
        from attnprof.emulation.watch.journal import emulated_driver
        torch.ones(3, device="cuda")[torch.tensor([5]).cuda()]
        print(json.dumps(emulated_driver().journal().assumed))
    """)
    assert any("index out of range in aten::index" in line for line in assumed)


def test_memory_of_the_host_is_given_back(printed):
    grown = printed("""
        import torch
        def resident_mib():
            return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) >> 10
        torch.arange(1000, device="cuda").sum().item()
        before = resident_mib()
        kept = [torch.arange(500_000, device="cuda") for _ in range(100)]
        with_them = resident_mib()
        del kept
        print([with_them - before, resident_mib() - before])
    """)
    assert grown[0] > 350  # 100 tensors of 4 MB
    assert grown[1] < 150


def test_threads_are_not_left_behind_for_a_fork(printed):
    """A program may fork workers after it used the card."""
    alone = printed("""
        import os, torch
        torch.randn(300, 300, device="cuda") @ torch.randn(300, 300, device="cuda")
        torch.randn(200, 4000, device="cuda").softmax(1)
        print(sum(open(f"/proc/self/task/{name}/comm").read() == "python\\n" for name in os.listdir("/proc/self/task")))
    """)
    assert alone <= 2


@pytest.fixture
def told(tmp_path, monkeypatch, on_card):
    """The lines that are told while the library is sought, in a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return []


def test_without_a_compiler_it_says_so(told, monkeypatch):
    toolkit = find_toolkit()
    monkeypatch.setattr(values_library.shutil, "which", lambda _: None)
    monkeypatch.delenv("CXX", raising=False)
    environ = values_environment(toolkit, told.append)
    assert environ == {"ATTNPROF_NO_VALUES": "no C++ compiler was found (install g++, or set CXX)"}
    assert told == [f"values that the program reads from the card are zeros: {environ['ATTNPROF_NO_VALUES']}"]


@pytest.mark.parametrize(
    ("says", "tried"),
    [("error: too old", 1), ("fatal error: when writing output: No space left on device", 2)],
)
def test_a_compiler_that_fails_is_tried_again_if_that_may_help(told, monkeypatch, tmp_path, says, tried):
    compiler, calls = tmp_path / "c++", tmp_path / "calls"
    compiler.write_text(f"#!/bin/sh\necho x >> {calls}\necho '{says}' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    for _ in range(2):
        environ = values_environment(find_toolkit(), told.append)
        assert says in environ["ATTNPROF_NO_VALUES"]
        assert told[-1].endswith(environ["ATTNPROF_NO_VALUES"])
    assert calls.read_text() == "x\n" * tried
    assert sum(line.startswith("building the library of small values") for line in told) == tried


def test_the_report_tells_why_there_are_no_values(printed):
    assumed = printed(
        """
        import json, torch
        from attnprof.emulation.watch.journal import emulated_driver
        torch.ones(1, device="cuda")
        print(json.dumps(emulated_driver().journal().assumed))
        """,
        values=False,
        ATTNPROF_NO_VALUES="no compiler",
    )
    assert assumed == ["all values on the card are zeros: no compiler"]


def test_a_block_is_not_proven_by_made_up_values(printed):
    refusal = printed("""
        import json, attnprof
        block = attnprof.SelfAttention2d(16, "naive").cuda()
        from attnprof.patching.swaps import _require_values
        from attnprof.patching.not_recognised import NotRecognisedError
        try:
            _require_values(block)
            print(json.dumps("proven"))
        except NotRecognisedError as error:
            print(json.dumps(str(error)))
    """)
    assert "computes nothing" in refusal
