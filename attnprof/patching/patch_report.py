"""The report of `patch`: what it changed and what it left alone, in words."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

_WIDTH = 80


@dataclass(frozen=True)
class Change:
    """A block that is computed by another strategy from now on.

    Attributes:
        path: the block's path as `model.get_submodule` takes it; "" for the model itself.
        kind: what kind of block it is, with its channels.
        strategy: the strategy's canonical spelling.
        error: largest difference between the outputs, in training and in evaluation mode, relative to the largest entry
            of the attention term; None if nothing was proven.
        grad_error: likewise for the gradients of input and parameters, each relative to its own largest entry.
        tolerance: the limit for both errors; None for an approximate strategy, which may differ.
        proven: whether the block ran and agreed; for an approximate strategy, in its plain form.
        note: what else is different from now on; "" for nothing.
    """

    path: str
    kind: str
    strategy: str
    error: float | None
    grad_error: float | None
    tolerance: float | None
    proven: bool
    note: str = ""

    def __str__(self) -> str:
        """Return the change as one line."""
        parts = [f"{self.path or '(the model)'}: {self.kind}", *([self.note] if self.note else []), self._proof()]
        return "; ".join(parts)

    def _proof(self) -> str:
        if not self.proven:
            return "not proven: recognised by its names"
        errors = f"output error {self.error:.0e}, gradient error {self.grad_error:.0e}"
        return f"{errors} (up to {self.tolerance:.0e} allowed)" if self.tolerance else f"approximate: {errors}"


@dataclass(frozen=True)
class LeftAlone:
    """A module that looks like attention and was not changed.

    Attributes:
        path: the module's path as `model.get_submodule` takes it; "" for the model itself.
        kind: the name of its class.
        reason: why it was left alone.
    """

    path: str
    kind: str
    reason: str


@dataclass(frozen=True)
class PatchReport:
    """A report of what `patch` did; `str()` returns it as lines of at most 80 columns.

    Attributes:
        strategy: the strategy's canonical spelling.
        changed: the blocks that were patched, in the model's order.
        left: the modules that look like attention and were left alone, in the model's order.
    """

    strategy: str
    changed: tuple[Change, ...]
    left: tuple[LeftAlone, ...]

    def __str__(self) -> str:
        """Return the report as lines of at most 80 columns; modules left for the same reason share a line."""
        lines = [f"{_blocks(len(self.changed))} patched with {self.strategy}{':' if self.changed else '.'}"]
        lines += [_indent(str(change)) for change in self.changed]
        grouped: dict[tuple[str, str], list[str]] = {}
        for each in self.left:
            grouped.setdefault((each.kind, each.reason), []).append(each.path or "(the model)")
        if grouped:
            lines.append("Left alone:")
        for (kind, reason), paths in grouped.items():
            which = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
            lines.append(_indent(f"{which}: {kind}: {reason}"))
        if not self.changed and not self.left:
            lines.append("Nothing in the model looks like attention over the positions of a map.")
        return "\n".join(lines)


def _blocks(count: int) -> str:
    return "No block" if count == 0 else "1 block" if count == 1 else f"{count} blocks"


def _indent(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
