"""A program of the administrator's that says who a client is.

It gets one JSON object on standard input, and writes one on standard output:

    {"login": "alice", "passcode": "secret", "address": "192.0.2.9:40112"}
    {"user": "alice", "groups": ["workers"], "lasts": 3600}

Exit status 0: the client is let in. `user` may be missing, and is the login then; `groups` and `lasts`, in seconds,
may be missing as well. Exit status 1: it is not let in; `reason`, if it is there, is for the log. Anything else is a
failure of the program, and the client is not let in either.

The program runs once for a login, as the broker's user, and has `TIMEOUT_S`: the kernel ends it then by SIGALRM, so
that nothing of it is left if this process has ended before. So many may run at a time as there are places for it. Who
needs more rights than the broker's user gives them to the program, by its own means.
"""

from __future__ import annotations

import json
import math
import os
import signal
from contextlib import suppress
from pathlib import Path

from forkbroker.identity import Credentials, Identity, Way
from forkbroker.passwords import PasswordError, check_name
from forkbroker.posix.exits import describe
from forkbroker.posix.places import Places
from forkbroker.posix.signals import ALL_SIGNALS

TIMEOUT_S = 5
RUNNING = 16
"""Programs at one time."""
_MAX_REQUEST = 8_192
"""Octets that a pipe takes at once on all systems."""
_MAX_ANSWER = 65_536
_READ_SIZE = 65_536
_NO = 1
_CANNOT_RUN = 127


class Program:
    """The program, and one run of it."""

    def __init__(self, path: Path, places: Places) -> None:
        """`places`: so many of them may run."""
        self._path = path
        self._places = places
        self._pid = 0
        self._fd = -1
        self._heard = b""

    def verify(self, credentials: Credentials, address: str) -> Identity | str | None:
        """Who this client is; or why it is not let in, for the log; None: ask again."""
        if not self._pid:
            if not self._places.try_take():
                return None
            try:
                problem = self._start(credentials, address)
            except OSError as error:
                problem = f"cannot run {self._path}: {error.strerror}"
            if problem:
                self._places.give_back()
            return problem or None
        if self._fd >= 0 and not self._has_said_all():
            return None
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if not pid:
            return None
        self._pid = 0
        self._places.give_back()
        return self._judge(credentials.login, status)

    def _start(self, credentials: Credentials, address: str) -> str:
        request = {"login": credentials.login, "passcode": credentials.passcode, "address": address}
        octets = json.dumps(request).encode()
        if len(octets) > _MAX_REQUEST:
            return f"login and passcode are longer than {_MAX_REQUEST:,} bytes as JSON"
        theirs_in, ours_out = os.pipe()
        self._fd, theirs_out = os.pipe()
        os.set_blocking(self._fd, False)
        self._heard = b""
        try:
            self._pid = os.fork()
            if not self._pid:
                _become(self._path, theirs_in, theirs_out)
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        with os.fdopen(ours_out, "wb", buffering=0) as pipe, suppress(BrokenPipeError):
            pipe.write(octets)
        return ""

    def _has_said_all(self) -> bool:
        with suppress(BlockingIOError):
            while octets := os.read(self._fd, _READ_SIZE):
                self._heard = (self._heard + octets)[: _MAX_ANSWER + 1]
            os.close(self._fd)
            self._fd = -1
            return True
        return False

    def _judge(self, login: str, status: int) -> Identity | str:
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, _NO):
            how = "took too long" if code == -signal.SIGALRM else f"ended with {describe(status)}"
            return f"{self._path} failed, {how}"
        try:
            found = json.loads(self._heard) if self._heard.strip() else {}
            if code == _NO:
                return str(found.get("reason", "the program says no"))[:200]
            user, groups, lasts = found.get("user", login), found.get("groups", []), float(found.get("lasts", math.inf))
            for name in (user, *groups):
                check_name(name)
        except (ValueError, TypeError, AttributeError, RecursionError, PasswordError) as error:
            return f"{self._path} failed, its answer cannot be used: {error}"[:300]
        return Identity(user, Way.PROGRAM, tuple(groups), lasts_s=max(0.0, lasts))


def _become(path: Path, standard_input: int, standard_output: int) -> None:
    """Be the program, in the process that was forked for it."""
    try:
        os.dup2(standard_input, 0)
        os.dup2(standard_output, 1)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.closerange(3, 1024)
        for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(TIMEOUT_S)  # outlives execve(2)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL_SIGNALS)
        os.chdir("/")
        os.execve(path, [str(path)], {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
    finally:
        os._exit(_CANNOT_RUN)
