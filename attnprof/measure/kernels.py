"""Which scaled_dot_product_attention kernel runs, and why not a better one."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.backends import cuda as backends
from torch.nn.attention import SDPBackend
from torch.overrides import TorchFunctionMode

from attnprof.record import Kernel

_NAMES = {
    SDPBackend.FLASH_ATTENTION: "flash",
    SDPBackend.CUDNN_ATTENTION: "cudnn",
    SDPBackend.EFFICIENT_ATTENTION: "efficient",
    SDPBackend.MATH: "math",
    SDPBackend.ERROR: "none",
}

# Sentences of ATen's native/transformers/cuda/sdp_utils.cpp and sdp_utils_cpp.h, and a short phrase for each.
_PHRASES = (
    (r"same last dimension", "query/key and value dims differ"),
    (r"head_dim|last dimension.*(multiple|divisible)|to be divisible", "head dim not supported"),
    (r"(sm80|sm_80|gpu architecture|compute capability|less than sm)", "GPU too old"),
    (r"(Expected query, key and value to all be of dtype|data ?type|dtype)", "dtype not supported"),
    (r"(stride|contiguous)", "last dim not contiguous"),
    (r"(not compiled|was not enabled at build|isn't enabled|USE_FLASH|USE_MEM)", "not in this torch build"),
    (r"(runtime disabled|disabled|not been enabled|not enabled)", "switched off"),
    (r"aligned", "head dim not aligned"),
)


class KernelObserver(TorchFunctionMode):
    """While active, notes the kernel that each scaled_dot_product_attention call will take.

    Looks at the arguments and allocates nothing, so it may be active while memory is measured.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernel: Kernel | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query, key, value = args[:3]
            self.kernel = chosen_kernel(query, key, value, kwargs.get("scale"))
        return func(*args, **kwargs)


def chosen_kernel(query: Tensor, key: Tensor, value: Tensor, scale: float | None = None) -> Kernel:
    """ATen's own choice for these arguments, and the reasons against the kernels it puts first.

    Args:
        query: (B, heads, N, E).
        key: (B, heads, M, E).
        value: (B, heads, M, Ev).
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
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            usable = can_use(params, debug=True)
        if not usable:
            refusals[kernel] = _phrase([str(warning.message) for warning in said])
    return refusals


def _phrase(sentences: list[str]) -> str:
    for pattern, phrase in _PHRASES:
        if any(re.search(pattern, sentence) for sentence in sentences):
            return phrase
    return sentences[0].split("(Triggered")[0].strip() if sentences else "refused"


def _cpu_flash_refusal(query: Tensor, key: Tensor, value: Tensor) -> str:
    """The conditions of ATen's native/transformers/sdp_utils_cpp.cpp, use_flash_attention_cpp."""
    if query.dim() != 4:
        return "not 4-D"
    if query.shape[-1] != value.shape[-1]:
        return "query/key and value dims differ"
    if any(t.stride(-1) != 1 for t in (query, key, value)):
        return "last dim not contiguous"
    return "refused"
