"""The emulation of a CUDA card that is not there, for the real CUDA build of torch. Needs no torch itself.

Small C libraries (`native/`) stand in for the CUDA driver, runtime, cuBLAS, cuDNN and NVML. They count every byte and
compute nothing. A C++ library (`native/values/`) can be added, which computes small values on the host. Above them
PyTorch's own code runs unchanged: its caching allocator and statistics, its choice of kernels, autograd, and its
out-of-memory error.

A process finds the card through environment variables: `LD_PRELOAD` loads the libraries, variables that begin with
`ATTNPROF_` describe the card, `CUDA_VISIBLE_DEVICES` selects it, and `TORCH_DISABLE_NATIVE_JIT` keeps torch from
compiling for it. Only child processes get them; nothing changes in the calling process.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from attnprof.cases.cards import Card
from attnprof.emulation.build import library_paths
from attnprof.emulation.toolkit import find_toolkit
from attnprof.emulation.values_library import values_environment

KNOWN_LIMITATIONS = (
    "Only small values are computed, on the host and for programs and models alone: a tensor of more than 4 MiB, and "
    "what follows from one, has made-up values. The report names each line that reads such a value.",
    "The processes of a program do not share the card: each has a card of its own.",
    "Nothing takes the time that the card would take, so latency and exactness are left empty. Between two events each "
    "operation counts as 0.01 ms, and for cudnn.benchmark the plan that cuDNN's heuristics name first is the fastest.",
    "The memory of the CUDA context, loaded code and library handles is an allowance (--context), not emulated.",
    "The card's memory is the lowest value that its drivers report; clocks and cache are the data sheet's.",
    "cuDNN's batch normalisation is counted without a workspace, and so is everything in cuDNN before 9.8. The report "
    "of a case that relies on this contains a note.",
    "cuDNN plans without the card; if a real launch failed, PyTorch would take the next plan.",
    "Memory that cuBLAS allocates beside the workspace that PyTorch gives it is not counted.",
    "The registers of kernels are not checked: a launch that needs too many for the card succeeds here.",
    "PyTorch's built-in kernels replace those that it compiles by itself (from 2.14 on, for a product of one query "
    "channel).",
)


def emulation_environment(
    card: Card, notify: Callable[[str], None] = lambda _: None, *, values: bool = False
) -> dict[str, str]:
    """Return the environment variables with which a process finds an emulated card.

    Args:
        card: the card to emulate.
        notify: called with a line of text before anything that takes a while, such as the first build.
        values: whether small values live on the card, so that what a program reads from it is true where possible. A
            study of attention strategies needs none.

    Returns:
        The variables, to be added to the environment of a process before it starts.

    Raises:
        EmulationError: a card cannot be emulated here; the message contains the reason and what to do.
    """
    toolkit = find_toolkit()
    preload = [str(path) for path in library_paths(toolkit, notify)]
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
        **(values_environment(toolkit, notify) if values else {}),
    }
