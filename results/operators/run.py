"""Compares what operators compute on an emulated card with what the CPU computes, on PyTorch's own sample inputs.

    python -m attnprof.emulation t4 python results/operators/run.py > results/operators/table.md

PyTorch describes more than 600 operators for its own tests, with sample inputs for each (`op_db` in
torch/testing/_internal/common_methods_invocations.py, a private module; it needs the package expecttest). Each operator
runs on the CPU and, with copies of the same inputs, on the card. A result is *true*, *drawn* or *made up* by the level
of the bytes that are read back. A true result that differs from the CPU's is an error of the emulation.
"""

from __future__ import annotations

import ctypes
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db

SAMPLES = 3  # of each operator
LEVELS = ("true", "drawn", "made up")
RELATIVE, ABSOLUTE = 1e-3, 1e-4


class Reads:
    """The levels of what is read back from the card."""

    def __init__(self) -> None:
        torch.ones(1, device="cuda")
        self._levels: list[int] = []
        self._listener = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(self._heard)
        ctypes.CDLL("libcuda.so.1").attnprof_on_read_back(self._listener)

    def _heard(self, level: int) -> int:
        self._levels.append(level)
        return 0

    def copy(self, tensor: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Copy a tensor to the host; return it and the highest level of its bytes."""
        self._levels.clear()
        return tensor.detach().cpu(), max(self._levels, default=0)


def mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Return a value with the tensors in it changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(one, change) for one in value)
    if isinstance(value, dict):
        return {key: mapped(one, change) for key, one in value.items()}
    return value


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in a result."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from tensors(one)


def compared(op: Any, sample: Any, reads: Reads) -> str:
    """Run an operator on the CPU and on the card; return how far its result can be trusted, or `differs`."""
    wanted = op(sample.input, *sample.args, **sample.kwargs)
    options = mapped(sample.kwargs, torch.Tensor.cuda)
    if "device" in options:
        options["device"] = "cuda"
    found = op(mapped(sample.input, torch.Tensor.cuda), *mapped(sample.args, torch.Tensor.cuda), **options)
    highest, same = 0, True
    for one, other in zip(tensors(found), tensors(wanted), strict=True):
        if one.layout is not torch.strided or one.device.type != "cuda":
            continue
        copy, level = reads.copy(one)
        highest = max(highest, level)
        close = copy.shape == other.shape and torch.allclose(
            copy, other.detach(), rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True
        )
        same &= close or level > 0
    return LEVELS[highest] if same else "differs"


def main() -> None:
    """Compare all operators and print a table in Markdown."""
    warnings.simplefilter("ignore")
    reads, counts = Reads(), Counter[str]()
    named: dict[str, dict[str, str]] = {"differs": {}, "made up": {}, "failed": {}}
    for op in op_db:
        name = f"{op.name}.{op.variant_test_name}".rstrip(".")
        try:
            dtype = torch.float32 if torch.float32 in op.dtypes else torch.int64
            samples = list(op.sample_inputs("cpu", dtype))[:SAMPLES]
        except Exception:  # an operator without samples of this type; each has an error of its own
            continue
        for sample in samples:
            try:
                kind, why = compared(op, sample, reads), ""
            except Exception as error:
                kind, why = "failed", str(error).splitlines()[0]
            counts[kind] += 1
            if kind in named:
                named[kind][name] = why
    print(
        f"torch {torch.__version__}; {len(op_db)} operators, at most {SAMPLES} samples each, of float32 or else int64\n"
    )
    print("| result | samples |\n|---|---|")
    for kind, count in counts.most_common():
        print(f"| {kind} | {count} |")
    for kind, operators in named.items():
        print(f"\n{kind}: {len(operators)} operators\n")
        for name, why in sorted(operators.items()):
            print(f"- `{name}`{f': {why}' if why else ''}")


if __name__ == "__main__":
    main()
