#!/usr/bin/env python3
"""Breaks the code in small ways, one at a time, and counts how often a test notices.

`mutating.py` has the ways. Of each module some are chosen by a seed. A mutant is *killed* when a test fails that passed
before. First the module's own tests run, then those of its package, so most mutants cost a second or two: each
run is a fork of a process that has imported pytest already.

A mutant may also make the tests endless. One that computes is killed when it has used far more processor time than the
tests need without it. One that waits is not killed at first, as on a busy machine all things wait: it is tried again at
the end, alone and for longer. If it still waits, it counts neither as killed nor as living.

Mutants that change nothing that could be noticed are named in `equivalent_mutants.txt`, a line each, with the reason:

    forkbroker/routing/queues/runs.py | Run.fitting | bisect_right(range(1, count + 1)… -> … | why nothing can notice it

They are not counted. If a function has the same change in several places, the second one has ` (2)` behind it. The exit
status is 1 when a package is below the goal.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatch
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest
from mutating import ROOT, Mutant, make_mutants

PACKAGES = ("routing", "session", "wire", "stomp", "store", "parent")
GOAL_PERCENT = 95
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.txt")

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
_ORIGINAL = "original"
_MEMORY_BYTES = 4 << 30
"""Address space of a process of the tests: a loop that takes memory must not take that of the machine."""
_POLL_S = 0.01
_OPTIONS = ("-x", "-p", "no:cacheprovider", "-o", "timeout=0", "-m", "not slow")
_ABOUT_IMPORTS = ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")
_PASSED = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


class Outcome(Enum):
    """What tests say of a module; the value is how a mutant is called of which they say it."""

    PASSED = "lives"
    FAILED = "killed"
    COMPUTES = "killed by its processor time"
    WAITS = "waits"

    @property
    def is_killed(self) -> bool:
        """Whether the tests have noticed."""
        return self in (Outcome.FAILED, Outcome.COMPUTES)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long tests may take, in seconds."""

    cpu_s: int
    """Of one process."""
    wall_s: float


_FREELY = Bounds(3600, 3600.0)

Tests = tuple[str, ...]
"""Files and directories, as pytest gets them."""


def find_tests(path: Path) -> list[Tests]:
    """Which tests to run for a module, in which order."""
    package = Path("tests", path.parts[1])
    own = sorted(str(file.relative_to(ROOT)) for file in (ROOT / package).rglob(f"test_{path.stem}*.py"))
    return [*([tuple(own)] if own else []), (str(package),)]


class Workshop:
    """A copy of the project in which a mutant takes the place of its module."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def judge(self, mutant: Mutant, bounds: dict[Tests, Bounds]) -> Outcome:
        """What the tests say of a mutant: the first of them that do not pass."""
        module = self._directory / mutant.path
        before, status = module.read_text(), module.stat()
        module.write_text(mutant.apply(before))
        try:
            for tests in find_tests(mutant.path):
                outcome, _ = self.run(tests, bounds[tests])
                if outcome is not Outcome.PASSED:
                    return outcome
            return Outcome.PASSED
        finally:
            module.write_text(before)
            os.utime(module, ns=(status.st_atime_ns, status.st_mtime_ns))

    def run(self, tests: Tests, bounds: Bounds) -> tuple[Outcome, Bounds]:
        """Run tests in this copy; what they needed, of all of their processes together."""
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            self._become_pytest(tests, bounds)
        while not (ended := os.wait4(child, os.WNOHANG))[0]:
            if time.monotonic() > started + bounds.wall_s:
                os.killpg(child, signal.SIGKILL)
                os.wait4(child, 0)
                return Outcome.WAITS, bounds
            time.sleep(_POLL_S)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what the tests have left behind
        _, status, usage = ended
        needed = Bounds(math.ceil(usage.ru_utime + usage.ru_stime), time.monotonic() - started)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
            return Outcome.COMPUTES, needed
        return Outcome.PASSED if os.waitstatus_to_exitcode(status) in _PASSED else Outcome.FAILED, needed

    def _become_pytest(self, tests: Tests, bounds: Bounds) -> NoReturn:
        """In the forked process: what a new one would be, but pytest is imported."""
        status: int = pytest.ExitCode.INTERNAL_ERROR
        try:
            os.setsid()
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in range(3):
                os.dup2(nothing, descriptor)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            resource.setrlimit(resource.RLIMIT_CPU, (bounds.cpu_s, resource.RLIM_INFINITY))
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, resource.RLIM_INFINITY))
            os.chdir(self._directory)
            sys.path.insert(0, str(self._directory))
            os.environ["PYTHONPATH"] = str(self._directory)
            # What was compiled of a mutant must not be found by the next one.
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
            sys.dont_write_bytecode = True
            status = pytest.main([*_OPTIONS, *_ABOUT_IMPORTS, *tests])
        finally:
            os._exit(status)


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


class Trial:
    """Mutants and what becomes of them; each worker is a process with a workshop of its own.

    The workshops are copies of one copy, so that the project can be worked on meanwhile.
    """

    def __init__(self, directory: Path, workers: int) -> None:
        self._directory = directory
        self._workers = workers
        self.outcomes: dict[Mutant, Outcome] = {}
        for name in _COPIED:
            source, copied = ROOT / name, directory / _ORIGINAL / name
            if source.is_dir():  # with what is compiled already
                shutil.copytree(source, copied)
            else:
                shutil.copy2(source, copied)

    def run(self, mutants: list[Mutant]) -> None:
        """Try all of them.

        Raises:
            SystemExit: tests fail without any mutant.
        """
        needed = self._measure({tests for mutant in mutants for tests in find_tests(mutant.path)})
        self._judge(mutants, {tests: Bounds(3 * it.cpu_s + 5, 3 * it.wall_s + 40) for tests, it in needed.items()})
        again = [mutant for mutant in mutants if self.outcomes[mutant] is Outcome.WAITS]
        self._workers = 1
        self._judge(again, {tests: Bounds(3 * it.cpu_s + 5, 10 * it.wall_s + 90) for tests, it in needed.items()})

    def _measure(self, sets: Iterable[Tests]) -> dict[Tests, Bounds]:
        needed = {}
        with self._make_pool() as pool:
            waiting = {pool.submit(_run_in_workshop, self._directory, tests): tests for tests in sets}
            for future in as_completed(waiting):
                outcome, needed[waiting[future]] = future.result()
                if outcome is not Outcome.PASSED:
                    pool.shutdown(cancel_futures=True)
                    raise SystemExit(f"these tests fail without any mutant: {' '.join(waiting[future])}")
        return needed

    def _judge(self, mutants: list[Mutant], bounds: dict[Tests, Bounds]) -> None:
        with self._make_pool() as pool:
            waiting: dict[Future[Outcome], Mutant] = {
                pool.submit(_judge_in_workshop, self._directory, mutant, bounds): mutant for mutant in mutants
            }
            for future in as_completed(waiting):
                mutant = waiting[future]
                self.outcomes[mutant] = outcome = future.result()
                if outcome is not Outcome.FAILED:
                    print(
                        f"{outcome.value}: {mutant.path}:{mutant.line} {mutant.function}: {mutant.change}", flush=True
                    )

    def _make_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._workers, multiprocessing.get_context("fork"))


def _run_in_workshop(directory: Path, tests: Tests) -> tuple[Outcome, Bounds]:
    return _find_workshop(directory).run(tests, _FREELY)


def _judge_in_workshop(directory: Path, mutant: Mutant, bounds: dict[Tests, Bounds]) -> Outcome:
    return _find_workshop(directory).judge(mutant, bounds)


def _find_workshop(directory: Path) -> Workshop:
    """That of this process."""
    own = directory / str(os.getpid())
    if not own.exists():
        shutil.copytree(directory / _ORIGINAL, own)
    return Workshop(own)


def report(outcomes: dict[Mutant, Outcome]) -> bool:
    """Print the score of each module and package; whether all packages have reached the goal."""
    modules: dict[str, Counter[Outcome]] = defaultdict(Counter)
    packages: dict[str, Counter[Outcome]] = defaultdict(Counter)
    for mutant, outcome in outcomes.items():
        modules[str(mutant.path)][outcome] += 1
        packages[mutant.path.parts[1]][outcome] += 1
    for name, found in sorted(modules.items()):
        print(f"{name:<44} {_count_killed(found):>3} of {_count_decided(found)}")
    is_reached = True
    for name, found in packages.items():
        percent = 100 * _count_killed(found) / max(_count_decided(found), 1)
        is_reached = is_reached and percent >= GOAL_PERCENT
        computed, waiting = found[Outcome.COMPUTES], found[Outcome.WAITS]
        print(
            f"{name:<44} {percent:5.1f} % of {_count_decided(found)},"
            f" {computed} of these by their processor time; {waiting} not decided"
        )
    return is_reached


def _count_killed(found: Counter[Outcome]) -> int:
    return sum(number for outcome, number in found.items() if outcome.is_killed)


def _count_decided(found: Counter[Outcome]) -> int:
    return found.total() - found[Outcome.WAITS]


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
    # A busy machine must not make a test fail: no deadlines within hypothesis, and longer ones elsewhere.
    hypothesis.settings.register_profile("mutants", deadline=None, derandomize=True, database=None)
    hypothesis.settings.load_profile("mutants")
    os.environ.setdefault("FORKBROKER_TEST_STRETCH", "3")
    with tempfile.TemporaryDirectory(prefix="forkbroker-mutants-") as directory:
        trial = Trial(Path(directory), given.workers)
        trial.run(choose(given.each, given.seed, given.only))
    return 0 if report(trial.outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
