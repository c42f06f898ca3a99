"""The mutants themselves: each is a module that can be compiled, and differs from the one that it stands for."""

from __future__ import annotations

import ast
from pathlib import Path

import mutating
import pytest

MODULE = Path("forkbroker/routing/queues/runs.py")


def test_each_mutant_is_another_module() -> None:
    """One change each, which is in its name; no two that have the same change in the same place are told apart."""
    source = (mutating.ROOT / MODULE).read_text()
    original = ast.unparse(ast.parse(source))
    made = mutating.make_mutants(MODULE)

    assert len(made) > 20
    for mutant in made:
        mutated = mutant.apply(source)
        assert mutated != original, mutant.name
        compile(mutated, str(MODULE), "exec")


def changes(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is changed in this module."""
    (tmp_path / MODULE).parent.mkdir(parents=True)
    (tmp_path / MODULE).write_text(source)
    monkeypatch.setattr(mutating, "ROOT", tmp_path)
    return [f"{mutant.function}: {mutant.change}" for mutant in mutating.make_mutants(MODULE)]


def test_the_same_change_in_two_places_has_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the reason for one of them would excuse the other."""
    source = "def f(a):\n    return a[1] + a[1]\n\ndef g(a):\n    a[1]\n"

    made = changes(source, tmp_path, monkeypatch)

    assert made[1:] == ["f: 1 -> 2", "f: 1 -> 2 (2)", "g: g -> without a[1]", "g: 1 -> 2"]


def test_messages_are_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only whether there are any: what an error or a log line shows of a name is no rule."""
    source = (
        "def f(name):\n    raise ValueError(f'{name[:80]!r}')\n\ndef g(self, n):\n    self._logger.info('%d', n + 1)\n"
    )

    made = changes(source, tmp_path, monkeypatch)

    assert made == [
        "f: f -> without raise ValueError(f'{name[:80]!r}')",
        "g: g -> without self._logger.info('%d', n + 1)",
    ]


def test_no_answer_is_as_good_as_false(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is returned is changed where that makes a difference."""
    made = changes("def f():\n    return False\n\ndef g():\n    return 0\n", tmp_path, monkeypatch)

    assert made == ["f: False -> True", "g: return 0 -> return None", "g: 0 -> 1"]
