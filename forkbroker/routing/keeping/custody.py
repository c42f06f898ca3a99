"""Messages in the broker's custody: what a change of theirs means for memory, and what for the store.

A queue is memory alone (`queue.py`), the journal is the store alone (`journal.py`).
Whatever has a meaning for both is said here, once: what comes, what comes back, what is done, and the end of a queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from forkbroker.routing.handover import Loaded, Rule
from forkbroker.routing.keeping.journal import Journal
from forkbroker.routing.kit import Kit
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.lanes import Lane
from forkbroker.routing.queues.policies import Visible
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import Queues, shown
from forkbroker.routing.queues.runs import Run
from forkbroker.wire.details import Details
from forkbroker.wire.kinds import Matter


class Custody(Rule):
    """All messages of one router that are in queues, or were taken from one."""

    DUMPED = ("pending", "_owned")

    def __init__(self, kit: Kit, queues: Queues, journal: Journal) -> None:
        self._kit = kit
        self._counters = kit.counters
        self._timers = kit.timers
        self._queues = queues
        self._journal = journal
        self._waits = kit.timers.add("redelivery", self._end_wait)
        self.pending: deque[tuple[int, Queue, Lane]] = deque()
        """What becomes visible when a change is committed, by the numbers of the changes; to read."""
        self._owned: set[bytes] = set()
        """Names of queues of which the store knows on whose account they are."""
        queues.accounts.watchers.append(self._forget_owner)
        self._unused = kit.timers.add("unused-queue", self._expire)
        queues.makers.append(self._watch_use)
        queues.watchers.append(self._end_watches)

    def rebuild(self, loaded: Loaded) -> None:
        """Note who is held because of the journal."""
        self._queues.holds.restore(self._journal)

    # -- what comes

    def append(self, queue: Queue, run: Run, *, is_written: bool = False, is_hidden: bool = False) -> None:
        """New messages at the queue's end. `is_written`: the store has been told what it is to know of them.

        If they are persistent and `is_hidden`, or the policy says so, no consumer sees them before that is committed.

        What memory has no room for and the store can't take is lost, where the policy is to lose messages.
        """
        queue.used = self._timers.now
        lane = queue.lane(run.details.priority)
        keeps = not run.is_stub and (queue.keeps(lane, run) or self._queues.can_wait(queue, run))
        if run.details.persistent:
            if queue.account is not None:
                self.note_owner(queue)
            if not is_written:
                self.write(queue.name, run)
        elif not keeps:
            if self._journal.refusal and queue.policy.full.is_losing:
                self._counters.messages_dropped += run.count
                return
            self.spill(queue, run)
        if not keeps:
            # what comes from the store is committed
            queue.page_out(run)
        elif run.details.persistent and (is_hidden or queue.policy.visible is Visible.COMMITTED):
            number = self._journal.number
            queue.append(lane, run, number)
            self.pending.append((number, queue, lane))
        else:
            queue.append(lane, run)
            if not lane.pending:
                self._queues.show(queue, run)

    def append_copy(self, queue: Queue, copy: Run, run: Run) -> None:
        """A copy of messages that wait for their time, and what is new of these: both or none, for the store."""
        with self._journal.one_change():
            self.append(queue, copy, is_hidden=True)
            if run.details.persistent:
                self._journal.move(run.serial, queue.name, run, run.envelope.index + run.first)

    def move(self, queue: Queue, run: Run, details: Details, *, is_hidden: bool = False) -> None:
        """Messages that had another place, at this queue's end: with new serials, and with these details."""
        serial, run.serial = run.serial, self._queues.take_serials(run.count)
        run.details = details
        if details.persistent:
            self._journal.move(serial, queue.name, run)
        self.append(queue, run, is_written=True, is_hidden=is_hidden)

    def write(self, name: bytes, run: Run) -> None:
        """Let the store have persistent messages, which are for the queue of this name."""
        self._journal.write(name, run)
        self._counters.messages_written += run.count

    def spill(self, queue: Queue, run: Run) -> None:
        """Let the store have messages that are not persistent."""
        self._journal.write(queue.name, run)
        self._counters.messages_spilled += run.count

    def page_in(self, queue: Queue, run: Run) -> None:
        """Paged messages that follow what is in memory."""
        if not queue.page_in(run).pending:
            self._queues.show(queue, run)

    # -- what is committed

    def commit(self, number: int, most: int) -> list[Queue]:
        """All changes up to this number are committed: the queues in which messages can be taken by that.

        So many runs at most; if there are more, `has_hidden` tells so.
        """
        shown: dict[Queue, None] = {}
        while self.pending and self.pending[0][0] <= number and most > 0:
            most -= 1
            change, queue, lane = self.pending.popleft()
            if not queue.is_gone:
                shown[queue] = None
                for run in queue.commit(lane, change):
                    self._queues.show(queue, run)
        return list(shown)

    def has_hidden(self) -> bool:
        """Whether messages are still hidden although the changes are committed for which they waited."""
        return bool(self.pending) and self.pending[0][0] <= self._journal.committed

    # -- what was taken

    def drop_bodies(self, queue: Queue, run: Run) -> None:
        """Keep of claimed messages, which are persistent, no more than their place, where memory is scarce."""
        window = queue.window
        if self._journal.is_open and window.free * 2 < window.limit:
            queue.drop_bodies(run)

    def revive(self, queue: Queue, stub: Run, page: Run) -> None:
        """The store has given the bodies of these messages again."""
        queue.revive(stub, page)
        self._queues.show(queue, stub)

    def update(self, queue: Queue, run: Run) -> None:
        """These were delivered in vain, or are suspect: the store is to know it."""
        if run.details.persistent and not queue.is_gone:
            self._journal.update(run)

    def put_back(self, queue: Queue, run: Run) -> None:
        """To its old place, as it is."""
        if queue.is_gone:
            self._counters.messages_dropped += run.count
            queue.forget(run)
            return
        queue.put_back(run)
        self._queues.show(queue, run)

    def put_back_after(self, wait_ms: float, queue: Queue, run: Run) -> None:
        """To its old place, as it is, when so many milliseconds have passed."""
        queue.waiting[run.serial] = run
        self._waits.after(wait_ms, (queue.name, run.serial))

    def _end_wait(self, key: tuple[bytes, int]) -> None:
        name, serial = key
        queue = self._queues.find(name)
        run = None if queue is None else queue.waiting.pop(serial, None)
        if queue is not None and run is not None:
            # else the queue is gone, and another one may have its name
            self.put_back(queue, run)

    def settle(self, queue: Queue, run: Run) -> None:
        """Taken messages that are done, or dropped."""
        queue.forget(run)
        if run.details.persistent and not queue.is_gone:
            self._journal.delete(run)

    def delete(self, run: Run) -> None:
        """Messages that stand in no queue are done, or dropped."""
        if run.details.persistent:
            self._journal.delete(run)

    # -- ends

    def end_consumption(self, queue: Queue) -> None:
        """A consumer has left: a temporary queue ends with its owner's last one."""
        queue.used = self._timers.now
        # an exclusive consumer may have made way for others
        self._queues.changed[queue] = None
        if queue.owner is not None and not queue.readers.all:
            self._counters.messages_dropped += queue.ready + queue.paged
            self.forget(queue)

    def forget(self, queue: Queue) -> None:
        """The queue is gone, and what is in it."""
        if queue.paged:
            self._journal.purge(queue.name)
        self._queues.remove(queue)

    def _watch_use(self, queue: Queue) -> None:
        """A queue was made, which ends when it is not used."""
        if queue.policy.queue_expiry and not queue.is_durable:
            self._unused.after(queue.policy.queue_expiry, queue.name)

    def _expire(self, name: bytes) -> None:
        """End the queue if it was not used for as long as its policy says. What of it is delivered is in use."""
        queue = self._queues.find(name)
        if queue is None:
            return
        after_ms = queue.policy.queue_expiry
        left_ms = after_ms - (self._timers.now - queue.used) * 1000
        if queue.readers.all or queue.returning or queue.waiting:
            left_ms = after_ms
        if left_ms > 0:
            self._unused.after(left_ms, name)
            return
        count = queue.messages
        self._counters.messages_dropped += count
        self._kit.events.append(
            f"queue {shown(name)}: expired, not used for {after_ms / 1000:,.0f} s, {count:,} messages dropped"
        )
        if count:
            self._journal.purge(name)
        self._queues.remove(queue)

    def _end_watches(self, queue: Queue) -> None:
        """The queue is gone: what waits for its redelivery goes with it."""
        self._unused.cancel(queue.name)
        if queue.waiting:
            self._kit.chores.add(self._drop_waiting(queue))

    def _drop_waiting(self, queue: Queue) -> Iterator[None]:
        while queue.waiting:
            serial, run = queue.waiting.popitem()
            self._waits.cancel((queue.name, serial))
            self._counters.messages_dropped += run.count
            queue.forget(run)
            yield

    # -- accounts

    def note_owner(self, queue: Queue) -> None:
        """Let the store know on whose account this queue is, as something of it will survive.

        It is told before that: a note without a queue is dropped at the next start, a queue without one is nobody's.
        """
        if queue.account is not None and queue.name not in self._owned:
            self._owned.add(queue.name)
            self._journal.note(queue.name, Matter.OWNER, queue.account.user.encode(errors="surrogateescape"))

    def restore_owner(self, name: bytes, user: bytes) -> None:
        """The store knows on whose account the queue of this name was before the broker's start."""
        self._owned.add(name)
        if not self._queues.restore_owner(name, user.decode(errors="surrogateescape")):
            # killed after the last message was deleted, and before this was
            self._forget_owner(name)

    def _forget_owner(self, name: bytes) -> None:
        """The queue of this name is on nobody's account any more."""
        if name in self._owned:
            self._owned.discard(name)
            self._journal.note(name, Matter.OWNER, None)

    # -- who waits for the store

    def hold_for_store(self, peer: Peer) -> None:
        """Hold the peer that has brought what the store is to have, while it has too much to do."""
        if not self._journal.refusal:
            self._queues.hold_because_of(self._journal, peer)

    def let_go_on(self) -> None:
        """Let those go on that were held for the store, if it has room or refuses what they bring."""
        journal = self._journal
        if journal.held and (journal.refusal or journal.has_room):
            self._queues.holds.release(journal)
