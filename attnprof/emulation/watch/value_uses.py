"""The use that a program makes of a value that it has read from the card: a branch, a size, something printed.

The use is found in the source, from the expression that reads the value outwards: through arithmetic, into variables of
the function, and through `return` to the callers on the stack. It is UNKNOWN wherever the value goes elsewhere, such as
into a function or an attribute.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence

from .callables import KEEPING, PASSING, SAVING, SIZED, SIZED_BY, SIZED_ON_CARD, is_mathematics, name_of, prints
from .findings import BRANCH, OVERFLOW, PRINTED, SAVED, SIZE, UNKNOWN, UNUSED
from .source_lines import Place
from .source_trees import Call, SourceTree, source_tree

_RETURNED = "returned"
_WORST_FIRST = (BRANCH, SIZE, UNKNOWN, SAVED, PRINTED, UNUSED)
_MOST_VARIABLES = 50  # that are followed for one value

# The use of a value by the syntax that contains it.
_USES: dict[type[ast.AST], str] = {
    ast.If: BRANCH,
    ast.While: BRANCH,
    ast.Match: BRANCH,
    ast.JoinedStr: PRINTED,
    ast.FormattedValue: PRINTED,
    ast.Raise: PRINTED,
    ast.Slice: SIZE,
    ast.Return: _RETURNED,
    ast.Yield: _RETURNED,
    ast.YieldFrom: _RETURNED,
    ast.Lambda: _RETURNED,
    ast.Expr: UNUSED,
}
# Syntax that gives a value to variables: the fields of the value and of the variables.
_GIVING: dict[type[ast.AST], tuple[str, str]] = {
    ast.For: ("iter", "target"),
    ast.AsyncFor: ("iter", "target"),
    ast.comprehension: ("iter", "target"),
    ast.Assign: ("value", "targets"),
    ast.AnnAssign: ("value", "target"),
    ast.AugAssign: ("value", "target"),
}
_BINDING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_Uses = set[tuple[str, int]]  # with the line of each
# Parts of torch that do one thing with whatever they read.
_TORCH_FILES = {
    "/torch/_tensor_str.py": PRINTED,
    "/torch/serialization.py": SAVED,
    "/torch/amp/grad_scaler.py": OVERFLOW,
}
_COMPREHENSIONS = ("<genexpr>", "<listcomp>", "<setcomp>", "<dictcomp>")
_MATHEMATICS = frozenset(["math", "cmath", "np", "numpy", "torch", "jnp", "F"])


def use_of(stack: Sequence[Call]) -> tuple[str, Place | None]:
    """Find the use of a value that was read at the end of this stack.

    Args:
        stack: the frames' code and instructions, the innermost first.

    Returns:
        The use, as in `ReadLine`, and the place of a branch or a size, if it is one. A value with several uses has the
        first of them in the order BRANCH, SIZE, UNKNOWN, SAVED, PRINTED, UNUSED.
    """
    files = [code.co_filename for code, _ in stack]
    for end, use in _TORCH_FILES.items():
        if any(file.endswith(end) for file in files):
            return use, None
    found: dict[str, Place] = {}
    at, returned = 0, True
    while returned and at < len(stack):
        code, follower = stack[at][0], _Follower(source_tree(files[at]))
        node = follower.tree.expression(stack[at])
        uses = {(UNKNOWN, 0)} if node is None else follower.of_reader(node) if at == 0 else follower.of_result(node)
        for use, line in sorted(uses):
            found.setdefault(use, (code.co_filename, line, code.co_name))
        returned = found.pop(_RETURNED, None) is not None
        # A comprehension's own frame is part of its function's expression.
        while at < len(stack) - 1 and stack[at][0].co_name in _COMPREHENSIONS:
            at += 1
        at += 1
    use = next((use for use in _WORST_FIRST if use in found), UNKNOWN)
    if returned and use not in (BRANCH, SIZE):  # to C, or to callers that are not on the stack
        use = UNKNOWN
    return use, found[use] if use in (BRANCH, SIZE) else None


class _Follower:
    """A walk that follows a value through one file."""

    def __init__(self, tree: SourceTree) -> None:
        self.tree = tree
        self._variables: set[tuple[ast.AST, str]] = set()

    def of_reader(self, node: ast.AST) -> _Uses:
        """Return the uses of what the innermost Python expression computes, in which a value was read."""
        if isinstance(node, ast.Call):
            name = name_of(node.func)
            if name in SIZED_ON_CARD:
                return _at(node, SIZE)
            return self.of_result(node) if name in PASSING or prints(node.func) else _at(node, UNKNOWN)
        # A mask that is an index makes a size: its elements are counted.
        return _at(node, SIZE) if isinstance(node, ast.Subscript) else self.of_result(node)

    def of_result(self, node: ast.AST) -> _Uses:
        """Return the uses of what a call returns that led to the read, such as `print(meter)` to `Meter.__str__`."""
        if isinstance(node, ast.Call) and prints(node.func):
            return _at(node, PRINTED)
        # An instruction that belongs to all of a statement, or of `a if test else b`, is the jump.
        return _at(node, BRANCH) if isinstance(node, (ast.stmt, ast.IfExp)) else self._of(node)

    def _of(self, node: ast.AST) -> _Uses:
        """Return the uses of the value of an expression."""
        parent = self.tree.parent(node) or node
        giving = _GIVING.get(type(parent))
        if _is_tested(node, parent):
            return _at(node, BRANCH)
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.BinOp) and _formats(node)):
            return _at(node, PRINTED)
        if giving:
            value, targets = (getattr(parent, name) for name in giving)
            return (
                self._into(targets if isinstance(targets, list) else [targets]) if node is value else _at(node, UNKNOWN)
            )
        if isinstance(parent, ast.keyword):
            parent = self.tree.parent(parent) or parent
        if type(parent) in _USES or not isinstance(parent, ast.expr):
            return _at(node, _USES.get(type(parent), UNKNOWN))
        return self._in_expression(node, parent)

    def _in_expression(self, node: ast.AST, parent: ast.expr) -> _Uses:
        if isinstance(parent, ast.NamedExpr):
            return self._into([parent.target]) | self._of(parent)
        if isinstance(parent, ast.Call):
            return self._as_argument(parent) if node is not parent.func else self._of(parent)
        if isinstance(parent, ast.Attribute):
            return self._as_object(parent)
        # Arithmetic, comparisons, containers, comprehensions, and what is looked up by a value.
        return self._of(parent)

    def _as_object(self, attribute: ast.Attribute) -> _Uses:
        """Return the uses of a value of which an attribute or a method is used."""
        call = self.tree.parent(attribute)
        if not (isinstance(call, ast.Call) and call.func is attribute):
            return self._of(attribute)
        if attribute.attr in KEEPING:
            return set()
        if attribute.attr in SIZED:
            return _at(call, SIZE)
        return self._of(call) if attribute.attr in PASSING else _at(call, UNKNOWN)

    def _as_argument(self, call: ast.Call) -> _Uses:
        name = name_of(call.func)
        if name in SIZED_BY:
            return _at(call, SIZE)
        if name in SAVING:
            return _at(call, SAVED)
        if prints(call.func):
            return _at(call, PRINTED)
        if name in PASSING or is_mathematics(call.func):
            return self._of(call)
        if name in KEEPING and isinstance(call.func, ast.Attribute):
            return self._into([call.func.value])
        return _at(call, UNKNOWN)

    def _into(self, targets: Iterable[ast.expr]) -> _Uses:
        """Return the uses of variables that take the value, in the function that sets them."""
        found: _Uses = set()
        for target in targets:
            if isinstance(target, (ast.Tuple, ast.List)):
                found |= self._into(target.elts)
            elif isinstance(target, (ast.Starred, ast.Subscript)):
                found |= self._into([target.value])
            elif isinstance(target, ast.Name):
                found |= self._of_variable(target)
            else:  # other functions may use an attribute too
                found |= _at(target, UNKNOWN)
                found |= self._of_variable(target) if isinstance(target, ast.Attribute) else set()
        return found

    def _of_variable(self, target: ast.Name | ast.Attribute) -> _Uses:
        scope, name = self._scope(target), ast.unparse(target)
        if (scope, name) in self._variables:
            return set()
        if len(self._variables) == _MOST_VARIABLES:
            return _at(target, UNKNOWN)
        self._variables.add((scope, name))
        found: _Uses = set()
        for node in _within(scope, name):
            if isinstance(node, (ast.Global, ast.Nonlocal)) and name in node.names:
                found |= _at(node, UNKNOWN)
            if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
                found |= self._of(node) if ast.unparse(node) == name else set()
        return found or _at(target, UNUSED)

    def _scope(self, node: ast.AST) -> ast.AST:
        """Return the function that contains a node, or the module."""
        scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Module)
        while not isinstance(node, scopes):
            node = self.tree.parent(node) or ast.Module([], [])
        return node


def _at(node: ast.AST, use: str) -> _Uses:
    return {(use, getattr(node, "lineno", 0))}


def _is_tested(node: ast.AST, parent: ast.AST) -> bool:
    """Return whether a node is the condition of its parent."""
    if isinstance(parent, ast.comprehension):
        return node in parent.ifs
    return isinstance(parent, (ast.Assert, ast.IfExp)) and node is parent.test


def _within(scope: ast.AST, name: str) -> Iterator[ast.AST]:
    """Yield the nodes of a function, without inner functions that have a variable of this name of their own."""
    todo = list(ast.iter_child_nodes(scope))
    while todo:
        node = todo.pop()
        yield node
        if not (isinstance(node, _BINDING) and _binds(node, name)):
            todo += ast.iter_child_nodes(node)


def _binds(function: ast.AST, name: str) -> bool:
    inside = list(ast.walk(function))
    if any(isinstance(node, (ast.Global, ast.Nonlocal)) and name in node.names for node in inside):
        return False
    return any(
        (isinstance(node, ast.arg) and node.arg == name)
        or (isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store))
        for node in inside
    )


def _formats(operation: ast.BinOp) -> bool:
    """Return whether an operation is `text % value`."""
    text = operation.left
    return isinstance(operation.op, ast.Mod) and (
        isinstance(text, ast.JoinedStr) or (isinstance(text, ast.Constant) and isinstance(text.value, str))
    )
