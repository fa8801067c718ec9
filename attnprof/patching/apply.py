"""`patch` and `unpatch`: a model's blocks, one after the other."""

from __future__ import annotations

import torch
from torch import nn

from attnprof.attention.blocks.base import AttentionBlock
from attnprof.attention.strategy import Strategy, StrategyError, parse_strategy
from attnprof.patching.anatomy import anatomy_of
from attnprof.patching.lookalikes import reason_to_leave, sharded
from attnprof.patching.patch_report import LeftAlone, PatchReport
from attnprof.patching.patched_block import PatchedBlock, changed_since, original_class
from attnprof.patching.recognise import NotRecognisedError
from attnprof.patching.swaps import Swap, own_block, restored, users_block


class PatchError(ValueError):
    """Nothing was patched where something had to be, or what was given is no model; the message says why."""


def patch(model: nn.Module, strategy: str = "sdpa-pad", *, prove: bool = True, strict: bool = False) -> PatchReport:
    """Compute the self-attention blocks of a model by another strategy, in place.

    A block is found by its parts: 1x1 convolutions for query, key and value of one map. What it makes of them (SAGAN,
    DANet's position attention, embedded-Gaussian non-local, and what is like them) is found by running it, with random
    parameters in the place of its own, against each thing that it could mean: outputs, gradients and buffers must
    agree, in training and in evaluation mode. The strategy is then held against the block in the same way.

    The model keeps its parameters, buffers, hooks and modes; a patched block stays an instance of its class, and can
    be copied, saved with `torch.save` (attnprof is needed to load it) and moved as before. A block that returned its
    attention map too returns None in its place where the strategy has none. Under autocast the output is in the dtype
    of the input. The strategies but `naive` and `sdpa` have no double backward.

    Args:
        model: of any kind; blocks of attnprof in it change their strategy. Patching again replaces the strategy.
        strategy: see `attnprof.attention.COMPONENTS`. An approximate one is applied to blocks that are proven in their
            plain form, and its error on the small random map is in the report.
        prove: False takes blocks by the names of their parts, for a model on a device that computes nothing.
        strict: whether to raise where no block was patched.

    Returns:
        What was changed, and what looks like attention and was left alone, with the reasons.

    Raises:
        StrategyError: an unknown or impossible strategy, or one that would change the dtype of parameters.
        PatchError: `model` is no module; or `strict` and nothing was patched.
    """
    parsed = parse_strategy(strategy)
    if parsed.precision_name in ("fp16", "bf16"):
        raise StrategyError(
            f"strategy {strategy!r}: {parsed.precision_name} changes the parameters' dtype and patch keeps them as "
            f"they are: use +amp"
        )
    if not isinstance(model, nn.Module):
        raise PatchError(f"expected a torch.nn.Module, got {type(model).__name__}: pass the model itself")
    walk = _ModelWalk(parsed, prove)
    with torch.inference_mode(False):
        walk.visit("", model)
    # Only now, so that an interrupt finds all of the model patched or nothing.
    for swap in walk.swaps:
        swap.apply()
    report = PatchReport(str(parsed), tuple(swap.change for swap in walk.swaps), tuple(walk.left))
    if strict and not walk.swaps:
        raise PatchError(str(report))
    return report


def unpatch(model: nn.Module) -> tuple[str, ...]:
    """Give every patched block its own forward back, and attnprof's blocks their strategies.

    Returns:
        The paths of the blocks that were patched; "" for the model itself.

    Raises:
        PatchError: the class of a patched block was changed again since; nothing is restored.
    """
    for path, module in model.named_modules():
        if changed_since(module):
            raise PatchError(
                f"{path or 'the model'} became a {type(module).__name__} after it was patched: undo that before unpatch"
            )
    return tuple(path for path, module in model.named_modules() if restored(module))


class _ModelWalk:
    """A walk through a model, which decides and changes nothing."""

    def __init__(self, strategy: Strategy, prove: bool) -> None:
        self.strategy, self.prove = strategy, prove
        self.swaps: list[Swap] = []
        self.left: list[LeftAlone] = []
        self._seen: set[int] = set()

    def visit(self, path: str, module: nn.Module, in_shards: bool = False) -> None:
        """A module and, unless it is a block, all that is in it."""
        if id(module) in self._seen:
            return
        self._seen.add(id(module))
        in_shards = in_shards or sharded(module)
        try:
            swap = self._swap_for(path, module, in_shards)
        except NotRecognisedError as error:
            if error.attends:
                stays = f"; it stays with {module.patch_spec.strategy}" if isinstance(module, PatchedBlock) else ""
                self.left.append(LeftAlone(path, original_class(module).__name__, f"{error}{stays}"))
            if error.is_leaf:
                return
        else:
            if swap is not None:
                self.swaps.append(swap)
                return
        for name, child in module.named_children():
            self.visit(f"{path}.{name}" if path else name, child, in_shards)

    def _swap_for(self, path: str, module: nn.Module, in_shards: bool) -> Swap | None:
        if isinstance(module, AttentionBlock):
            _require_no_obstacle(module, in_shards)
            return own_block(path, module, self.strategy, self.prove)
        anatomy = None if isinstance(module, torch.jit.ScriptModule) else anatomy_of(module)
        if anatomy is not None:
            _require_no_obstacle(module, in_shards)
            return users_block(path, anatomy, self.strategy, self.prove)
        if reason := reason_to_leave(module):
            raise NotRecognisedError(reason, is_leaf=isinstance(module, torch.jit.ScriptModule))
        return None


def _require_no_obstacle(block: nn.Module, in_shards: bool) -> None:
    """Raises NotRecognisedError for a block that cannot be swapped, whatever it computes."""
    if in_shards:
        raise NotRecognisedError("its parameters are sharded: patch the model before wrapping it")
    if changed_since(block):
        raise NotRecognisedError("its class was changed again after it was patched: undo that first")
    if "forward" in vars(block):
        raise NotRecognisedError("its forward was replaced on the instance: patch before whatever does that")
    if getattr(block, "_compiled_call_impl", None) is not None:
        raise NotRecognisedError("compiled in place: patch before calling .compile()")
