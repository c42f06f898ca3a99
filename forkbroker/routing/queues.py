"""All queues by name: their making, their limits, their end, and how messages come to stand in them.

Queues are made by who first names them, and forgotten when nothing is in them and nobody consumes. A `/reply-queue/`
exists only while its owner consumes from it: what is sent to another one is dropped, and so is what it held. The
queue of a durable subscription (`/dsub/`) exists as long as the subscription.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from forkbroker.destinations import Sort
from forkbroker.errors import EnvelopeError
from forkbroker.routing.chores import STEPS, Chores, drop
from forkbroker.routing.counters import Counters, QueueView
from forkbroker.routing.holds import Holds
from forkbroker.routing.journal import Journal
from forkbroker.routing.lanes import Lane
from forkbroker.routing.peers import Outbox, Peer
from forkbroker.routing.policies import Full, Policy, QueuePolicies, QueuePolicy, Visible
from forkbroker.routing.queue import Queue
from forkbroker.routing.runs import Run
from forkbroker.routing.timers import Timers
from forkbroker.routing.window import Window

RESUME_PERCENT = 80
"""A full queue lets its producers go on below this part of its limit: not at every message that leaves."""

_CATCH_UP_MS = 100
"""How long consumers may take to make room in memory before what comes goes to the store."""
_SWEEP_EVERY_MS = 100
"""Between two looks for what has expired in one queue: what expires one by one is taken out in one go."""
_REPLY = Sort.REPLY_QUEUE.value.encode()
_DURABLE = Sort.DURABLE.value.encode()


class Queues:
    """The queues of one router."""

    def __init__(
        self,
        policy: Policy,
        counters: Counters,
        journal: Journal,
        timers: Timers,
        out: Outbox,
        *,
        steps: int = STEPS,
    ) -> None:
        """HOLD and RESUME go to `out`. `steps`: so many of each long work in one turn."""
        self._policy = policy
        self._policies = QueuePolicies(policy.queue, policy.rules)
        self._durable_policies = QueuePolicies(policy.durable, policy.rules)
        self._counters = counters
        self._journal = journal
        self._timers = timers
        self._queues: dict[bytes, Queue] = {}
        self._reserved: set[bytes] = set()
        """Names of queues to which something will come."""
        self._absent: set[bytes] = set()
        """Those of them that do not exist."""
        self._serial = 1
        self._expiries = timers.add("expiry", self._note_expiry)
        self._returns = timers.add("redelivery", self._end_wait)
        self._moments = timers.add("catching-up", self._end_catching_up)
        self.window = Window(policy.queue_memory)
        self.holds = Holds(out)
        self.changed: dict[Queue, None] = {}
        """Those for which an offer may have become possible; a dict for its order."""
        self.expiring: dict[Queue, None] = {}
        """Those in which messages have expired."""
        self._pending: deque[tuple[int, Queue, Lane]] = deque()
        """What becomes visible when a change is committed, by the numbers of the changes."""
        self.chores = Chores(steps)
        """What is too long for one turn."""
        self.watchers: list[Callable[[Queue], None]] = []
        """They are called with each queue that is gone."""

    # -- names

    def find(self, name: bytes) -> Queue | None:
        """The queue of this name, if it exists."""
        return self._queues.get(name)

    def policy_for(self, name: bytes) -> QueuePolicy:
        """What holds for the queue of this name, whether it exists or not."""
        return (self._durable_policies if is_durable(name) else self._policies).find(name)

    def all(self) -> list[Queue]:
        """Every queue."""
        return list(self._queues.values())

    def views(self) -> list[QueueView]:
        """All queues as they are now."""
        return [queue.view() for queue in self._queues.values()]

    def would_make(self, name: bytes) -> bool:
        """Whether a SEND to this name makes a queue: those of clients and of durable subscriptions it does not."""
        return name not in self._queues and not name.startswith((_REPLY, _DURABLE))

    def find_refusal_to_make(self, name: bytes, planned: int = 0) -> str | None:
        """Why there can't be a queue of this name, while so many others are about to be made."""
        limit = self._policy.max_queues
        if name in self._reserved or len(self._queues) + len(self._absent) + planned < limit:
            return None
        return f"queue {shown(name)} does not exist, and there are {limit:,} already, the limit (max-queues)"

    def reserve(self, name: bytes) -> None:
        """Something waits elsewhere that is to come to the queue of this name: it counts as if it existed."""
        self._reserved.add(name)
        if name not in self._queues:
            self._absent.add(name)

    def release(self, name: bytes) -> None:
        """Nothing is to come any more."""
        self._reserved.discard(name)
        self._absent.discard(name)

    def make(self, name: bytes, owner: Peer | None = None) -> Queue:
        """A queue that doesn't exist yet."""
        return self._make(name, owner, born=self._serial - 1)

    def restore(self, name: bytes) -> Queue:
        """The queue of this name, of which the store has messages from before the broker's start.

        It was born before all of them: one that was born now would take them for an older queue's.
        """
        return self._queues.get(name) or self._make(name, None, born=0)

    def _make(self, name: bytes, owner: Peer | None, *, born: int) -> Queue:
        policy = self.policy_for(name)
        queue = Queue(name, policy, self.window, owner, is_durable=is_durable(name), born=born)
        self._queues[name] = queue
        self._absent.discard(name)
        return queue

    def open(self, name: bytes, peer: Peer, *, is_temporary: bool) -> Queue | str:
        """The queue that the peer wants to consume from, made if need be; or the reason why it may not.

        Raises:
            EnvelopeError: this is not what temporary queues are called.
        """
        is_reply = name.startswith(_REPLY)
        if is_temporary and not is_reply:
            raise EnvelopeError(f"SUBSCRIBE: {name!r} is not the name of a temporary queue")
        queue = self._queues.get(name)
        if is_reply and not (is_temporary and (queue is None or queue.owner == peer)):
            return f"{shown(name)} is a temporary queue: only its owner may consume"
        if queue is not None:
            return queue
        if is_durable(name):
            return f"there is no durable subscription {shown(name)}"
        refusal = self.find_refusal_to_make(name)
        return self.make(name, peer if is_temporary else None) if refusal is None else refusal

    # -- messages

    def take_serials(self, count: int) -> int:
        """Serials for so many messages: the first one."""
        serial = self._serial
        self._serial += count
        return serial

    def resume_serials(self, serial: int) -> None:
        """The store has all below this one."""
        self._serial = max(self._serial, serial)

    def append(self, queue: Queue, run: Run, *, is_written: bool = False, is_hidden: bool = False) -> None:
        """New messages at the queue's end. `is_written`: the store has been told what it is to know of them.

        If they are persistent and `is_hidden`, or the policy says so, no consumer sees them before that is committed.

        What memory has no room for and the store can't take is lost, where the policy is to lose messages.
        """
        keeps = not run.is_stub and (queue.keeps(run) or self._can_wait(queue, run))
        if run.details.persistent:
            if not is_written:
                self._journal.write(queue.name, run)
                self._counters.messages_written += run.count
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
            self._pending.append((number, queue, queue.append(run, number)))
        else:
            lane = queue.append(run)
            if not lane.pending:
                self._offer(queue, run)

    def page_in(self, queue: Queue, run: Run) -> None:
        """Paged messages that follow what is in memory."""
        if not queue.page_in(run).pending:
            self._offer(queue, run)

    def commit(self, number: int, most: int) -> list[Queue]:
        """All changes up to this number are committed: the queues in which messages can be taken by that.

        So many runs at most; if there are more, `has_hidden` tells so.
        """
        shown: dict[Queue, None] = {}
        while self.has_hidden(number) and most > 0:
            most -= 1
            change, queue, lane = self._pending.popleft()
            if not queue.is_gone:
                shown[queue] = None
                for run in queue.commit(lane, change):
                    self._offer(queue, run)
        return list(shown)

    def has_hidden(self, number: int) -> bool:
        """Whether messages are still hidden although all changes up to this number are committed."""
        return bool(self._pending) and self._pending[0][0] <= number

    def _offer(self, queue: Queue, run: Run) -> None:
        """These can be taken now."""
        self.changed[queue] = None
        if run.details.expires:
            self.watch_expiry(queue, run.details.expires)

    def spill(self, queue: Queue, run: Run) -> None:
        """Let the store have messages that are not persistent."""
        self._journal.write(queue.name, run)
        self._counters.messages_spilled += run.count

    def put_back(self, queue: Queue, run: Run) -> None:
        """To its old place, as it is."""
        if queue.is_gone:
            self._counters.messages_dropped += run.count
            queue.forget(run)
            return
        queue.put_back(run)
        self._offer(queue, run)

    def drop_bodies(self, queue: Queue, run: Run) -> None:
        """Keep of claimed messages, which are persistent, no more than their place, where memory is scarce."""
        if self._journal.is_open and self.window.free * 2 < self.window.limit:
            queue.drop_bodies(run)

    def revive(self, queue: Queue, stub: Run, page: Run) -> None:
        """The store has given the bodies of these messages again."""
        queue.revive(stub, page)
        self._offer(queue, stub)

    def put_back_after(self, wait_ms: float, queue: Queue, run: Run) -> None:
        """To its old place, as it is, when so many milliseconds have passed."""
        queue.waiting[run.serial] = run
        self._returns.after(wait_ms, (queue.name, run.serial))

    def _end_wait(self, key: tuple[bytes, int]) -> None:
        name, serial = key
        queue = self._queues.get(name)
        run = None if queue is None else queue.waiting.pop(serial, None)
        if queue is not None and run is not None:
            # else the queue is gone, and another one may have its name
            self.put_back(queue, run)

    def settle(self, queue: Queue, run: Run) -> None:
        """Taken messages that are done, or dropped."""
        queue.forget(run)
        if run.details.persistent and not queue.is_gone:
            self._journal.delete(run)

    def watch_expiry(self, queue: Queue, expires_ms: int) -> None:
        """Messages in the queue's memory expire then."""
        self._expiries.at_latest(expires_ms, queue.name)

    def take_expired(self, queue: Queue, most: int) -> list[Run]:
        """Take out of the queue what has expired: so many runs at most. If there are more it stays an expiring one."""
        now_ms = self._timers.wall_ms()
        expired = queue.take_expired(now_ms, most)
        next_expiry = queue.next_expiry()
        if not 0 < next_expiry <= now_ms:
            self.expiring.pop(queue, None)
            if next_expiry:
                self.watch_expiry(queue, max(next_expiry, now_ms + _SWEEP_EVERY_MS))
        return expired

    def is_expiring(self, queue: Queue) -> bool:
        """Whether something in the queue's memory has expired, and is to be taken out."""
        return queue in self.expiring or 0 < queue.next_expiry() <= self._timers.wall_ms()

    def _note_expiry(self, name: bytes) -> None:
        self.expiring[self._queues[name]] = None

    # -- limits

    def find_excess(self, queue: Queue) -> str | None:
        """Which of its limits the queue has reached."""
        policy = queue.policy
        if policy.max_bytes and queue.octets >= policy.max_bytes:
            return f"holds {queue.octets:,} octets, its limit (max-queue-bytes) is {policy.max_bytes:,}"
        if policy.max_length and queue.messages >= policy.max_length:
            return f"holds {queue.messages:,} messages, its limit (max-queue-length) is {policy.max_length:,}"
        if self._journal.refusal and queue.memory >= self.window.free:
            return f"can't be given more: {self._journal.refusal}"
        return None

    def find_excess_with(self, name: bytes, messages: int, octets: int) -> str | None:
        """Which of its limits the queue of this name, if it exists, has reached with so much more than it holds."""
        queue = self._queues.get(name)
        policy = self.policy_for(name) if queue is None else queue.policy
        if policy.max_bytes and octets + (queue.octets if queue else 0) >= policy.max_bytes:
            return f"would hold more octets than its limit (max-queue-bytes), {policy.max_bytes:,}"
        if policy.max_length and messages + (queue.messages if queue else 0) >= policy.max_length:
            return f"would hold more messages than its limit (max-queue-length), {policy.max_length:,}"
        if self._journal.refusal and octets + (queue.memory if queue else 0) >= self.window.free:
            return f"can't be given more: {self._journal.refusal}"
        return None

    def is_holding(self, peer: Peer, queue: Queue) -> bool:
        """Whether the queue at its limit holds this producer back, and takes what it has sent already.

        One that acknowledges messages of this queue could not do so any more, and would wait for ever: it is refused.
        """
        return queue.policy.full is Full.HOLD and not queue.consumers.settle_by(peer)

    def hold(self, peer: Peer, queue: Queue) -> None:
        """Hold the peer that sent to this queue, if the queue is at its limit, or its consumers are catching up."""
        is_full = queue.catching_up_until > self._timers.now or self.find_excess(queue) is not None
        if is_full and self.is_holding(peer, queue):
            self._counters.producers_held += self.holds.hold(peer, queue)

    def hold_for_store(self, peer: Peer) -> None:
        """Hold the peer that has brought what the store is to have, while it has too much to do."""
        if not self._journal.refusal:
            self._counters.producers_held += self.holds.hold(peer, self._journal)

    def tidy(self, queue: Queue) -> None:
        """After messages or consumers left: let producers go on; forget a queue that is nobody's."""
        if queue.catching_up_until and queue.memory * 100 < self.window.free * RESUME_PERCENT:
            queue.catching_up_until = 0.0
        if queue.held and self._has_room(queue):
            self.holds.release(queue)
        if not (queue.messages or queue.consumers or queue.is_gone or queue.is_durable):
            self.forget(queue)

    def _has_room(self, queue: Queue) -> bool:
        policy = queue.policy
        return (
            (not policy.max_bytes or queue.octets * 100 < policy.max_bytes * RESUME_PERCENT)
            and (not policy.max_length or queue.messages * 100 < policy.max_length * RESUME_PERCENT)
            and (not self._journal.refusal or queue.memory < self.window.free)
            and not self._is_catching_up(queue)
        )

    def _can_wait(self, queue: Queue, run: Run) -> bool:
        """Whether new messages stay in memory although the queue's share is used up.

        Its consumers get a moment to catch up, in which who sends is held: where they are as fast as that, the store
        would only slow them down. Slow ones get that moment once, until the store has nothing of the queue any more.
        """
        if not queue.consumers or queue.paged or queue.policy.full is not Full.HOLD or run.memory > self.window.free:
            return False
        if not queue.catching_up_until:
            queue.catching_up_until = self._timers.now + _CATCH_UP_MS / 1000
            self._moments.after(_CATCH_UP_MS, queue.name)
        return self._is_catching_up(queue)

    def _end_catching_up(self, name: bytes) -> None:
        self.tidy(self._queues[name])

    def _is_catching_up(self, queue: Queue) -> bool:
        return queue.catching_up_until > self._timers.now

    def end_consumption(self, queue: Queue) -> None:
        """A consumer has left: a temporary queue ends with its owner's last one."""
        # an exclusive consumer may have made way for others
        self.changed[queue] = None
        if queue.owner is not None and not queue.consumers:
            self._counters.messages_dropped += queue.ready + queue.paged
            self.forget(queue)

    def forget(self, queue: Queue) -> None:
        """The queue is gone, and what is in it."""
        if queue.paged:
            self._journal.purge(queue.name)
        self.leave_to_store(queue)

    def leave_to_store(self, queue: Queue) -> None:
        """The queue is gone here; what the store has of it stays there."""
        queue.is_gone = True
        del self._queues[queue.name]
        if queue.name in self._reserved:
            self._absent.add(queue.name)
        for container in queue.drop_ready():
            self.chores.add(drop(container))
        self.holds.release(queue)
        self._cancel(queue)

    def _cancel(self, queue: Queue) -> None:
        """Nothing that was to be done about a queue which is gone is done any more."""
        self._expiries.cancel(queue.name)
        self._moments.cancel(queue.name)
        self.expiring.pop(queue, None)
        if queue.waiting:
            self.chores.add(self._drop_waiting(queue))
        for watcher in self.watchers:
            watcher(queue)

    def _drop_waiting(self, queue: Queue) -> Iterator[None]:
        """What waits for its redelivery goes with its queue."""
        while queue.waiting:
            serial, run = queue.waiting.popitem()
            self._returns.cancel((queue.name, serial))
            self._counters.messages_dropped += run.count
            queue.forget(run)
            yield

    def peer_ended(self, peer: Peer) -> None:
        """The peer need not be told that it may go on."""
        self.holds.peer_ended(peer)


def is_durable(name: bytes) -> bool:
    """Whether this is what the queues of durable subscriptions are called."""
    return name.startswith(_DURABLE)


def shown(name: bytes) -> str:
    """A name as an error message has it."""
    return name.decode("utf-8", "backslashreplace")
