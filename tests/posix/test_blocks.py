"""Blocks that are used again, and given back."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from forkbroker.posix import blocks
from forkbroker.posix.c_library import find_function

ROOT = Path(__file__).parents[2]
SIZE = 300_000
PAGES = SIZE // resource.getpagesize()
BODY = 1_100_000
TIMES = 200

needs_glibc = pytest.mark.skipif(blocks._mallopt is None or blocks._malloc_trim is None, reason="needs glibc")


def count_faults(work: Callable[[], object]) -> int:
    """Pages that the system had to give while this was done."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def take_and_free(size: int = SIZE) -> None:
    """Blocks as a turn has them: two at the same time, then none."""
    for _ in range(TIMES):
        _ = [b"x" * size, b"y" * size]


@needs_glibc
def test_large_blocks_are_used_again() -> None:
    """Their pages are not asked for each time; without it they are. A block above 4 MiB goes back at once.

    In an interpreter that has just begun: after many tests there are large holes in its memory, which are used first.
    """
    code = f"import runpy; print(runpy.run_path({__file__!r})['compare_faults']())"
    path = os.pathsep.join(str(directory) for directory in (ROOT, ROOT / "tests"))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)

    assert done.stdout == "(True, True, True)\n", done.stderr


def compare_faults() -> tuple[bool, bool, bool]:
    """Whether pages are asked for as usual, once blocks are used again, and for what is above."""
    # what the library has made of its thresholds since the interpreter began is not the usual
    for parameter in (blocks._MMAP_THRESHOLD, blocks._TRIM_THRESHOLD):
        blocks._mallopt(parameter, 131_072)
    usual = count_faults(take_and_free)
    blocks.use_again()
    take_and_free()
    take_and_free(BODY)
    again = count_faults(take_and_free) + count_faults(lambda: take_and_free(BODY))
    above = count_faults(lambda: take_and_free(4 * BODY))
    return usual > TIMES * PAGES // 2, again < PAGES * 2, above > TIMES * PAGES


@needs_glibc
def test_what_is_free_is_given_back(in_child) -> None:
    """The next block needs new pages."""

    def give() -> int:
        blocks.use_again()
        take_and_free()
        blocks.give_back()
        return count_faults(lambda: b"x" * SIZE) > PAGES // 2

    assert os.waitstatus_to_exitcode(in_child(give)) == 1


def test_a_library_without_these_functions_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every system has glibc."""
    monkeypatch.setattr(blocks, "_mallopt", None)
    monkeypatch.setattr(blocks, "_malloc_trim", None)
    blocks.use_again()
    blocks.give_back()

    assert find_function("no_such_function_anywhere") is None
