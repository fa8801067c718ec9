"""The emulated device, held against sums made by hand from what a step allocates."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
from support.cublas import KEPT, WORKSPACE, WORKSPACE_HOPPER
from support.samples import case

from attnprof.cases.measurement import Outcome, Source
from attnprof.cases.settings import Settings
from attnprof.emulation import toolkit
from attnprof.emulation.toolkit import EmulationError, find_toolkit
from attnprof.measure.runner import Runner

KIB, MIB = 2**10, 2**20


@pytest.fixture(scope="module")
def measure_on(on_card):
    """Measure a case on a card; a runner a card serves the module."""
    runners = {}

    def measure(card, *arguments, **options):
        if card not in runners:
            runners[card] = Runner(Settings(device="cuda"), environ=on_card(card))
        return runners[card].measure(case(*arguments, **options))

    yield measure
    for runner in runners.values():
        with runner:
            pass


def python_on(environ, code):
    """What a program prints as JSON with that card present."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=False, env={**os.environ, **environ},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def blocks(*sizes):
    """What the caching allocator counts: each rounded up to 512 bytes (kMinBlockSize, c10/core/AllocatorConfig.h)."""
    return sum(-(-size // 512) * 512 for size in sizes)


# ---- the allocator ------------------------------------------------------------------------------------


SEGMENTS = [
    # sizes, allocated, reserved
    ([1], 512, 2 * MIB),  # small pool: segments of 2 MiB (kSmallBuffer)
    ([513], 1024, 2 * MIB),
    ([MIB], MIB, 2 * MIB),  # the largest small block (kSmallSize)
    ([MIB, MIB, 1], 2 * MIB + 512, 4 * MIB),
    ([MIB + 1], MIB + 512, 20 * MIB),  # large pool below 10 MiB: segments of 20 MiB
    ([6 * MIB, 6 * MIB, 8 * MIB], 20 * MIB, 20 * MIB),
    ([6 * MIB, 6 * MIB, 9 * MIB], 21 * MIB, 40 * MIB),
    # What is left of a large segment is split off above 1 MiB (kSmallSize); up to that it stays with the block.
    ([9 * MIB, 9 * MIB + 512 * KIB], 18 * MIB + 512 * KIB, 20 * MIB),
    ([9 * MIB + 512 * KIB, 9 * MIB + 768 * KIB], 20 * MIB, 20 * MIB),
    ([10 * MIB], 10 * MIB, 10 * MIB),  # from 10 MiB (kMinLargeAlloc) its own, in whole 2 MiB (kRoundLarge)
    ([10 * MIB + 1], 10 * MIB + 512, 12 * MIB),
    ([11 * MIB], 12 * MIB, 12 * MIB),
]


def test_blocks_and_segments(on_card):
    found = python_on(
        on_card("t4,context=100MiB"),
        f"""
        import json, torch
        found = []
        for sizes in {[sizes for sizes, _, _ in SEGMENTS]}:
            kept = [torch.empty(size, dtype=torch.uint8, device="cuda") for size in sizes]
            free, total = torch.cuda.mem_get_info()
            found.append([torch.cuda.memory_allocated(), torch.cuda.memory_reserved(), total - free])
            del kept
            torch.cuda.empty_cache()
        print(json.dumps(found))
        """,
    )
    assert found == [[allocated, reserved, reserved + 100 * MIB] for _, allocated, reserved in SEGMENTS]


@pytest.mark.parametrize(("card", "workspace"), [("t4", WORKSPACE), ("a100", WORKSPACE), ("h100", WORKSPACE_HOPPER)])
def test_a_product_takes_a_cublas_workspace_and_that_of_backward_is_another(on_card, card, workspace):
    found = python_on(
        on_card(card),
        """
        import json, torch
        a = torch.empty(512, 512, device="cuda", requires_grad=True)
        product = a @ a.detach()
        peak, forward = torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()
        product.backward(torch.empty_like(product))
        print(json.dumps([peak, forward, torch.cuda.memory_allocated()]))
        """,
    )
    # a and its product; then a's gradient. Autograd runs backward on a thread of its own.
    kept = workspace * KEPT
    assert found == [blocks(MIB, MIB) + workspace, blocks(MIB, MIB) + kept, blocks(MIB, MIB, MIB) + 2 * kept]


# ---- the block ----------------------------------------------------------------------------------------

# Sizes at which every block is split off exactly, see SEGMENTS.
NAIVE_CASES = [
    ("t4", {"side": 64}, 4, WORKSPACE),
    ("t4", {"side": 24, "batch": 2}, 4, WORKSPACE),
    ("t4", {"side": 33, "channels": 64}, 4, WORKSPACE),
    ("t4", {"side": 64, "dtype": "fp16"}, 2, WORKSPACE),
    ("l4", {"side": 64, "batch": 2}, 4, WORKSPACE),
    ("a100", {"side": 96}, 4, WORKSPACE),
    ("h100", {"side": 64}, 4, WORKSPACE_HOPPER),
]


def naive_tensors(batch=1, channels=128, side=64, dtype=None, width=4):
    """Bytes of parameters, of a map, of query or key, and of an N x N matrix."""
    reduced, positions = channels // 8, side * side
    parameters = [channels * reduced, reduced] * 2 + [channels * channels, channels, 1]
    a_map, a_projection = batch * channels * positions, batch * reduced * positions
    return [p * width for p in parameters], a_map * width, a_projection * width, batch * positions**2 * width


@pytest.mark.parametrize(("card", "workload", "width", "workspace"), NAIVE_CASES)
def test_naive_forward_by_hand(measure_on, card, workload, width, workspace):
    parameters, x, projection, scores = naive_tensors(**workload, width=width)
    memory = measure_on(card, "naive", **workload).measurement.memory
    assert memory.baseline_bytes == blocks(*parameters, x)
    # To the end of the block live query, key, scores, attention, value and out. With them there are at the end
    # gamma * out and the sum with x, or before it a workspace that lives for the product alone.
    lasting = blocks(projection, projection, scores, scores, x, x)
    assert memory.step_bytes == lasting + max(blocks(x, x), workspace * (not KEPT))
    assert memory.retained_bytes == workspace * KEPT
    assert memory.peak_allocated_bytes == memory.baseline_bytes + memory.step_bytes + workspace * KEPT
    assert memory.device_bytes == memory.peak_reserved_bytes + memory.context_bytes


# Matrices so large that no passing workspace makes a peak.
@pytest.mark.parametrize(("card", "workload", "width", "workspace"), [c for c in NAIVE_CASES if c[1]["side"] >= 64])
def test_naive_training_by_hand(measure_on, card, workload, width, workspace):
    parameters, x, projection, scores = naive_tensors(**workload, width=width)
    memory = measure_on(card, "naive", mode="train", **workload).measurement.memory
    assert memory.baseline_bytes == blocks(*parameters, x, x)  # the output's gradient is there too
    # Softmax's backward (ATen native/cuda/SoftMax.cu) is the peak: the attention, its gradient, their product,
    # that made contiguous, and the result. Beside it what forward saved (query, key, out) and what backward
    # has made: the gradients of gamma, of value_conv's weight and bias, and that of x through it.
    weight, bias, gamma = parameters[-3:]
    assert memory.step_bytes == blocks(*[scores] * 5, projection, projection, x, gamma, weight, bias, x)
    assert memory.retained_bytes == 2 * workspace * KEPT
    assert memory.peak_allocated_bytes == memory.baseline_bytes + memory.step_bytes + 2 * workspace * KEPT


def test_segments_of_a_naive_step_by_hand(measure_on):
    forward = measure_on("t4", "naive").measurement.memory
    # Parameters, query and key (84 KiB and twice 256 KiB) in one small segment; x, value, out, gamma * out,
    # their sum (2 MiB each) and the workspace (8.1 MiB) in one of 20 MiB; scores and attention of 64 MiB each.
    assert forward.peak_reserved_bytes == (2 + 20 + 2 * 64) * MIB
    train = measure_on("t4", "naive", mode="train").measurement.memory
    assert train.peak_reserved_bytes == (2 + 2 * 20 + 5 * 64) * MIB


def test_chunked_forward_by_hand(measure_on):
    _, x, projection, _ = naive_tensors()
    memory = measure_on("t4", "chunked").measurement.memory
    tile = 32 * MIB  # 2048 rows of 4096 scores
    # What is attended to is the input itself.
    assert memory.step_bytes == blocks(projection, projection, x, tile, 2048 * 128 * 4) + WORKSPACE * (not KEPT)


def test_chunked_training_by_hand(measure_on):
    n = 512 * 512
    memory = measure_on("t4", "chunked", mode="train", side=512).measurement.memory
    x, projection, row, tile = 128 * n * 4, 16 * n * 4, n * 4, 32 * n * 4  # 32 rows of n scores
    part, score = 32 * 128 * 4, 32 * 4
    # In backward, beside the input and the output's gradient: the output, the gradient of the value that becomes
    # the input's, query and key and their gradients, and two tiles; of these some rows of the output's gradient,
    # made anew before the last ones go, and a sum a row.
    lasting = blocks(x, x, *[projection] * 4, row, tile, tile, part, part, score)
    assert memory.step_bytes == lasting + WORKSPACE * (not KEPT)
    assert memory.peak_allocated_bytes < 5.2 * x


# ---- kernels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "strategy", "kernels"),
    [
        ("t4", "sdpa-pad", ["efficient"]),
        ("t4", "sdpa-pad+fp16", ["efficient"]),
        ("t4", "sdpa-pad+bf16", ["math"]),
        ("t4", "sdpa-split", ["efficient"]),
        ("a100", "sdpa+fp16", ["math"]),
        ("a100", "sdpa-pad", ["efficient"]),
        ("a100", "sdpa-split+bf16", ["flash"]),
        ("a100", "sdpa-pad+fp16", ["flash"]),
        ("h100", "sdpa-pad+fp16", ["cudnn", "flash"]),  # torch 2.8 still put flash first
    ],
)
def test_each_card_has_its_kernel(measure_on, card, strategy, kernels):
    result = measure_on(card, strategy)
    assert result.measurement.kernel.name in kernels
    if card == "t4" and strategy.endswith("fp16"):
        assert result.measurement.kernel.refused == {"flash": "GPU too old", "cudnn": "GPU too old"}


# ---- what the registry says of memory -----------------------------------------------------------------


@pytest.mark.parametrize("mode", ["forward", "train"])
def test_what_other_parts_do_to_the_memory_of_an_attention(measure_on, mode):
    def step_bytes(strategy):
        return measure_on("a100", strategy, side=96, mode=mode).measurement.memory.step_bytes

    naive = step_bytes("naive")
    assert step_bytes("naive+checkpoint") == naive
    assert step_bytes("naive+fp16") == pytest.approx(naive / 2, rel=0.01)
    assert step_bytes("pooled:2") == pytest.approx(naive / 4, rel=0.1)
    assert step_bytes("naive+amp") > 0.85 * naive
    assert step_bytes("sdpa+fp16") == pytest.approx(step_bytes("sdpa"), rel=0.01)


# ---- what is not faithful is said ---------------------------------------------------------------------


def test_a_record_is_marked_and_has_no_time_and_no_errors(measure_on, on_card):
    result = measure_on("t4", "online", side=16, mode="train")
    assert result.outcome is Outcome.COMPLETED
    assert result.measurement.latency is None
    assert result.measurement.exactness is None
    assert result.measurement.flops is None
    with Runner(Settings(device="cuda"), environ=on_card("t4,memory=8GB,context=300MiB")) as runner:
        runner.open()
    assert runner.source is Source.EMULATED
    found = runner.environment
    assert (found.gpu, found.device_name) == ("t4,memory=8GB,context=300MiB", "Tesla T4")
    assert (found.total_memory_bytes, found.context_bytes) == (8 * 10**9, 300 * MIB)


def test_out_of_memory_is_torchs_own(measure_on):
    result = measure_on("t4", "naive", side=256)
    assert result.outcome is Outcome.OUT_OF_MEMORY
    assert "CUDA out of memory. Tried to allocate 16.00 GiB" in result.reason
    assert "GPU 0 has a total capacity of 14.56 GiB" in result.reason
    assert measure_on("t4", "naive", side=16).outcome is Outcome.COMPLETED


STRANGE_STEP = """
    import ctypes, json, torch
    from attnprof.measure.worker import case as measuring
    from attnprof.measure.worker.devices.select import open_device
    from attnprof.cases.case import Case
    from attnprof.cases.settings import Settings
    from attnprof.cases.workload import Workload

    def strange(self):
        {what}
        plain(self)

    plain, measuring.BlockStep.__call__ = measuring.BlockStep.__call__, strange
    device = open_device("cuda")
    def measured():
        return measuring.measure(Case(Workload(1, 16, 8, 8), "naive"), Settings(), device, lambda _: None)
    first = measured()
    measuring.BlockStep.__call__ = plain
    print(json.dumps([first.outcome, first.reason, first.measurement.notes, measured().outcome]))
"""


def test_a_call_that_is_not_emulated_makes_the_case_unsupported_by_name(on_card):
    library = find_toolkit().libraries["cudart"].name
    ignored = f'ctypes.CDLL("{library}").cudaIpcGetMemHandle(None, None)'
    outcome, reason, _, next_outcome = python_on(on_card("t4"), STRANGE_STEP.format(what=ignored))
    words = "not emulated: tensors of the card that processes share (CUDA IPC); send them to the other process"
    assert (outcome, reason.partition(" from the host")[0]) == ("unsupported", words)
    assert next_outcome == "completed"


def test_a_case_that_reads_values_back_is_flagged(on_card):
    outcome, _, notes, _ = python_on(on_card("t4"), STRANGE_STEP.format(what="self.x.sum().item()"))
    assert outcome == "completed"
    assert any("read values back from the device" in note for note in notes)


def test_a_kernel_that_the_build_does_not_have_for_the_card(on_card):
    architectures, p100 = python_on(
        on_card("p100"),
        """
        import json, torch
        try:
            torch.empty(8, device="cuda").zero_().add_(1)
            refused = ""
        except RuntimeError as error:
            refused = str(error)
        print(json.dumps([torch.cuda.get_arch_list(), refused]))
        """,
    )
    served = any(name in architectures for name in ("sm_60", "compute_60", "sm_50", "compute_50"))
    assert ("no kernel image is available" in p100) != served


# ---- where it cannot work -----------------------------------------------------------------------------


def test_without_a_compiler_it_says_so(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(toolkit.shutil, "which", lambda _: None)
    with pytest.raises(EmulationError, match=r"no C compiler: install gcc, or set CC|for the CPU only"):
        find_toolkit()


def test_on_another_system_it_says_so(monkeypatch):
    monkeypatch.setattr(toolkit.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(toolkit.platform, "machine", lambda: "arm64")
    with pytest.raises(EmulationError, match="on Linux x86-64 only, this is Darwin arm64"):
        find_toolkit()


def test_on_a_torch_for_the_cpu_it_says_so(monkeypatch):
    monkeypatch.setattr(toolkit.runpy, "run_path", lambda _: {"__version__": "2.13.0+cpu", "cuda": None})
    with pytest.raises(EmulationError, match=r"torch 2.13.0\+cpu is built for the CPU only"):
        find_toolkit()


def test_two_processes_build_it_at_once(on_card, tmp_path):
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    code = "from attnprof.cases.cards import parse_cards; from attnprof.emulation import emulation_environment\n"
    code += "print(emulation_environment(parse_cards('t4')[0], print)['LD_PRELOAD'])"
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0][-1] == said[1][-1]
    # One of them built, and the other waited, if it came soon enough to find it building.
    assert sum(lines[0].startswith("building") for lines in said) == 1
    assert all(os.path.exists(path) for path in said[0][-1].split(":"))  # noqa: PTH110 - of strings
    assert not list(tmp_path.rglob("building-*"))


def test_a_broken_compiler_is_one_line(on_card, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "false")
    with pytest.raises(EmulationError, match=r"cannot be compiled: false: exit code 1; install gcc .*, or set CC"):
        on_card("t4")
    assert not list(tmp_path.rglob("building-*"))


def test_a_product_of_one_channel_needs_no_compiler_of_kernels(measure_on):
    assert measure_on("t4", "naive", side=8, channels=8, mode="train").outcome is Outcome.COMPLETED
