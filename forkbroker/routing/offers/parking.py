"""Deliveries that outlive the connection over which they came: parked.

Who takes a message over plain HTTP settles it by another request, which mostly comes over another connection. So its
child hands the delivery over before the client gets it, under a key that nobody guesses. From then on it is nobody's
consumer's, and has a lease of its own: whoever has the key, and is the same user, settles it once. If nobody does, it
goes back when the lease is over, as after any other delivery in vain.

    held by a consumer ──PARK──▶ parked ──UNPARK──▶ settled
                                   └────lease over, the broker's end────▶ back in its queue, redelivered

The child tells its client the key only when PARK has been applied. Killed before, it loses the message to the next
consumer as any child does; killed after, the lease brings it back. A key names a delivery and not a message: when the
message has been delivered again, the old key is that of nothing.

The message stands among those of its queue that wait for their redelivery (`Queue.waiting`), so it counts as unsettled,
keeps its queue, and goes with it: a temporary one ends with its owner, and that of a durable subscription with this.
What was parked of it is nobody's unsettled delivery then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from forkbroker.routing.handover import Rule
from forkbroker.routing.jobs.returns import Nack, Returns
from forkbroker.routing.keeping.custody import Custody
from forkbroker.routing.kit import Kit
from forkbroker.routing.offers.leases import Leases
from forkbroker.routing.peers import Peer, Token
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import Queues
from forkbroker.routing.queues.runs import Run
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Outcome

LATE = "this delivery was settled before, or its lease is over"
STOPPED = "the broker is shutting down"


class Parking(Rule):
    """All parked deliveries of one router."""

    DUMPED = ("_parked", "_is_stopped")
    ANEW = ("_octets", "_keys", "max_octets")

    def __init__(
        self, kit: Kit, queues: Queues, custody: Custody, returns: Returns, leases: Leases, max_octets: int
    ) -> None:
        """`max_octets`: so much can be parked by one user, as one child can hold so much."""
        self._counters = kit.counters
        self._chores = kit.chores
        self._queues = queues
        self._custody = custody
        self._returns = returns
        self._leases = leases
        self.max_octets = max_octets
        self._parked: dict[bytes, tuple[bytes, int, bytes, int]] = {}
        """By key: name of the queue, serial, whose it is, what it costs."""
        self._octets: Counter[bytes] = Counter()
        """What those of each user cost."""
        self._keys: dict[bytes, dict[int, bytes]] = {}
        """By queue and serial."""
        self._is_stopped = False
        queues.watchers.append(self._forget)
        self._ends = kit.timers.add("parked", self._end)

    def rebuild(self, _: object) -> None:
        """Add up what is parked."""
        for key, (name, serial, owner, cost) in self._parked.items():
            self._octets[owner] += cost
            self._keys.setdefault(name, {})[serial] = key

    def park(self, peer: Peer, envelope: Envelope) -> str | None:
        """PARK; the reason of a refusal: the message goes back with its consumer then."""
        key, owner = envelope.block, envelope.destination
        if self._is_stopped:
            # nobody would put it back, and the store would not learn that it was delivered
            return STOPPED
        if key in self._parked:
            return "this key is in use"
        if self._octets[owner] >= self.max_octets:
            most = f"{self.max_octets:,} bytes (max-unsettled)"
            return f"unsettled deliveries of this user have {most} already: settle some, or let their leases end"
        found = self._leases.hand_over(peer, Token(envelope.token), envelope.serial)
        if found is None:
            return LATE
        queue, run = found
        lease_ms = min(envelope.index, queue.policy.lease) if queue.policy.lease else envelope.index
        queue.waiting[run.serial] = run
        self._parked[key] = queue.name, run.serial, owner, run.cost
        self._octets[owner] += run.cost
        self._keys.setdefault(queue.name, {})[run.serial] = key
        self._ends.after(lease_ms, key)
        return None

    def unpark(self, peer: Peer, envelope: Envelope) -> str | None:
        """UNPARK; the reason of a refusal."""
        key, _, reason = envelope.block.partition(b"\n")
        parked = self._parked.get(key)
        if parked is None or parked[2] != envelope.destination:
            self._counters.settlements_late += 1
            return LATE
        self._ends.cancel(key)
        found = self._take(key)
        if found is None:
            return LATE
        queue, run = found
        if envelope.token == Outcome.ACKNOWLEDGED:
            self._custody.settle(queue, run)
            self._counters.messages_acknowledged += run.count
        elif envelope.token == Outcome.RELEASED:
            self._returns.requeue(queue, run, nack=Nack(peer, reason))
        else:
            self._returns.reject(queue, run, Nack(peer, reason))
        self._queues.tidy(queue)
        return None

    def stop(self) -> None:
        """The broker ends: park nothing more, and put all back, so that the store learns that it was delivered."""
        self._is_stopped = True
        self._chores.add(self._end_all())

    def _end_all(self) -> Iterator[None]:
        for key in list(self._parked):
            self._ends.cancel(key)
            self._end(key)
            yield

    def _end(self, key: bytes) -> None:
        """The lease is over."""
        found = self._take(key)
        if found is not None:
            self._counters.leases_ended += 1
            self._returns.requeue(*found)
            self._queues.tidy(found[0])

    def _forget(self, queue: Queue) -> None:
        """The queue is gone, and so is what was parked of it."""
        keys = self._keys.pop(queue.name, None)
        if keys is not None:
            self._chores.add(self._forget_all(keys))

    def _forget_all(self, keys: dict[int, bytes]) -> Iterator[None]:
        while keys:
            serial, key = keys.popitem()
            parked = self._parked.get(key)
            # else a client has come for it meanwhile, and perhaps parked something else under this key
            if parked is not None and parked[1] == serial:
                self._ends.cancel(key)
                self._release(key)
            yield

    def _take(self, key: bytes) -> tuple[Queue, Run] | None:
        """Forget the key; None: the queue is gone, and the message with it."""
        if key not in self._parked:
            return None
        name, serial = self._release(key)
        keys = self._keys.get(name, {})
        keys.pop(serial, None)
        if not keys:
            self._keys.pop(name, None)
        queue = self._queues.find(name)
        run = None if queue is None else queue.waiting.pop(serial, None)
        return None if queue is None or run is None else (queue, run)

    def _release(self, key: bytes) -> tuple[bytes, int]:
        """Its user has it no more; the name of the queue, and the serial."""
        name, serial, owner, cost = self._parked.pop(key)
        self._octets[owner] -= cost
        if not self._octets[owner]:
            del self._octets[owner]
        return name, serial
