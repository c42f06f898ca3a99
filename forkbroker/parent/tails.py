"""Who looks at which client's frames: what the processes of these clients tell (TRACED) is kept for whoever has asked.

A client's process is told to begin when somebody looks at its client, and to end when nobody does any more. It is
believed nothing: what it tells has to have the form of frames before somebody else gets it.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from forkbroker.errors import EnvelopeError
from forkbroker.parent.channels import Channels
from forkbroker.parent.roster import Client
from forkbroker.routing.peers import Peer
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import Kind, Trace

MOST = 20
"""Looks at clients, at one time."""
_WAITING = 2_000
"""Frames that wait for one who looks; later ones are only counted."""
_MEMBERS: dict[str, type] = {
    "from": str,
    "command": str,
    "headers": dict,
    "bytes": int,
    "missed": int,
    "body": str,
    "body-base64": str,
    "is-cut": bool,
}
_ALWAYS = 5


@dataclass(eq=False, slots=True)
class Tail:
    """A look at a client."""

    client: Client
    has_bodies: bool
    wake: Callable[[], None]
    """There is something, or `is_over`."""
    rows: deque[dict[str, Any]] = field(default_factory=deque)
    """Frames, as JSON has them; whoever shows them takes them out."""
    has_begun: bool = False
    """The process of the client tells of every frame from now on."""
    is_over: bool = False
    """The client is gone."""
    missed: int = 0
    """Frames that found no room here."""


class Tails:
    """All looks at clients."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._by_peer: dict[Peer, list[Tail]] = {}

    def __len__(self) -> int:
        """How many there are."""
        return sum(map(len, self._by_peer.values()))

    def begin(self, client: Client, wake: Callable[[], None], *, has_bodies: bool) -> Tail:
        """Look at a client; whoever calls this calls `end`."""
        tail = Tail(client, has_bodies, wake)
        self._by_peer.setdefault(client.peer, []).append(tail)
        self._order(client)
        return tail

    def end(self, tail: Tail) -> None:
        """Look no longer."""
        tails = self._by_peer.get(tail.client.peer, [])
        if tail in tails:
            tails.remove(tail)
            if not tails:
                del self._by_peer[tail.client.peer]
            self._order(tail.client)

    def heard(self, client: Client, envelope: Envelope) -> None:
        """TRACED. Raises EnvelopeError: these are no frames."""
        tails = self._by_peer.get(client.peer)
        if tails is None:
            return  # it was not told yet that nobody looks
        rows, now = _read_rows(envelope), round(time.time(), 3)
        for tail in tails:
            tail.has_begun = True
            for row in rows:
                self._add(tail, {"at": now, **row})
            tail.wake()

    def gone(self, client: Client) -> None:
        """The client is gone: nothing more comes."""
        for tail in self._by_peer.pop(client.peer, []):
            tail.is_over = True
            tail.wake()

    def _add(self, tail: Tail, row: dict[str, Any]) -> None:
        if len(tail.rows) >= _WAITING:
            tail.missed += 1 + row["missed"]
            return
        row["missed"] += tail.missed
        tail.missed = 0
        if not tail.has_bodies:
            row = {name: value for name, value in row.items() if name not in ("body", "body-base64", "is-cut")}
        tail.rows.append(row)

    def _order(self, client: Client) -> None:
        """Let the client's process know what is to be told now."""
        tails = self._by_peer.get(client.peer, [])
        wanted = Trace.NOTHING
        if tails:
            wanted = Trace.BODIES if any(tail.has_bodies for tail in tails) else Trace.HEADERS
        if self._channels.find(client.peer) is client:
            self._channels.send(client, pack(Kind.TRACE, token=wanted))


def _read_rows(envelope: Envelope) -> list[dict[str, Any]]:
    try:
        rows = json.loads(envelope.block)
    except (ValueError, RecursionError) as error:
        raise EnvelopeError(f"TRACED: no JSON: {error}") from None
    if not isinstance(rows, list) or not all(map(_is_frame, rows)):
        raise EnvelopeError("TRACED: these are no frames")
    return rows


def _is_frame(row: Any) -> bool:
    if not isinstance(row, dict) or not set(list(_MEMBERS)[:_ALWAYS]) <= set(row) <= set(_MEMBERS):
        return False
    if not all(type(value) is _MEMBERS[name] for name, value in row.items()):
        return False
    texts = [*row["headers"], *row["headers"].values()]
    return row["missed"] >= 0 and all(isinstance(text, str) for text in texts)
