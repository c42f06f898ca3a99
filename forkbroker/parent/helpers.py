"""Helpers: processes of the broker that serve no client. Each is a row of one table.

A row says what the process is for (its role), what it runs, which kinds it may send and what follows from each, and
what its end means: that another one is started, that the broker has to end, or nothing. All else is the same for all
of them. A helper is crash-only: whatever goes wrong there, it says why (FAILED), and ends. The next one is started
after a while, which is longer each time; not even FAILED with FINAL ends the broker before its process has ended.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from forkbroker.errors import EnvelopeError, Exit
from forkbroker.parent.channels import Channels
from forkbroker.parent.processes import Forge, Life, Processes
from forkbroker.parent.roster import Process, to_text
from forkbroker.posix import exits
from forkbroker.posix.children import Ended
from forkbroker.routing.peers import Peer
from forkbroker.wire.envelope import Buffer, Envelope
from forkbroker.wire.kinds import SENT_BY, Flag, Kind, Role

HelperProgram = Callable[[socket.socket], int]
"""What a helper's process runs: (its end of the channel, non-blocking); returns the exit status."""

_AGAIN_S = 0.1
_AGAIN_MAX_S = 5.0
_STEADY_S = 10.0
"""A helper that has worked for so long is started anew after the shortest while when it ends."""
_END_TAKES_S = 2.0
"""Between the end of the channel and that of the process, at most."""


class Meaning(Enum):
    """What the end of a helper means."""

    RESTART = "restart"
    """Another one is started; if this one has said that no other one will do better, as SHUTDOWN."""
    SHUTDOWN = "shutdown"
    """The broker can't do without it, and ends."""
    NOTHING = "nothing"
    """It has done what it was there for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Helper:
    """A row of the table of helpers."""

    role: Role
    peer: Peer
    """By which the router names whatever process has this role just now."""
    program: HelperProgram
    handlers: Mapping[Kind, Callable[[Envelope], None]]
    """What follows from each kind that it may send, but for FAILED. They raise EnvelopeError or AssertionError if what
    it says can't be."""
    closed: Callable[[str], None]
    """The channel has ended, and so will the process; and why, if it could not do its work."""
    may_wait: Callable[[], bool]
    """There is no room for its process now: whether the broker can go on without it for a while."""
    means: Callable[[int], Meaning]
    """The process has ended, with this wait status: what that means."""
    kept: Sequence[int] = ()
    """Descriptors that its program needs."""


@dataclass(slots=True)
class _Post:
    """The place of a helper, which one process after the other has."""

    row: Helper
    process: Process | None = None
    """None: there is none just now."""
    status: Exit = Exit.SOFTWARE
    """What the broker is to end with if it can't do without."""
    is_final: bool = False
    """No other process will do better."""
    again_s: float = _AGAIN_S


class Helpers:
    """The table, and the processes that run."""

    def __init__(
        self,
        channels: Channels,
        forge: Forge,
        shutdown: Callable[[Role, str, Exit], None],
        logger: logging.Logger,
    ) -> None:
        """`shutdown`: the broker has to end for want of this helper; the reason, and an exit status."""
        self._channels = channels
        self.loop = channels.loop
        self._forge = forge
        self._shutdown = shutdown
        self._logger = logger
        self._posts: dict[Role, _Post] = {}
        self._processes = Processes(channels, Life(self._heed, self._closed, self._gone), logger)

    def find(self, role: Role) -> Process | None:
        """The process that has this role; None: there is none just now."""
        post = self._posts.get(role)
        return None if post is None else post.process

    @property
    def all(self) -> list[Process]:
        """Those that run."""
        return [post.process for post in self._posts.values() if post.process is not None]

    def start(self, row: Helper) -> None:
        """Have a process of this role from now on."""
        if row.handlers.keys() | {Kind.FAILED} != SENT_BY[row.role]:
            raise AssertionError(f"the {row.role.value} may send other kinds than there are handlers for")
        post = self._posts[row.role] = _Post(row)
        self._start(post)

    def _start(self, post: _Post) -> None:
        """Fork a process: after a while, or never, if the system has no descriptors, no memory or no process for it."""
        row = post.row
        try:
            pid, channel = self._forge.fork(row.program, row.kept)
        except OSError as error:
            self._do_without(post, error)
            return
        post.status, post.is_final = Exit.SOFTWARE, False
        post.process = Process(role=row.role, peer=row.peer, pid=pid, channel=channel, started=self.loop.now)
        self._processes.add(post.process)

    def _do_without(self, post: _Post, error: OSError) -> None:
        row = post.row
        if row.may_wait():
            self._logger.error("%s: cannot fork its process: %s", row.role.value, error.strerror)
            self._start_later(post)
        else:
            self._shutdown(row.role, f"cannot fork its process: {error.strerror}", Exit.OSERR)

    def _start_later(self, post: _Post) -> None:
        self.loop.call_at(self.loop.now + post.again_s, lambda: self._start(post))
        post.again_s = min(_AGAIN_MAX_S, post.again_s * 2)

    def _heed(self, process: Process) -> None:
        post = self._posts[process.role]
        handlers = post.row.handlers
        try:
            for envelope in process.channel.receive():
                kind = envelope.kind
                if kind in handlers:
                    handlers[kind](envelope)
                elif kind is Kind.FAILED:
                    self._failed(post, process, envelope)
                else:
                    raise AssertionError(f"{kind.name} is not the {process.role.value}'s to say")
        finally:
            # Nobody is held for what a helper says: it has to be heard by all.
            self._channels.dispatch(None)

    def _failed(self, post: _Post, process: Process, envelope: Envelope) -> None:
        process.reason, post.status = to_text(envelope.block), _as_status(envelope.token)
        post.is_final = bool(envelope.flags & Flag.FINAL)

    def _closed(self, process: Process) -> None:
        self._posts[process.role].row.closed(process.reason)
        self._channels.dispatch(None)
        self.loop.call_at(self.loop.now + _END_TAKES_S, lambda: self._insist(process))

    def _insist(self, process: Process) -> None:
        """One that has closed its channel and goes on may hold a lock that the next one needs."""
        if process.ended is None and not process.killed:
            self._logger.error("%s: killed, still running after it closed its channel", process.role.value)
            self._processes.kill(process)

    def reaped(self, ended: Ended) -> None:
        """A process has ended: it may be one of these."""
        self._processes.reaped(ended)

    def _gone(self, process: Process, ended: Ended | None) -> None:
        assert ended is not None, "helpers are the parent's own children"
        post = self._posts[process.role]
        post.process = None
        how = process.reason or exits.describe(ended.status)
        meaning = post.row.means(ended.status)
        if meaning is Meaning.RESTART and not post.is_final:
            self._restart(post, process, how)
        elif meaning is not Meaning.NOTHING:
            self._shutdown(process.role, how, post.status)

    def _restart(self, post: _Post, process: Process, how: str) -> None:
        if self.loop.now - process.started > _STEADY_S:
            post.again_s = _AGAIN_S
        self._logger.error("%s: exited, %s; restarting in %.1f s", process.role.value, how, post.again_s)
        self._start_later(post)

    def tell(self, role: Role, buffers: Sequence[Buffer]) -> None:
        """Send an envelope to the process that has this role, if there is one."""
        process = self.find(role)
        if process is not None:
            self._channels.send(process, buffers)

    def kill(self, role: Role) -> None:
        """End the process that has this role at once, if there is one. Who calls this has logged why."""
        process = self.find(role)
        if process is not None:
            self._processes.kill(process)


def _as_status(token: int) -> Exit:
    """What a helper says the broker should end with.

    Raises:
        EnvelopeError: no exit status of ours.
    """
    try:
        return Exit(token)
    except ValueError:
        raise EnvelopeError(f"FAILED with {token}, which is no exit status") from None
