"""Changes a module in small ways, for `mutants.py`.

A *mutant* is a module with one thing changed: a comparison, `and` for `or`, a number, a statement that is left out, a
returned value, an entry of a table that is missing. Changes that no test should notice are not made: within the text of
an error or of a log line, and `return None` for `return False`.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

_SHOWN = 70
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One module with one change."""

    path: Path
    """Of the module, below the root."""
    line: int
    function: str
    change: str
    place: int
    """Of the node that is changed, among all of the module."""
    number: int
    """Of the change, among all of the node."""

    @property
    def name(self) -> str:
        """What it is known by in the list of equivalent ones: no line numbers, as these move."""
        return f"{self.path} | {self.function} | {self.change}"

    def apply(self, source: str) -> str:
        """The module with its change."""
        tree = ast.parse(source)
        target = next(node for at, (node, _) in enumerate(_walk(tree)) if at == self.place)
        _mutate(target, self.number)
        return ast.unparse(tree)


def make_mutants(path: Path) -> list[Mutant]:
    """All mutants of a module."""
    tree = ast.parse((ROOT / path).read_text())
    found = []
    seen: Counter[tuple[str, str]] = Counter()
    for place, (node, function) in enumerate(_walk(tree)):
        for number in range(_count(node)):
            change = _mutate(copy.deepcopy(node), number)
            if change:
                change = f"{_show(node)} -> {change}"
                seen[function, change] += 1
                again = f" ({seen[function, change]})" if seen[function, change] > 1 else ""
                found.append(Mutant(path, getattr(node, "lineno", 0), function, change + again, place, number))
    return found


def _walk(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Every node that is no docstring, annotation or message, with the name of the function or class that it is in."""

    def visit(node: ast.AST, name: str) -> Iterator[tuple[ast.AST, str]]:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            name = f"{name}.{node.name}" if name else node.name
        yield node, name or "module"
        if isinstance(node, ast.Raise) or _is_log_line(node):
            return
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not _is_text(child):
                    yield from visit(child, name)

    yield from visit(tree, "")


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_log_line(node: ast.AST) -> bool:
    """Whether this calls a logger. That it is left out is a change of the statement around it."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    return ast.unparse(node.func.value).rpartition(".")[2].lstrip("_") in ("log", "logger")


def _count(node: ast.AST) -> int:
    """How many ways there are to change this node."""
    if isinstance(node, ast.FunctionDef | ast.If | ast.For | ast.While | ast.With | ast.Try):
        return len(node.body)
    if isinstance(node, ast.Dict):
        return len(node.keys) if len(node.keys) > 1 else 0
    return int(
        isinstance(node, ast.Compare | ast.BoolOp | ast.Return | ast.UnaryOp)
        or (isinstance(node, ast.Constant) and type(node.value) in (int, float, bool))
    )


def _mutate(node: ast.AST, number: int) -> str:
    """Change the node; what it looks like then, or nothing if there is no such change."""
    if isinstance(node, ast.Compare):
        node.ops[0] = _COMPARISONS[type(node.ops[0])]()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.Constant):
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1  # type: ignore[operator]
    elif isinstance(node, ast.UnaryOp):
        if not isinstance(node.op, ast.Not):
            return ""
        node.op, node.operand = ast.Not(), ast.UnaryOp(ast.Not(), node.operand)
    elif isinstance(node, ast.Return):
        if node.value is None or _is_nothing(node.value):
            return ""
        node.value = ast.Constant(None)
    elif isinstance(node, ast.Dict):
        key = node.keys[number]
        left_out = "**" if key is None else ast.unparse(key)
        del node.keys[number], node.values[number]
        return f"without {left_out}"
    else:
        return _leave_out(node.body, number)  # type: ignore[attr-defined]
    return _show(node)


def _leave_out(body: list[ast.stmt], number: int) -> str:
    statement = body[number]
    if not isinstance(statement, ast.Expr | ast.Assign | ast.AugAssign | ast.Delete | ast.Raise | ast.Continue):
        return ""
    if _is_text(statement):
        return ""
    body[number] = ast.Pass()
    return f"without {_show(statement)}"


def _is_nothing(value: ast.expr) -> bool:
    """Whether None in its place would make no difference: that `False` is changed to `True` is another mutant."""
    return isinstance(value, ast.Constant) and (value.value is None or value.value is False)


def _show(node: ast.AST) -> str:
    if isinstance(node, ast.FunctionDef):
        return node.name
    text = " ".join(ast.unparse(node).split("\n")[0].split())
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
