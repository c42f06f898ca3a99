"""Holes between objects, which are filled before forks."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
from itertools import pairwise

from forkbroker.posix.heap import fill_holes

size = {size}
kept = [bytes(size - 33) for _ in range(4000)]
del kept[::8]
if {fills}:
    fill_holes()
new = [bytes(size - 33) for _ in range(12)]
places = sorted(map(id, new))
print(sum(behind - before <= size + 32 for before, behind in pairwise(places)) >= 7)
"""


@pytest.mark.parametrize("size", [48, 112, 512, 800, 4096])
@pytest.mark.parametrize("fills", [True, False])
def test_new_objects_lie_side_by_side(size: int, fills: bool) -> None:
    """Most of them, where they would lie in holes if these were not filled."""
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(size=size, fills=fills)], capture_output=True, text=True, check=True
    )

    assert ended.stdout == f"{fills}\n"


_FILLING = """
import sys

from forkbroker.posix import heap

heap.fill_holes()
print(sum(map(sys.getsizeof, heap._filling)))
"""


def test_a_heap_with_few_holes_is_filled_with_little() -> None:
    """Each MiB makes each fork dearer."""
    ended = subprocess.run([sys.executable, "-c", _FILLING], capture_output=True, text=True, check=True)

    assert int(ended.stdout) < 1_572_864
