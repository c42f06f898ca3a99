"""What the tests say of a mutant: noticed, not noticed, or not decided."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mutants
import pytest
from mutants import Outcome
from mutating import Mutant, make_mutants

MODULE = Path("forkbroker/store/part.py")
TESTS = Path("tests/store/test_part.py")

RUN = """
import sys
from pathlib import Path
import mutants
print(mutants.Workshop(Path(sys.argv[1])).run((sys.argv[2],), mutants.Bounds(1, float(sys.argv[3])))[0].name)
"""

JUDGE = """
import sys
from pathlib import Path
import mutants, mutating
mutants.ROOT = mutating.ROOT = directory = Path(sys.argv[1])
bounds = {tests: mutants.Bounds(10, 60.0) for tests in mutants.find_tests(Path(sys.argv[2]))}
for mutant in mutating.make_mutants(Path(sys.argv[2])):
    print(mutant.change, mutants.Workshop(directory).judge(mutant, bounds).name)
"""


def ask(program: str, *arguments: object) -> list[str]:
    """Run this in a process of its own, which may be forked; the lines that it prints."""
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(Path(mutants.__file__).parent)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.splitlines()


def write(directory: Path, path: Path, text: str) -> None:
    (directory / path).parent.mkdir(parents=True)
    (directory / path).write_text(text)


@pytest.mark.parametrize(
    ("body", "patience_s", "expected"),
    [
        ("pass", 60, Outcome.PASSED),
        ("assert False", 60, Outcome.FAILED),
        ("while True: pass", 60, Outcome.COMPUTES),
        ("threading.Event().wait()", 1, Outcome.WAITS),
    ],
)
def test_an_endless_test_has_computed_or_waited(body: str, patience_s: int, expected: Outcome, tmp_path: Path) -> None:
    """Only what has computed is decided: a busy machine can make any test wait."""
    write(tmp_path, TESTS, f"import threading\n\ndef test_it():\n    {body}\n")

    assert ask(RUN, tmp_path, TESTS, patience_s) == [expected.name]


def test_a_mutant_has_the_place_of_its_module_while_it_is_tried(tmp_path: Path) -> None:
    """One after the other, and the module is what it was behind them."""
    write(tmp_path, MODULE, "def double(n):\n    return 2 * n\n\ndef spare():\n    return 7\n")
    write(tmp_path, TESTS, "from forkbroker.store.part import double\n\ndef test_it():\n    assert double(4) == 8\n")

    found = ask(JUDGE, tmp_path, MODULE)

    assert found == [
        "return 2 * n -> return None FAILED",
        "2 -> 3 FAILED",
        "return 7 -> return None PASSED",
        "7 -> 8 PASSED",
    ]
    assert "return 2 * n" in (tmp_path / MODULE).read_text()


def test_what_waits_is_neither_killed_nor_living(capsys: pytest.CaptureFixture[str]) -> None:
    """The score is that of the others, and says how many are left."""

    def mutant(number: int) -> Mutant:
        return Mutant(MODULE, 1, "f", "0 -> 1", number, 0)

    outcomes = [Outcome.FAILED] * 18 + [Outcome.COMPUTES] + [Outcome.PASSED] + [Outcome.WAITS] * 5
    is_reached = mutants.report({mutant(number): outcome for number, outcome in enumerate(outcomes)})
    is_reached_without = mutants.report({mutant(number): outcome for number, outcome in enumerate(outcomes[1:])})

    assert is_reached
    assert not is_reached_without
    assert "95.0 % of 20, 1 of these by their processor time; 5 not decided" in capsys.readouterr().out


def test_equivalent_mutants_have_a_reason_and_are_there() -> None:
    """The list has no line about code that has changed since."""
    lines = [line for line in mutants.EQUIVALENT.read_text().splitlines() if line and not line.startswith("#")]
    paths = {Path(line.split(" | ")[0]) for line in lines}
    names = {mutant.name for path in paths for mutant in make_mutants(path)}

    for line in lines:
        *_, reason = line.split(" | ")
        assert reason.strip()
        assert line.rpartition(" | ")[0] in names
