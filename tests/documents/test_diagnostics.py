"""DIAGNOSTICS of the manual page lists each warning, error and reason that the broker writes, and no other text.

The texts are read from the source: the calls of loggers, the notes and reasons that are logged by others, and the
errors that end the start. What differs from case to case is `...` on both sides.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from forkbroker.wire.kinds import Role

ROOT = Path(__file__).parents[2]
GAP = "..."
LOUD = {"warning", "error", "critical", "exception"}
REASONS = {"StartError", "StoreError", "FullError", "ChangeError"}
"""Errors that reach the log or standard error as they are."""
HELPERS = [role.value for role in Role if role is not Role.CLIENT]
NAMES = {
    "child.name": [f"client {GAP}"],
    "process.name": [f"client {GAP}", *HELPERS],
    "process.role.value": HELPERS,
    "role.value": HELPERS,
    "row.role.value": HELPERS,
}
"""What a line says of a process: a client has a number, a helper the name of its role."""
EXCEPT = {
    f"the checker cannot be opened: {GAP}",
    f"checker: lost, the broker exits at once: {GAP}",
    f"the metrics cannot be opened: {GAP}",
    f"metrics: lost, the broker exits at once: {GAP}",
    f"checker: exited, {GAP}; restarting in {GAP} s",
    f"the backup cannot be opened: {GAP}",
    f"backup: lost, the broker exits at once: {GAP}",
    f"backup: exited, {GAP}; restarting in {GAP} s",
    f"client {GAP}: killed, {GAP}",
    *(f"{helper}: killed, unexpected exception while its envelope was applied" for helper in HELPERS),
}
"""The broker goes on without a checker or a backup, and starts none again. The reasons of the next are listed one by
one; the rest ends the parent process, which has another line for it."""
RETURNED = {
    "describe_end",
    "_describe_crash",
    "describe_stuck",
    "_describe_poison",
    "_refusal",
    "_explain",
    "describe_damage",
    "describe_damaged_overflow",
    "repair",
    "repair_database",
}
"""Functions that return such a text, or a part of one."""
WHOLE = {"_refusal", "_explain", "describe_damage", "describe_damaged_overflow"}
"""Of these: what they return is a reason by itself."""
UNSEEN = {"store/aside.py", "testing"}
"""What the broker does not run."""

TREES = {
    path: ast.parse(path.read_text())
    for path in sorted((ROOT / "forkbroker").rglob("*.py"))
    if not any(part in str(path) for part in UNSEEN)
}
FUNCTIONS = [
    node
    for tree in TREES.values()
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef) and node.name in RETURNED
]


def test_the_manual_lists_each_diagnostic_and_no_other() -> None:
    """Word for word: an administrator searches the page for the text of a line."""
    in_code = set(found_in_code())
    in_manual = set(found_in_manual())

    assert sorted(in_code - in_manual) == []
    assert sorted(in_manual - in_code) == []
    assert len(in_code) > 60


def found_in_manual() -> Iterator[str]:
    """Read the heads of the lists in DIAGNOSTICS."""
    page = (ROOT / "man" / "stomp-broker.8").read_text()
    section = page[page.index(".Sh DIAGNOSTICS") : page.index(".Sh SEE ALSO")]
    yield from re.findall(r'^\.It "(.+)"$', section, re.MULTILINE)


def found_in_code() -> Iterator[str]:
    """Read the texts of the source."""
    for tree in TREES.values():
        for node in ast.walk(tree):
            for text in texts_of(node):
                short = re.sub(r"\.\.\.((, | )?\.\.\.)+", GAP, text)
                if short not in EXCEPT and re.search(r"\w", short.replace(GAP, "").replace("store", "")):
                    yield short


def texts_of(node: ast.AST) -> list[str]:
    """Return what this call, assignment or function writes, if it is one that does."""
    if isinstance(node, ast.FunctionDef) and node.name in WHOLE:
        return returned(node)
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_REASONS" and isinstance(node.value, ast.Dict):
        found = [value.elts[0] for value in node.value.values if isinstance(value, ast.Tuple)]
        return [f"{GAP}: {text} ({GAP})" for part in found for text in expand(part)]
    if not isinstance(node, ast.Call):
        return []
    name = ast.unparse(node.func)
    if (
        isinstance(node.func, ast.Attribute)
        and node.func.attr in LOUD
        and re.search(r"log(ger)?$", name[: name.rindex(".")])
    ):
        return formatted(node.args)
    if name.endswith("logger.log"):
        return formatted(node.args[1:])
    if name == "self._kill" and len(node.args) > 1:
        return [f"client {GAP}: killed, {text}" for text in expand(node.args[1])]
    if name.endswith("LogRecord"):
        return formatted(node.args[4:5])
    if name.endswith("notes.append") or (name in REASONS and node.args):
        return expand(node.args[0])
    return []


def formatted(arguments: list[ast.expr]) -> list[str]:
    """Return the texts of a call with a format and its arguments."""
    template, *values = arguments
    if not isinstance(template, ast.Constant):
        return expand(template)
    pieces = re.split(r"%[-.0-9]*[sdf]", str(template.value))
    given = [expand(value) for value in values] or [[GAP]] * (len(pieces) - 1)
    return ["".join(a + b for a, b in zip(pieces, (*choice, ""), strict=True)) for choice in product(*given)]


def expand(node: ast.expr) -> list[str]:
    """Return the texts that an expression can have."""
    match node:
        case ast.Constant():
            return [str(node.value)]
        case ast.JoinedStr():
            return ["".join(choice) for choice in product(*map(expand, node.values))]
        case ast.FormattedValue():
            return expand(node.value) if isinstance(node.value, ast.Call | ast.Attribute) else [GAP]
        case ast.Attribute() if ast.unparse(node) in NAMES:
            return NAMES[ast.unparse(node)]
        case ast.BinOp(op=ast.Add()):
            return [a + b for a in expand(node.left) for b in expand(node.right)]
        case ast.Call():
            name = ast.unparse(node.func).rpartition(".")[2]
            return [text for function in FUNCTIONS if function.name == name for text in returned(function)] or [GAP]
    return [GAP]


def returned(function: ast.FunctionDef) -> list[str]:
    """Return the texts that a function returns; the first part of a pair."""
    texts: list[str] = []
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and node.value is not None:
            value = node.value.elts[0] if isinstance(node.value, ast.Tuple) else node.value
            texts += expand(value)
    return texts
