"""The highest moment of memory in a step, and what holds the memory then.

Every tensor that an operation makes is counted from its birth to the end of its storage, for the module
and the phase in which it was made. The rest of what the device's allocator counts is temporary inside
operators, or a workspace.

A gradient counts for the module whose forward made the node of the graph that computes it; the node's
sequence number identifies it.

`torch.distributed._tools.MemTracker` finds the same moment, and a test compares the two. It is not used here
because it counts tensors alone: it neither asks the allocator, whose figure contains workspaces and temporaries
inside operators, nor returns the operation, the module and the holders at a peak or at an out-of-memory.

Known limitations: the step runs once more for it, so what differs from step to step may not show; a
tensor that its module returns counts for that module as long as anybody keeps it.
"""

from __future__ import annotations

import bisect
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from attnprof.cases.measurement import StepPeak
from attnprof.measure.worker.devices.base import is_out_of_memory
from attnprof.measure.worker.tensors import tensors_in

INSIDE_OPERATORS = "inside operators"  # their temporaries, and workspaces
_MADE_IN = {"forward": "activations", "backward": "activation gradients", "optimizer step": "optimizer temporaries"}


class PeakFinder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A dispatch mode that, while active, notes the highest moment of memory.

    Args:
        model: the model whose modules the tensors are counted for.
        phase: returns the phase that the step is in: `forward`, `backward` or `optimizer step`.
        device_name: the device. On CUDA its allocator counts the bytes; on the CPU they are the sum of the
            tensors seen.

    Attributes:
        peak: the highest moment so far, or that in which memory was out.
        out_of_memory: whether an allocation was refused.
    """

    def __init__(self, model: nn.Module, phase: Callable[[], str], device_name: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: StepPeak | None = None
        self.out_of_memory = False
        self._phase = phase
        self._device = torch.device(device_name)
        self._model, self._paths = model, {id(module): path for path, module in model.named_modules()}
        self._running: list[str] = []  # modules, the innermost last
        # Nodes of the graph from the n-th sequence number on belong to the n-th module, until the next one.
        self._from: list[int] = []
        self._of: list[str] = []
        self._owners: dict[int, tuple[str, str, int]] = {}  # kind, module and bytes of each storage
        self._watched: dict[int, weakref.ref[Any]] = {}
        self._held: Counter[tuple[str, str]] = Counter()
        self._highest = 0

    def __enter__(self) -> PeakFinder:
        self._handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
            *self._gradient_hooks(),
        ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()

    def own(self, kind: str, tensors: Iterable[Tensor]) -> None:
        """Count tensors for this kind, whichever module made them."""
        for tensor in tensors:
            self._count(tensor, kind, "", anew=True)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        try:
            out = func(*args, **(kwargs or {}))
        except Exception as error:
            if is_out_of_memory(error) and not self.out_of_memory:
                # Record it here: everything is still allocated except the failed operator's own temporaries.
                self.out_of_memory = True
                peak = self._allocated("peak")
                self._note(str(func.overloadpacket), peak if peak > self._highest else self._allocated("current"))
            raise
        module = self._module()
        # Checkpointing runs a part forward again, in backward.
        kind = _MADE_IN["forward" if self._running else self._phase()]
        for tensor in tensors_in(out):
            self._count(tensor, kind, module)
        highest = self._allocated("peak")
        if highest > self._highest and not self.out_of_memory:
            self._highest = highest
            self._note(str(func.overloadpacket), highest)
        return out

    def _allocated(self, which: str) -> int:
        if self._device.type != "cuda":
            return sum(self._held.values())
        counted: int = torch.cuda.memory_stats(self._device)[f"allocated_bytes.all.{which}"]
        return counted

    def _note(self, operation: str, total_bytes: int) -> None:
        by_kind: Counter[str] = Counter()
        by_module: Counter[str] = Counter()
        for (kind, module), size in self._held.items():
            by_kind[kind] += size
            if module:
                by_module[module] += size
        seen = sum(by_kind.values())
        if total_bytes > seen:
            by_kind[INSIDE_OPERATORS] = total_bytes - seen
        self.peak = StepPeak(
            phase=self._phase(),
            module=self._module(),
            operation=operation,
            allocated_bytes=total_bytes,
            held={kind: size for kind, size in by_kind.most_common() if size},
            modules={module: size for module, size in by_module.most_common() if size},
        )

    def _own_gradient(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self._count(parameter.grad, "gradients", "", anew=True)

    def _count(self, tensor: Tensor, kind: str, module: str, *, anew: bool = False) -> None:
        if tensor.device.type != self._device.type:
            return  # an optimizer counts its steps in a tensor on the host
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self._owners.get(key)
        if known is not None and not anew:
            return
        if known is not None:
            self._held[known[:2]] -= known[2]
        else:
            # A weak reference reports its end even if only autograd holds it.
            self._watched[key] = weakref.ref(storage, lambda _: self._forget(key))
        size = storage.nbytes()
        self._owners[key] = (kind, module, size)
        self._held[kind, module] += size

    def _forget(self, key: int) -> None:
        kind, module, size = self._owners.pop(key)
        self._watched.pop(key)
        self._held[kind, module] -= size

    def _gradient_hooks(self) -> Iterator[Any]:
        for parameter in self._model.parameters():
            if parameter.requires_grad:
                yield parameter.register_post_accumulate_grad_hook(self._own_gradient)  # type: ignore[no-untyped-call]

    def _enter(self, module: nn.Module, _: Any) -> None:
        self._running.append(self._paths.get(id(module), type(module).__name__))
        self._turn()

    def _leave(self, module: nn.Module, _: Any, __: Any) -> None:
        if self._running:
            self._running.pop()
        self._turn()

    def _turn(self) -> None:
        self._from.append(torch.autograd._get_sequence_nr())  # type: ignore[attr-defined]
        self._of.append(self._running[-1] if self._running else "")

    def _module(self) -> str:
        """Return the innermost module that runs, or whose gradient is computed; "" for the model itself or none."""
        if self._running:
            return self._running[-1]
        node = torch._C._current_autograd_node()
        if node is None:
            return ""
        place = bisect.bisect_right(self._from, node._sequence_nr()) - 1
        # The node that adds up a parameter's gradient has the largest number that there is.
        return self._of[place] if 0 <= place < len(self._of) - 1 else ""
