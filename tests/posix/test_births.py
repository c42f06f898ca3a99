"""Forks without hooks: the new process works, and who reaps it depends on the way."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from forkbroker.posix import births

WAYS = ["sibling", "raw", "hooked"] if births.METHOD is births.Method.SIBLING else ["raw", "hooked"]

_PROGRAM = """
import os
from forkbroker.posix import births, children

middle = os.fork()
if middle == 0:
    reading, writing = os.pipe()
    pid = births.bear()
    if pid == 0:
        os.write(writing, b"%d %d" % (os.getpid(), sum(range(1000))))
        os._exit(7)
    told = os.read(reading, 100)
    assert told == b"%d 499500" % pid, told
    if births.METHOD is not births.Method.SIBLING:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    os._exit(0)
ends = []
while (ended := children.reap_one(options=0)) is not None:
    ends.append((ended.pid == middle, os.waitstatus_to_exitcode(ended.status)))
print(births.METHOD.value, sorted(ends))
"""


def _run(way: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, births.VARIABLE: way}
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_new_process_is_a_child_of_the_parent_or_of_the_caller(way: str) -> None:
    """A sibling's end is told to the parent of whoever has forked it; another one's to who has forked it."""
    expected = [(False, 7), (True, 0)] if way == "sibling" else [(True, 0)]
    done = _run(way)

    assert (done.stdout, done.stderr) == (f"{way} {expected}\n", "")


def test_an_unknown_way_ends_the_program_at_its_start() -> None:
    """With what there is."""
    done = _run("stork")

    assert done.returncode == 1
    assert done.stderr.startswith("stomp-broker: FORKBROKER_BIRTHS=stork: there are ")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody without processes")
@pytest.mark.parametrize("way", WAYS)
def test_no_room_for_a_process_is_an_oserror(way: str) -> None:
    """With the system's own words."""
    program = """
import os, pwd, resource
from forkbroker.posix import births
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
os.setuid(pwd.getpwnam("nobody").pw_uid)
try:
    if births.bear() < 0:
        raise births.refusal()
except OSError as error:
    print(error.strerror)
"""
    environment = {**os.environ, births.VARIABLE: way}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=60
    )

    assert done.stdout == "Resource temporarily unavailable\n"
