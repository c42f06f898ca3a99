"""All processes of the broker, whoever keeps them: how many there are, a row for each, and those that may ask."""

from __future__ import annotations

import os
from collections.abc import Iterator

from forkbroker.parent.clients import Clients
from forkbroker.parent.control.asked import Row
from forkbroker.parent.helpers import Helpers
from forkbroker.parent.roster import Process
from forkbroker.parent.spares import Spares
from forkbroker.routing.peers import METRICS, Peer
from forkbroker.wire.kinds import Role


class ProcessTable:
    """A view of the tables of their keepers; it has nothing of its own."""

    def __init__(self, helpers: Helpers, spares: Spares, clients: Clients) -> None:
        self._helpers = helpers
        self._spares = spares
        self._clients = clients

    def count(self) -> dict[str, float]:
        """How many there are of each kind; how many of clients have ended, and these ones' processor time (seconds)."""
        return {
            "clients": len(self._clients.all),
            "spares": self._spares.count,
            "helpers": len(self._helpers.all),
            "ended": self._clients.ended,
            "cpu-ended": round(self._clients.cpu_s, 3),
        }

    def rows(self) -> Iterator[Row]:
        """The role and the number of each."""
        yield {"role": "parent", "pid": os.getpid()}
        for process in self._helpers.all:
            yield {"role": process.role.value, "pid": process.pid}
        for pid in self._spares.pids:
            yield {"role": "spare", "pid": pid}
        for client in self._clients.all:
            yield {"role": client.role.value, "pid": client.pid}

    def find_asker(self, peer: Peer) -> Process | None:
        """Find who may ask for something: a client's child, or the helper for metrics."""
        return self._helpers.find(Role.METRICS) if peer == METRICS else self._clients.find(peer)
