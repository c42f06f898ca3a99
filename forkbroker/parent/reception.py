"""What becomes of an accepted connection: it gets a process, now or in its turn, or is told why it gets none."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace

from forkbroker.parent.admission import Admission
from forkbroker.parent.channels import Channels
from forkbroker.parent.clients import Clients
from forkbroker.parent.listener import Connection, has_left
from forkbroker.parent.refusals import Refusals
from forkbroker.parent.waiting import Waiting
from forkbroker.posix.loop import Deadline
from forkbroker.routing.peers import Peer
from forkbroker.wire.kinds import Cause

SERVE_AT_ONCE = 4
"""Connections of those that wait that get a process in one turn of the loop."""

_NO_LOGIN = "not logged in, and other clients wait: max-pending-logins"
_LOOK_AGAIN_S = 0.05
_ENDING = "the broker is shutting down"


class Reception:
    """Asks the rules (`admission`, `waiting`), and does what they say."""

    def __init__(
        self,
        channels: Channels,
        admission: Admission,
        clients: Clients,
        refusals: Refusals,
        logger: logging.Logger,
        closed: Callable[[str], str] = lambda _: "",
        has_processes: Callable[[], bool] = lambda: True,
    ) -> None:
        """`closed`: why nobody from a host may come just now, or nothing.

        `has_processes`: whether there is one for a client, or a reason why not; if it becomes true, call `go_on`.
        """
        self._closed = closed
        self._has_processes = has_processes
        self._loop = channels.loop
        self._admission = admission
        self._clients = clients
        self._refusals = refusals
        self._logger = logger
        self._waiting = Waiting()
        self._deadline: Deadline | None = None
        """When it is looked again for those that wait."""

    def accepted(self, client: Connection) -> None:
        """A client has connected."""
        if self._admission.is_proxy(client.host):
            client = replace(client, is_proxied=True)
        elif client.is_web and self._admission.is_forwarder(client.host):
            client = replace(client, is_forwarded=True)
        reason = self._find_refusal(client)
        origin = self._admission.origin_of(client.host)
        if self._admission.is_suspect(origin, self._loop.now):
            client = replace(client, is_suspect=True)
        if not reason and self._admission.is_full(len(self._waiting)) and not self._make_room(origin, client):
            reason = self._describe_full()
        if reason:
            self._refuse(client, reason)
            return
        self._waiting.add(origin, client)
        self._serve_next()
        self._look_again()

    def go_on(self) -> None:
        """Give processes to those that wait, as far as there are some."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        while self._waiting and self._admission.is_full(len(self._waiting) - 1):
            # the limit has become lower
            excess = self._waiting.take_excess("", is_suspect=False) or self._waiting.take(next(iter(self._waiting)))
            self._refuse(excess, self._describe_full())
        for _ in range(SERVE_AT_ONCE):
            if not self._serve_next():
                break
        self._look_again()

    def close(self) -> None:
        """Nobody gets a process any more."""
        for client in self._waiting.take_all():
            self._refuse(client, _ENDING)

    # -- places

    def _find_refusal(self, client: Connection) -> str:
        host = "" if client.is_proxied or client.is_forwarded else client.host
        return self._closed(client.host) or self._admission.refusal(host, self._loop.now)

    def _refuse(self, client: Connection, reason: str) -> None:
        self._refusals.refuse(client.socket, client.address, reason, is_tls=client.is_tls, is_web=client.is_web)

    def _describe_full(self) -> str:
        return self._admission.describe_full(len(self._waiting))

    def _make_room(self, origin: str, client: Connection) -> bool:
        """Where all places are taken: let one go for this client, if another origin has more of them."""
        excess = self._waiting.take_excess(origin, is_suspect=client.is_suspect)
        if excess is not None:
            self._refuse(excess, self._describe_full())
            return True
        return self._disconnect(self._admission.take_surplus(origin, self._loop.now))

    def _disconnect(self, peer: Peer | None) -> bool:
        """Disconnect a client that has not logged in, if only so another one can try; whether there is one."""
        child = None if peer is None else self._clients.find(peer)
        if child is not None:
            self._clients.kick(child, _NO_LOGIN, Cause.FULL)
        return peer is not None

    # -- those that wait

    def _opens_at(self) -> float:
        return self._admission.opens_at(self._loop.now) if self._has_processes() else math.inf

    def _serve_next(self) -> bool:
        """Serve the next one that may have a process now; False: there is none."""
        now = self._loop.now
        if not self._waiting or self._opens_at() > now:
            return False
        place_at = self._admission.place_at
        turn = next((turn for turn in self._waiting if place_at(turn[1], now) <= now), None)
        if turn is None:
            return False
        client = self._waiting.take(turn)
        reason = self._find_refusal(client)
        if reason:
            self._refuse(client, reason)
        elif has_left(client.socket):
            client.socket.close()
        else:
            self._disconnect(self._admission.take_pending(turn[1], now))
            self._serve(replace(client, is_suspect=self._admission.is_crowd(turn[1], now)))
        return True

    def _serve(self, client: Connection) -> None:
        try:
            self._clients.start(client)
        except OSError as error:
            self._logger.error("client %s: cannot fork a child process: %s", client.address, error.strerror)
            self._admission.fork_failed(self._loop.now)
            self._refuse(client, f"the broker has no room for a process: {error.strerror}")

    def _look_again(self) -> None:
        """See to it that those that wait have their turn. Where there are no processes, `go_on` is called."""
        if self._deadline is not None or not self._waiting:
            return
        now, place_at = self._loop.now, self._admission.place_at
        opens_at = self._opens_at()
        if opens_at < math.inf:
            if not any(place_at(origin, now) <= now for _, origin in self._waiting):
                opens_at = max(opens_at, now + _LOOK_AGAIN_S)
            self._deadline = self._loop.call_at(opens_at, self.go_on)
