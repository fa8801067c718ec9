"""The scaled_dot_product_attention kernel that runs, and the reasons against better ones."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.backends import cuda as backends
from torch.nn.attention import SDPBackend

from attnprof.cases.measurement import Kernel
from attnprof.measure.nameless import nameless_file
from attnprof.measure.worker.devices.base import DTYPES

_NAMES = {
    SDPBackend.FLASH_ATTENTION: "flash",
    SDPBackend.CUDNN_ATTENTION: "cudnn",
    SDPBackend.EFFICIENT_ATTENTION: "efficient",
    SDPBackend.MATH: "math",
    SDPBackend.ERROR: "none",
}

_KERNELS = ("flash", "cudnn", "efficient", "math")
_FLASH_MAX_HEAD_DIM = 256

# From the sentences of ATen's native/transformers/cuda/sdp_utils.cpp and sdp_utils_cpp.h to short phrases.
_PHRASES = (
    ("only supports gpu architectures", "GPU too old"),
    ("to all be of dtype", "dtype not supported"),
    ("have stride 1", "last dim not contiguous"),
    ("divisible by", "head dim not aligned"),
    ("head_dim", "head dim not supported"),
    ("not been enabled", "switched off"),
    ("was not compiled", "not in this torch build"),
    ("disabled", "switched off"),
)


class KernelObserver:
    """An observer that, while active, notes the kernel of each scaled_dot_product_attention call.

    It looks at the arguments and allocates nothing, so it may be active while memory is measured. It replaces
    that one function and is not a mode in front of all: a step may launch a million kernels.

    Attributes:
        kernel: the kernel of the last call; None before the first.
    """

    def __init__(self) -> None:
        self.kernel: Kernel | None = None
        self._called = F.scaled_dot_product_attention

    def __enter__(self) -> KernelObserver:
        F.scaled_dot_product_attention = self._observed
        return self

    def __exit__(self, *_: object) -> None:
        F.scaled_dot_product_attention = self._called

    def _observed(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.kernel = chosen_kernel(query, key, value, kwargs.get("scale"))
        return self._called(query, key, value, *args, **kwargs)


def chosen_kernel(query: Tensor, key: Tensor, value: Tensor, scale: float | None = None) -> Kernel:
    """Return ATen's own choice for these arguments, and the reasons against the kernels that it prefers.

    Args:
        query: (B, heads, N, E).
        key: (B, heads, M, E).
        value: (B, heads, M, Ev).
        scale: factor of the scores; None for 1 / sqrt(E).
    """
    # Under autocast the call casts its arguments first.
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = (t.detach().to("meta").to(dtype) if t.dtype != dtype else t for t in (query, key, value))
    choice = SDPBackend(torch._fused_sdp_choice(query, key, value, scale=scale))
    name = _NAMES.get(choice, choice.name.lower())
    if query.device.type == "cuda":
        refused = _cuda_refusals(query, key, value)
    else:
        refused = {} if name == "flash" else {"flash": _cpu_flash_refusal(query, key, value)}
    return Kernel(name, {kernel: why for kernel, why in refused.items() if kernel != name})


def kernel_refusals(device_name: str) -> dict[str, dict[str, str]]:
    """Return, for each dtype and kernel, why it cannot run the block in its preferred layout; "" if it can."""
    found = {}
    for dtype_name in ("fp32", "fp16", "bf16"):
        # Equal head dims and whole rows, as `sdpa-pad` passes them for 128 channels.
        rows = torch.empty(1, 1, 64, 128, dtype=DTYPES[dtype_name], device=device_name)
        try:
            rows.zero_()
        except RuntimeError:  # no kernel image at all, although ATen would choose one
            found[dtype_name] = dict.fromkeys(_KERNELS, "not in this torch build")
            continue
        elsewhere = {} if rows.is_cuda else {"cudnn": "CUDA only", "efficient": "CUDA only"}
        refused = {**elsewhere, **chosen_kernel(rows, rows, rows, scale=1.0).refused}
        found[dtype_name] = {kernel: refused.get(kernel, "") for kernel in _KERNELS}
    return found


def _cuda_refusals(query: Tensor, key: Tensor, value: Tensor) -> dict[str, str]:
    # Attention mask, dropout, causal, grouped query heads: the block has none.
    params = backends.SDPAParams(query, key, value, None, 0.0, False, False)
    questions = {
        "flash": backends.can_use_flash_attention,
        "cudnn": backends.can_use_cudnn_attention,
        "efficient": backends.can_use_efficient_attention,
    }
    refusals = {}
    for kernel, can_use in questions.items():
        if kernel != "efficient" and query.dtype not in (torch.float16, torch.bfloat16):
            # ATen may name a lesser reason first.
            refusals[kernel] = "takes half precision only"
            continue
        usable, said = _overheard(partial(can_use, params, debug=True), query.device)
        if not usable:
            refusals[kernel] = _phrase(said, same_dims=query.shape[-1] == value.shape[-1])
    return refusals


def _overheard(question: Callable[[], bool], device: torch.device) -> tuple[bool, str]:
    """Return the answer to a question and what it printed: these warn from C++, past Python, to stderr.

    They are asked in a thread of their own, since in a thread that is inside an autograd function they
    become Python's warnings.
    """
    answers = []

    def ask() -> None:
        with torch.cuda.device(device):
            answers.append(question())

    sys.stderr.flush()
    with os.fdopen(nameless_file(), "w+b") as said:
        try:
            aside = os.dup(2)
        except OSError:  # the code under test has closed it
            aside = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(said.fileno(), 2)
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
        finally:
            os.dup2(aside, 2)
            os.close(aside)
        said.seek(0)
        return answers == [True], said.read().decode("utf-8", "replace")


def _phrase(said: str, *, same_dims: bool) -> str:
    if "same last dimension" in said:  # one sentence for two reasons
        return f"head dim over {_FLASH_MAX_HEAD_DIM}" if same_dims else "query/key and value dims differ"
    for words, phrase in _PHRASES:
        if words in said:
            return phrase
    return said.partition("Warning: ")[2].partition(" (function")[0].strip() or "refused"


def _cpu_flash_refusal(query: Tensor, key: Tensor, value: Tensor) -> str:
    """Check the conditions of ATen's native/transformers/sdp_utils_cpp.cpp, use_flash_attention_cpp."""
    if query.dim() != 4:
        return "not 4-D"
    if query.shape[-1] != value.shape[-1]:
        return "query/key and value dims differ"
    if any(t.stride(-1) != 1 for t in (query, key, value)):
        return "last dim not contiguous"
    return "refused"
