"""A CUDA card that is not there, for the real CUDA build of torch. Needs no torch itself.

Small C libraries (`native/`) stand in for the CUDA driver, runtime, cuBLAS, cuDNN and NVML: they account
every byte and compute nothing. Above them PyTorch's own code runs unchanged: its caching allocator and
statistics, its choice of kernels, autograd, and its out-of-memory error.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from attnprof.cases.cards import Card
from attnprof.emulation.build import library_paths
from attnprof.emulation.toolkit import find_toolkit

KNOWN_LIMITATIONS = (
    "Nothing is computed: device memory reads back as zeros, so sizes that depend on values are wrong. A case "
    "or program that reads values back says so.",
    "Processes of a program do not share the card: each sees one of its own.",
    "Nothing takes the card's time: latency and exactness are left empty.",
    "What the CUDA context, loaded code and library handles take is an allowance (--context), not emulated.",
    "The card's memory is the lowest that its drivers report; clocks and cache are the data sheet's.",
    "cuDNN's batch normalisation counts without a workspace, and before cuDNN 9.8 everything in cuDNN does; a "
    "case that relies on it says so.",
    "cuDNN plans without the card; where a real launch would fail, PyTorch would take its next plan.",
    "Memory that cuBLAS takes beside the workspace that PyTorch gives it is not counted.",
    "Kernels' registers are not looked at: a launch that a card would refuse for them passes.",
    "Not emulated: cuFFT, cuSOLVER, NCCL, peer access, CUDA IPC, cuDNN's recurrent and CTC functions. PyTorch "
    "raises, or the case is unsupported and names the call.",
    "Nor are the kernels that torch.compile makes: TORCH_COMPILE_DISABLE=1 runs a program without them. In the place "
    "of those that PyTorch compiles by itself (from 2.14 on a product of one query channel) run the built-in ones.",
)


def emulation_environment(card: Card, tell: Callable[[str], None] = lambda _: None) -> dict[str, str]:
    """The environment variables with which a process finds this card.

    Args:
        tell: told what takes a while.

    Raises:
        EmulationError: it cannot be done here; the message says why and what to do.
    """
    toolkit = find_toolkit()
    preload = [str(path) for path in library_paths(toolkit, tell)]
    if os.environ.get("LD_PRELOAD"):
        preload.append(os.environ["LD_PRELOAD"])
    return {
        "LD_PRELOAD": ":".join(preload),
        "ATTNPROF_CARD": card.description(),
        "ATTNPROF_GPU": str(card),
        "ATTNPROF_CUDNN_GRAPH": str(toolkit.cudnn_graph),
        "CUDA_VISIBLE_DEVICES": "0",
        # Triton would compile for the card and look for its driver (torch/_native/common_utils.py).
        "TORCH_DISABLE_NATIVE_JIT": "1",
    }
