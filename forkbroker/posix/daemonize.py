"""Detach from the terminal, and tell the one who waits there whether the broker has started.

The command forks twice. Its first process waits at a pipe, and exits with status 0 only after the grandchild has said
that it is ready; otherwise it prints the grandchild's reason and exits with the grandchild's status. When the
grandchild dies without a word, the pipe's end says so. Whoever scripts `--daemonize` can rely on the status alone.

    foreground process      waits, reports, exits
      └─ session leader     setsid, forks, exits: whoever leads a session could get a terminal again
           └─ daemon        goes on in the caller's code, returns from `detach`
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from forkbroker.errors import Exit, StartError

UMASK = 0o027
"""What the daemon creates is its user's, readable for its group, and nobody else's; pidfile and Unix sockets set
their own permissions."""

_READ_SIZE = 4096


class Readiness:
    """The daemon's end of the pipe; one word is said, once."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def ready(self) -> None:
        """Let go of the terminal, and let the foreground process exit with 0.

        The standard streams go to /dev/null only now: until here a complaint reaches the terminal.
        """
        drop_standard_streams()
        self._say(Exit.OK, "")

    def failed(self, message: str, status: int) -> None:
        """Let the foreground process print `message` and exit with `status`. The caller ends itself."""
        self._say(status, message)

    def _say(self, status: int, message: str) -> None:
        """Write and close. When the foreground process was interrupted, nobody listens, and the daemon goes on."""
        with suppress(BrokenPipeError):
            os.write(self._fd, f"{int(status)} {message}".encode())
        os.close(self._fd)


def detach() -> Readiness:
    """Return in a daemon: in a session of its own, in the root directory, with a strict umask.

    The process that called does not return: it ends as the daemon says. Open descriptors are inherited; call before
    pidfile, threads and children, as all of them belong to one process.

    Raises:
        StartError: no room for a process.
    """
    reading, writing = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # the interpreter has none for a descriptor that was closed when it started
            stream.flush()
    # Before the fork, so that Ctrl-C never finds the waiting process with a handler that prints a traceback.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        first = os.fork()
        if first:
            os.close(writing)
            _report_and_exit(first, reading)
        os.close(reading)
        os.setsid()
        if os.fork():
            os._exit(Exit.OK)
    except OSError as error:
        raise StartError(f"cannot detach: {error.strerror}", Exit.OSERR) from error
    signal.signal(signal.SIGINT, interrupt)
    os.chdir("/")
    os.umask(UMASK)
    return Readiness(writing)


def _report_and_exit(first: int, reading: int) -> NoReturn:
    """Wait for the daemon's word, and end with it. Nothing that was inherited is cleaned up: it is the daemon's."""
    os.waitpid(first, 0)
    word = b""
    while piece := os.read(reading, _READ_SIZE):
        word += piece
    status, message = _understand(word.decode(errors="replace"))
    if message:
        complain(message)
    os._exit(status)


def complain(message: str) -> None:
    """One line on standard error, under the program's name. Past the interpreter, which may have no such stream."""
    with suppress(OSError):
        os.write(2, f"stomp-broker: {message}\n".encode(errors="backslashreplace"))


def _understand(word: str) -> tuple[int, str]:
    """The daemon's status and message."""
    if not word:
        return Exit.SOFTWARE, "the broker ended before it was ready, without saying why; its log may tell"
    status, _, message = word.partition(" ")
    return int(status), message


def drop_standard_streams() -> None:
    """Let go of the terminal, or of whatever they are: /dev/null takes their place.

    A process that a daemon forks before it is ready does this by itself, or keeps the caller's pipes open for ever.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    if null > 2:
        os.close(null)
