"""The mutants themselves: each is a module that can be compiled, and differs from the one that it stands for."""

from __future__ import annotations

import ast
from pathlib import Path

import mutants

MODULE = Path("forkbroker/routing/runs.py")


def test_each_mutant_is_another_module() -> None:
    """One change each, which is in its name; no two that have the same change in the same place are told apart."""
    original = ast.unparse(ast.parse((mutants.ROOT / MODULE).read_text()))
    made = mutants.make_mutants(MODULE)

    assert len(made) > 20
    for mutant in made:
        assert mutant.source != original, mutant.name
        compile(mutant.source, str(MODULE), "exec")


def test_equivalent_mutants_have_a_reason_and_are_there() -> None:
    """The list has no line about code that has changed since."""
    lines = [line for line in mutants.EQUIVALENT.read_text().splitlines() if line and not line.startswith("#")]
    for line in lines:
        path, _, _, reason = line.split(" | ")
        names = {mutant.name for mutant in mutants.make_mutants(Path(path))}

        assert reason.strip()
        assert line.rpartition(" | ")[0] in names
