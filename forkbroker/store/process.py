"""The store's process: commits in groups what the parent tells it, and reads for it what memory has no room for.

All that has come while a commit ran is the next group: one transaction, and one COMMITTED with its last number. The
slower the disk, the larger the groups. What was asked for with FETCH is read behind the group that came before it.

It blocks while the backend works, and otherwise reads whatever the parent writes and writes what the parent reads,
each without waiting for the other.

It is crash-only: whatever goes wrong with the backend, it says why (FAILED) and ends, and the parent starts another
one and tells that again what was not COMMITTED: this is the first group, as a whole (RETOLD). When the parent is gone
it commits what it has heard, and ends; what came after that is in disorder, as nobody knows what the clients have seen.
"""

from __future__ import annotations

import logging
import select
import socket
import time
from collections import deque
from collections.abc import Sequence

from forkbroker.errors import Exit
from forkbroker.posix.crashpoints import reach as crash
from forkbroker.posix.titles import set_title
from forkbroker.store.api import Opened, Store, StoreError
from forkbroker.store.group import Group
from forkbroker.store.pages import count_messages, pack_pages
from forkbroker.wire.channel import Channel
from forkbroker.wire.envelope import Buffer, Envelope, pack
from forkbroker.wire.kinds import Flag, Kind

log = logging.getLogger(__name__)

_GROUP_OCTETS = 8_388_608
"""Envelopes in one group, roughly at most: a commit should not take seconds."""
_OUT_OCTETS = 8_388_608
"""Octets that wait for the parent above which nothing more is read for it."""
_FLUSH_OCTETS = 1_048_576
"""The same while the store is opened."""
_DISK_EVERY_S = 1.0
_HYSTERESIS_PERCENT = 110
"""Of the watermark has to be free before there is room again."""
_FLUSH_S = 2.0
"""How long a parent that does not read may keep the process from ending."""


def main(
    end: socket.socket,
    store: Store,
    *,
    is_fresh: bool,
    repair: bool,
    max_envelope: int,
    watermark: int,
) -> int:
    """Run the store until the parent closes it or is gone; returns the exit status of the process.

    `end` is this process's end of the channel, non-blocking, and closed on return. `is_fresh`: the broker has just
    started; only then `repair` is heeded. `watermark`: octets that should be free; 0: whatever there is will do.
    """
    return StoreProcess(end, store, max_envelope, watermark).run(is_fresh=is_fresh, repair=repair)


class StoreProcess:
    """What the process owns: the backend, and its end of the channel."""

    def __init__(self, end: socket.socket, store: Store, max_envelope: int, watermark: int) -> None:
        self._store = store
        self._channel = Channel(end, max_envelope=max_envelope)
        self._poll = select.poll()
        self._watermark = watermark
        self._inbox: deque[Envelope] = deque()
        self._octets = 0
        self._is_short: bool | None = None
        self._disk_at = 0.0
        self._recovered_before = 0
        self._is_up_to_date = False
        """All that the process before was told has come."""
        self._is_done = False
        self._is_told_to_close = False
        self._cancelled = 0

    def run(self, *, is_fresh: bool, repair: bool) -> int:
        """Open, serve, close."""
        set_title(f"store {self._store.url}")
        try:
            if repair and is_fresh:
                log.warning("store: %s", self._store.repair())
            self._open(is_fresh=is_fresh)
            while not self._is_done:
                self._turn()
            self._store.close(in_order=self._is_told_to_close)
        except StoreError as error:
            return self._fail(error)
        log.debug("store: ends, %d messages were settled before they were written", self._cancelled)
        self._channel.flush_and_close(_FLUSH_S)
        return Exit.OK

    def _fail(self, error: StoreError) -> int:
        log.error("store %s: %s", self._store.url, error)
        self._channel.send(pack(Kind.FAILED, token=error.status, block=str(error).encode("utf-8", "replace")))
        self._channel.flush_and_close(_FLUSH_S)
        return error.status

    # -- opening

    def _open(self, *, is_fresh: bool) -> None:
        store = self._store
        opened = store.open(is_fresh=is_fresh)
        self._recovered_before = opened.recovered_before
        self._tell(pack(Kind.OPENING, serial=opened.serial))
        flags = 0
        if is_fresh:
            self._is_short = False
            self._tell_stock(opened)
            flags = 0 if opened.was_in_order else int(Flag.RECOVERED)
        self._tell(pack(Kind.OPENED, flags=flags))
        self._look_at_disk()
        self._channel.flush()

    def _tell_stock(self, opened: Opened) -> None:
        """What there is from before the broker's start."""
        store, messages = self._store, 0
        for queue, priority, count, octets, last in store.backlog():
            self._tell(pack(Kind.BACKLOG, destination=queue, index=priority, count=count, number=octets, serial=last))
            messages += count
        for queue, topic, used_ms in store.durables():
            self._tell(pack(Kind.DURABLE, destination=queue, block=topic, serial=used_ms))
        for queue, dedup_id, until_ms in store.duplicates():
            self._tell(pack(Kind.DUPLICATE, destination=queue, block=dedup_id, number=until_ms))
        for page in pack_pages(store.scheduled(), recovered_before=self._recovered_before):
            self._tell(page)
        how = "" if opened.was_in_order else ", left in disorder: these may have been delivered before"
        log.info("store %s: open, %d messages%s", store.url, messages, how)

    def _tell(self, buffers: Sequence[Buffer]) -> None:
        """Before OPENED the parent only listens, so it may be waited for."""
        channel = self._channel
        channel.send(buffers)
        while channel.pending > _FLUSH_OCTETS and not channel.flush():
            self._poll.register(channel.fileno(), select.POLLOUT)
            self._poll.poll()

    # -- serving

    def _turn(self) -> None:
        channel = self._channel
        self._wait()
        self._read()
        if not self._is_up_to_date:
            # with the parent gone there will be no more of it, and a part is worse than nothing
            self._is_done = channel.closed
        elif channel.pending <= _OUT_OCTETS or channel.closed:
            self._work()
        self._look_at_disk()
        channel.flush()

    def _wait(self) -> None:
        """Until there is something to read or room to write, and for as long as the disk need not be looked at."""
        events = select.POLLIN if self._has_room() else 0
        if self._channel.pending:
            events |= select.POLLOUT
        self._poll.register(self._channel.fileno(), events)
        self._poll.poll(_DISK_EVERY_S * 1000 if self._watermark else None)

    def _read(self) -> None:
        """All that is there, up to a group."""
        channel, poll = self._channel, self._poll
        poll.register(channel.fileno(), select.POLLIN)
        while self._has_room() and not channel.closed and poll.poll(0):
            for envelope in channel.receive():
                if envelope.kind is Kind.RETOLD:
                    self._is_up_to_date = True
                    continue
                self._inbox.append(envelope)
                self._octets += len(envelope.raw)

    def _has_room(self) -> bool:
        return self._octets < _GROUP_OCTETS or not self._is_up_to_date

    def _work(self) -> None:
        """Commit what has come, and answer in between."""
        group = Group()
        while self._inbox and not self._is_done:
            envelope = self._inbox.popleft()
            self._octets -= len(envelope.raw)
            if envelope.kind is Kind.FETCH:
                self._commit(group)
                group = Group()
                self._fetch(envelope)
                if self._channel.pending > _OUT_OCTETS:
                    return
            elif envelope.kind is Kind.CLOSE:
                self._is_told_to_close = self._is_done = True
            else:
                group.add(envelope)
        self._commit(group)
        if self._channel.closed and not self._inbox:
            self._is_done = True

    def _commit(self, group: Group) -> None:
        if not group:
            return
        if crash is not None:
            crash("store.group-read", "")
        self._store.write(group.take_changes())
        self._cancelled += group.cancelled
        if crash is not None:
            crash("store.committed", "")
        self._channel.send(pack(Kind.COMMITTED, number=group.number))
        self._channel.flush()
        if crash is not None:
            crash("store.told", "")

    def _fetch(self, envelope: Envelope) -> None:
        if self._channel.closed:
            return
        queue, priority = envelope.destination, envelope.index
        items, has_more = self._store.read(queue, priority, envelope.serial, envelope.count)
        for page in pack_pages(items, recovered_before=self._recovered_before):
            self._channel.send(page)
        flags = 0 if has_more else int(Flag.FINAL)
        count = count_messages(items)
        self._channel.send(pack(Kind.PAGED, flags=flags, destination=queue, index=priority, count=count))
        self._channel.flush()
        if crash is not None:
            crash("store.paged", "")

    def _look_at_disk(self) -> None:
        now = time.monotonic()
        if not self._watermark or now < self._disk_at:
            return
        self._disk_at = now + _DISK_EVERY_S
        free = self._store.free()
        needed = self._watermark * _HYSTERESIS_PERCENT // 100 if self._is_short else self._watermark
        is_short = free < needed
        if is_short is self._is_short:
            return
        self._is_short = is_short
        reason = f"{free:,} octets are free for the store, {self._watermark:,} should be (--disk-free)"
        self._channel.send(pack(Kind.DISK, token=int(is_short), block=reason.encode() if is_short else b""))
