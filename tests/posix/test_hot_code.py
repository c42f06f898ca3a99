"""Copies of code, made before forks."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import gc
from itertools import pairwise
from types import FunctionType
from forkbroker.posix.hot_code import gather

source = "def {name}(a):\\n    if a:\\n" + "        a = a + a\\n" * 100 + "    return lambda: {name}"
space, between = {}, []
for number in range(40):
    exec(source.replace("{name}", f"f{number}"), space)
    between.append([bytes(1500) for _ in range(10)])
functions = [space[f"f{number}"] for number in range(40)]
gc.freeze()

def find_gaps():
    places = [id(one.__code__) for one in functions[:20]]
    return sum(not 0 < behind - before < 4096 for before, behind in pairwise(places))

before, idle = find_gaps(), functions[20].__code__
gather(lambda: [one(0) for one in functions[:20]])
print(before, find_gaps() <= 2, functions[20].__code__ is idle, [one(0)() is one for one in functions] == [True] * 40)
"""


def test_what_is_called_lies_side_by_side() -> None:
    """In the order of the calls; what it returns is the same, and what is not called stays where it is."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("19 True True True\n", "")
