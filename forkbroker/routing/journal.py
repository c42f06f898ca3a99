"""What the store is told, and who waits for it.

Every change of what the store has is numbered and kept here until the store says that it is COMMITTED. A store process
that ends is started anew, and told again what was not: so a store can end at any instant, and nothing that was
accepted is lost while the parent lives.

A peer's FENCED says that all before its fence has been applied, and that what of it is persistent will survive: it
waits here until the last change that the peer brought about is committed. Whatever else answers that peer's requests
waits behind it, so answers come in the order of the asking. Who changed nothing in the store waits for nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from forkbroker.routing.peers import STORE, Outbox, Peer
from forkbroker.routing.runs import Run
from forkbroker.wire.envelope import Buffer, pack, pack_run, pack_serial
from forkbroker.wire.kinds import Kind

MAX_OCTETS = 67_108_864
"""Octets that are told and not committed, above which who sends persistent messages is held."""


class Journal:
    """The router's side of the store."""

    def __init__(self, out: Outbox) -> None:
        """Changes and answers go to `out`."""
        self._out = out
        self._log: deque[tuple[int, list[Buffer], int]] = deque()
        self._parts: list[list[Buffer]] | None = None
        self._asked: list[list[Buffer]] = []
        """What was asked for meanwhile."""
        self._behind: dict[Peer, int] = {}
        self._waiting: dict[Peer, deque[tuple[int, list[Buffer]]]] = {}
        self.last = 0
        """Number of the last change."""
        self.committed = 0
        """Number of the last change that will survive."""
        self.octets = 0
        """Of changes that are not committed."""
        self.held: set[Peer] = set()
        """Producers that wait until there is less of that."""
        self.is_open = False
        """A store process listens."""
        self.failure = ""
        """Why the store can't write; empty while it can, or may soon."""
        self.shortage = ""
        """Why the store should not be given more: the disk is nearly full."""

    # -- changes

    def write(self, queue: bytes, run: Run) -> None:
        """New messages: WRITE them if they are persistent, SPILL them if they aren't."""
        kind = Kind.WRITE if run.details.persistent else Kind.SPILL
        self._tell(
            pack_run(
                kind,
                run.envelope,
                first=run.first,
                count=run.count,
                number=self._next(),
                serial=run.serial,
                deliveries=run.deliveries,
                destination=queue,
                details=run.details,
            )
        )

    def delete(self, run: Run) -> None:
        """Persistent messages are settled."""
        self._tell(pack(Kind.DELETE, number=self._next(), serial=run.serial, count=run.count))

    def update(self, run: Run) -> None:
        """Persistent messages were delivered in vain."""
        self._tell(
            pack(
                Kind.UPDATE,
                number=self._next(),
                serial=run.serial,
                count=run.count,
                deliveries=run.deliveries,
                index=run.details.crashes,
            )
        )

    def move(self, serial: int, queue: bytes, run: Run) -> None:
        """Persistent messages, the first of which had this serial, are in this queue now, as `run` says."""
        self._tell(
            pack(
                Kind.MOVE,
                number=self._next(),
                serial=serial,
                index=run.envelope.index + run.first,
                count=run.count,
                destination=queue,
                section=run.details.pack(),
                deliveries=run.deliveries,
                payload=[pack_serial(run.serial)],
            )
        )

    def purge(self, queue: bytes) -> None:
        """All messages of the queue are gone."""
        self._tell(pack(Kind.PURGE, number=self._next(), destination=queue))

    def define(self, queue: bytes, topic: bytes, used_ms: int) -> None:
        """A durable subscription, and when it was last used (milliseconds since the epoch)."""
        self._tell(pack(Kind.DEFINE, number=self._next(), destination=queue, block=topic, serial=used_ms))

    def forget(self, queue: bytes) -> None:
        """A durable subscription is gone, and all its messages."""
        self._tell(pack(Kind.FORGET, number=self._next(), destination=queue))

    @contextmanager
    def one_change(self) -> Iterator[None]:
        """What is told meanwhile is one change: it was applied, so it is told even if an error ends it."""
        parts: list[list[Buffer]] = []
        self._parts = parts
        try:
            yield
        finally:
            self._parts = None
            if parts:
                payload = [buffer for part in parts for buffer in part]
                self._tell(pack(Kind.TRANSACTION, number=self._next(), count=len(parts), payload=payload))
            self._out.extend((STORE, buffers) for buffers in self._asked)
            self._asked.clear()

    def _next(self) -> int:
        """The number of the next change; parts of one have none of their own."""
        if self._parts is not None:
            return 0
        self.last += 1
        return self.last

    def _tell(self, buffers: list[Buffer]) -> None:
        if self._parts is not None:
            self._parts.append(buffers)
            return
        size = sum(map(len, buffers))
        self.octets += size
        self._log.append((self.last, buffers, size))
        if self.is_open:
            self._out.append((STORE, buffers))

    # -- reading

    def fetch(self, queue: bytes, priority: int, after: int, octets: int) -> bool:
        """Ask for what of a queue comes behind this serial; tell whether there is somebody to ask."""
        if self.is_open:
            buffers = pack(Kind.FETCH, destination=queue, index=priority, serial=after, count=octets)
            if self._parts is None:
                self._out.append((STORE, buffers))
            else:
                # behind the change: what it pages out is counted, and would be taken for lost
                self._asked.append(buffers)
        return self.is_open

    # -- who waits

    @property
    def refusal(self) -> str:
        """Why nothing more should be given to the store; empty if it may."""
        return self.failure or self.shortage

    @property
    def number(self) -> int:
        """Of the change that is being told, or was told last."""
        return self.last if self._parts is None else self.last + 1

    @property
    def is_committed(self) -> bool:
        """Nothing waits to be written."""
        return self.committed >= self.last

    @property
    def is_full(self) -> bool:
        """So much is told and not committed that who brings more is to be held."""
        return self.octets >= MAX_OCTETS

    def wait_for(self, peer: Peer, number: int) -> None:
        """What answers this peer from now on waits until this change is committed."""
        if number > max(self.committed, self._behind.get(peer, 0)):
            self._behind[peer] = number

    def answer(self, peer: Peer, buffers: list[Buffer]) -> None:
        """Answer this peer, once all that it brought about is committed."""
        number = self._behind.get(peer)
        if number is None:
            self._out.append((peer, buffers))
        else:
            self._waiting.setdefault(peer, deque()).append((number, buffers))

    def peer_ended(self, peer: Peer) -> None:
        """The peer wants no answers any more."""
        self._behind.pop(peer, None)
        self._waiting.pop(peer, None)

    # -- what the store says

    def opened(self) -> None:
        """A store process listens: tell it what was not committed.

        Perhaps it was, and only the word was lost. To write a part of it again would undo what followed: the half of a
        transaction would stand there, or a message where it was before it was moved. So it is one group (RETOLD).
        """
        self.is_open = True
        self.failure = ""
        self._out.extend((STORE, buffers) for _, buffers, _ in self._log)
        self._out.append((STORE, pack(Kind.RETOLD)))

    def closed(self, reason: str) -> None:
        """The store process has ended; `reason` when it could not do its work."""
        self.is_open = False
        self.failure = reason or self.failure

    def commit(self, number: int) -> None:
        """All changes up to this number will survive: answer who waited for them.

        Raises:
            AssertionError: there was no such change.
        """
        if number > self.last:
            raise AssertionError(f"change {number} is committed, and {self.last} was the last")
        self.committed = max(self.committed, number)
        while self._log and self._log[0][0] <= number:
            self.octets -= self._log.popleft()[2]
        for peer in [peer for peer, behind in self._behind.items() if behind <= number]:
            del self._behind[peer]
        for peer in list(self._waiting):
            self._release(peer, number)

    def _release(self, peer: Peer, number: int) -> None:
        waiting = self._waiting[peer]
        while waiting and waiting[0][0] <= number:
            self._out.append((peer, waiting.popleft()[1]))
        if not waiting:
            del self._waiting[peer]
