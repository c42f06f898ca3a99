"""A program of the administrator's that says who a client is.

It gets one JSON object on standard input, and writes one on standard output:

    {"login": "alice", "passcode": "secret", "address": "192.0.2.9:40112"}
    {"user": "alice", "groups": ["workers"], "lasts": 3600}

Exit status 0: the client is let in. `user` may be missing, and is the login then; `groups` and `lasts`, in seconds,
may be missing as well. Exit status 1: it is not let in; `reason`, if it is there, is for the log. Anything else is a
failure of the program, and the client is not let in either; but it is not counted as one that guesses.

It runs once for a login, by a helper (`forkbroker.authenticator`), which has perhaps more rights than this process, and
bounds time and number. As many may be asked for at a time as there are places for it.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import time
from contextlib import suppress

from forkbroker.identity import Credentials, Identity, Unclear, Way
from forkbroker.passwords import PasswordError, read_names
from forkbroker.posix.exits import describe
from forkbroker.posix.places import Places
from forkbroker.wire import logins

PATIENCE_S = 15.0
"""How long the helper may take: some programs may be before this one."""
_MAX_ANSWER = 65_536
_READ_SIZE = 65_536
_NO = 1


class Program:
    """The program, and one run of it."""

    def __init__(self, name: str, link: socket.socket, places: Places) -> None:
        """`name`: for the log. `link`: to the helper. `places`: so many of them may be asked for."""
        self._name = name
        self._link = link
        self._places = places
        self._answer = -1
        self._heard = b""
        self._until = 0.0

    def verify(self, credentials: Credentials, address: str) -> Identity | str | None:
        """Who this client is; or why it is not let in, for the log; None: ask again."""
        if self._answer < 0:
            if not self._places.try_take():
                return None
            problem = self._ask(credentials, address)
            if self._answer < 0:
                self._places.give_back()
            return problem
        is_closed = self._hear()
        found = logins.split(self._heard)
        if found is None and not is_closed and time.monotonic() < self._until:
            return None
        os.close(self._answer)
        self._answer = -1
        self._places.give_back()
        if found is None:
            return Unclear(f"{self._name} failed, {'the helper that runs it has ended' if is_closed else 'no answer'}")
        return self._judge(credentials.login, *found)

    def _ask(self, credentials: Credentials, address: str) -> str | None:
        """Ask the helper; None: that is done, or is to be tried again; else why it can't be."""
        request = {"login": credentials.login, "passcode": credentials.passcode, "address": address}
        octets = json.dumps(request).encode()
        if len(octets) > logins.MAX_REQUEST:
            return f"login and passcode are longer than {logins.MAX_REQUEST:,} bytes as JSON"
        try:
            self._answer = logins.ask(self._link, octets)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            return Unclear(f"cannot run {self._name}: {error.strerror}")
        self._heard, self._until = b"", time.monotonic() + PATIENCE_S
        return None

    def _hear(self) -> bool:
        """Read what there is; whether that was all."""
        with suppress(BlockingIOError):
            while octets := os.read(self._answer, _READ_SIZE):
                # the end is what counts if there is too much
                self._heard = (self._heard + octets)[-2 * _MAX_ANSWER :]
            return True
        return False

    def _judge(self, login: str, said: bytes, status: int) -> Identity | str:
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, _NO):
            how = "took too long" if code == -signal.SIGALRM else f"ended with {describe(status)}"
            return Unclear(f"{self._name} failed, {how}")
        try:
            if len(said) > _MAX_ANSWER:
                raise ValueError(f"more than {_MAX_ANSWER:,} bytes")
            found = json.loads(said) if said.strip() else {}
            if code == _NO:
                return str(found.get("reason", "the program says no"))[:200]
            lasts = float(found.get("lasts", math.inf))
            user, groups = read_names(found.get("user", login), found.get("groups", []))
        except (ValueError, TypeError, AttributeError, RecursionError, PasswordError) as error:
            return Unclear(f"{self._name} failed, its answer cannot be used: {error}"[:300])
        return Identity(user, Way.PROGRAM, groups, lasts_s=max(0.0, lasts))
