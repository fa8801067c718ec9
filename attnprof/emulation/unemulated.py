"""Parts of CUDA that are not emulated, in words, and what a program can do without them. Imports no torch.

A part is recognised by the calls that the emulated libraries note in their journal, or by the text of the exception
that PyTorch makes of a failed call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_CUDNN_OFF = (
    "set torch.backends.cudnn.enabled = False before the model is moved to the card: PyTorch's own kernels then run, "
    "for convolutions too, which may take other memory"
)


@dataclass(frozen=True)
class Part:
    """A part of CUDA that is not emulated.

    Attributes:
        words: its name, and what uses it in PyTorch.
        remedy: what to do, as an imperative sentence without its full stop.
        calls: matches the calls in the journal that belong to it.
        texts: matches the text of an exception that it causes.
    """

    words: str
    remedy: str
    calls: re.Pattern[str] | None = None
    texts: re.Pattern[str] | None = None

    def __str__(self) -> str:
        return f"not emulated: {self.words}; {self.remedy}"


def _part(words: str, remedy: str, calls: str = "", texts: str = "") -> Part:
    return Part(words, remedy, re.compile(calls) if calls else None, re.compile(texts) if texts else None)


# The first that matches counts.
PARTS = (
    _part(
        "recurrent functions of cuDNN (nn.LSTM, nn.GRU, nn.RNN)",
        _CUDNN_OFF,
        calls=r"^cudnn\w*(RNN|Dropout|SeqData)",
    ),
    _part(
        "the CTC loss of cuDNN (ctc_loss with targets on the host, as int32)",
        "give targets and lengths as int64, and targets on the card: PyTorch's own kernel computes it then",
        calls=r"^cudnn\w*CTC",
    ),
    _part(
        "cuDNN's sampling of images (grid_sample with align_corners=True)",
        "call it within torch.backends.cudnn.flags(enabled=False): PyTorch's own kernel computes it then",
        calls=r"^cudnn\w*SpatialT",
    ),
    _part(
        "cuFFT (torch.fft, torch.stft) of tensors that are too large for values, or without values",
        "transform on the host, as in torch.fft.fft2(x.cpu()).cuda(): the report then lacks the memory of cuFFT",
        calls=r"^cuFFT$|^cufft",
        texts=r"cuFFT error|CUFFT_",
    ),
    _part(
        "cuSOLVER (torch.linalg: svd, eigh, qr, cholesky and others) of tensors that are too large for values, or "
        "without values",
        "compute on the host, as in torch.linalg.svdvals(a.cpu()).cuda(): the report then lacks the memory of cuSOLVER",
        calls=r"^cuSOLVER$|^cusolver|^libcusolver",
        texts=r"cusolver error|CUSOLVER_STATUS|MAGMA|in call to magma|BatchLinearAlgebra",
    ),
    _part(
        "cuSPARSE (products of sparse matrices, torch.sparse.mm)",
        "use a dense matrix (to_dense()), or multiply on the host; sparse embeddings, coalesce and softmax run",
        calls=r"^cuSPARSE$|^cusparse[A-Z]|^libcusparse",
        texts=r"cusparse\w*\(|CUSPARSE_|cuSPARSELt|initialization error when calling `status`",
    ),
    _part(
        "NCCL (torch.distributed with the backend nccl)",
        'use init_process_group("gloo"), or run one process without DistributedDataParallel and with its share of the '
        "batch",
        calls=r"^libnccl|^nccl[A-Z]",
        texts=r"NCCL [Ee]rror|ncclUnhandledCudaError|Cuda failure 'named symbol not found'",
    ),
    _part(
        "a second card: there is one, cuda:0",
        "use cuda:0 alone (DataParallel with device_ids=[0], set_device(0) in each process): with several cards each "
        "takes what one takes with its share of the batch",
        calls=r"Peer|cudaMemcpy3DPeer",
        texts=r"invalid device ordinal|Invalid device id|Invalid peer device|on CUDA device \d+ but "
        r"torch\.cuda\.device_count\(\) is 1|device=\d+, num_gpus=1|But your machine only has: \[0\]|"
        r"Invalid CUDA 'device=",
    ),
    _part(
        "FlexAttention without torch.compile's tracing, which TORCH_COMPILE_DISABLE=1 switches off",
        "unset TORCH_COMPILE_DISABLE and call flex_attention without torch.compile: it then keeps the full matrix of "
        "scores, which the compiled one does not",
        texts=r"(?s)(Dynamo tracing is disabled|skipfiles).*flex_attention|flex_attention.*(Dynamo tracing is disabled|"
        r"skipfiles)",
    ),
    _part(
        "kernels that torch.compile or Triton compile",
        "set TORCH_COMPILE_DISABLE=1, and the program runs without torch.compile; call flex_attention without "
        "torch.compile instead; kernels in the program's own Triton code cannot run",
        calls=r"^torch\.compile|^cuLaunchKernelEx|^cuModuleLoad$|^cuTensorMap|^cuOccupancyMaxActiveClusters",
        texts=r"libcuda\.so cannot found|0 active drivers|InductorError|backend='inductor' raised",
    ),
    _part(
        "tensors of the card that processes share (CUDA IPC)",
        "send them to the other process from the host, with .cpu()",
        calls=r"Ipc|cuMemExportToShareableHandle|cuMemImportFromShareableHandle",
    ),
)

_LIBRARIES = (
    (re.compile(r"^cudnn"), "a function of cuDNN"),
    (re.compile(r"^cublas"), "a function of cuBLAS"),
    (re.compile(r"^nvml"), "a function of NVML"),
    (re.compile(r"^cuda"), "a function of the CUDA runtime"),
    (re.compile(r"^cu[A-Z]"), "a function of the CUDA driver"),
)
_UNLISTED = "the figures may differ from those of a card: please report which program calls it"


def parts_of_calls(calls: Iterable[str]) -> tuple[Part, ...]:
    """Return the parts that calls in a journal belong to, each once; a call of none is a part of its own."""
    found = (_listed(call) or Part(_name(call), _UNLISTED) for call in calls)
    return tuple(dict.fromkeys(found))


def part_of_error(text: str) -> Part | None:
    """Return the part whose absence an exception's text shows; None if it shows none."""
    return next((part for part in PARTS if part.texts and part.texts.search(text)), None)


def _listed(call: str) -> Part | None:
    return next((part for part in PARTS if part.calls and part.calls.search(call)), None)


def _name(call: str) -> str:
    library = next((words for begins, words in _LIBRARIES if begins.search(call)), "a function")
    return f"{library} ({call})"
