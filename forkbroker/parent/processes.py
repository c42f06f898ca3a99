"""Fork, hear to the end, reap: what is the same for all processes of the broker, whatever they are for.

An entry lives as long as its process or its channel. Both ends are told, by SIGCHLD and by EOF, in either order, and
the entry goes when both have come. Only then its owner hears of it: before, the process of a client could still claim
an offer, and its channel could still hold the claim of a process that was killed just after it.

Nobody is believed. What a process sends that it may not, that doesn't decode, or that can't be, is its end and nobody
else's: it may be a bug of ours, or a client that has taken its child over.
"""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from forkbroker.errors import EnvelopeError
from forkbroker.parent.channels import Channels
from forkbroker.parent.roster import Process
from forkbroker.posix import children
from forkbroker.routing.peers import Peer
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.receive_memory import ReceiveMemory

P = TypeVar("P", bound=Process)


class Forge:
    """Forks processes of one kind, each on a channel."""

    def __init__(
        self, max_envelope: int, log_descriptors: Callable[[], Sequence[int]], budget: ReceiveMemory | None = None
    ) -> None:
        """`max_envelope` (octets): bound of each channel; `budget`: of all together; `log_descriptors`: to log with."""
        self._max_envelope = max_envelope
        self._log_descriptors = log_descriptors
        self._budget = budget

    def fork(self, program: Callable[[socket.socket], int], keep: Sequence[int] = ()) -> tuple[int, Channel]:
        """Run `program` in a new process: its number, and the channel to it.

        `program` gets its end of the channel, non-blocking, and returns the exit status. The process has the
        descriptors in `keep` besides.

        Raises:
            OSError: no descriptors, no memory or no process to be had.
        """
        ours, theirs = open_pair()
        try:
            pid = children.fork(lambda: program(theirs), [theirs.fileno(), *keep, *self._log_descriptors()])
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return pid, self.make_channel(ours)

    def make_channel(self, end: socket.socket) -> Channel:
        """The parent's end of a channel to such a process."""
        return Channel(end, max_envelope=self._max_envelope, budget=self._budget)


@dataclass(frozen=True, slots=True)
class Life(Generic[P]):
    """What follows from the life of a process: the part of who has forked it."""

    heed: Callable[[P], None]
    """Something is in its channel: receive once, and apply it. Raises EnvelopeError or AssertionError if that can't
    be."""
    closed: Callable[[P], None]
    """Its channel has ended, and all that came is applied."""
    gone: Callable[[P, children.Ended | None], None]
    """Process and channel have ended; it is in no table any more. None: nobody has said how the process ended."""
    kill: Callable[[int], None] = children.kill
    """End the process with this number, which is not known to have been reaped."""
    blamed_for: tuple[type[Exception], ...] = ()
    """Exceptions that nobody expects, and that are the end of the process whose words led to them, not the parent's."""


class Processes(Generic[P]):
    """The processes of one owner."""

    def __init__(self, channels: Channels, life: Life[P], logger: logging.Logger) -> None:
        self._channels = channels
        self._life = life
        self._logger = logger
        self._by_pid: dict[int, P] = {}
        self._by_peer: dict[Peer, P] = {}
        """Those whose channels are open."""

    @property
    def all(self) -> list[P]:
        """All that are not gone: what one said before it ended may still be waiting."""
        return list(self._by_pid.values())

    def find(self, peer: Peer) -> P | None:
        """The process with this number, if its channel is open."""
        return self._by_peer.get(peer)

    def add(self, process: P) -> None:
        """It was forked: its channel is read from now on."""
        self._by_pid[process.pid] = process
        self._by_peer[process.peer] = process
        self._channels.join(process, self._life.heed, self._judge)

    def blame(self, process: P, work: Callable[[P], None]) -> None:
        """Do something that the process has asked for: what goes wrong is its end."""
        self._channels.hear(process, work, self._judge)

    def _judge(self, process: P, fault: Exception | None) -> None:
        """What the process has asked for went wrong, and that is its end; or its channel has ended by itself."""
        if fault is None:
            self._close(process)
        elif isinstance(fault, EnvelopeError | AssertionError):
            self.convict(process, str(fault))
        elif isinstance(fault, MemoryError):
            self._logger.error("%s: killed, no memory for a message from it", process.name)
            self._end(process)
        elif isinstance(fault, self._life.blamed_for):
            # a fault of ours, but it was this process's words that met it: the others need not pay for that
            self._logger.error(
                "%s: killed, unexpected exception while its envelope was applied", process.name, exc_info=fault
            )
            self._end(process)
        else:
            raise fault

    def convict(self, process: P, fault: str) -> None:
        """The process has sent what it may not: it is ended, and nothing of it is heeded any more."""
        self._logger.error("%s: killed, sent an invalid envelope: %s", process.name, fault)
        self._end(process)

    def _end(self, process: P) -> None:
        self.kill(process)
        self._close(process)

    def _close(self, process: P) -> None:
        """The channel has ended, or is not to be believed any more."""
        if process.is_closed:
            return
        process.is_closed = True
        del self._by_peer[process.peer]
        self._channels.part(process)
        self._life.closed(process)
        process.channel.close()
        if process.ended is not None or process.is_orphan:
            self._finish(process, process.ended)

    def reaped(self, ended: children.Ended) -> None:
        """A process has ended: if it is one of these, apply what it still said."""
        process = self._by_pid.get(ended.pid)
        if process is None:
            return
        process.ended = ended
        if process.is_closed:
            self._finish(process, ended)
        else:
            self._drain(process)

    def _drain(self, process: P) -> None:
        """Normally that ends with the channel's EOF. If a process of the process's own still holds the other end, there
        is none; then what it says is of no interest.
        """
        poll = select.poll()
        poll.register(process.fd, select.POLLIN)
        process.channel.insist()
        while not process.is_closed and poll.poll(0):
            self.blame(process, self._life.heed)
        self._close(process)

    def orphaned(self, pids: Iterable[int]) -> None:
        """Nobody will tell how these processes end, as far as they are some of these: their channels have to do."""
        for pid in pids:
            process = self._by_pid.get(pid)
            if process is not None:
                process.is_orphan = True
                if process.is_closed:
                    self._finish(process, process.ended)

    def _finish(self, process: P, ended: children.Ended | None) -> None:
        del self._by_pid[process.pid]
        self._life.gone(process, ended)

    def kill(self, process: P) -> None:
        """End it at once; who calls this has logged why. One that was reaped has no number any more."""
        process.killed = True
        if process.ended is None:
            self._life.kill(process.pid)
