"""Fork, count, reap: the mechanism behind admission's policy.

An entry of the roster lives as long as its process or its channel. Both ends are told, by SIGCHLD and by EOF, in
either order, and the entry goes when both have come. Only then does the router hear of it: before, the process could
still claim an offer, and its channel could still hold the claim of a process that was killed just after it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forkbroker.parent.admission import Admission
from forkbroker.parent.roster import Child, describe_end, has_crashed
from forkbroker.posix import children
from forkbroker.posix.loop import Loop
from forkbroker.routing.peers import Peer
from forkbroker.wire.budget import Budget
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.kinds import State

ClientProgram = Callable[[socket.socket, socket.socket, int, str], int]
"""What a client's child runs: (its end of the channel, its client's socket, its peer number, its client's address),
both sockets non-blocking; returns the exit status. It may not return before the client is served."""


@dataclass(frozen=True, slots=True)
class Events:
    """What the supervisor tells the parent."""

    started: Callable[[Child], None]
    """A child runs."""
    drain: Callable[[Child], None]
    """The child's process has ended: apply all that still waits in its channel, and call `close_channel`."""
    gone: Callable[[Child], None]
    """The child is gone, process and channel; it is in no table any more."""
    other: Callable[[children.Ended], None] = lambda _: None
    """A process has ended that serves no client."""


class Supervisor:
    """The clients' children."""

    def __init__(
        self,
        loop: Loop,
        program: ClientProgram,
        admission: Admission,
        events: Events,
        logger: logging.Logger,
        *,
        max_envelope: int,
        budget: Budget,
        high: int,
        log_descriptors: Callable[[], Sequence[int]],
    ) -> None:
        """`max_envelope`, `high` (octets): bounds of each channel, `budget` of all together.

        `log_descriptors`: what children need to log.
        """
        self._loop = loop
        self._program = program
        self._admission = admission
        self._events = events
        self._logger = logger
        self._max_envelope = max_envelope
        self._budget = budget
        self._high = high
        self._log_descriptors = log_descriptors
        self._last_peer = 0
        self._by_pid: dict[int, Child] = {}

    @property
    def children(self) -> list[Child]:
        """All children that are not gone: what one said before its process ended may still be waiting."""
        return list(self._by_pid.values())

    def start(self, client: socket.socket, address: str, host: str) -> None:
        """Fork a child for `client`, and close the parent's copy of it.

        Raises:
            OSError: no descriptors, no memory or no process to be had; `client` is still the caller's.
        """
        ours, theirs = open_pair()
        self._last_peer += 1
        peer = self._last_peer
        try:
            pid = self._fork(theirs, client, peer, address)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        client.close()
        self._admission.add(Peer(peer), host, self._loop.now)
        channel = Channel(ours, max_envelope=self._max_envelope, budget=self._budget)
        child = Child(
            peer=Peer(peer),
            pid=pid,
            channel=channel,
            fd=channel.fileno(),
            address=address,
            host=host,
            started=self._loop.now,
            high=self._high,
        )
        self._by_pid[pid] = child
        self._events.started(child)

    def _fork(self, end: socket.socket, client: socket.socket, peer: int, address: str) -> int:
        program = self._program

        def main() -> int:
            return program(end, client, peer, address)

        return children.fork(main, [end.fileno(), client.fileno(), *self._log_descriptors()])

    def close_channel(self, child: Child) -> None:
        """The channel has ended, or is not to be believed any more."""
        child.is_closed = True
        child.checks_without_progress = 0
        self._loop.forget(child.fd)
        child.channel.close()
        if child.ended is not None:
            self._finish(child)

    def reap(self) -> None:
        """Reap what has ended. Called after SIGCHLD, which may stand for several."""
        for ended in children.reap():
            child = self._by_pid.get(ended.pid)
            if child is None:
                self._events.other(ended)
                continue
            child.ended = ended
            if child.is_closed:
                self._finish(child)
            else:
                self._events.drain(child)

    def _finish(self, child: Child) -> None:
        now = self._loop.now
        del self._by_pid[child.pid]
        if has_crashed(child) and not child.killed and child.state is State.STARTING:
            self._admission.crashed(child.peer, now)
        self._admission.remove(child.peer)
        self._log_end(child, now)
        self._events.gone(child)

    def _log_end(self, child: Child, now: float) -> None:
        level = logging.INFO
        if has_crashed(child):
            level = logging.INFO if child.killed else logging.ERROR
        elif child.wants_attention:
            level = logging.WARNING
        self._logger.log(level, "%s", describe_end(child, now))

    def kill(self, child: Child) -> None:
        """End the child at once. Who calls this has logged why."""
        child.killed = True
        if child.ended is None:
            os.kill(child.pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """End all children at once."""
        for child in self.children:
            self.kill(child)
