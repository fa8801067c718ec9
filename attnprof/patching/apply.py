"""`patch` and `unpatch`: changing the attention blocks of a model, one after the other."""

from __future__ import annotations

import torch
from torch import nn

from attnprof.attention.blocks.base import AttentionBlock
from attnprof.attention.strategy import Strategy, StrategyError, parse_strategy
from attnprof.patching.anatomy import anatomy_of
from attnprof.patching.lookalikes import is_sharded, reason_to_leave
from attnprof.patching.not_recognised import NotRecognisedError
from attnprof.patching.patch_report import LeftAlone, PatchReport
from attnprof.patching.patched_block import PatchedBlock, original_class, was_changed_since
from attnprof.patching.swaps import Swap, restore, swap_for_own_block, swap_for_users_block


class PatchError(ValueError):
    """A model cannot be patched, or `strict` was set and nothing was patched; the message contains the reason."""


def patch(model: nn.Module, strategy: str = "sdpa-pad", *, prove: bool = True, strict: bool = False) -> PatchReport:
    """Compute the self-attention blocks of a model by another strategy, in place.

    A block is found by its parts: 1x1 convolutions for query, key and value of one map. What it computes from them
    (SAGAN, DANet's position attention, embedded-Gaussian non-local, and blocks like them) is found by running it, with
    random parameters in place of its own, and comparing it with each formula that it could be: outputs, gradients and
    buffers must agree, in training and in evaluation mode. The strategy is then compared with the block in the same
    way.

    The model keeps its parameters, buffers, hooks and modes. A patched block stays an instance of its class, and can
    be copied, saved with `torch.save` (attnprof is needed to load it) and moved as before. A block that returned its
    attention map too returns None in its place if the strategy has none. Under autocast the output is in the dtype
    of the input. Strategies other than `naive` and `sdpa` have no double backward.

    Args:
        model: any model. Blocks of attnprof in it change their strategy. Patching again replaces the strategy.
        strategy: a spelling; see `attnprof.attention.COMPONENTS`. An approximate strategy is applied to blocks that
            are proven in their plain form, and its error on the small random map is in the report.
        prove: False recognises blocks by the names of their parts, for a model on a device that computes nothing.
        strict: whether to raise an error if no block was patched.

    Returns:
        The blocks that were changed, and the modules that look like attention and were left alone, with the reasons.

    Raises:
        StrategyError: the strategy is unknown or impossible, or would change the dtype of parameters.
        PatchError: `model` is not a module; or `strict` is set and nothing was patched.
    """
    parsed = parse_strategy(strategy)
    if parsed.precision_name in ("fp16", "bf16"):
        raise StrategyError(
            f"strategy {strategy!r}: {parsed.precision_name} changes the dtype of parameters, and patch keeps them as "
            f"they are: use +amp"
        )
    if not isinstance(model, nn.Module):
        raise PatchError(f"expected a torch.nn.Module, got {type(model).__name__}: pass the model itself")
    walk = _ModelWalk(parsed, prove)
    with torch.inference_mode(False):
        walk.visit("", model)
    # Applied only now, so that an interrupt finds either all of the model patched or nothing.
    for swap in walk.swaps:
        swap.apply()
    report = PatchReport(str(parsed), tuple(swap.change for swap in walk.swaps), tuple(walk.left))
    if strict and not walk.swaps:
        raise PatchError(str(report))
    return report


def unpatch(model: nn.Module) -> tuple[str, ...]:
    """Give every patched block its own forward back, and attnprof's blocks their strategies.

    Args:
        model: the model that `patch` changed.

    Returns:
        The paths of the blocks that were patched; "" for the model itself.

    Raises:
        PatchError: the class of a patched block was changed again since; nothing is restored.
    """
    for path, module in model.named_modules():
        if was_changed_since(module):
            raise PatchError(
                f"{path or 'the model'} became a {type(module).__name__} after it was patched: undo that before unpatch"
            )
    return tuple(path for path, module in model.named_modules() if restore(module))


class _ModelWalk:
    """A walk through a model that decides what to swap and changes nothing."""

    def __init__(self, strategy: Strategy, prove: bool) -> None:
        self.strategy, self.prove = strategy, prove
        self.swaps: list[Swap] = []
        self.left: list[LeftAlone] = []
        self._visited: set[int] = set()

    def visit(self, path: str, module: nn.Module, in_shards: bool = False) -> None:
        """Decide about a module and, unless it is a block, about everything in it."""
        if id(module) in self._visited:
            return
        self._visited.add(id(module))
        in_shards = in_shards or is_sharded(module)
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
            _require_swappable(module, in_shards)
            return swap_for_own_block(path, module, self.strategy, self.prove)
        anatomy = None if isinstance(module, torch.jit.ScriptModule) else anatomy_of(module)
        if anatomy is not None:
            _require_swappable(module, in_shards)
            return swap_for_users_block(path, anatomy, self.strategy, self.prove)
        if reason := reason_to_leave(module):
            raise NotRecognisedError(reason, is_leaf=isinstance(module, torch.jit.ScriptModule))
        return None


def _require_swappable(block: nn.Module, in_shards: bool) -> None:
    """Raise NotRecognisedError for a block that cannot be swapped, whatever it computes."""
    if in_shards:
        raise NotRecognisedError("its parameters are sharded: patch the model before wrapping it")
    if was_changed_since(block):
        raise NotRecognisedError("its class was changed again after it was patched: undo that first")
    if "forward" in vars(block):
        raise NotRecognisedError("its forward was replaced on the instance: patch before that replacement")
    if getattr(block, "_compiled_call_impl", None) is not None:
        raise NotRecognisedError("it is compiled in place: patch before calling .compile()")
