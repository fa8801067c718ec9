"""Parts of CUDA that are not emulated: recognised by a call or by an error, with what to do."""

import dataclasses
import os
import subprocess
import sys
from textwrap import dedent

import pytest
from support.drawing import drawn

from attnprof.cases.cards import parse_cards
from attnprof.emulation.unemulated import PARTS, part_of_error, parts_of_calls
from attnprof.emulation.watch.findings import Ending, ProcessFindings, Raised
from attnprof.report.program import program_page
from attnprof.studies.program import ProgramRun


@pytest.mark.parametrize(
    ("call", "words", "remedy"),
    [
        ("cudnnCreateDropoutDescriptor", "nn.LSTM", "torch.backends.cudnn.enabled = False"),
        ("cudnnRNNForward", "nn.GRU", "torch.backends.cudnn.enabled = False"),
        ("cudnnCreateCTCLossDescriptor", "CTC", "int64"),
        ("cudnnCreateSpatialTransformerDescriptor", "grid_sample", "cudnn.flags(enabled=False)"),
        ("cuFFT", "torch.fft", ".cpu()"),
        ("cuSOLVER", "torch.linalg", ".cpu()"),
        ("libcusolver.so.12", "torch.linalg", ".cpu()"),
        ("libcusparse.so.12", "torch.sparse.mm", "to_dense()"),
        ("libnccl.so.2", "NCCL", '"gloo"'),
        ("cudaDeviceEnablePeerAccess", "second card", "device_ids=[0]"),
        ("torch.compile", "Triton", "TORCH_COMPILE_DISABLE=1"),
        ("cudaIpcGetMemHandle", "CUDA IPC", ".cpu()"),
        ("cudnnMultiHeadAttnForward", "a function of cuDNN (cudnnMultiHeadAttnForward)", "report"),
        ("cudaMallocFromSpace", "a function of the CUDA runtime (cudaMallocFromSpace)", "report"),
        ("cuGreen", "a function of the CUDA driver (cuGreen)", "report"),
        ("mystery", "a function (mystery)", "report"),
    ],
)
def test_a_call_is_put_into_words_with_what_to_do(call, words, remedy):
    [part] = parts_of_calls([call, call])
    assert words in part.words
    assert remedy in part.remedy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RuntimeError: cuFFT error: CUFFT_INTERNAL_ERROR", "cuFFT"),
        ("RuntimeError: cusolver error: CUSOLVER_STATUS_NOT_INITIALIZED, when calling `cusolverDnCreate`", "cuSOLVER"),
        ("RuntimeError: CUDA error: initialization error when calling `cusparseCreate(handle)`", "cuSPARSE"),
        ("torch.distributed.DistBackendError: NCCL error in: a.cpp:92, unhandled cuda error", "NCCL"),
        ("torch.AcceleratorError: CUDA error: invalid device ordinal", "second card"),
        ("AssertionError: Invalid device id", "second card"),
        ("MisconfigurationException: You requested gpu: [0, 1]\n But your machine only has: [0]", "second card"),
        ("InductorError: AssertionError: libcuda.so cannot found!", "torch.compile"),
        ("RuntimeError: - f (flex_attention.py:2612): Dynamo tracing is disabled", "FlexAttention without"),
        ("ValueError: bad shape", None),
        ("torch.OutOfMemoryError: CUDA out of memory.", None),
        ("RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", None),
    ],
)
def test_an_error_is_put_into_words(text, words):
    part = part_of_error(text)
    assert (part is None) == (words is None)
    assert part is None or words in part.words


def test_the_table_is_in_plain_words():
    for part in PARTS:
        assert not part.remedy.endswith(".")
        assert part.remedy[0].islower()
        assert not any(word.startswith(("cudnnC", "cuMem", "cudaI")) for word in part.words.split())


def test_the_report_names_what_is_missing_in_any_process_under_the_end():
    raised = Raised("RuntimeError", "cuFFT error: CUFFT_INTERNAL_ERROR")
    main = ProcessFindings(1, "python train.py", torch="2.14.1", used_cuda=True, ended=True)
    child = dataclasses.replace(main, pid=2, unknown=("cudnnRNNForward",), ending=Ending(1.0, raised))
    run = ProgramRun(parse_cards("t4")[0], ("python", "train.py"), 0, "2.14.1", (main, child), pid=1)
    shown = drawn(program_page(run))
    words = " ".join(shown.split())
    assert words.index("Not emulated: recurrent functions of cuDNN") < words.index("python train.py - t4")
    assert "Not emulated: cuFFT" in words
    assert "Set torch.backends.cudnn.enabled = False" in words
    assert "The program went on after that, so a card may need other memory." in words
    assert "cudnnRNNForward" not in words


MODELS = """
import torch
from torch import nn

class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(4, 4)
    def forward(self, x):
        return self.layer(x)[0]

class Fourier(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
    def forward(self, x):
        try:
            return torch.fft.rfft(self.scale * x).abs()
        except RuntimeError:
            return x * self.scale
"""


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        (
            "Recurrent",
            "2,2,4",
            "not emulated: recurrent functions of cuDNN (nn.LSTM, nn.GRU, nn.RNN); set torch.backends",
        ),
        # The model catches the error: a transform of so much has no values, and no memory of cuFFT is known.
        ("Fourier", "8,3,512,512", "attnprof: not emulated: cuFFT (torch.fft, torch.stft)"),
    ],
)
def test_a_model_is_told_what_is_missing(on_card, tmp_path, name, shape, words):
    (tmp_path / "net.py").write_text(MODELS)
    done = subprocess.run(
        [sys.executable, "-m", "attnprof", "model", f"net.py:{name}", "--gpu", "t4", "--input", shape],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert words in done.stderr


def test_calls_that_a_program_catches_are_named(on_card, tmp_path):
    text = """
        import torch
        sparse = torch.eye(4).to_sparse().cuda()
        calls = (
            lambda: torch.nn.LSTM(4, 4).cuda(),
            lambda: sparse @ sparse.to_dense(),
            lambda: torch.linalg.svd(sparse.to_dense()),
        )
        for call in calls:
            try:
                call()
            except RuntimeError:
                pass
    """
    (tmp_path / "train.py").write_text(dedent(text))
    done = subprocess.run(
        [sys.executable, "-m", "attnprof", "run", "--gpu", "t4", "--no-values", "--", sys.executable, "train.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    words = " ".join(done.stdout.split())
    assert words.startswith("Finished. Not emulated: recurrent functions of cuDNN")
    assert "Not emulated: cuSOLVER (torch.linalg: svd" in words
    assert "Not emulated: cuSPARSE (products of sparse matrices, torch.sparse.mm). Use a dense matrix" in words


def test_batches_of_small_matrices_that_cublas_factorises_run(on_card):
    lines = "import torch; torch.linalg.lstsq(*[torch.eye(4).expand(3, 4, 4).contiguous().cuda()] * 2); print('ran')"
    done = subprocess.run(
        [sys.executable, "-c", lines], capture_output=True, text=True, check=False, env={**os.environ, **on_card("t4")}
    )
    assert done.stdout == "ran\n", done.stderr
