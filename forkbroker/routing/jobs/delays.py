"""Messages that wait for their time before they stand in their queue, once or again and again.

They are in memory, and with flag `PERSISTENT` in the store as well; how much they may use is limited. When the time
has come a message gets its place at the end of the queue. One that comes again leaves a copy there, and waits on.
Consumers see a persistent one when the change that tells the store of it is committed: what is in the store's schedule
was never delivered.

A delay that was asked for as a span goes by the monotonic clock, and so do the repetitions that follow it. A moment, a
crontab line, and whatever waits when the broker starts go by the system clock: the store has dates alone.

A message whose crontab line can't be read (its library is not installed, perhaps) stays in memory and in the store as
it is, without an entry in the timers, and goes on after a start at which the line can be read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from forkbroker.cron import CronError
from forkbroker.errors import EnvelopeError
from forkbroker.routing.handover import Loaded, Record, Rule
from forkbroker.routing.jobs.misfits import leave_out
from forkbroker.routing.jobs.recurrence import check_line, next_due, next_index
from forkbroker.routing.jobs.returns import Returns
from forkbroker.routing.keeping.custody import Custody
from forkbroker.routing.kit import Kit
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import Queues, shown
from forkbroker.routing.queues.runs import Run
from forkbroker.wire.details import Details, Wishes
from forkbroker.wire.envelope import with_index

Key = tuple[bytes, int]
"""The name of a queue, and the serial of the first message of a run."""

_NAMED = 20
"""Serials that one line for the administrator names."""


@dataclass(slots=True)
class DelayedMessages(Record):
    """What waits for one queue."""

    ANEW = ("messages", "octets")

    runs: dict[int, Run] = field(default_factory=dict)
    """By their serials."""
    messages: int = 0
    octets: int = 0
    """Of memory that they use."""

    def rebuild(self) -> None:
        """Add up the runs."""
        self.messages = sum(run.count for run in self.runs.values())
        self.octets = sum(run.memory for run in self.runs.values())


@dataclass(frozen=True, slots=True)
class DelayLimits:
    """How much of it there may be."""

    octets: int
    """Of memory that all these messages may use."""
    min_period: int
    """Milliseconds between two repetitions, at least."""
    max_repeating: int
    """Messages of one client that come again and again, at one time."""


class Delays(Rule):
    """All messages that wait for their time."""

    DUMPED = ("_waiting", "_unread", "_owners", "_repeating")
    ANEW = ("_limits", "octets", "messages")

    def __init__(self, kit: Kit, queues: Queues, custody: Custody, returns: Returns, limits: DelayLimits) -> None:
        self._kit = kit
        self._counters = kit.counters
        self._timers = kit.timers
        self._queues = queues
        self._custody = custody
        self._returns = returns
        self._limits = limits
        self._waiting: dict[bytes, DelayedMessages] = {}
        self._unread: dict[tuple[bytes, str], list[int]] = {}
        """Serials of what can't be read, by queue and reason, as far as the administrator was not told."""
        self._owners: dict[Key, Peer] = {}
        self._repeating: Counter[Peer] = Counter()
        self._spans = kit.timers.add("delay-span", self._end_span)
        self._dates = kit.timers.add("delay-date", self._reach_date)
        queues.watchers.append(self._drop_for)
        self.octets = 0
        """Of memory that they use."""
        self.messages = 0
        """How many there are."""

    def adopt(self, limits: DelayLimits) -> None:
        """Heed other limits from now on; what waits stays."""
        self._limits = limits

    def rebuild(self, loaded: Loaded) -> None:
        """Add up what waits."""
        self.messages = sum(waiting.messages for waiting in self._waiting.values())
        self.octets = sum(waiting.octets for waiting in self._waiting.values())

    # -- what is accepted

    def find_refusal(self, peer: Peer, wishes: Wishes, count: int, planned: int = 0) -> str | None:
        """Why the peer may not send so many delayed messages, while so many that repeat are about to come from it."""
        if self.is_full:
            return self.describe_limit()
        limits = self._limits
        if wishes.repeat and 0 < wishes.period < limits.min_period:
            return (
                f"a message cannot be repeated every {wishes.period:,} ms, the shortest period is "
                f"{limits.min_period:,} ms (min-repeat-period)"
            )
        if wishes.is_repeated and self._repeating[peer] + planned + count > limits.max_repeating:
            return (
                f"this client has {self._repeating[peer]:,} messages that repeat, the limit (max-repeating) is "
                f"{limits.max_repeating:,}"
            )
        return None

    @property
    def is_full(self) -> bool:
        """No more of them."""
        return self.octets >= self._limits.octets

    def would_be_full(self, octets: int) -> bool:
        """Tell whether no more of them are permitted once they use so many octets more."""
        return self.octets + octets >= self._limits.octets

    def describe_limit(self) -> str:
        """Why there may be no more of them."""
        return (
            f"{self.messages:,} delayed messages use {self.octets:,} bytes, the limit (max-delayed-bytes) is "
            f"{self._limits.octets:,}"
        )

    def weigh(self, queue: bytes) -> tuple[int, int]:
        """Return how many messages wait for this queue, and the octets of memory that they use."""
        waiting = self._waiting.get(queue)
        return (waiting.messages, waiting.octets) if waiting is not None else (0, 0)

    def add(self, peer: Peer, queue: bytes, run: Run, wishes: Wishes) -> None:
        """New messages of this peer for this queue, which wait as `wishes` and `run.details` say."""
        self._counters.messages_delayed += run.count
        if run.details.persistent:
            self._custody.write(queue, run)
        key = self._keep(queue, run)
        if wishes.is_repeated:
            self._owners[key] = peer
            self._repeating[peer] += run.count
        if wishes.is_span:
            self._spans.after(wishes.delay, key)
        else:
            self._dates.at(run.details.due, key)

    def peer_ended(self, peer: Peer) -> None:
        """What the peer has sent stays, and is nobody's."""
        del self._repeating[peer]

    # -- what the store has from before

    def restore(self, queue: bytes, run: Run) -> None:
        """The store has these."""
        key = self._keep(queue, run)
        fault = check_line(run.details.cron)
        if fault:
            self._set_aside(key, fault)
        else:
            self._dates.at(run.details.due, key)

    def opened(self) -> None:
        """All that the store has was restored: tell what of it waits for something else than its time."""
        for name in [name for name in self._waiting if self._queues.find(name) is None]:
            if not self._queues.takes(name):
                self._leave_to_store(name)
        self._tell_unread()

    def _leave_to_store(self, name: bytes) -> None:
        """Nothing makes this queue again: forget what waits for it, but not in the store."""
        runs = list(self._waiting[name].runs.items())
        serials = [serial for first, run in runs for serial in range(first, first + run.count)]
        self._kit.notes.append(
            f"queue {shown(name)}: does not exist, the store keeps its delayed messages: {_name(serials)}"
        )
        for serial, _ in runs:
            self._cancel((name, serial))

    def _set_aside(self, key: Key, fault: str) -> None:
        name, serial = key
        serials = range(serial, serial + self._waiting[name].runs[serial].count)
        self._unread.setdefault((name, fault), []).extend(serials)

    def _tell_unread(self) -> None:
        for (name, fault), serials in self._unread.items():
            self._kit.notes.append(
                f"queue {shown(name)}: not repeated before a restart, the cron line cannot be read: "
                f"{_name(serials)}: {fault}"
            )
        self._unread.clear()

    # -- what waits

    def _keep(self, name: bytes, run: Run) -> Key:
        waiting = self._waiting.get(name)
        if waiting is None:
            waiting = self._waiting[name] = DelayedMessages()
            self._queues.reserve(name)
        waiting.runs[run.serial] = run
        self._count(waiting, run.count, run.memory)
        return name, run.serial

    def _count(self, waiting: DelayedMessages, messages: int, octets: int) -> None:
        waiting.messages += messages
        waiting.octets += octets
        self.messages += messages
        self.octets += octets

    def _take(self, key: Key) -> Run:
        """Let go of what waits no longer."""
        name, serial = key
        waiting = self._waiting[name]
        run = waiting.runs.pop(serial)
        self._count(waiting, -run.count, -run.memory)
        if not waiting.runs:
            del self._waiting[name]
            self._queues.release(name)
        self._disown(key, run)
        return run

    def _disown(self, key: Key, run: Run) -> None:
        """It does not count any more as one that its sender has repeated."""
        owner = self._owners.pop(key, None)
        if owner is not None and owner in self._repeating:
            self._repeating[owner] -= run.count

    def _has(self, key: Key) -> bool:
        """Whether this still waits: its queue may be gone, and its entry in the timers not yet."""
        name, serial = key
        return name in self._waiting and serial in self._waiting[name].runs

    def _cancel(self, key: Key) -> Run:
        self._spans.cancel(key)
        self._dates.cancel(key)
        return self._take(key)

    def _drop_for(self, queue: Queue) -> None:
        """The queue is gone. If no message makes it again, drop what waits for it."""
        waiting = self._waiting.get(queue.name)
        if waiting is None or self._queues.takes(queue.name):
            return
        # another queue of this name may be made before all of it is dropped
        del self._waiting[queue.name]
        self._queues.release(queue.name)
        self._kit.chores.add(self._drop(queue.name, waiting))

    def _drop(self, name: bytes, waiting: DelayedMessages) -> Iterator[None]:
        while waiting.runs:
            serial, run = waiting.runs.popitem()
            key = (name, serial)
            self._spans.cancel(key)
            self._dates.cancel(key)
            self._count(waiting, -run.count, -run.memory)
            self._disown(key, run)
            self._counters.messages_dropped += run.count
            self._custody.delete(run)
            yield

    # -- for an administrator

    def all(self) -> Iterator[tuple[bytes, Run]]:
        """What waits, with the names of the queues: each when it is asked for."""
        for name in sorted(self._waiting):
            waiting = self._waiting.get(name)
            for serial in list(waiting.runs) if waiting is not None else ():
                run = waiting.runs.get(serial) if waiting is not None else None
                if run is not None:
                    yield name, run

    def run_now(self, name: bytes, run: Run) -> None:
        """Let its time come at once, instead of the next time."""
        key = (name, run.serial)
        if self._has(key):
            self._spans.cancel(key)
            self._dates.at(self._timers.wall_ms(), key)

    def cancel(self, name: bytes, run: Run) -> None:
        """It never comes."""
        key = (name, run.serial)
        if self._has(key):
            self._cancel(key)
            self._counters.messages_dropped += run.count
            self._custody.delete(run)

    # -- the time has come

    def _end_span(self, key: Key) -> None:
        """The next time, if there is one, is a whole number of periods from when this one should have been."""
        if not self._has(key):
            return
        name, serial = key
        details = self._waiting[name].runs[serial].details
        late_ms = (self._timers.now - self._spans.was_due) * 1000
        due, repeat = next_due(details, details.due + int(late_ms))
        if due:
            wait_ms = due - details.due - late_ms
            self._spans.after(wait_ms, key)
            due = self._timers.wall_ms() + round(wait_ms)
        self._try_to_fire(key, due, repeat)

    def _reach_date(self, key: Key) -> None:
        if not self._has(key):
            return
        name, serial = key
        try:
            due, repeat = next_due(self._waiting[name].runs[serial].details, self._timers.wall_ms())
        except CronError as error:
            self._set_aside(key, str(error))
            self._tell_unread()
            return
        if due:
            self._dates.at(due, key)
        self._try_to_fire(key, due, repeat)

    def _try_to_fire(self, key: Key, due: int, repeat: int) -> None:
        """Fire, or leave the messages out if that is not possible."""
        name, serial = key
        run = self._waiting[name].runs[serial]
        try:
            self._fire(key, due, repeat)
        except EnvelopeError as error:
            if name in self._waiting and serial in self._waiting[name].runs:
                self._cancel(key)
            leave_out(self._kit, name, run, error)

    def _fire(self, key: Key, due: int, repeat: int) -> None:
        """To the queue; and once more at `due` if that is not 0."""
        name, serial = key
        queue = self._queues.find(name) or self._queues.make(name)
        details = self._waiting[name].runs[serial].details
        ready = replace(details, due=0, period=0, repeat=0, cron=b"", dedup_id=b"", dedup_until=0)
        if due:
            self._repeat(queue, self._waiting[name].runs[serial], ready, replace(details, due=due, repeat=repeat))
        else:
            self._custody.move(queue, self._take(key), ready, is_hidden=True)
        if 0 < details.expires <= self._timers.wall_ms():
            self._queues.expiring[queue] = None
        self._returns.make_room(queue)

    def _repeat(self, queue: Queue, run: Run, ready: Details, later: Details) -> None:
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
        run.envelope = with_index(run.envelope, next_index(run.envelope.index, run.count))
        run.details = later
        self._custody.append_copy(queue, copy, run)


def _name(serials: Iterable[int]) -> str:
    """Which messages, for an administrator who looks them up in the database."""
    known = sorted(serials)
    text = ", ".join(map(str, known[:_NAMED]))
    more = f" and {len(known) - _NAMED:,} more" if len(known) > _NAMED else ""
    return f"{'message' if len(known) == 1 else 'messages'} {text}{more}"
