"""Writing where nobody may read: never a wait, and nothing of what is inherited is changed."""

from __future__ import annotations

import fcntl
import os
import pty
import socket
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from forkbroker.posix.outlets import Outlet

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def opened() -> Iterator[list[int]]:
    """Descriptors that are closed after the test."""
    fds: list[int] = []
    yield fds
    for fd in fds:
        os.close(fd)


@pytest.fixture
def terminal(opened: list[int]) -> tuple[int, int]:
    """Both ends of a terminal: the screen's, and that of programs."""
    pair = pty.openpty()
    opened.extend(pair)
    return pair


def fill(outlet: Outlet, most: int = 100_000) -> int:
    """Write until there is no room; how many bytes that were."""
    written = 0
    for _ in range(most):
        try:
            written += outlet.write(LINE)
        except BlockingIOError:
            return written
    raise AssertionError("it takes everything")


def is_blocking(fd: int) -> bool:
    return not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK


@pytest.mark.parametrize("reopens", [True, False])
def test_a_full_pipe_is_not_waited_for(opened, reopens) -> None:
    """What has room is written, and the inherited end stays as it was."""
    reading, writing = os.pipe()
    opened += [reading, writing]
    outlet = Outlet(writing, reopens=reopens)
    assert outlet.write(b"first\n") == 6
    fill(outlet)
    stayed = is_blocking(writing)
    outlet.close()

    assert stayed
    assert os.read(reading, 6) == b"first\n"


@pytest.mark.parametrize("reopens", [True, False])
def test_a_stopped_terminal_is_not_waited_for(terminal, reopens) -> None:
    """Ctrl-S on the shell's terminal, whose own flags are not touched."""
    screen, program = terminal
    outlet = Outlet(program, reopens=reopens)
    assert outlet.write(b"first\n") == 6
    termios.tcflow(program, termios.TCOOFF)
    with suppress(AssertionError):
        fill(outlet, 10_000)
    with pytest.raises(BlockingIOError):
        outlet.write(LINE)
    termios.tcflow(program, termios.TCOON)
    outlet.close()

    assert is_blocking(program)
    assert os.read(screen, 5) == b"first"


def test_a_full_socket_is_not_waited_for() -> None:
    """As a service manager gives it, to a log collector that hangs."""
    near, far = socket.socketpair()
    with near, far:
        outlet = Outlet(near.fileno())
        assert outlet.write(b"first\n") == 6
        fill(outlet)

        assert near.getblocking()
        assert is_blocking(near.fileno())
        assert far.recv(6) == b"first\n"


def test_a_file_is_appended_to(opened, tmp_path: Path) -> None:
    """By the inherited descriptor itself: its place in the file is shared with other writers."""
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    opened.append(fd)
    outlet = Outlet(fd)
    outlet.write(b"one\n")
    os.write(fd, b"two\n")
    outlet.write(b"three\n")

    assert outlet.descriptors == ()
    assert (tmp_path / "out").read_text() == "one\ntwo\nthree\n"


def test_a_reader_that_has_left_is_an_error(opened) -> None:
    """No wait, and no signal."""
    reading, writing = os.pipe()
    opened.append(writing)
    outlet = Outlet(writing)
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        outlet.write(LINE)
    outlet.close()


def test_a_descriptor_that_becomes_another_file_is_followed(opened, tmp_path: Path) -> None:
    """A daemon gives its standard streams up: nothing of the terminal stays open."""
    reading, writing = os.pipe()
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    opened += [reading, writing, fd]
    outlet = Outlet(writing)
    outlet.write(b"to the pipe\n")
    os.dup2(fd, writing)
    outlet.write(b"to the file\n")

    assert os.read(reading, 100) == b"to the pipe\n"
    assert os.read(reading, 100) == b""
    assert (tmp_path / "out").read_text() == "to the file\n"


def test_a_pipe_is_kept_open_by_the_descriptor_alone_where_that_is_wanted(opened) -> None:
    """The descriptors that a child has to keep tell which way was taken."""
    reading, writing = os.pipe()
    opened += [reading, writing]
    again, same = Outlet(writing), Outlet(writing, reopens=False)
    counts = len(again.descriptors), len(same.descriptors)
    again.close()
    again.close()
    same.close()

    assert counts == (1, 0)
    assert again.descriptors == ()
