"""The store's process: commits in groups what the parent tells it, and reads for it what memory has no room for.

All that has come while a commit ran is the next group: one transaction, and one COMMITTED with its last number. The
slower the disk, the larger the groups. What was asked for with FETCH is read behind the group that came before it.

It blocks while the backend works, and otherwise reads whatever the parent writes and writes what the parent reads,
each without waiting for the other.

It is crash-only: whatever goes wrong with the backend, it says why (FAILED) and ends, and the parent starts another
one and tells that again what was not COMMITTED: this is the first group, as a whole (RETOLD). When the parent is gone
it commits what it has heard, and ends; what came after that is in disorder, as nobody knows what the clients have seen.

There are two exceptions. A disk that is full does not end it: the group waits, and grows, and is tried again each
second; meanwhile what was committed is read, and what consumers have settled is deleted before its time. And a change
that can't be decoded or written is DECLINED, and the others go on. To find it among those that were told again, which
may have ended the process before, each of these is announced before it is applied (TRYING).
"""

from __future__ import annotations

import logging
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence

from forkbroker.errors import EnvelopeError, Exit
from forkbroker.posix.crashpoints import reach as crash
from forkbroker.posix.loop import Spinning
from forkbroker.posix.titles import set_title
from forkbroker.store.api import Change, ChangeError, FullError, Opened, Store, StoreError
from forkbroker.store.disk import Disk
from forkbroker.store.group import Group, Told, take_aside
from forkbroker.store.pages import count_messages, pack_pages
from forkbroker.wire.channel import Channel
from forkbroker.wire.envelope import Buffer, Envelope, pack, pack_number
from forkbroker.wire.kinds import Flag, Kind

log = logging.getLogger(__name__)

_READ, _WRITE = select.POLLIN, select.POLLOUT
_GROUP_OCTETS = 8_388_608
"""What is written in one group, roughly at most: a commit should not take seconds."""
_OUT_OCTETS = 8_388_608
"""Octets that wait for the parent above which nothing more is read for it."""
_FLUSH_OCTETS = 1_048_576
"""The same while the store is opened."""
_AGAIN_S = 1.0
"""Between two looks at the disk, and two tries to write what has no room."""
_SPINS = 2
"""So many times as long as other processes this one may spin: who waits for a receipt before each message sends the
next one a moment after the commit, and not at once."""
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
    spin_s: float = 0.0,
) -> int:
    """Run the store until the parent closes it or is gone; returns the exit status of the process.

    `end` is this process's end of the channel, non-blocking, and closed on return. `is_fresh`: the broker has just
    started; only then `repair` is heeded. `watermark`: octets that should be free; 0: whatever there is will do.
    `spin_s`: how long it may poll before it sleeps (`forkbroker.posix.loop`), in seconds.
    """
    return StoreProcess(end, store, max_envelope, watermark, spin_s).run(is_fresh=is_fresh, repair=repair)


class StoreProcess:
    """What the process owns: the backend, and its end of the channel."""

    def __init__(self, end: socket.socket, store: Store, max_envelope: int, watermark: int, spin_s: float) -> None:
        self._store = store
        self._channel = Channel(end, max_envelope=max_envelope)
        self._fd = end.fileno()
        self._poll = select.poll()
        self._events = 0
        """For which the poll object has the channel."""
        self._watermark = watermark
        self._spinning = Spinning(_SPINS * spin_s) if spin_s else None
        self._disk: Disk
        self._inbox: deque[Told] = deque()
        self._parts: list[Envelope] = []
        """Of a change that has not come to its end."""
        self._octets = 0
        """Of what has come and is in no group."""
        self._group = Group()
        self._asked: deque[Envelope] = deque()
        """What can't be answered before the group is committed."""
        self._retold: int | None = None
        """How many of what has come was told to the process before; None: there is more of it."""
        self._recovered_before = 0
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
            # now or never: what has no room is lost, or told again to the next one
            self._write()
            self._store.close(in_order=self._is_told_to_close)
        except StoreError as error:
            return self._fail(error)
        log.debug("store: ends, %d messages were settled before they were written", self._cancelled)
        self._channel.flush_and_close(_FLUSH_S)
        return Exit.OK

    def _fail(self, error: StoreError) -> int:
        log.error("store %s: %s", self._store.url, error)
        flags = int(Flag.FINAL) if error.is_final else 0
        reason = str(error).encode("utf-8", "replace")
        self._channel.send(pack(Kind.FAILED, flags=flags, token=error.status, block=reason))
        self._channel.flush_and_close(_FLUSH_S)
        return error.status

    # -- opening

    def _open(self, *, is_fresh: bool) -> None:
        store = self._store
        opened = store.open(is_fresh=is_fresh)
        self._disk = Disk(store, self._watermark, is_fresh=is_fresh)
        self._is_short = False
        self._recovered_before = opened.recovered_before
        self._tell(pack(Kind.OPENING, serial=opened.serial))
        flags = 0
        if is_fresh:
            self._tell_stock(opened)
            flags = 0 if opened.was_in_order else int(Flag.RECOVERED)
        # before it is told that it may give more
        self._look_at_disk()
        self._tell(pack(Kind.OPENED, flags=flags))
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
        # what is still in the schedule was never delivered: consumers see it when it has left that, committed
        for page in pack_pages(store.scheduled(), recovered_before=0):
            self._tell(page)
        for queue, matter, value in store.notes():
            self._tell(pack(Kind.NOTED, destination=queue, token=matter, count=1, block=value or b""))
        how = "" if opened.was_in_order else ", all marked redelivered after an unclean shutdown"
        log.info("store %s: open, %d messages%s", store.url, messages, how)

    def _tell(self, buffers: Sequence[Buffer]) -> None:
        """Before OPENED the parent only listens, so it may be waited for."""
        self._channel.send(buffers)
        if self._channel.pending > _FLUSH_OCTETS:
            self._drain()

    def _drain(self) -> None:
        """Wait until the parent has been given all."""
        while not self._channel.flush():
            self._want(_WRITE)
            self._poll.poll()

    # -- serving

    def _turn(self) -> None:
        channel = self._channel
        self._wait()
        self._read()
        if self._retold is None:
            # with the parent gone there will be no more of it, and a part is worse than nothing
            self._is_done = channel.closed
        elif channel.pending <= _OUT_OCTETS or channel.closed:
            self._work()
        self._look_at_disk()
        channel.flush()

    def _wait(self) -> None:
        """Until there is something to read or room to write, and for as long as the disk need not be looked at."""
        events = _READ if self._has_room() else 0
        if self._channel.pending:
            events |= _WRITE
        self._want(events)
        began, spinning = time.monotonic(), self._spinning
        if spinning is None:
            self._poll.poll(_AGAIN_S * 1000)
            return
        if began < spinning.may_begin_at or not spinning.spin(self._poll.poll, began, began + _AGAIN_S):
            self._poll.poll(_AGAIN_S * 1000)
        spinning.waited(time.monotonic() - began)

    def _want(self, events: int) -> None:
        """Poll the channel for these."""
        if events != self._events:
            self._events = events
            self._poll.register(self._fd, events)

    def _read(self) -> None:
        """All that is there, up to a group."""
        channel = self._channel
        while self._has_room() and not channel.closed:
            before = channel.taken
            for envelope in channel.receive():
                self._octets += len(envelope.raw)
                self._take_in(envelope)
            # changes that came meanwhile belong to the group: with a window of 1,000 it is half as large without them
            if channel.taken == before or not self._poll.poll(0):
                return

    def _take_in(self, envelope: Envelope) -> None:
        """Put together what belongs together."""
        kind, number = envelope.kind, envelope.number
        if kind is Kind.TOGETHER:
            parts, self._parts = tuple(self._parts), []
            self._inbox.append(Told(number, parts))
        elif number or kind in _REQUESTS:
            self._inbox.append(Told(number, (envelope,)))
        elif kind is Kind.RETOLD:
            self._retold = len(self._inbox)
        else:
            self._parts.append(envelope)

    def _has_room(self) -> bool:
        return self._octets < _GROUP_OCTETS or self._retold is None or bool(self._parts)

    def _work(self) -> None:
        """Commit what has come, and answer in between."""
        if self._retold:
            for _ in range(self._retold):
                self._add(self._take(), is_retold=True)
            # the transaction has to begin first, which may take long
            self._announce(0)
            self._commit(is_retold=True)
            self._retold = 0
        while self._inbox and not self._is_done and self._channel.pending <= _OUT_OCTETS:
            told = self._take()
            if told.kind is Kind.FETCH:
                self._commit()
                self._asked.append(told.parts[0])
                self._answer()
            elif told.kind is Kind.CLOSE:
                self._is_told_to_close = self._is_done = True
            else:
                self._add(told)
                if self._group.octets >= _GROUP_OCTETS:
                    self._commit()
        self._commit()
        if self._disk.is_stuck and self._disk.may_delete():
            self._delete_ahead()
        self._answer()
        if self._channel.closed and not self._inbox:
            self._is_done = True

    def _take(self) -> Told:
        told = self._inbox.popleft()
        self._octets -= told.octets
        return told

    # -- writing

    def _add(self, told: Told, *, is_retold: bool = False) -> None:
        if is_retold:
            self._announce(told.number)
        try:
            if told.kind is Kind.SET_ASIDE:
                self._keep(told.number, *take_aside(told))
                told = Told(told.number, ())
            self._group.add(told)
        except EnvelopeError as error:
            self._decline(told, str(error))
            self._group.add(Told(told.number, ()))

    def _commit(self, *, is_retold: bool = False) -> None:
        """Write the group, unless that was tried in vain a moment ago."""
        if not self._group.told or not self._disk.may_try():
            return
        try:
            if self._group.adds and (shortage := self._disk.find_shortage(self._group.octets)):
                raise FullError(shortage, Exit.IOERR)
            self._write(is_retold=is_retold)
        except FullError as error:
            if not self._disk.is_stuck:
                log.error("store %s: %s; trying again each second", self._store.url, error)
            self._disk.fails(str(error))

    def _write(self, *, is_retold: bool = False) -> None:
        """Raises StoreError."""
        if not self._group.told:
            return
        if crash is not None:
            crash("store.group-read", "")
        try:
            self._write_group(is_retold=is_retold)
        except FullError:
            # new messages must not use up what deletions may need: they wait for the room that these make
            if self._group.adds or not self._use_reserve():
                raise
            self._write_group(is_retold=is_retold)
        group, self._group = self._group, Group()
        self._cancelled += group.cancelled
        if crash is not None:
            crash("store.committed", "")
        if self._disk.is_stuck and self._disk.works():
            log.info("store %s: can be written again", self._store.url)
        self._disk.written(group.octets)
        # before producers are let go that were held for this
        self._look_at_disk()
        self._channel.send(pack_number(Kind.COMMITTED, group.number))
        self._channel.flush()
        if crash is not None:
            crash("store.told", "")

    def _write_group(self, *, is_retold: bool) -> None:
        """All of it but what can't be written."""
        if not is_retold:
            try:
                self._store.write(self._group.take_changes())
                return
            except ChangeError:
                # find out which one
                pass
        while True:
            trying: list[Told] = []
            try:
                self._store.write_one_by_one(self._each(trying))
            except ChangeError as error:
                if not trying:
                    raise
                self._decline(trying[-1], str(error))
                self._group = self._group.without(trying[-1].number)
            except FullError:
                # a death while it waits for room is none of theirs
                self._announce(0)
                raise
            else:
                return

    def _each(self, trying: list[Told]) -> Iterator[list[Change]]:
        """The group's changes one by one, each announced; the present one is the last of `trying`."""
        for told, changes in self._group.each():
            self._announce(told.number)
            if crash is not None and changes:
                crash("store.trying", str(told.number))
            trying.append(told)
            yield changes
        # a death from here on is none of theirs
        self._announce(0)

    def _announce(self, number: int) -> None:
        """If it ends this process, the parent is to know which one it was."""
        self._channel.send(pack_number(Kind.TRYING, number))
        self._drain()

    def _decline(self, told: Told, reason: str) -> None:
        """It is not written, now or later."""
        self._keep(told.number, b"".join([bytes(part.raw) for part in told.parts]), reason)
        self._channel.send(pack(Kind.DECLINED, number=told.number, block=reason.encode("utf-8", "replace")))

    def _keep(self, number: int, octets: bytes, reason: str) -> None:
        try:
            where = self._store.set_aside(number, octets)
        except StoreError as error:
            where = f"nowhere: {error}"
        log.error("store %s: change %d is not written, but kept in %s: %s", self._store.url, number, where, reason)

    def _delete_ahead(self) -> None:
        """What consumers have settled makes room, whatever waits before it."""
        deletes = self._group.find_lone_deletes()
        if not deletes:
            return
        changes = [change for _, change in deletes]
        try:
            try:
                self._store.write(changes)
            except FullError:
                if not self._use_reserve():
                    raise
                self._store.write(changes)
        except FullError:
            self._disk.deletion_fails()
            return
        self._group.note_deleted()
        for number, _ in deletes:
            self._channel.send(pack_number(Kind.DELETED, number))

    def _use_reserve(self) -> bool:
        """Give up what is kept for deletions; tell whether there was something."""
        if not self._store.make_room():
            return False
        self._disk.used_reserve()
        return True

    # -- reading

    def _answer(self) -> None:
        """What was asked for, as far as that can be said now."""
        for _ in range(len(self._asked)):
            if self._channel.pending > _OUT_OCTETS:
                return
            envelope = self._asked.popleft()
            if not self._channel.closed and not self._fetch(envelope):
                self._asked.append(envelope)

    def _fetch(self, envelope: Envelope) -> bool:
        """Answer; not if all that there is waits to be written."""
        queue, priority = envelope.destination, envelope.index
        try:
            items, has_more = self._store.read(queue, priority, envelope.serial, envelope.count)
        except FullError as error:
            self._disk.fails(str(error))
            return False
        if not self._group:
            self._disk.works()
        first = self._group.first_of(queue, priority)
        if first:
            # Spilled messages are in their file before the rest of their group is written. While that waits for room,
            # they are not told: the parent takes all that is older than an answer for read, and the next try would
            # write them again although the parent has them.
            items = [item for item in items if item.serial < first]
            if not items:
                return False
            has_more = True
        for page in pack_pages(items, recovered_before=self._recovered_before):
            self._channel.send(page)
        flags = 0 if has_more else int(Flag.FINAL)
        count = count_messages(items)
        self._channel.send(pack(Kind.PAGED, flags=flags, destination=queue, index=priority, count=count))
        self._channel.flush()
        if crash is not None:
            crash("store.paged", "")
        return True

    def _look_at_disk(self) -> None:
        said = self._disk.look(self._octets + self._group.octets)
        if said is not None:
            reason, room = said
            self._log_shortage(reason)
            self._channel.send(pack(Kind.DISK, token=int(bool(reason)), block=reason.encode(), serial=room))

    def _log_shortage(self, reason: str) -> None:
        """Once when it begins, and when it ends; but a write that has failed was logged already."""
        if reason and not (self._is_short or self._disk.is_stuck):
            self._is_short = True
            log.warning("store %s: new persistent messages are refused: %s", self._store.url, reason)
        elif self._is_short and not reason:
            self._is_short = False
            log.info("store %s: there is room for new persistent messages again", self._store.url)


_REQUESTS = (Kind.FETCH, Kind.CLOSE)
