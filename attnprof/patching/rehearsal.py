"""Running a user's block on stand-in parameters, and leaving it as it was.

What is replaced during a rehearsal, and restored at its end, whatever happens: the attributes, parameters, buffers and
classes of the block's modules, and the state of torch's random generators (the CPU's and the block's device's).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

_SEED = 20181115
_MODULE_DICTS = ("_parameters", "_buffers", "_modules")
_SPECTRAL_VECTORS = ("_u", "_v")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_SETTLING_RUNS = 10


@dataclass(frozen=True)
class RunResult:
    """The outcome of one run of a block.

    Attributes:
        result: what the block returned.
        gradients: the gradients of a random projection of the output, for x and for each parameter; empty if not
            asked for.
        state: the block's buffers, its parameters without gradients, and its input, after the run.
    """

    result: Any
    gradients: dict[str, Tensor] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)


class Rehearsal:
    """A block whose parameters and buffers are replaced by stand-ins, for the length of a `with`.

    A new block's gamma is zero, and so is the weight of a norm behind its output convolution: with those, any formula
    agrees with the block. The stand-ins are random and keep what a spectral norm has learnt about its weight. The
    user's own tensors are never written to: the stand-ins take their places in the modules, each run begins with the
    same stand-ins, and at the end all modules have their attributes back, whatever happened.

    Lists and dicts that are attributes are shallow copies during a run; changes deeper inside them are not undone.

    Args:
        block: the user's block.
        gains: for the owner of a weight, the standard deviation of its outputs on an input of unit variance.
        dtype: the dtype of all floating-point stand-ins; None: each has that of the tensor that it replaces.

    Attributes:
        block: the user's block.

    Raises:
        TypeError: the device does not have the dtype.
    """

    def __init__(self, block: nn.Module, gains: Mapping[nn.Module, float], dtype: torch.dtype | None = None) -> None:
        self.block, self._dtype = block, dtype
        self._stand_ins: dict[nn.Module, dict[str, Any]] = {}
        self._modules = list(block.modules())
        self._attributes = [dict(vars(module)) for module in self._modules]
        self._classes = [type(module) for module in self._modules]
        self._generator = torch.Generator("cpu").manual_seed(_SEED)
        gain_of = {id(p): gain for owner, gain in gains.items() for p in owner.parameters()}
        self._values = {
            id(p): self._cast(self._stand_in_value(name, p.detach(), gain_of.get(id(p), 1.0)))
            for name, p in block.named_parameters()
        }
        # Frozen parameters have gradients here too: they may be trained later. A spectral norm's vectors never are.
        self._trained = {
            id(p)
            for name, p in block.named_parameters()
            if p.is_floating_point() and not name.endswith(_SPECTRAL_VECTORS)
        }
        self._named_buffers = list(block.named_buffers())
        self._buffers = {
            id(b): self._cast(self._stand_in_statistic(name, b.detach())) for name, b in self._named_buffers
        }
        self._rng = _RandomState(next(block.parameters()).device)

    def __enter__(self) -> Rehearsal:
        """Return the rehearsal; nothing is replaced yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give all modules and random generators back what they had."""
        for module, attributes, its_class in zip(self._modules, self._attributes, self._classes, strict=True):
            # Updated first, so that a module is never empty: an interrupt may come at any line.
            vars(module).update(attributes)
            for name in set(vars(module)) - set(attributes):
                del vars(module)[name]
            if type(module) is not its_class:
                module.__class__ = its_class
        self._rng.restore()

    def map_of(self, *shape: int) -> Tensor:
        """Return a random map of a shape (B, C, H, W), in the dtype of the stand-ins and on the block's device."""
        like = next(p for p in self.block.parameters() if p.is_floating_point())
        return self._noise(torch.empty(shape, dtype=self._dtype or like.dtype, device=like.device))

    def run(
        self,
        forward: Callable[[Tensor], Any],
        x: Tensor,
        *,
        training: bool | None = None,
        output_of: Callable[[Any], Tensor] | None = None,
    ) -> RunResult:
        """Run a forward, from the same state as every other run.

        Args:
            forward: what to run, on a copy of x.
            x: the map, (B, C, H, W).
            training: the mode of all modules; None: each keeps its own.
            output_of: finds the output in what forward returns. If given, gradients are computed too.

        Returns:
            What the block returned, and what it left behind.
        """
        leaves = self._stand_in(training)
        self._rng.restore()
        leaf = x.clone().requires_grad_()
        with torch.set_grad_enabled(output_of is not None), _no_autocast(x.device.type):
            # Not the leaf itself: a block may work in place on its input, which autograd forbids on a leaf.
            given = leaf + 0
            result = forward(given)
            if output_of is None:
                return RunResult(result)
            out = output_of(result)
            if not out.requires_grad:
                return RunResult(result)
            generator = torch.Generator("cpu").manual_seed(_SEED)
            slope = torch.randn(out.shape, generator=generator, device="cpu").to(out)
            found = torch.autograd.grad(out, [leaf, *leaves.values()], slope, allow_unused=True)
        gradients = {
            name: torch.zeros_like(leaf_) if gradient is None else gradient
            for (name, leaf_), gradient in zip({"input": leaf, **leaves}.items(), found, strict=True)
        }
        moved = {name: b.detach().clone() for name, b in self.block.named_buffers()}
        moved |= {name: p.detach() for name, p in self.block.named_parameters() if name not in leaves}
        return RunResult(result, gradients, moved | {"input": given.detach()})

    def settle(self, forward: Callable[[Tensor], Any], x: Tensor) -> None:
        """Let spectral norms find the norms of the stand-ins, as a few steps of training would.

        In evaluation mode, a spectral norm that never ran divides by a product of random vectors, which may be close
        to zero.

        Args:
            forward: the block's own.
            x: the map, (B, C, H, W).
        """
        moving = [(name, id(b)) for name, b in self._named_buffers if not name.endswith(_STATISTICS)]
        for _ in range(_SETTLING_RUNS if moving else 0):
            self.run(forward, x, training=True)
            now = dict(self.block.named_buffers())
            self._buffers |= {key: now[name].detach().clone() for name, key in moving}

    def kept(self) -> tuple[str, ...]:
        """Return the names of the block's attributes that hold tensors of the last run."""
        return tuple(
            name
            for name, value in vars(self.block).items()
            if isinstance(value, Tensor) and value is not self._stand_ins[self.block].get(name)
        )

    def _stand_in(self, training: bool | None) -> dict[str, nn.Parameter]:
        """Put fresh stand-ins into the modules; return those that have gradients, by name."""
        parameters = {
            key: nn.Parameter(value.clone(), requires_grad=key in self._trained) for key, value in self._values.items()
        }
        buffers = {key: value.clone() for key, value in self._buffers.items()}
        for module, attributes in zip(self._modules, self._attributes, strict=True):
            own = {name: self._copy_or_cast(value) for name, value in attributes.items() if name not in _MODULE_DICTS}
            own["_modules"] = attributes["_modules"].copy()
            own["_parameters"] = {
                name: p if p is None else parameters[id(p)] for name, p in attributes["_parameters"].items()
            }
            own["_buffers"] = {name: b if b is None else buffers[id(b)] for name, b in attributes["_buffers"].items()}
            if training is not None:
                own["training"] = training
            self._stand_ins[module] = own
            vars(module).update(own)
            for name in set(vars(module)) - set(own):
                del vars(module)[name]
        return {name: p for name, p in self.block.named_parameters() if p.requires_grad}

    def _cast(self, value: Tensor) -> Tensor:
        return value.to(self._dtype) if self._dtype is not None and value.is_floating_point() else value

    def _copy_or_cast(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._cast(value)
        return copy.copy(value) if type(value) in (list, dict) else value

    def _stand_in_value(self, name: str, value: Tensor, gain: float) -> Tensor:
        """Return values with which each part of the block has a visible effect on its output."""
        if not value.is_floating_point() or value.is_meta or name.endswith(_SPECTRAL_VECTORS):
            return value
        if value.numel() == 1:
            # Between 2 and 3: the attention term must not be small beside x, above all in half precision.
            return value.new_full(value.shape, float(2 + torch.rand((), generator=self._generator, device="cpu")))
        rms = value.float().square().mean().sqrt().item()
        if value.numel() == max(value.shape):
            held = value.float() * (0.5 / max(rms, 0.5)) if rms < float("inf") else torch.zeros_like(value)
            return held.to(value.dtype) + 0.3 * self._noise(value)
        # The weight's own direction is kept in part, for a spectral norm whose vectors fit it.
        unit = value.float() / rms if 0 < rms < float("inf") else torch.zeros_like(value, dtype=torch.float32)
        mixed: Tensor = (unit + 0.5 * self._noise(value).float()) * gain / (1.25 * value[0].numel()) ** 0.5
        return mixed.to(value.dtype)

    def _stand_in_statistic(self, name: str, value: Tensor) -> Tensor:
        if name.endswith("running_mean"):
            return 0.2 * self._noise(value)
        if name.endswith("running_var"):
            return 0.5 + torch.rand(value.shape, generator=self._generator, device="cpu").to(value)
        return value

    def _noise(self, like: Tensor) -> Tensor:
        noise: Tensor = torch.randn(like.shape, generator=self._generator, device="cpu").to(like)
        return noise


class _RandomState:
    """The state of the generators that a block draws from: the CPU's and its device's (a seed would set them all)."""

    def __init__(self, device: torch.device) -> None:
        self._cpu = torch.get_rng_state()
        self._device = None
        if device.type not in ("cpu", "meta"):
            self._module = torch.get_device_module(device.type)
            self._index, self._device = device, self._module.get_rng_state(device)

    def restore(self) -> None:
        torch.set_rng_state(self._cpu)
        if self._device is not None:
            self._module.set_rng_state(self._device, self._index)


@contextmanager
def _no_autocast(device_type: str) -> Iterator[None]:
    if device_type == "meta":
        yield
        return
    with torch.autocast(device_type, enabled=False):
        yield
