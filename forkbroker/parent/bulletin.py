"""What the broker says of itself, as messages to topics below `/topic/$SYS/` (man/forkbroker-control.7).

Events are published at the end of the turn in which they happened: at most so many, the next one says how many were
missed. Figures are published once a second, with the same words as the answers to requests, as they are made by the
same views: `/topic/$SYS/status` is what `/control/status` answers, `/topic/$SYS/queues` followed by the name of a queue
is a row of what `/control/queues` does. All of it is made for those who listen, and while nobody does, nothing is made.

A listener that is slow is a slow subscriber. Nobody can be held back for it here, as nobody has sent this: what would
come on top of much that waits for it is left out for it alone.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterator
from typing import Any

from forkbroker.destinations import SYSTEM, is_pattern
from forkbroker.parent.channels import Channels
from forkbroker.parent.control.broker import Whole
from forkbroker.parent.control.queues import Looks
from forkbroker.parent.roster import Process
from forkbroker.routing.peers import Peer
from forkbroker.wire.envelope import Buffer, pack, pack_pieces
from forkbroker.wire.kinds import Flag, Kind
from forkbroker.wire.lines import escape

STEPS = 100
"""Steps of making figures in one turn: some 3 ms."""
FULL = 262_144
"""Octets that may wait in the channel of a listener before it gets no more."""
_SHARE = 5
"""Figures take so much of the time at most: one part of it, if there are many queues."""

_EVENTS = SYSTEM + "events/"
_STATUS = (SYSTEM + "status").encode()
_QUEUES = (SYSTEM + "queues").encode()


class Bulletin:
    """Publishes events and figures."""

    def __init__(self, channels: Channels, whole: Whole, looks: Looks) -> None:
        self._channels = channels
        self._loop = channels.loop
        self._router = channels.router
        self._news = channels.router.news
        self._whole = whole
        self._looks = looks
        self._name = b"-SYS-%x-%x" % (os.getpid(), time.time_ns() // 1_000_000)
        self._number = 0
        self._left_out: dict[Peer, int] = {}
        """Messages that each listener did not get since the last one that it got."""
        self._making: Iterator[None] | None = None
        """Figures that are being made."""
        self._begun_at = 0.0
        self._due_at = 0.0
        self.steps = 0
        """Done since the start: for tests."""

    # -- events

    def publish(self) -> None:
        """At the end of a turn in which something has happened."""
        now, missed = round(time.time(), 3), self._news.missed
        self._news.missed = 0
        for event, details in self._news.take():
            if self._send((_EVENTS + event).encode(), {"event": event, "time": now, **details, "missed": missed}):
                missed = 0
        self._news.missed += missed

    # -- figures

    def check(self) -> None:
        """To be called about once a second: begin to make figures, if somebody listens and they are due."""
        if not self._news.listeners:
            self._making = None
            self._left_out.clear()
        elif self._making is None and self._loop.now >= self._due_at:
            self._begun_at = self._loop.now
            self._making = self._make()
            self._go_on()

    def _go_on(self) -> None:
        """Do a turn's part of it."""
        if self._making is None:
            return
        for _ in range(STEPS):
            self.steps += 1
            try:
                next(self._making)
            except StopIteration:
                self._making = None
                self._due_at = self._begun_at + _SHARE * (self._loop.now - self._begun_at)
                return
        self._loop.call_at(self._loop.now, self._go_on)

    def _make(self) -> Iterator[None]:
        if self._router.find_listeners(_STATUS):
            status = yield from self._whole.look()
            self._send(_STATUS, {"time": round(time.time(), 3), **status})
        wanted = [name for name in self._news.names if not is_pattern(name)]
        if len(wanted) == len(self._news.names):
            yield from self._show_named(wanted)
        else:
            yield from self._show_all()

    def _show_named(self, names: list[bytes]) -> Iterator[None]:
        """Queues that somebody has named."""
        for name in names:
            queue = name.removeprefix(_QUEUES)
            row = None if queue == name else self._looks.queue(queue)
            if row is not None:
                self._show(row)
            yield

    def _show_all(self) -> Iterator[None]:
        """Somebody has named a pattern, which may mean any."""
        for row in self._looks.all_queues(lambda name: bool(self._router.find_listeners(_QUEUES + name))):
            if row is not None:
                self._show(row)
            yield

    def _show(self, row: dict[str, Any]) -> None:
        name = str(row["name"]).encode("utf-8", "surrogateescape")
        self._send(_QUEUES + name, {"time": round(time.time(), 3), **row})

    # -- both

    def _send(self, destination: bytes, body: dict[str, Any]) -> bool:
        """Send this to all who listen to it; tell whether there is somebody."""
        peers: Collection[Peer] = self._router.find_listeners(destination)
        if not peers:
            return False
        self._number += 1
        buffers = self._pack(destination, body)
        for peer in peers:
            process = self._channels.find(peer)
            if process is None:
                continue
            if not _has_room(process):
                self._left_out[peer] = self._left_out.get(peer, 0) + 1
            elif peer in self._left_out:
                left_out = self._left_out.pop(peer)
                told = {**body, "missed": body.get("missed", 0) + left_out}
                self._channels.send(process, self._pack(destination, told))
            else:
                self._channels.send(process, buffers)
        return True

    def _pack(self, destination: bytes, body: dict[str, Any]) -> list[Buffer]:
        """A SEND as a child makes it: the end of the message-id, header lines, an empty line."""
        octets = json.dumps(body, separators=(",", ":")).encode()
        block = b"%b-%d\ndestination:%b\ncontent-type:application/json\ncontent-length:%d\n\n" % (
            self._name,
            self._number,
            escape(destination),
            len(octets),
        )
        flags, payload = pack_pieces([octets])
        flags |= int(Flag.ESCAPED) if b"\\" in block else 0
        return pack(Kind.SEND, flags=flags, count=1, destination=destination, block=block, payload=payload)


def _has_room(process: Process) -> bool:
    """Little waits for it; one whose client does not read has said so (`high` is negative then)."""
    return process.high >= 0 and process.channel.pending <= FULL
