"""A step of a user's whole model as its program would run it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from attnprof.cases.case import AS_IS, Case
from attnprof.cases.measurement import StepPeak
from attnprof.cases.workload import ModelWorkload
from attnprof.measure.worker.checkpointing import checkpoint_members
from attnprof.measure.worker.devices.base import DTYPES, Device, is_out_of_memory
from attnprof.measure.worker.owner import leave_if_copy
from attnprof.measure.worker.passes.step_peak import PeakFinder
from attnprof.measure.worker.passes.workspaces import WorkspaceFinder
from attnprof.measure.worker.user_model import UserModelError, blamed, load_model

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "sgd-momentum": partial(torch.optim.SGD, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
_LEARNING_RATE = 1e-6  # the numbers do not matter, but are to stay finite

_made: dict[tuple[object, ...], tuple[nn.Module, tuple[str, ...]]] = {}


class NothingToPatchError(ValueError):
    """No block of the model can be computed by the strategy."""


class ModelStep:
    """A model, its optimizer and its input; calling it runs one step.

    A training step sets gradients to None and runs forward, the loss, backward and the optimizer. The loss is the
    model's output if that is one number, else the sum of the means of its floating tensors. With `amp`,
    forward runs in autocast, on CUDA with a gradient scaler.

    Args:
        case: a model's workload and its strategy.
        device: where the tensors are.
        seed: random seed for the model's weights.

    Attributes:
        train: whether the step contains backward and the optimizer.
        phase: `forward`, `backward` or `optimizer step`, while the step runs.
        patched: the paths of the blocks that the strategy computes.
        notes: other changes to the model, a line each.
        model, optimizer, inputs, scaler: as a user's program has them; no optimizer in forward.

    Raises:
        UserModelError: the model cannot be loaded, trained or checkpointed.
        NothingToPatchError: no block of it can be computed by the strategy.
    """

    def __init__(self, case: Case, device: Device, seed: int) -> None:
        w = case.workload
        assert isinstance(w, ModelWorkload)
        self._workload, self._device = w, device
        self.train, self.phase = w.mode == "train", "forward"
        model, self.patched = _model(case, seed, keeps=not device.forks)
        self.notes: tuple[str, ...] = ()
        self._format = torch.channels_last if w.channels_last else torch.preserve_format
        model = model.to(device.name).train(self.train)
        # The dtype alone: `to` accepts an order of dimensions for parameters of four dimensions only.
        self.model = model.to(DTYPES[w.dtype])
        if w.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        if w.checkpointing and self.train:
            done = checkpoint_members(self.model)
            shown = ", ".join(done[:3]) + (f" and {len(done) - 3} more" if len(done) > 3 else "")
            self.notes = (f"gradient checkpointing: {shown}",)
        self.inputs = [self._input(shape, kind) for shape, kind in w.input_shapes()]
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        if self.train and not parameters:
            raise UserModelError(f"{w.target} has no parameters to train: use --mode forward")
        self.optimizer = _OPTIMIZERS[w.optimizer](parameters, lr=_LEARNING_RATE) if self.train else None
        scales = w.amp and self.train and device.name.startswith("cuda")
        self.scaler = torch.amp.GradScaler("cuda", enabled=scales)

    def tensors(self) -> list[Tensor]:
        """Return the tensors that are allocated before the first step."""
        return [*self.model.parameters(), *self.model.buffers(), *self.inputs]

    def __call__(self) -> None:
        """Run the step; end the process if it is a copy that the model forked."""
        try:
            self._run()
        finally:
            leave_if_copy()

    def _run(self) -> None:
        self.phase = "forward"
        if self.optimizer is None:
            with torch.no_grad(), self._autocast():
                self._forward()
            return
        self.optimizer.zero_grad()
        with self._autocast():
            loss = _loss(self._forward(), self._workload.target)
        self.phase = "backward"
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.phase = "optimizer step"
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _forward(self) -> Any:
        try:
            return self.model(*self.inputs)
        finally:
            leave_if_copy()

    def located(self) -> tuple[StepPeak | None, bool]:
        """Run a step and find where its memory is highest.

        Returns:
            The peak, or the moment in which the step ran out of memory; and whether it did.
        """
        if self._device.name.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(self._device.name)
        finder = PeakFinder(self.model, lambda: self.phase, self._device.name)
        finder.own("parameters", self.model.parameters())
        finder.own("buffers", self.model.buffers())
        finder.own("input", self.inputs)
        finder.own("gradients", (p.grad for p in self.model.parameters() if p.grad is not None))
        if self.optimizer is not None:
            finder.own("optimizer state", _state_tensors(self.optimizer))
        workspaces = WorkspaceFinder(self._device)
        with workspaces, finder:
            try:
                self()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
        return workspaces.named(finder.peak), finder.out_of_memory

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self._device.name.partition(":")[0]) if self._workload.amp else nullcontext()

    def _input(self, shape: tuple[int, ...], kind: str) -> Tensor:
        if kind == "long":
            return torch.zeros(shape, dtype=torch.long, device=self._device.name)
        made = torch.randn(shape, device=self._device.name, dtype=DTYPES[self._workload.dtype])
        return made.to(memory_format=torch.channels_last) if self._workload.channels_last and len(shape) == 4 else made


def explained(error: BaseException, case: Case) -> str:
    """Return one line on what went wrong in a model, and where in the user's file."""
    assert isinstance(case.workload, ModelWorkload)
    if isinstance(error, (UserModelError, NothingToPatchError)):
        return str(error)
    return str(blamed(error, case.workload.target))


def _model(case: Case, seed: int, *, keeps: bool) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the model and the paths of its patched blocks.

    It is built on the host, where values are real and the patch can be proven.

    Args:
        case: the model's case.
        seed: random seed for its weights.
        keeps: whether to keep the model for the next case, which is likely of the same one.
    """
    assert isinstance(case.workload, ModelWorkload)
    key = (case.workload.target, case.workload.digest, case.strategy, seed)
    if key not in _made:
        torch.manual_seed(seed)
        model = load_model(case.workload.target)
        patched = () if case.strategy == AS_IS else _patched(model, case.strategy)
        if not keeps:
            return model, patched
        _made.clear()
        _made[key] = model, patched
    model, patched = _made[key]
    try:
        return copy.deepcopy(model), patched
    except Exception:  # a model may hold what cannot be copied
        return _made.pop(key)


def _patched(model: nn.Module, strategy: str) -> tuple[str, ...]:
    from attnprof.patching import patch

    guard = register_module_forward_hook(lambda *_: leave_if_copy())  # patching runs parts of the model
    try:
        report = patch(model, strategy=strategy)
    finally:
        guard.remove()
    if not report.changed:
        raise NothingToPatchError(" ".join(line.strip() for line in str(report).splitlines()))
    return tuple(one.path for one in report.changed)


def _loss(output: Any, target: str) -> Tensor:
    tensors = [tensor for tensor in _tensors(output) if tensor.requires_grad and tensor.is_floating_point()]
    if not tensors:
        raise UserModelError(f"the output of {target} has no tensor that depends on its parameters")
    return torch.stack([(t.squeeze() if t.numel() == 1 else t.mean()).float() for t in tensors]).sum()


def _tensors(values: Any) -> Iterator[Tensor]:
    """Yield the tensors in a model's output.

    Unlike `torch.utils._pytree` it looks into every mapping, also into classes that nobody registered there.
    """
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        yield from _tensors(list(values.values()))
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)


def _state_tensors(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for state in optimizer.state.values():
        yield from _tensors(state)
