"""What becomes of an accepted connection: it gets a process, or is told why it gets none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from forkbroker.parent.admission import Admission
from forkbroker.parent.clients import Clients
from forkbroker.parent.exchange import Exchange
from forkbroker.parent.listener import Connection
from forkbroker.parent.refusals import Refusals
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Cause, Kind

_NO_LOGIN = b"not logged in, and other clients wait: max-pending-logins"


class Reception:
    """Asks the rules (`admission`), and does what they say."""

    def __init__(
        self,
        exchange: Exchange,
        admission: Admission,
        clients: Clients,
        refusals: Refusals,
        logger: logging.Logger,
        closed: Callable[[str], str] = lambda _: "",
    ) -> None:
        """`closed`: why nobody from a host may come just now, or nothing."""
        self._closed = closed
        self._exchange = exchange
        self._admission = admission
        self._clients = clients
        self._refusals = refusals
        self._logger = logger

    def accepted(self, client: Connection) -> None:
        """A client has connected."""
        now = self._exchange.loop.now
        if self._admission.is_proxy(client.host):
            client = replace(client, is_proxied=True)
        elif client.is_web and self._admission.is_forwarder(client.host):
            client = replace(client, is_forwarded=True)
        host = "" if client.is_proxied or client.is_forwarded else client.host
        reason = self._closed(client.host) or self._admission.refusal(host, now)
        if reason:
            self._refuse(client, reason)
            return
        self._make_place()
        try:
            self._clients.start(client)
        except OSError as error:
            self._logger.error("client %s: cannot fork a child process: %s", client.address, error.strerror)
            self._admission.fork_failed(now)
            reason = f"the broker has no room for a process: {error.strerror}"
            self._refuse(client, reason)

    def _refuse(self, client: Connection, reason: str) -> None:
        self._refusals.refuse(client.socket, client.address, reason, is_tls=client.is_tls, is_web=client.is_web)

    def _make_place(self) -> None:
        """Disconnect the client that has not logged in for the longest time, if only so another one can try."""
        oldest = self._admission.take_overdue_login()
        child = None if oldest is None else self._clients.find(oldest)
        if child is not None:
            self._exchange.send(child, pack(Kind.CLOSE, token=Cause.FULL, block=_NO_LOGIN))
