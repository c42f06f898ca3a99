"""The end of the broker, in bounded time.

    RUNNING --ask--> QUIESCING --all answered, or a third of the time--> CLOSING --the time is up--> KILLING
    RUNNING, QUIESCING, CLOSING --a second ask, or at_once--> KILLING

QUIESCING: nobody is accepted; children stop reading from their clients, send up what they have read, and say so. Now
all that was under way is routed, and what of it is persistent is committed, and on its way down. CLOSING: children
write what came, say goodbye and end. In every phase the end is finished, the store's included, as soon as no child is
left. Whom not even SIGKILL ends within a moment (a process that waits for
a dead disk) is left to init.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from enum import Enum

from forkbroker.parent.roster import Child, count_clients
from forkbroker.parent.supervisor import Supervisor
from forkbroker.posix.loop import Loop
from forkbroker.wire.envelope import Buffer, pack
from forkbroker.wire.kinds import Kind

REASON = "the broker is shutting down"

_KILL_TAKES_S = 5.0


class Phase(Enum):
    """How far the end has come."""

    RUNNING = "running"
    QUIESCING = "quiescing"
    CLOSING = "closing"
    KILLING = "killing"


class Shutdown:
    """Brings the children to their end, and then stops the loop."""

    def __init__(
        self,
        loop: Loop,
        supervisor: Supervisor,
        *,
        timeout_s: float,
        begin: Callable[[], None],
        finish: Callable[[], None],
        is_committed: Callable[[], bool],
        send: Callable[[Child, Sequence[Buffer]], None],
        logger: logging.Logger,
    ) -> None:
        """`begin` stops accepting; `send` queues an envelope for a child, to be flushed at the turn's end.

        `finish` is called when no child is left that could be waited for, and stops the loop; `is_committed` tells
        whether all receipts that children wait for are true.
        """
        self._loop = loop
        self._supervisor = supervisor
        self._timeout_s = timeout_s
        self._begin = begin
        self._finish = finish
        self._is_committed = is_committed
        self._is_finishing = False
        self._send = send
        self._logger = logger
        self._waits_for: set[Child] = set()
        self.phase = Phase.RUNNING

    def ask(self) -> None:
        """SIGTERM or SIGINT: in good order the first time, at once the second time."""
        if self.phase is Phase.RUNNING:
            self._quiesce()
        else:
            self.at_once()

    def _quiesce(self) -> None:
        self.phase = Phase.QUIESCING
        children = self._supervisor.children
        self._logger.info("shutting down, %s", count_clients(len(children)))
        self._begin()
        self._waits_for = set(children)
        self._tell_all(pack(Kind.QUIESCE))
        self._loop.call_at(self._loop.now + self._timeout_s / 3, self._close)
        self._loop.call_at(self._loop.now + self._timeout_s, self._expire)
        self._go_on()

    def _tell_all(self, buffers: Sequence[Buffer]) -> None:
        for child in self._supervisor.children:
            if not child.is_closed:
                self._send(child, buffers)

    def quiesced(self, child: Child) -> None:
        """The child has sent up all that it had read."""
        self._waits_for.discard(child)
        self._go_on()

    def committed(self) -> None:
        """The store has committed something."""
        self._go_on()

    def gone(self, child: Child) -> None:
        """The child has ended."""
        self._waits_for.discard(child)
        self._go_on()

    def _go_on(self) -> None:
        if self.phase is Phase.RUNNING:
            return
        if not self._supervisor.children:
            self._finish_once()
        elif not self._waits_for and self._is_committed():
            self._close()

    def _finish_once(self) -> None:
        if not self._is_finishing:
            self._is_finishing = True
            self._finish()

    def _close(self) -> None:
        if self.phase is Phase.QUIESCING:
            self.phase = Phase.CLOSING
            self._tell_all(pack(Kind.CLOSE, block=REASON.encode()))

    def _expire(self) -> None:
        late = len(self._supervisor.children)
        if late and self.phase is Phase.CLOSING:
            self._logger.warning("%s had not ended after %.0f s, killed", count_clients(late), self._timeout_s)
            self._kill()

    def at_once(self) -> None:
        """SIGQUIT, or a second SIGTERM: no goodbye."""
        if self.phase is Phase.KILLING:
            return
        left = count_clients(len(self._supervisor.children))
        self._logger.warning("shutting down at once, %s killed", left)
        self._begin()
        self._kill()

    def _kill(self) -> None:
        self.phase = Phase.KILLING
        self._supervisor.kill_all()
        self._loop.call_at(self._loop.now + _KILL_TAKES_S, self._give_up)
        self._go_on()

    def _give_up(self) -> None:
        pids = [child.pid for child in self._supervisor.children]
        if pids:
            self._logger.error("processes %s do not end even when killed, left behind", pids)
            self._finish_once()
