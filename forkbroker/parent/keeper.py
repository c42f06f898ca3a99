"""The store, as the parent has it: a helper that is started first, told again what was not committed, and ends last.

Before the first one is open nothing is accepted; if that can't be, the broker ends. It ends as well when the store is
not its own any more. Any other end of the store's process is made up for by the next one. At the broker's end the store
is told CLOSE, behind all that is to be told to it, and has so much time to commit.

A store that does not answer is not killed: it may wait for its disk, and the next one would wait behind it. But the log
says so, as clients only see that no receipt comes.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from forkbroker.parent.channels import Channels
from forkbroker.parent.helpers import Helper, Helpers, Meaning
from forkbroker.parent.latencies import Latencies
from forkbroker.posix.crashpoints import reach as crash
from forkbroker.routing.peers import STORE
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import FROM_STORE, Kind, Role

StoreProgram = Callable[[socket.socket, bool], int]
"""What the store's process runs: (its end of the channel, non-blocking; whether the broker has just started); returns
the exit status."""

_KILL_TAKES_S = 5.0
_SILENT_CHECKS = 10
"""In so many checks, about one a second, a store is silent before the log says so."""


class Keeper:
    """Keeps the store, in whichever process it is."""

    def __init__(
        self,
        channels: Channels,
        helpers: Helpers,
        program: StoreProgram,
        opened: Callable[[], None],
        finished: Callable[[], None],
        logger: logging.Logger,
        latencies: Latencies | None = None,
    ) -> None:
        """`opened`: the first store is open, the broker can begin. `finished`: the last store has ended.

        `latencies` is told of commits.
        """
        self._loop = channels.loop
        self._router = channels.router
        self._send = channels.send
        self._helpers = helpers
        self._program = program
        self._opened = opened
        self._finished = finished
        self._logger = logger
        self._latencies = latencies
        self._row = Helper(
            role=Role.STORE,
            peer=STORE,
            program=self._run,
            handlers={
                **dict.fromkeys(FROM_STORE - {Kind.FAILED}, self._receive),
                Kind.OPENED: self._receive_opened,
                Kind.DISK: self._receive_disk,
            },
            closed=self._closed,
            may_wait=lambda: self.has_opened,
            means=self._judge,
        )
        self.has_opened = False
        """A store was open once: the broker has begun."""
        self._is_open = False
        self._is_refusing = False
        self._is_finishing = False
        self._is_told = False
        self._is_given_up = False
        self._has_finished = False
        self._taken = 0
        """Octets that had come from it at the last check."""
        self._silent_checks = 0

    def start(self) -> None:
        """Fork the first process."""
        self._helpers.start(self._row)

    def _run(self, end: socket.socket) -> int:
        return self._program(end, not self.has_opened)

    # -- what it says

    def _receive(self, envelope: Envelope) -> None:
        self._router.receive_stored(envelope, self._loop.now)
        if self._latencies is not None and envelope.kind is Kind.COMMITTED:
            self._latencies.committed(envelope.number, self._loop.now)
        if crash is not None and envelope.kind is Kind.COMMITTED:
            crash("parent.committed", "")

    def _receive_opened(self, envelope: Envelope) -> None:
        self._receive(envelope)
        self._is_open = True
        if self.has_opened:
            self._logger.info("store: open again")
            self._tell("open", "")
        else:
            self.has_opened = True
            self._opened()
        if self._is_finishing:
            self._loop.call_at(self._loop.now, self._send_close)

    def check(self) -> None:
        """Say so if something waits for the store, and it says nothing. To be called about once a second.

        Checks are counted and not seconds: the parent itself may have been stopped.
        """
        process = self._helpers.find(Role.STORE)
        if process is None or process.is_closed or not self._is_open:
            # its end was logged
            self._silent_checks = 0
            return
        taken = process.channel.taken
        if taken == self._taken and not self._is_refusing and self._is_awaited:
            self._silent_checks += 1
            if self._silent_checks == _SILENT_CHECKS:
                self._logger.warning("store: has not answered for %d s, receipts wait for it", _SILENT_CHECKS)
            return
        if self._silent_checks >= _SILENT_CHECKS:
            self._logger.info("store: answers again, after %d s", self._silent_checks)
        self._taken, self._silent_checks = taken, 0

    @property
    def _is_awaited(self) -> bool:
        """Something that it was told is not committed."""
        return self._router.is_applied and not self._router.is_committed

    # -- its end

    def _closed(self, reason: str) -> None:
        self._is_open = self._is_refusing = False
        self._router.store_ended(reason)
        self._tell("ended", reason)

    def _receive_disk(self, envelope: Envelope) -> None:
        """There is no room for more, or there is again."""
        self._receive(envelope)
        is_refusing = bool(envelope.token)
        if is_refusing is not self._is_refusing:
            self._is_refusing = is_refusing
            self._tell("refuses" if is_refusing else "accepts", envelope.block.decode(errors="replace"))

    def _tell(self, state: str, reason: str) -> None:
        """For listeners; and where nobody is to be told, this is no news."""
        if self._router.news.listeners:
            self._router.news.tell("store", state=state, reason=reason)

    def _judge(self, status: int) -> Meaning:
        was_told, self._is_told = self._is_told, False
        if self._is_given_up or (was_told and status == 0):
            self._has_finished = True
            self._finished()
            return Meaning.NOTHING
        return Meaning.RESTART if self.has_opened else Meaning.SHUTDOWN

    # -- the broker's end

    def finish(self, timeout_s: float) -> None:
        """Everything was told: commit it, and end. The process is killed after so many seconds."""
        self._is_finishing = True
        self._loop.call_at(self._loop.now + timeout_s, self._give_up)
        self._send_close()

    def _send_close(self) -> None:
        """Behind all that is to be told to the store, which may take several turns."""
        process = self._helpers.find(Role.STORE)
        if not self._router.is_applied:
            self._loop.call_at(self._loop.now, self._send_close)
        elif process is not None and self._is_open:
            self._is_told = True
            self._send(process, pack(Kind.CLOSE))

    def _give_up(self) -> None:
        if self._has_finished:
            return
        if self._helpers.find(Role.STORE) is None:
            self._logger.error("store: not opened again before the end of --shutdown-timeout")
            self._finished()
            return
        self._logger.error("store: killed, still running at the end of --shutdown-timeout")
        self._is_given_up = True
        self._helpers.kill(Role.STORE)
        # Not even that ends a process that waits for a dead disk.
        self._loop.call_at(self._loop.now + _KILL_TAKES_S, self._finished)
