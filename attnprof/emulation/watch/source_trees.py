"""The syntax trees of source files, and the expression in them that a frame is computing."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from types import CodeType

from .callables import name_of
from .source_lines import Place

Call = tuple[CodeType, int]
"""A frame on the stack: its code, and the index of the instruction that it is at."""

_Span = tuple[tuple[int, int], tuple[int, int]]
_TESTED = (ast.If, ast.While, ast.Assert, ast.IfExp)
_JUMPING = (ast.If, ast.While, ast.Assert)
_KEPT_TREES = 8  # parsing a file of five thousand lines takes about a tenth of a second


class SourceTree:
    """The syntax tree of a file; an empty one if the file cannot be read.

    Args:
        file: its path, as in the code that was compiled from it.
    """

    def __init__(self, file: str) -> None:
        try:
            root: ast.AST = ast.parse("".join(linecache.getlines(file)))
        except (SyntaxError, ValueError, RecursionError):  # not Python, or changed since
            root = ast.Module([], [])
        self._parents: dict[ast.AST, ast.AST] = {}
        self._spans: list[tuple[_Span, ast.AST]] = []
        for node in ast.walk(root):
            self._parents.update(dict.fromkeys(ast.iter_child_nodes(node), node))
            if isinstance(node, (ast.expr, *_JUMPING)):
                end = (node.end_lineno or 0, node.end_col_offset or 0)
                self._spans.append((((node.lineno, node.col_offset), end), node))

    def parent(self, node: ast.AST) -> ast.AST | None:
        """Return the node that contains a node; None for the module."""
        return self._parents.get(node)

    def expression(self, call: Call) -> ast.AST | None:
        """Return the smallest expression that contains the instruction of a frame; None if it is unknown.

        A jump belongs to its whole statement, such as an `if`, which is returned then.

        Before Python 3.11 only the instruction's line is known. The expression is then unknown unless only one on that
        line can read a value.
        """
        wanted = _position(call)
        if wanted is None:
            return self._only_reader(_line(call))
        around = [
            (start, (-end[0], -end[1]), place)
            for place, ((start, end), node) in enumerate(self._spans)
            if start <= wanted[0] and wanted[1] <= end and (isinstance(node, ast.expr) or (start, end) == wanted)
        ]
        return self._spans[max(around)[2]][1] if around else None

    def _only_reader(self, line: int) -> ast.AST | None:
        begun = [node for (start, _), node in self._spans if start[0] == line and isinstance(node, ast.expr)]
        calls: list[ast.expr] = [node for node in begun if isinstance(node, ast.Call)]
        innermost = [one for one in calls if not any(other in calls for other in ast.walk(one) if other is not one)]
        if not calls:
            innermost = [node for node in begun if isinstance(self.parent(node), _TESTED)]
        return innermost[0] if len(innermost) == 1 else None

    def operator(self, line: int) -> str:
        """Return the name of the only operator that a line calls, with `matmul` for `@`; "" if it calls several."""
        nodes = [node for (start, _), node in self._spans if start[0] == line]
        found = [name_of(node.func) for node in nodes if isinstance(node, ast.Call)]
        found += ["matmul" for node in nodes if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)]
        return found[0] if len(found) == 1 else ""


def called_operator(places: Sequence[Place] | None) -> str:
    """Return the operator that the innermost line of a stack calls; "" if its source does not tell."""
    return source_tree(places[0][0]).operator(places[0][1]) if places else ""


@lru_cache(maxsize=_KEPT_TREES)
def source_tree(file: str) -> SourceTree:
    """Return the syntax tree of a file."""
    return SourceTree(file)


def _position(call: Call) -> _Span | None:
    """Return the beginning and the end of an instruction's expression as (line, column); None if they are unknown."""
    code, instruction = call
    if not hasattr(code, "co_positions"):
        return None
    found = next(islice(code.co_positions(), max(instruction, 0) // 2, None), (None,) * 4)
    first, last, start, end = found
    if first is None or last is None or start is None or end is None:
        return None
    return (first, start), (last, end)


def _line(call: Call) -> int:
    code, instruction = call
    return next((line or 0 for start, end, line in code.co_lines() if start <= instruction < end), 0)
