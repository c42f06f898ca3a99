#!/usr/bin/env python3
"""Breaks the code in small ways, one at a time, and counts how often a test notices.

A *mutant* is a module with one thing changed: a comparison, `and` for `or`, a number, a statement that is left out, a
returned value, an entry of a table that is missing. Of each module some are chosen by a seed. A mutant is *killed* when
a test fails that passed before, or does not end. First the module's own tests run, then those of its package, so most
mutants cost a second or two.

Mutants that change nothing that could be noticed are named in `equivalent_mutants.txt`, a line each, with the reason:

    forkbroker/routing/queues/runs.py | Run.fitting | bisect_right(range(1, count + 1)… -> … | why nothing can notice it

They are not counted. If a function has the same change in several places, the second one has ` (2)` behind it. The exit
status is 1 when a package is below the goal.

Changes that no test should notice are not made: within the text of an error or of a log line, and `return None` for
`return False`.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parents[1]
PACKAGES = ("routing", "session", "wire", "stomp", "store", "parent")
GOAL_PERCENT = 95
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.txt")

_OWN_S, _PACKAGE_S = 60, 300
_COPIED = (
    "forkbroker",
    "tests",
    "bin",
    "docs",
    "man",
    "etc",
    "setup.cfg",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
)
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

    @property
    def source(self) -> str:
        """The module with its change."""
        tree = ast.parse((ROOT / self.path).read_text())
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
        left_out = ast.unparse(node.keys[number]) if node.keys[number] is not None else "**"
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


# -- tests


def find_tests(path: Path) -> list[tuple[list[str], int]]:
    """Which tests to run for a module, in which order, and how long each set may take (seconds)."""
    package = path.parts[1]
    own = sorted(str(file.relative_to(ROOT)) for file in (ROOT / "tests").rglob(f"test_{path.stem}*.py"))
    own = [file for file in own if "/broker/" not in file and "/faults/" not in file]
    sets = [([own_file], _OWN_S) for own_file in own]
    return [*sets, ([f"tests/{package}"], _PACKAGE_S)]


class Workshop:
    """A copy of the project in which a mutant takes the place of its module."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, directory / name)

    def kills(self, mutant: Mutant) -> bool:
        """Whether a test notices."""
        module = self._directory / mutant.path
        before = module.read_text()
        module.write_text(mutant.source)
        try:
            return any(not self.passes(tests, seconds) for tests, seconds in find_tests(mutant.path))
        finally:
            module.write_text(before)

    def passes(self, tests: list[str], seconds: int) -> bool:
        """Whether these tests pass in this copy."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests]
        environment = {**os.environ, "PYTHONPATH": str(self._directory), "PYTHONDONTWRITEBYTECODE": "1"}
        with subprocess.Popen(
            command,
            cwd=self._directory,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                return process.wait(seconds) in (0, 5)
            except subprocess.TimeoutExpired:
                return False
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, 9)


def choose(each: int, seed: int, only: str) -> list[Mutant]:
    """Some mutants of each module."""
    known = read_equivalent()
    chosen = []
    for path in sorted((ROOT / "forkbroker").rglob("*.py")):
        relative = path.relative_to(ROOT)
        if len(relative.parts) < 3 or relative.parts[1] not in PACKAGES or not fnmatch(str(relative), only):
            continue
        mutants = [mutant for mutant in make_mutants(relative) if mutant.name not in known]
        chosen += random.Random(f"{seed} {relative}").sample(mutants, min(each, len(mutants)))
    return chosen


def read_equivalent() -> set[str]:
    """The names of the mutants that change nothing."""
    lines = EQUIVALENT.read_text().splitlines() if EQUIVALENT.exists() else []
    return {line.rpartition(" | ")[0] for line in lines if line and not line.startswith("#")}


def run(mutants: list[Mutant], workers: int) -> dict[Path, list[tuple[Mutant, bool]]]:
    """Try all; by module, whether each was killed."""
    results: dict[Path, list[tuple[Mutant, bool]]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="forkbroker-mutants-") as directory:
        workshops: Queue[Workshop] = Queue()
        for number in range(workers):
            workshops.put(Workshop(Path(directory) / str(number)))

        def try_one(mutant: Mutant) -> tuple[Mutant, bool]:
            workshop = workshops.get()
            try:
                return mutant, workshop.kills(mutant)
            finally:
                workshops.put(workshop)

        with ThreadPoolExecutor(workers) as pool:
            for mutant, is_killed in pool.map(try_one, mutants):
                results[mutant.path].append((mutant, is_killed))
                if not is_killed:
                    print(f"lives: {mutant.path}:{mutant.line} {mutant.function}: {mutant.change}", flush=True)
    return results


def report(results: dict[Path, list[tuple[Mutant, bool]]]) -> bool:
    """Print the score of each module and package; whether all packages have reached the goal."""
    packages: dict[str, list[bool]] = defaultdict(list)
    for path, tried in sorted(results.items()):
        killed = sum(is_killed for _, is_killed in tried)
        print(f"{path!s:<44} {killed:>3} of {len(tried)}")
        packages[path.parts[1]] += [is_killed for _, is_killed in tried]
    is_reached = True
    for package, outcomes in packages.items():
        percent = 100 * sum(outcomes) / len(outcomes)
        is_reached = is_reached and percent >= GOAL_PERCENT
        print(f"{package:<44} {percent:5.1f} % of {len(outcomes)}")
    return is_reached


def main() -> int:
    """Read the command line, choose and try."""
    parser = argparse.ArgumentParser(description="break the code in small ways, and count how often a test notices")
    parser.add_argument("--each", type=int, default=4, help="mutants of each module (default: 4)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (default: 1)")
    parser.add_argument("--only", default="*", help="modules, as in 'forkbroker/routing/*' (default: all)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="at one time (default: the processors)"
    )
    given = parser.parse_args()
    return 0 if report(run(choose(given.each, given.seed, given.only), given.workers)) else 1


if __name__ == "__main__":
    sys.exit(main())
