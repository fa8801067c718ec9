"""Bytes by module, rolled up to the parts of a model that say where they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

_DOMINATES = 0.5  # a part with this share of what its parent holds is named in the parent's place


def rolled_up(held: Sequence[Mapping[str, int]]) -> list[str]:
    """Paths that cover all modules of all these, each once, those that hold the most first.

    A path is the model's own child, or further in where one part has most of what its parent holds.
    """
    totals: Counter[str] = Counter()
    for modules in held:
        totals.update(modules)
    parts: list[str] = []
    todo = list(_children(totals, ""))
    while todo:
        part = todo.pop()
        whole = within(totals, part)
        children = _children(totals, part)
        largest = max((within(totals, child) for child in children), default=0)
        if children and largest > _DOMINATES * whole and part not in totals:
            todo += children
        else:
            parts.append(part)
    return sorted(parts, key=lambda part: (-within(totals, part), part))


def within(modules: Mapping[str, int], part: str) -> int:
    """What a part and the modules in it hold."""
    return sum(size for path, size in modules.items() if path == part or path.startswith(f"{part}."))


def _children(modules: Mapping[str, int], part: str) -> list[str]:
    inside = f"{part}." if part else ""
    names = (path[len(inside) :].partition(".")[0] for path in modules if path.startswith(inside) and path != part)
    return [inside + name for name in dict.fromkeys(names)]
