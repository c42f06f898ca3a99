"""Keeps a store process running: forks it, hears it, starts it anew when it ends, and ends it last of all.

The store is a child on a socketpair like a client's, and crash-only: whatever goes wrong there (the disk is full, the
file is gone) it says why, and ends. A new one is started after a while, which is longer each time, and the router
tells it what was not committed. Before the first one is open nothing is accepted; if that can't be, the broker ends.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forkbroker.errors import EnvelopeError, Exit
from forkbroker.parent.roster import Child, to_text
from forkbroker.posix import children, exits
from forkbroker.posix.crashpoints import reach as crash
from forkbroker.posix.loop import Loop
from forkbroker.routing.peers import STORE
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.envelope import Buffer, Envelope, pack
from forkbroker.wire.kinds import FROM_STORE, Flag, Kind, State

StoreProgram = Callable[[socket.socket, bool], int]
"""What the store's process runs: (its end of the channel, non-blocking; whether the broker has just started); returns
the exit status."""

_AGAIN_S = 0.1
_AGAIN_MAX_S = 5.0
_STEADY_S = 10.0
"""A store that has worked for so long is started anew after the shortest while when it ends."""
_KILL_TAKES_S = 5.0
_END_TAKES_S = 2.0
"""Between the end of the channel and that of the process, at most."""


@dataclass(frozen=True, slots=True)
class StoreEvents:
    """What the keeper tells the parent."""

    started: Callable[[Child], None]
    """A process runs; its channel is to be written to, and read by `Keeper.read`."""
    said: Callable[[Envelope], None]
    """What the store says. Raises EnvelopeError or AssertionError if that can't be."""
    opened: Callable[[], None]
    """The first store is open: the broker can begin."""
    closed: Callable[[Child, str], None]
    """The channel has ended, and so will the process; and why, if it could not do its work."""
    send: Callable[[Child, Sequence[Buffer]], None]
    """Queue an envelope for the process, to be flushed at the turn's end."""
    failed: Callable[[str, Exit], None]
    """The first store can't be opened: the reason, and an exit status."""
    lost: Callable[[str, Exit], None]
    """The store is not this broker's any more, which has to end: the reason, and an exit status."""
    is_applied: Callable[[], bool]
    """Whether all is told to the process that is to be."""
    finished: Callable[[], None]
    """The last store has ended."""


class Keeper:
    """The store's process, whichever it is."""

    def __init__(
        self,
        loop: Loop,
        program: StoreProgram,
        events: StoreEvents,
        logger: logging.Logger,
        *,
        max_envelope: int,
        high: int,
        log_descriptors: Callable[[], Sequence[int]],
    ) -> None:
        """`max_envelope`, `high` (octets): bounds of the channel. `log_descriptors`: what the process needs to log."""
        self._loop = loop
        self._program = program
        self._events = events
        self._logger = logger
        self._max_envelope = max_envelope
        self._high = high
        self._log_descriptors = log_descriptors
        self._child: Child | None = None
        self._has_opened = False
        self._is_open = False
        self._is_finishing = False
        self._is_told = False
        self._is_given_up = False
        self._reason = ""
        self._status = Exit.SOFTWARE
        self._is_lost = False
        self._again_s = _AGAIN_S

    @property
    def pid(self) -> int:
        """Of the process; 0: there is none just now."""
        return self._child.pid if self._child is not None else 0

    def start(self) -> None:
        """Fork a process: after a while, if the system has no descriptors, no memory or no process for it now."""
        try:
            pid, end = self._fork()
        except OSError as error:
            self._logger.error("cannot fork a process for the store: %s", error.strerror)
            self._start_later()
            return
        channel = Channel(end, max_envelope=self._max_envelope)
        self._reason, self._status = "", Exit.SOFTWARE
        self._is_told = False
        self._child = Child(
            peer=STORE,
            pid=pid,
            channel=channel,
            fd=channel.fileno(),
            address="",
            host="",
            started=self._loop.now,
            high=self._high,
            state=State.CONNECTED,
        )
        self._events.started(self._child)

    def _fork(self) -> tuple[int, socket.socket]:
        """The process, and our end of its channel."""
        ours, theirs = open_pair()
        program, is_fresh = self._program, not self._has_opened

        def main() -> int:
            return program(theirs, is_fresh)

        try:
            return children.fork(main, [theirs.fileno(), *self._log_descriptors()]), ours
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()

    def read(self) -> None:
        """Heed what one read of the channel brings. What contradicts the contract ends the store, not the parent."""
        child = self._child
        if child is None or child.is_closed:
            return
        try:
            for envelope in child.channel.receive():
                self._heed(envelope)
        except (EnvelopeError, AssertionError) as error:
            self._logger.error("store: broke the contract between processes, killed: %s", error)
            self.kill()
            self._close(child)
        except MemoryError:
            self._logger.error("store: killed, there is no memory for what it sends")
            self.kill()
            self._close(child)
        if child.channel.closed:
            self._close(child)

    def _close(self, child: Child) -> None:
        if not child.is_closed:
            child.is_closed = True
            self._is_open = False
            self._events.closed(child, self._reason)
            child.channel.close()
            self._loop.call_at(self._loop.now + _END_TAKES_S, lambda: self._end(child))

    def _end(self, child: Child) -> None:
        """Who has closed its channel and goes on holds the lock that the next one needs."""
        if child is self._child and not self._is_given_up:
            self._logger.error("store: has closed its channel, but does not end, killed")
            self.kill()

    def _heed(self, envelope: Envelope) -> None:
        kind = envelope.kind
        if kind not in FROM_STORE:
            raise AssertionError(f"{kind.name} is not the store's to say")
        if kind is Kind.FAILED:
            self._reason, self._status = to_text(envelope.block), _as_status(envelope.token)
            self._is_lost = bool(envelope.flags & Flag.FINAL)
            return
        self._events.said(envelope)
        if crash is not None and kind is Kind.COMMITTED:
            crash("parent.committed", "")
        if kind is Kind.OPENED:
            self._is_open = True
            if self._has_opened:
                self._logger.info("store: open again")
            else:
                self._has_opened = True
                self._events.opened()
            if self._is_finishing:
                self._loop.call_at(self._loop.now, self._send_close)

    def ended(self, ended: children.Ended) -> None:
        """A process has ended: if it was the store's, hear its last words and see to a new one."""
        child = self._child
        if child is None or ended.pid != child.pid:
            return
        child.ended = ended
        poll = select.poll()
        poll.register(child.fd, select.POLLIN)
        while not child.is_closed and poll.poll(0):
            self.read()
        self._close(child)
        self._child = None
        if self._is_given_up or (self._is_told and ended.status == 0):
            self._events.finished()
            return
        how = self._reason or exits.describe(ended.status)
        if not self._has_opened:
            self._events.failed(how, self._status)
            return
        if self._is_lost:
            self._events.lost(how, self._status)
            return
        if self._loop.now - child.started > _STEADY_S:
            self._again_s = _AGAIN_S
        self._logger.error("store: ended, %s; started anew in %.1f s", how, self._again_s)
        self._start_later()

    def _start_later(self) -> None:
        self._loop.call_at(self._loop.now + self._again_s, self.start)
        self._again_s = min(_AGAIN_MAX_S, self._again_s * 2)

    def finish(self, timeout_s: float) -> None:
        """Everything was told: commit it, and end. The process is killed after so many seconds."""
        self._is_finishing = True
        self._loop.call_at(self._loop.now + timeout_s, self._give_up)
        self._send_close()

    def _send_close(self) -> None:
        """Behind all that is to be told to the store, which may take several turns."""
        if not self._events.is_applied():
            self._loop.call_at(self._loop.now, self._send_close)
        elif self._child is not None and self._is_open:
            self._is_told = True
            self._events.send(self._child, pack(Kind.CLOSE))

    def _give_up(self) -> None:
        if self._child is None:
            self._logger.error("store: could not be opened again in time")
            self._events.finished()
            return
        self._logger.error("store: has not ended in time, killed")
        self._is_given_up = True
        self.kill()
        # Not even that ends a process that waits for a dead disk.
        self._loop.call_at(self._loop.now + _KILL_TAKES_S, self._events.finished)

    def kill(self) -> None:
        """End the process at once. One that was reaped has no number any more: it may be another process's."""
        if self._child is not None and self._child.ended is None:
            os.kill(self._child.pid, signal.SIGKILL)


def _as_status(token: int) -> Exit:
    """What the store says the broker should end with.

    Raises:
        EnvelopeError: no exit status of ours.
    """
    try:
        return Exit(token)
    except ValueError:
        raise EnvelopeError(f"FAILED with {token}, which is no exit status") from None
