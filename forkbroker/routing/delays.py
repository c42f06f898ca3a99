"""Messages that wait for their time before they stand in their queue, once or again and again.

They are in memory, and with flag `PERSISTENT` in the store as well; how many there may be is limited. When the time
has come a message gets its place at the end of the queue. One that comes again leaves a copy there, and waits on.
"""

from __future__ import annotations

from dataclasses import replace

from forkbroker.routing.counters import Counters
from forkbroker.routing.journal import Journal
from forkbroker.routing.queue import Queue
from forkbroker.routing.queues import Queues, shown
from forkbroker.routing.recurrence import next_due
from forkbroker.routing.returns import Returns
from forkbroker.routing.runs import Run
from forkbroker.routing.timers import Timers
from forkbroker.schedules import ScheduleError
from forkbroker.wire.details import Details
from forkbroker.wire.envelope import with_index


class Delays:
    """All messages that wait for their time."""

    def __init__(
        self,
        queues: Queues,
        returns: Returns,
        counters: Counters,
        journal: Journal,
        timers: Timers,
        *,
        limit: int,
    ) -> None:
        """`limit`: octets of memory that these messages may use."""
        self._queues = queues
        self._returns = returns
        self._counters = counters
        self._journal = journal
        self._timers = timers
        self._limit = limit
        self._waiting: dict[bytes, dict[int, Run]] = {}
        """By their queues and serials."""
        self._timer = timers.add("delay", self._fire)
        queues.watchers.append(self._drop_for)
        self.octets = 0
        """Of memory that they use."""
        self.messages = 0
        """How many there are."""

    @property
    def is_full(self) -> bool:
        """No more of them."""
        return self.octets >= self._limit

    def would_be_full(self, octets: int) -> bool:
        """Tell whether no more of them are permitted once they use so many octets more."""
        return self.octets + octets >= self._limit

    def describe_limit(self) -> str:
        """Why there may be no more of them."""
        return (
            f"{self.messages:,} delayed messages use {self.octets:,} octets, the limit (max-delayed-bytes) is "
            f"{self._limit:,}"
        )

    def add(self, queue: bytes, run: Run) -> None:
        """New messages for this queue, which wait until `run.details.due`."""
        self._counters.messages_delayed += run.count
        if run.details.persistent:
            self._journal.write(queue, run)
            self._counters.messages_written += run.count
        self.restore(queue, run)

    def restore(self, queue: bytes, run: Run) -> None:
        """The store has these already."""
        self.octets += run.memory
        self.messages += run.count
        self._waiting.setdefault(queue, {})[run.serial] = run
        self._timer.at(run.details.due, (queue, run.serial))

    def _take(self, queue: bytes, serial: int) -> Run:
        """Let go of what waits no longer."""
        waiting = self._waiting[queue]
        run = waiting.pop(serial)
        if not waiting:
            del self._waiting[queue]
        self.octets -= run.memory
        self.messages -= run.count
        return run

    def _drop_for(self, queue: Queue) -> None:
        """The queue is gone, and no message makes it again: drop what waits for it."""
        if self._queues.would_make(queue.name):
            return
        for serial in list(self._waiting.get(queue.name, ())):
            self._timer.cancel((queue.name, serial))
            self._drop(self._take(queue.name, serial))

    def _drop(self, run: Run) -> None:
        self._counters.messages_dropped += run.count
        if run.details.persistent:
            self._journal.delete(run)

    def _fire(self, key: tuple[bytes, int]) -> None:
        """The time has come."""
        name, serial = key
        run = self._take(name, serial)
        queue = self._queues.find(name)
        if queue is None:
            if not self._queues.would_make(name):
                self._drop(run)
                return
            queue = self._queues.make(name)
        details = run.details
        due, repeat = self._find_next(name, details)
        ready = replace(details, due=0, period=0, repeat=0, cron=b"", dedup_id=b"", dedup_until=0)
        if not due:
            serial, run.serial = run.serial, self._queues.take_serials(run.count)
            run.details = ready
            if details.persistent:
                self._journal.move(serial, name, run)
            self._queues.append(queue, run, is_written=True, is_hidden=True)
        else:
            self._repeat(queue, run, ready, due, repeat)
        if 0 < details.expires <= self._timers.wall_ms():
            self._queues.expiring[queue] = None
        self._returns.make_room(queue)

    def _find_next(self, name: bytes, details: Details) -> tuple[int, int]:
        try:
            return next_due(details, self._timers.wall_ms())
        except ScheduleError as error:
            self._returns.notes.append(
                f"queue {shown(name)}: a message that came by cron comes for the last time: {error}"
            )
            return 0, 0

    def _repeat(self, queue: Queue, run: Run, ready: Details, due: int, repeat: int) -> None:
        """Leave a copy, and wait for the next time: both or none, for the store."""
        copy = Run(
            run.envelope,
            first=run.first,
            count=run.count,
            serial=self._queues.take_serials(run.count),
            octets=run.octets,
            overhead=run.overhead,
            details=ready,
        )
        # the next one is another message, and needs a message-id of its own
        run.envelope = with_index(run.envelope, run.envelope.index + run.count)
        run.details = replace(run.details, due=due, repeat=repeat)
        with self._journal.one_change():
            self._queues.append(queue, copy, is_hidden=True)
            if run.details.persistent:
                self._journal.move(run.serial, queue.name, run)
        self.restore(queue.name, run)
