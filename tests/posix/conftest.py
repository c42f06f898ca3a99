"""Real processes for the tests of forkbroker.posix, and a check that none of them leaves anything behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.deadline import stretched, wait_until

from forkbroker.posix import children

PATIENCE_S = stretched(10.0)
"""How long a test waits for what must come."""

ROOT = Path(__file__).parents[2]


def _descriptors() -> set[str]:
    return set(os.listdir("/dev/fd"))  # noqa: PTH208 (an open directory must not be counted)


@pytest.fixture(autouse=True)
def leftovers() -> Iterator[None]:
    """Fail a test that leaves a descriptor or a child."""
    before = _descriptors()
    yield
    assert before == _descriptors()
    with pytest.raises(ChildProcessError):
        os.wait4(-1, os.WNOHANG)


def _end(pid: int) -> children.Ended:
    ended: list[children.Ended] = []
    wait_until(lambda: ended.extend(children.reap()) or ended, f"the end of process {pid}")
    assert [pid] == [one.pid for one in ended]
    return ended[0]


@pytest.fixture
def wait_end() -> Callable[[int], children.Ended]:
    """Reap the one child of the test."""
    return _end


@pytest.fixture
def in_child() -> Callable[..., int]:
    """Run a function in a forked process; gives its wait status."""

    def run(main: Callable[[], int], *keep: int) -> int:
        return _end(children.fork(main, keep)).status

    return run


@pytest.fixture
def run_script() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python text in a fresh interpreter that knows forkbroker, with more variables or descriptors when needed."""

    def run(
        text: str, *arguments: object, variables: dict[str, str] | None = None, pass_fds: tuple[int, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", text, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(ROOT), **(variables or {})},
            pass_fds=pass_fds,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    return run
