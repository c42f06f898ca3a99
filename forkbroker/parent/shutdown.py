"""The end of the broker, in bounded time.

    RUNNING --ask--> SETTLING --half of the time--> QUIESCING --a tenth--> CLOSING --a fifth--> KILLING
    SETTLING, QUIESCING --all children have answered, all is committed--> CLOSING
    RUNNING, SETTLING, QUIESCING, CLOSING --a second ask, or at_once--> KILLING

SETTLING: no client is accepted, and nothing new is delivered to who acknowledges. A child whose client holds deliveries
of queues goes on reading it, as the client may settle them: what is acknowledged now is not delivered again after the
next start. All other children stop reading, send up what they have read, and answer. QUIESCING: now no child reads any
more. Then all that was under way is routed, and what of it is persistent is committed, and on its way down. CLOSING:
children write what came, say goodbye and end. Those of web pages are told so one after the other: pages connect again
by themselves, and a thousand of them should not do that in the same second. In every phase the end is finished as soon
as no child is left; the store has the rest of the time for it, a fifth at least. A process that not even SIGKILL ends
within a moment (it waits for a dead disk) is left to init.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from enum import Enum

from forkbroker.parent.channels import Channels
from forkbroker.parent.clients import Clients
from forkbroker.parent.roster import Client, count_clients
from forkbroker.parent.spreading import Spread
from forkbroker.wire.envelope import Buffer, pack
from forkbroker.wire.kinds import Cause, ChildState, Kind

REASON = "the broker is shutting down"

_SETTLED_BY = 0.5
_QUIET_BY = 0.6
_GONE_BY = 0.8
"""When each phase ends at the latest, in parts of the time."""
_SPREAD_BY = 0.7
"""When the last page has been told, in parts of the time."""
_LEAVE_AT_ONCE = 5
"""So many pages in a tenth of a second may leave, however much time there is."""
_CLOSE = pack(Kind.CLOSE, token=Cause.AWAY, block=REASON.encode())
_KILL_TAKES_S = 5.0
_KILL_TAKES_AT_LEAST_S = 1.0
_NOW, _WHEN_SETTLED = 0, 1
"""Tokens of QUIESCE."""


class Phase(Enum):
    """How far the end has come."""

    RUNNING = "running"
    SETTLING = "settling"
    QUIESCING = "quiescing"
    CLOSING = "closing"
    KILLING = "killing"


class Shutdown:
    """Brings the children to their end, and then stops the loop."""

    def __init__(
        self,
        channels: Channels,
        clients: Clients,
        *,
        timeout_s: float,
        begin: Callable[[], None],
        finish: Callable[[float], None],
        logger: logging.Logger,
    ) -> None:
        """`timeout_s` is from `ask` to the end of all processes, the store's included.

        `begin` stops accepting and delivering. `finish` is called when no child is left that could be waited for, with
        the seconds that are left for it, and stops the loop.
        """
        self._loop = channels.loop
        self._router = channels.router
        self._send = channels.send
        self._clients = clients
        self._timeout_s = timeout_s
        self._ends_at = 0.0
        self._begin = begin
        self._finish = finish
        self._is_finishing = False
        self._leaving = Spread[Client](channels.loop, self._send_away)
        self._logger = logger
        self._waits_for: set[Client] = set()
        self.phase = Phase.RUNNING
        """How far the end has come; to read."""

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        if self._router.news.listeners:
            self._router.news.tell("phase", phase=phase.value)

    def adopt(self, timeout_s: float) -> None:
        """Take so many seconds for an end that has not begun."""
        self._timeout_s = timeout_s

    def ask(self) -> None:
        """SIGTERM or SIGINT: in good order the first time, at once the second time."""
        if self.phase is Phase.RUNNING:
            self._settle()
        else:
            self.at_once()

    def _settle(self) -> None:
        self._enter(Phase.SETTLING)
        children = self._clients.all
        self._logger.info("shutdown: started, %s", count_clients(len(children)))
        self._begin_once()
        self._waits_for = {child for child in children if child.state is not ChildState.LEAVING}
        self._tell(self._waits_for, pack(Kind.QUIESCE, token=_WHEN_SETTLED))
        for part, step in ((_SETTLED_BY, self._quiesce), (_QUIET_BY, self._close), (_GONE_BY, self._expire)):
            self._loop.call_at(self._loop.now + self._timeout_s * part, step)
        self.go_on()

    def _begin_once(self) -> None:
        if not self._ends_at:
            self._ends_at = self._loop.now + self._timeout_s
            self._begin()

    def _quiesce(self) -> None:
        if self.phase is Phase.SETTLING:
            self._enter(Phase.QUIESCING)
            self._tell(self._waits_for, pack(Kind.QUIESCE, token=_NOW))

    def _tell(self, children: Iterable[Client], buffers: Sequence[Buffer]) -> None:
        for child in children:
            if not child.is_closed:
                self._send(child, buffers)

    def quiet(self, child: Client) -> None:
        """The child has sent up all that it had read, or has ended."""
        self._waits_for.discard(child)
        self.go_on()

    def go_on(self) -> None:
        """Something has changed: called at each turn's end, as all may be applied and committed now."""
        if self.phase is Phase.RUNNING:
            return
        if not self._clients.all:
            self._finish_once()
        elif not self._waits_for and self._router.is_committed:
            self._close()

    def _finish_once(self) -> None:
        if not self._is_finishing:
            self._is_finishing = True
            self._finish(max(0.0, self._ends_at - self._loop.now))

    def _close(self) -> None:
        if self.phase in (Phase.SETTLING, Phase.QUIESCING):
            self._enter(Phase.CLOSING)
            here = self._clients.all
            for child in here:
                if not child.is_web:
                    self._send_away(child)
            left_s = self._ends_at - self._loop.now - self._timeout_s * (1.0 - _SPREAD_BY)
            self._leaving.begin([child for child in here if child.is_web], max(0.0, left_s), _LEAVE_AT_ONCE)

    def _send_away(self, child: Client) -> None:
        self._tell([child], _CLOSE)

    def _expire(self) -> None:
        late = len(self._clients.all)
        if late and self.phase is Phase.CLOSING:
            late_s = self._timeout_s * _GONE_BY
            self._logger.warning("shutdown: %s killed, still running after %.1f s", count_clients(late), late_s)
            self._kill()

    def at_once(self) -> None:
        """SIGQUIT, or a second SIGTERM: no goodbye."""
        if self.phase is Phase.KILLING:
            return
        left = count_clients(len(self._clients.all))
        self._logger.warning("shutdown: at once, %s killed", left)
        self._begin_once()
        self._kill()

    def _kill(self) -> None:
        self._enter(Phase.KILLING)
        self._clients.kill_all()
        left_s = max(_KILL_TAKES_AT_LEAST_S, self._ends_at - self._loop.now)
        self._loop.call_at(self._loop.now + min(_KILL_TAKES_S, left_s), self._give_up)
        self.go_on()

    def _give_up(self) -> None:
        pids = [child.pid for child in self._clients.all]
        if pids:
            self._logger.error("shutdown: processes %s still running after SIGKILL, not waiting for them", pids)
            self._finish_once()
