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
from forkbroker.posix.loop import Loop
from forkbroker.wire.kinds import State

KICKED = "disconnected by an administrator"
"""What a client is told without another reason."""
EVERYBODY = "ALL"
"""All but the client that asks."""


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
    return client.state is not State.LEAVING and not client.is_closed


def _is_meant(client: Client, who: str) -> bool:
    return who in (EVERYBODY, str(client.peer), client.address) or who in filter(None, (client.login, client.host))
