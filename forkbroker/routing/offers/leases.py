"""What consumers hold: until they settle it, or until their lease is over.

Where the policy of a queue sets a lease, a consumer that holds messages for longer loses them: they go back as after
any other delivery in vain, and an ACK that comes after all is late. It gives back the consumer's credit, which is
withheld until then: who hangs with one job is not given another one, or the same. A message that was lost by a lease,
or came back by NACK, goes to a consumer that has not failed with it as long as there is one with credit.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from forkbroker.routing.chores import Work
from forkbroker.routing.handover import Rule
from forkbroker.routing.jobs.returns import Nack, Returns
from forkbroker.routing.keeping.custody import Custody
from forkbroker.routing.kit import Kit
from forkbroker.routing.offers.clientele import Clientele
from forkbroker.routing.offers.consumers import Consumer
from forkbroker.routing.peers import Peer, Token
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import Queues
from forkbroker.routing.queues.runs import Run
from forkbroker.wire.kinds import Outcome

_AVOIDED = 16
"""So many consumers that failed with a message are remembered."""

Settlements = Sequence[tuple[int, int, Outcome]]
"""(serial of the first message, how many, outcome)."""


class Leases(Rule):
    """Whatever is claimed and not settled."""

    ANEW = ("_steps",)
    """Who holds what the consumers know, and when a lease ends the timers."""

    def __init__(self, kit: Kit, queues: Queues, custody: Custody, returns: Returns, clientele: Clientele) -> None:
        self._counters = kit.counters
        self._timers = kit.timers
        self._busy = kit.rows
        self._steps = kit.steps
        self._queues = queues
        self._custody = custody
        self._returns = returns
        self._clientele = clientele
        self._children = clientele.children
        self._leases = kit.timers.add("lease", self._end_leases)

    def begin(self, run: Run, consumer: Consumer) -> None:
        """The consumer has claimed these."""
        lease_ms = consumer.queue.policy.lease
        run.held_until = self._timers.now + lease_ms / 1000 if lease_ms else 0.0
        if run.details.persistent:
            self._custody.drop_bodies(consumer.queue, run)
        consumer.unsettled.add(run)
        if lease_ms and consumer.key not in self._leases:
            self._leases.after(lease_ms, consumer.key)
        self._counters.messages_claimed += run.count
        if run.deliveries:
            self._counters.messages_redelivered += run.count

    def take_all(self, consumer: Consumer) -> Iterator[Run]:
        """The consumer has ended: take all that it holds from it, run for run."""
        self._leases.cancel(consumer.key)
        for run in consumer.unsettled.take_all():
            consumer.discharge(run.cost)
            yield run

    def hand_over(self, peer: Peer, token: Token, serial: int) -> tuple[Queue, Run] | None:
        """Take one message from the consumer that holds it: somebody else keeps it; None: it does not hold it."""
        consumer = self._children[peer].consumers.get(token)
        runs = [] if consumer is None else self._release(consumer, serial, 1)
        if consumer is None:
            self._counters.settlements_late += 1
        if consumer is None or not runs:
            return None
        if consumer.keeps:
            consumer.note_settled(self._timers.now, has_returned=False)
        consumer.row.refresh(consumer)
        return consumer.queue, runs[0]

    # -- settlements

    def settle(self, peer: Peer, token: Token, entries: Settlements, reason: bytes = b"") -> Work | None:
        """Apply settlements of one subscription; `reason` is what came with a NACK.

        What it does not hold, perhaps no longer, is counted and ignored. Many are returned as steps to be done.
        """
        consumer = self._children[peer].consumers.get(token)
        if consumer is None:
            self._counters.settlements_late += sum(count for _, count, _ in entries)
            return None
        if len(entries) + len(consumer.unsettled.runs) > self._steps:
            return self._settle_in_turns(consumer, entries, reason)
        has_returned = False
        for serial, count, outcome in entries:
            has_returned |= outcome is Outcome.RELEASED
            for run in self._release(consumer, serial, count):
                self._settle_run(consumer, run, outcome, reason)
        if consumer.keeps:
            consumer.note_settled(self._timers.now, has_returned=has_returned)
        consumer.row.refresh(consumer)
        self._queues.tidy(consumer.queue)
        return None

    def _settle_in_turns(self, consumer: Consumer, entries: Settlements, reason: bytes) -> Work:
        """What goes back by that is older than what could be offered meanwhile."""
        consumer.is_quick = False
        was_returning = consumer.is_returning
        self._clientele.block(consumer)
        for serial, count, outcome in entries:
            for run in self._release(consumer, serial, count):
                self._settle_run(consumer, run, outcome, reason)
                yield
            yield
        consumer.row.refresh(consumer)
        self._queues.tidy(consumer.queue)
        if not was_returning:
            self._clientele.unblock(consumer)
        return None

    def _release(self, consumer: Consumer, serial: int, count: int) -> list[Run]:
        """Take these messages, as far as it has them, from the consumer."""
        runs = consumer.unsettled.settle(serial, count)
        late = count
        for run in runs:
            late -= run.count
            consumer.free += run.count
            consumer.discharge(run.cost)
        if late:
            self._counters.settlements_late += late
            consumer.regain(late)
        return runs

    def _settle_run(self, consumer: Consumer, run: Run, outcome: Outcome, reason: bytes) -> None:
        queue = consumer.queue
        if outcome is Outcome.ACKNOWLEDGED:
            self._custody.settle(queue, run)
            self._counters.messages_acknowledged += run.count
        elif outcome is Outcome.RELEASED:
            _note_failure(consumer, run)
            self._returns.requeue(queue, run, nack=Nack(consumer.key[0], reason))
        elif outcome is Outcome.REJECTED:
            self._returns.reject(queue, run, Nack(consumer.key[0], reason))
        else:
            self._returns.put_back(queue, run)

    # -- leases

    def has_lost(self, peer: Peer, token: Token, entries: Settlements) -> Generator[None, None, bool]:
        """Find out in steps whether leases have ended of what these settlements name."""
        consumer = self._children[peer].consumers.get(token)
        if consumer is None or not consumer.queue.has_leases:
            return False
        for serial, count, _ in entries:
            if not consumer.unsettled.has(serial, count):
                return True
            yield
        return False

    def renew(self, queue: Queue) -> Iterator[None]:
        """The policy of the queue has changed: what is held has the lease that it asks for, from now on."""
        lease_ms = queue.policy.lease
        for consumer in list(queue.readers.all):
            assert isinstance(consumer, Consumer)
            if not consumer.is_gone and len(consumer.unsettled):
                consumer.unsettled.renew(self._timers.now + lease_ms / 1000 if lease_ms else 0.0)
                self._leases.after(0, consumer.key)
            yield

    def _end_leases(self, key: tuple[Peer, Token]) -> None:
        """Take back what the consumer has held for too long, and look again when the next lease ends."""
        peer, token = key
        consumer = self._children[peer].consumers[token]
        now = self._timers.now
        if peer in self._busy:
            # what waits may settle these: a transaction of which a part is applied already
            self._leases.after(0, key)
            return
        for run in consumer.unsettled.take_overdue(now, self._steps):
            consumer.discharge(run.cost)
            consumer.withhold(run.count)
            _note_failure(consumer, run)
            self._counters.leases_ended += run.count
            self._returns.requeue(consumer.queue, run)
        held_until = consumer.unsettled.next_overdue()
        if 0 < held_until <= now:
            self._clientele.block(consumer)
        else:
            self._clientele.unblock(consumer)
        if held_until:
            self._leases.after(max(0.0, held_until - now) * 1000, key)
        consumer.row.refresh(consumer)


def _note_failure(consumer: Consumer, run: Run) -> None:
    """The consumer lost these by a lease, or said NACK: others come first from now on."""
    others = [key for key in run.avoid if key != consumer.key]
    run.avoid = (*others[1 - _AVOIDED :], consumer.key)
