"""Draining: no client comes any more, and those that are here leave, at once or one after the other.

A load balancer, or the clients' own list of brokers, brings them to another one. Unix sockets stay open: over these an
administrator comes who ends it again. A reload ends it as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from forkbroker.parent.roster import Client, count_clients
from forkbroker.parent.spreading import Spread
from forkbroker.posix.loop import Loop
from forkbroker.routing.news import News

REASON = "the broker is being drained, connect to another one"


class Draining:
    """Whether it is going on, and who is still to leave."""

    def __init__(self, loop: Loop, kick: Callable[[Client, str], None], logger: logging.Logger, news: News) -> None:
        """`kick` disconnects a client, with this reason."""
        self._kick = kick
        self._logger = logger
        self._news = news
        self.is_on = False
        """No client is to come."""
        self._leaving = Spread[Client](loop, self._send_away)

    def refusal(self, host: str) -> str:
        """Why a client from there may not come; empty if it may: it comes over a Unix socket, or nothing is drained."""
        return REASON if self.is_on and host else ""

    def begin(self, leaving: Sequence[Client], within_s: float | None) -> None:
        """Let nobody come, and let these leave within so many seconds; None: they may stay."""
        self.is_on = True
        those = leaving if within_s is not None else ()
        self._logger.info("draining: begun, %s to leave", count_clients(len(those)))
        self._tell("draining")
        self._leaving.begin(those, within_s or 0.0)

    def _send_away(self, client: Client) -> None:
        if not client.is_closed:
            self._kick(client, REASON)

    def end(self) -> bool:
        """Let clients come again; tell whether they could not."""
        was_on, self.is_on = self.is_on, False
        self._leaving.end()
        if was_on:
            self._logger.info("draining: ended")
            self._tell("running")
        return was_on

    def _tell(self, phase: str) -> None:
        if self._news.listeners:
            self._news.tell("phase", phase=phase)
