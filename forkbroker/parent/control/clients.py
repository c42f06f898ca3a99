"""Clients: who is there, and who is to go."""

from __future__ import annotations

from collections.abc import Iterator

from forkbroker.control.arguments import RequestError
from forkbroker.parent.clients import Clients
from forkbroker.parent.control.asked import Asked, Row, Steps, matches_any
from forkbroker.parent.control.use import arrange_with_use
from forkbroker.parent.draining import Draining
from forkbroker.parent.roster import Client, show_client
from forkbroker.parent.routes import Routes
from forkbroker.parent.tails import MOST
from forkbroker.posix.loop import Loop
from forkbroker.wire.kinds import ChildState

KICKED = "disconnected by an administrator"
"""What a client is told without another reason."""
EVERYBODY = "ALL"
"""All but the client that asks."""
_NAMED = 10


class Visitors:
    """The handlers."""

    def __init__(self, loop: Loop, router: Routes, clients: Clients, draining: Draining) -> None:
        self._loop = loop
        self._draining = draining
        self._sights = router.sights
        self._clients = clients

    def who(self, asked: Asked) -> Steps:
        """A row for each client."""
        return (yield from arrange_with_use(asked, self._all_clients(asked)))

    def _all_clients(self, asked: Asked) -> Iterator[Row | None]:
        pattern = asked.args.get("pattern")
        for client in self._clients.all:
            if not _is_here(client) or not matches_any(pattern, client.login, client.address, client.host):
                yield None
                continue
            subscriptions, unsettled = self._sights.load_of(client.peer)
            asked.spent = subscriptions // 50
            yield {
                **show_client(client),
                "state": client.state.value,
                "seconds": round(self._loop.now - client.started, 1),
                "queues": subscriptions,
                "unsettled": unsettled,
                "pending": client.channel.pending,
            }

    def kick(self, asked: Asked) -> Steps:
        """Disconnect whoever is meant: with an ERROR, and what is unsettled goes back."""
        who, kicked = asked.args["who"], []
        for client in self._clients.all:
            if _is_here(client) and _is_meant(client, who) and not (who == EVERYBODY and client is asked.client):
                kicked.append({"client": client.peer, "login": client.login, "address": client.address})
                if not asked.is_dry_run:
                    self._clients.kick(client, asked.args.get("reason", KICKED))
            yield None
        if not kicked and who != EVERYBODY:
            raise RequestError("not-found", f"there is no client with the number, login or address {who!r}")
        return {"count": len(kicked), "clients": kicked}

    def tail(self, asked: Asked) -> Steps:
        """A row for each frame of a client, as they come, until it is gone, or whoever asks."""
        client, tails = self._find_one(asked.args["who"]), self._clients.tails
        if client is asked.client:
            raise RequestError("conflict", "a client that looks at its own frames would see nothing but the looking")
        if len(tails) >= MOST:
            raise RequestError("conflict", f"{MOST} clients look at others already, no more can")
        tail = tails.begin(client, lambda: asked.wake(asked), has_bodies=asked.args.get("body", False))
        is_shown = False
        try:
            while tail.rows or not tail.is_over:
                if tail.has_begun and not is_shown:
                    is_shown = True
                    yield show_client(client)
                elif tail.rows:
                    yield tail.rows.popleft()
                else:
                    asked.is_waiting = True
                    yield None
        finally:
            tails.end(tail)
        return None

    def _find_one(self, who: str) -> Client:
        """The client that is meant. Raises RequestError: there is none, or more than one."""
        found = [client for client in self._clients.all if _is_here(client) and _is_meant(client, who)]
        if not found or who == EVERYBODY:
            raise RequestError("not-found", f"there is no client with the number, login or address {who!r}")
        if len(found) > 1:
            named = ", ".join(f"{client.peer} ({client.address})" for client in found[:_NAMED])
            more = " and others" if len(found) > _NAMED else ""
            raise RequestError(
                "conflict", f"{len(found)} clients are {who!r}, name one by its number or address: {named}{more}"
            )
        return found[0]

    def drain(self, asked: Asked) -> Steps:
        """Let nobody come, and let all but who asks leave."""
        yield None
        within_s = asked.args.get("within")
        others = [client for client in self._clients.all if _is_here(client) and client is not asked.client]
        self._draining.begin(others, within_s)
        return {"clients": len(others), "leaving": 0 if within_s is None else len(others)}

    def undrain(self, asked: Asked) -> Steps:
        """Let clients come again."""
        yield None
        if not self._draining.end():
            raise RequestError("conflict", "the broker is not being drained")
        return {}


def _is_here(client: Client) -> bool:
    return client.state is not ChildState.LEAVING and not client.is_closed


def _is_meant(client: Client, who: str) -> bool:
    return who in (EVERYBODY, str(client.peer), client.address) or who in filter(None, (client.login, client.host))
