"""Draining: no client comes any more, and those that are here leave, at once or one after the other.

A load balancer, or the clients' own list of brokers, brings them to another one. Unix sockets stay open: over these an
administrator comes who ends it again. A reload ends it as well.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence

from forkbroker.parent.roster import Client, count_clients
from forkbroker.posix.loop import Loop
from forkbroker.routing.news import News

REASON = "the broker is being drained, connect to another one"
_TICK_S = 0.1


class Draining:
    """Whether it is going on, and who is still to leave."""

    def __init__(self, loop: Loop, kick: Callable[[Client, str], None], logger: logging.Logger, news: News) -> None:
        """`kick` disconnects a client, with this reason."""
        self._loop = loop
        self._kick = kick
        self._logger = logger
        self._news = news
        self.is_on = False
        """No client is to come."""
        self._left: deque[Client] = deque()
        self._ends_at = math.inf
        self._run = 0

    def refusal(self, host: str) -> str:
        """Why a client from there may not come; empty if it may: it comes over a Unix socket, or nothing is drained."""
        return REASON if self.is_on and host else ""

    def begin(self, leaving: Sequence[Client], within_s: float | None) -> None:
        """Let nobody come, and let these leave within so many seconds; None: they may stay."""
        self._run += 1
        self.is_on = True
        self._left = deque(leaving if within_s is not None else ())
        self._ends_at = self._loop.now + (within_s or 0.0)
        self._logger.info("draining: begun, %s to leave", count_clients(len(self._left)))
        self._tell("draining")
        self._go_on(self._run)

    def _go_on(self, run: int) -> None:
        """Disconnect those whose turn it is: as many in each tick as it takes to be done in time."""
        if run != self._run or not self._left:
            return
        ticks = max(1.0, (self._ends_at - self._loop.now) / _TICK_S)
        for _ in range(math.ceil(len(self._left) / ticks)):
            client = self._left.popleft()
            if not client.is_closed:
                self._kick(client, REASON)
        self._loop.call_at(self._loop.now + _TICK_S, lambda: self._go_on(run))

    def end(self) -> bool:
        """Let clients come again; tell whether they could not."""
        was_on, self.is_on = self.is_on, False
        self._left.clear()
        if was_on:
            self._logger.info("draining: ended")
            self._tell("running")
        return was_on

    def _tell(self, phase: str) -> None:
        if self._news.listeners:
            self._news.tell("phase", phase=phase)
