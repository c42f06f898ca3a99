"""Copies of code, made before forks."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import gc
from itertools import pairwise
from types import FunctionType
from forkbroker.posix.hot_code import gather

source = "def {name}(a):\\n    if a == b'the constant of {name}':\\n" + "        a = a + a\\n" * 100
source += "    return lambda: {name}"
space, between = {}, []
for number in range(40):
    exec(source.replace("{name}", f"f{number}"), space)
    between.append([bytes(1500) for _ in range(10)] + [bytes(20) for _ in range(200)])
functions = [space[f"f{number}"] for number in range(40)]
gc.freeze()

def find_constant(function):
    return next(one for one in function.__code__.co_consts if type(one) is bytes)

def find_gaps(find):
    places = [id(find(one)) for one in functions[:20]]
    return sum(not 0 < behind - before < 4096 for before, behind in pairwise(places))

def find_all_gaps():
    return find_gaps(lambda one: one.__code__), find_gaps(find_constant)

before, idle = find_all_gaps(), functions[20].__code__
gather(lambda: [one(0) for one in functions[:20]])
print(min(before) > 10, max(find_all_gaps()) <= 2, functions[20].__code__ is idle)
print([one(0)() is one for one in functions] == [True] * 40)
print([find_constant(one) for one in functions] == [b"the constant of f%d" % number for number in range(40)])
"""


def test_what_is_called_lies_side_by_side() -> None:
    """And its constants, in the order of the calls; the results are the same, and what is not called stays as it is."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("True True True\nTrue\nTrue\n", "")
