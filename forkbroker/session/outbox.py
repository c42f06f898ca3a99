"""What waits to be written to the client: a queue of chunks, without the socket.

A chunk is what one envelope, or one reply, became. Topic messages may be dropped as long as none of their octets is
written (`slow-subscribers`); the messages of a queue in `ack:auto` are settled when the kernel has taken their last
octet, and not before: what a dead connection leaves in this queue goes to another consumer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forkbroker.wire.envelope import Buffer

_GATHER = 256


@dataclass(slots=True)
class Chunk:
    """Buffers that belong together, and what they are."""

    buffers: list[Buffer]
    size: int
    topic_messages: int = 0
    """How many messages of topics: more than 0 means that it may be dropped."""
    undo: Callable[[], None] | None = None
    """What dropping it makes undone."""
    run: tuple[int, int, int] | None = None
    """Token, first serial and count of queue messages that are settled by writing them."""


class Outbox:
    """A bounded queue towards the client; its bound is the session's business, which sees `pending`."""

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self._head_is_started = False
        self._written_runs: list[tuple[int, int, int]] = []
        self.pending = 0
        """Octets that the kernel has not taken."""

    def put(self, buffers: Sequence[Buffer]) -> None:
        """Queue a reply, which is never dropped."""
        self._append(Chunk(list(buffers), sum(map(len, buffers))))

    def put_topic(self, buffers: list[Buffer], messages: int, undo: Callable[[], None] | None = None) -> None:
        """Queue messages of a topic; `undo` is called if they are dropped."""
        self._append(Chunk(buffers, sum(map(len, buffers)), topic_messages=messages, undo=undo))

    def put_run(self, buffers: list[Buffer], token: int, serial: int, count: int) -> None:
        """Queue messages of a queue that writing settles: `take_written_runs` tells when."""
        self._append(Chunk(buffers, sum(map(len, buffers)), run=(token, serial, count)))

    def _append(self, chunk: Chunk) -> None:
        self._chunks.append(chunk)
        self.pending += chunk.size

    def gather(self) -> list[Buffer]:
        """The next buffers for one gather write; tell `written` how much of them went."""
        buffers: list[Buffer] = []
        for chunk in self._chunks:
            buffers.extend(chunk.buffers)
            if len(buffers) >= _GATHER:
                break
        return buffers[:_GATHER]

    def written(self, octets: int) -> None:
        """The kernel has taken so many octets."""
        self.pending -= octets
        chunks = self._chunks
        while chunks and octets >= chunks[0].size:
            chunk = chunks.popleft()
            octets -= chunk.size
            self._head_is_started = False
            if chunk.run:
                self._written_runs.append(chunk.run)
        if octets:
            self._cut_head(chunks[0], octets)

    def _cut_head(self, chunk: Chunk, octets: int) -> None:
        self._head_is_started = True
        chunk.size -= octets
        for position, buffer in enumerate(chunk.buffers):
            if octets < len(buffer):
                chunk.buffers = [memoryview(buffer)[octets:], *chunk.buffers[position + 1 :]]
                return
            octets -= len(buffer)
        raise AssertionError("more octets written than the chunk has")

    def take_written_runs(self) -> list[tuple[int, int, int]]:
        """Token, first serial and count of each queue run that was written since the last call."""
        runs, self._written_runs = self._written_runs, []
        return runs

    def drop_oldest_topics(self, limit: int) -> int:
        """Drop the oldest topic chunks until at most `limit` octets wait; tell how many messages went."""
        kept: list[Chunk] = []
        dropped = 0
        if self._head_is_started:
            kept.append(self._chunks.popleft())
        while self._chunks and self.pending > limit:
            chunk = self._chunks.popleft()
            if chunk.topic_messages:
                dropped += chunk.topic_messages
                if chunk.undo:
                    chunk.undo()
                self.pending -= chunk.size
            else:
                kept.append(chunk)
        self._chunks.extendleft(reversed(kept))
        return dropped
