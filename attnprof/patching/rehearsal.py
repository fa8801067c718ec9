"""Running a user's block on parameters that tell, and leaving it as it was."""

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
    """What one run gave.

    Attributes:
        result: as the block returned it.
        gradients: of x and of each parameter, of a random projection of the output; empty where not asked for.
        state: the block's buffers, its parameters that no gradient moves, and its input, after the run.
    """

    result: Any
    gradients: dict[str, Tensor] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)


class Rehearsal:
    """A block whose parameters and buffers are stand-ins, for the length of a `with`.

    A new block's gamma is zero, and so is the weight of a norm behind its output convolution: on those anything
    agrees with it. The stand-ins are random where it matters and keep what a spectral norm has learnt of its weight.
    The user's own tensors are never written to: the stand-ins take their places in the modules, each run begins with
    the same ones, and at the end all modules have their attributes back, whatever happened.

    Lists and dicts that are attributes are shallow copies during a run; what a forward changes deeper is not undone.

    Args:
        block: the user's.
        gains: by a parameter's owner, what its outputs are scaled to on an input of ones' variance.
        dtype: of all that is floating-point; None: each tensor has its own.

    Raises:
        TypeError: the device does not have the dtype.
    """

    def __init__(self, block: nn.Module, gains: Mapping[nn.Module, float], dtype: torch.dtype | None = None) -> None:
        self.block, self._dtype = block, dtype
        self._put: dict[nn.Module, dict[str, Any]] = {}
        self._modules = list(block.modules())
        self._attributes = [dict(vars(module)) for module in self._modules]
        self._classes = [type(module) for module in self._modules]
        self._generator = torch.Generator("cpu").manual_seed(_SEED)
        gain_of = {id(p): gain for owner, gain in gains.items() for p in owner.parameters()}
        self._values = {
            id(p): self._cast(self._telling(name, p.detach(), gain_of.get(id(p), 1.0)))
            for name, p in block.named_parameters()
        }
        # Frozen ones too: they may be trained later. The vectors of a spectral norm never are.
        self._trained = {
            id(p) for name, p in block.named_parameters()
            if p.is_floating_point() and not name.endswith(_SPECTRAL_VECTORS)
        }  # fmt: skip
        self._named_buffers = list(block.named_buffers())
        self._buffers = {
            id(b): self._cast(self._telling_statistic(name, b.detach())) for name, b in self._named_buffers
        }
        self._rng = _RandomState(next(block.parameters()).device)

    def __enter__(self) -> Rehearsal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for module, attributes, its_class in zip(self._modules, self._attributes, self._classes, strict=True):
            # Never empty in between: an interrupt may come at any line.
            vars(module).update(attributes)
            for name in set(vars(module)) - set(attributes):
                del vars(module)[name]
            if type(module) is not its_class:
                module.__class__ = its_class
        self._rng.restore()

    def map_of(self, *shape: int) -> Tensor:
        """A random map for the block, in the dtype of its stand-ins and on its device."""
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
        """Run from the same state as any other run.

        Args:
            forward: what to run on (a copy of) x.
            training: the mode of all modules; None: each has its own.
            output_of: finds the output in what forward returns; given, gradients are taken too.
        """
        leaves = self._stand_in(training)
        self._rng.restore()
        leaf = x.clone().requires_grad_()
        with torch.set_grad_enabled(output_of is not None), _no_autocast(x.device.type):
            # A block may work in place on its input, as no leaf allows.
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
        """Let spectral norms find the norms of the stand-ins, as a few steps of training do.

        In evaluation mode one that never ran divides by a product of random vectors, which may be next to nothing.
        """
        moving = [(name, id(b)) for name, b in self._named_buffers if not name.endswith(_STATISTICS)]
        for _ in range(_SETTLING_RUNS if moving else 0):
            self.run(forward, x, training=True)
            now = dict(self.block.named_buffers())
            self._buffers |= {key: now[name].detach().clone() for name, key in moving}

    def kept(self) -> tuple[str, ...]:
        """Attributes of the block that hold tensors of the last run."""
        return tuple(
            name for name, value in vars(self.block).items()
            if isinstance(value, Tensor) and value is not self._put[self.block].get(name)
        )  # fmt: skip

    def _stand_in(self, training: bool | None) -> dict[str, nn.Parameter]:
        """Puts fresh stand-ins in; those that have gradients, by name."""
        parameters = {
            key: nn.Parameter(value.clone(), requires_grad=key in self._trained) for key, value in self._values.items()
        }
        buffers = {key: value.clone() for key, value in self._buffers.items()}
        for module, attributes in zip(self._modules, self._attributes, strict=True):
            own = {name: self._unshared(value) for name, value in attributes.items() if name not in _MODULE_DICTS}
            own["_modules"] = attributes["_modules"].copy()
            own["_parameters"] = {
                name: p if p is None else parameters[id(p)] for name, p in attributes["_parameters"].items()
            }
            own["_buffers"] = {
                name: b if b is None else buffers[id(b)] for name, b in attributes["_buffers"].items()
            }  # fmt: skip
            if training is not None:
                own["training"] = training
            self._put[module] = own
            vars(module).update(own)
            for name in set(vars(module)) - set(own):
                del vars(module)[name]
        return {name: p for name, p in self.block.named_parameters() if p.requires_grad}

    def _cast(self, value: Tensor) -> Tensor:
        return value.to(self._dtype) if self._dtype is not None and value.is_floating_point() else value

    def _unshared(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._cast(value)
        return copy.copy(value) if type(value) in (list, dict) else value

    def _telling(self, name: str, value: Tensor, gain: float) -> Tensor:
        """Values of which each part of the block shows in its output."""
        if not value.is_floating_point() or value.is_meta or name.endswith(_SPECTRAL_VECTORS):
            return value
        if value.numel() == 1:
            # The attention term must not drown in x, in half precision least of all.
            return value.new_full(value.shape, float(2 + torch.rand((), generator=self._generator, device="cpu")))
        rms = value.float().square().mean().sqrt().item()
        if value.numel() == max(value.shape):
            held = value.float() * (0.5 / max(rms, 0.5)) if rms < float("inf") else torch.zeros_like(value)
            return held.to(value.dtype) + 0.3 * self._noise(value)
        # Half of it its own, in direction, for a spectral norm whose vectors fit it.
        unit = value.float() / rms if 0 < rms < float("inf") else torch.zeros_like(value, dtype=torch.float32)
        mixed: Tensor = (unit + 0.5 * self._noise(value).float()) * gain / (1.25 * value[0].numel()) ** 0.5
        return mixed.to(value.dtype)

    def _telling_statistic(self, name: str, value: Tensor) -> Tensor:
        if name.endswith("running_mean"):
            return 0.2 * self._noise(value)
        if name.endswith("running_var"):
            return 0.5 + torch.rand(value.shape, generator=self._generator, device="cpu").to(value)
        return value

    def _noise(self, like: Tensor) -> Tensor:
        noise: Tensor = torch.randn(like.shape, generator=self._generator, device="cpu").to(like)
        return noise


class _RandomState:
    """The generators that a block on a device draws from; setting a seed instead would reach those of all devices."""

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
