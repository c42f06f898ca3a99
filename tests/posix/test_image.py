"""Memory that is mapped from a file in its place has what it had, and the process goes on as if nothing had been."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

has_image = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64") or platform.libc_ver()[0] != "glibc",
    reason="needs Linux with glibc on x86_64 or aarch64",
)


def has_large_pages() -> bool:
    """Whether a process can ask for them."""
    version = tuple(int(part) for part in platform.release().split(".")[:2]) if sys.platform == "linux" else (0, 0)
    return version >= (6, 1) and Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").exists()


_BEGIN = """
import os, resource, signal, sys
from pathlib import Path
from forkbroker.posix import image

names = {number: str(number).encode() * 100 for number in range(20_000)}


def is_whole():
    return all(names[number] == str(number).encode() * 100 for number in range(20_000))


def mapped():
    return sum("memfd:image" in line for line in Path("/proc/self/maps").read_text().splitlines())


def pages_of_ones_own():
    sums = Path("/proc/self/smaps_rollup").read_text().split()
    return int(sums[sums.index("Anonymous:") + 1]) // 4


"""


def run(program: str) -> str:
    """What a program prints that has some MiB of objects, in a process of its own; its end is in order."""
    ended = subprocess.run(
        [sys.executable, "-c", _BEGIN + program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    return ended.stdout.strip()


@has_image
def test_what_was_there_is_there_and_has_no_pages_of_its_own_any_more() -> None:
    """As soon as it is written to there are: the objects are looked at last, which counts their references."""
    program = """
before = pages_of_ones_own()
image.take()
after = pages_of_ones_own()
print(mapped() > 0, before > 3 * after, is_whole())
"""

    assert run(program) == "True True True"


@has_image
def test_it_can_be_done_again_and_again_while_signals_come_and_memory_changes() -> None:
    """Nothing that is written before, or after, is lost; signals wait meanwhile, and no longer."""
    program = """
rung = []
signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR2})
signal.signal(signal.SIGALRM, lambda *_: rung.append(True))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for turn in range(20):
    image.take()
    # blocks of many sizes come, and others go
    names.update({number: str(number).encode() * 100 for number in range(turn * 1000, turn * 1000 + 1000)})
signal.setitimer(signal.ITIMER_REAL, 0)
print(bool(rung), mapped() > 0, is_whole(), *signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""

    assert run(program) == f"True True True {signal.SIGUSR2:d}"


@has_image
def test_forked_processes_do_not_see_what_others_write() -> None:
    """The file is the same for all, and nobody writes to it."""
    program = """
image.take()
if not os.fork():
    for number in names:
        names[number] = b""
    os._exit(0)
os.wait()
names[-1] = b"mine"
if not os.fork():
    print(is_whole(), names[-1].decode(), flush=True)
    os._exit(0)
os.wait()
print(is_whole())
"""

    assert run(program) == "True mine\nTrue"


@has_image
def test_memory_that_was_given_back_meanwhile_is_not_copied() -> None:
    """All stays as it is."""
    program = """
known = list(image._list_regions())
image._list_regions = lambda: [*known, (1 << 40, 1 << 16)]
image.take()
print(mapped(), is_whole())
"""

    assert run(program) == "0 True"


@has_image
@pytest.mark.parametrize(
    "hindrance",
    [
        pytest.param("image._MAPS = Path('/nonexistent')", id="a system without /proc"),
        pytest.param("image._MACHINES = {'vax'}", id="another processor"),
        pytest.param("sys.platform = 'freebsd14'", id="another system"),
        pytest.param("del os.memfd_create", id="no files in memory"),
        pytest.param("sys.modules['ctypes'] = None", id="an interpreter without ctypes"),
        pytest.param("image._MOST = 1 << 20", id="a process that has inherited much"),
        pytest.param("resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))", id="no file of that size"),
        pytest.param("resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))", id="no descriptor"),
    ],
)
def test_where_it_cannot_be_done_nothing_happens(hindrance: str) -> None:
    """The process goes on without it."""
    program = f"""
maps = open("/proc/self/maps")
{hindrance}
image.take()
print("memfd:image" in maps.read(), is_whole())
"""

    assert run(program) == "False True"


@has_image
@pytest.mark.skipif(not has_large_pages(), reason="needs Linux 6.1 with large pages")
def test_the_file_is_in_large_pages() -> None:
    """Most of 16 MiB: the system may not have so many at hand."""
    program = """
import ctypes
file = image._Image(ctypes.CDLL(None), os.memfd_create("image"), (16 << 20) - 1)
words = Path("/proc/self/smaps_rollup").read_text().split()
print(file.place % image._LARGE, int(words[words.index("ShmemPmdMapped:") + 1]) >= 8 << 10)
"""

    assert run(program) == "0 True"


@has_image
def test_nothing_is_left_open() -> None:
    """Neither the file nor the place where the calls were prepared."""
    program = """
before = os.listdir("/proc/self/fd")
image.take()
shared = [line for line in Path("/proc/self/maps").read_text().splitlines() if " rw-s " in line]
print(os.listdir("/proc/self/fd") == before, shared)
"""

    assert run(program) == "True []"
