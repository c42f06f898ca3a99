"""All queues by name: their making, their limits, and where messages go that come back.

Queues are made by who first names them, and forgotten when nothing is in them and nobody consumes. A `/reply-queue/`
exists only while its owner consumes from it: what is sent to another one is dropped, and so is what it held.

A queue at its limit holds back who fills it, or refuses what it sends, by setting. A message whose deliveries failed
too often, or that a consumer rejected, goes to the dead letters. It stays in its queue when it can't: when the
dead letters are at their limit, or it is one of them already. Nothing is lost, and the limit of its own queue stands.
"""

from __future__ import annotations

from collections.abc import Collection

from forkbroker.destinations import Sort
from forkbroker.errors import EnvelopeError
from forkbroker.routing.counters import Counters, QueueView
from forkbroker.routing.holds import Holds, Outbox
from forkbroker.routing.peers import Peer
from forkbroker.routing.policies import Policy
from forkbroker.routing.queue import Queue
from forkbroker.routing.runs import Run, make_run
from forkbroker.wire.envelope import Envelope

RESUME_PERCENT = 80
"""A full queue lets its producers go on below this part of its limit: not at every message that leaves."""

_REPLY = Sort.REPLY_QUEUE.value.encode()


class Queues:
    """The queues of one router."""

    def __init__(self, policy: Policy, counters: Counters, out: Outbox) -> None:
        """HOLD and RESUME go to `out`."""
        self._policy = policy
        self._counters = counters
        self._holds = Holds(out)
        self._queues: dict[bytes, Queue] = {}
        self._serial = 1
        self.changed: dict[Queue, None] = {}
        """Those for which an offer may have become possible; a dict for its order."""

    def views(self) -> list[QueueView]:
        """All queues as they are now."""
        return [queue.view() for queue in self._queues.values()]

    def would_make(self, name: bytes) -> bool:
        """Whether a SEND to this name makes a queue."""
        return name not in self._queues and not name.startswith(_REPLY)

    def find_refusal(self, peer: Peer, name: bytes, planned: Collection[bytes] = ()) -> str | None:
        """Why the peer may not send to this queue now, while those `planned` are about to be made."""
        queue = self._queues.get(name)
        if queue is None:
            is_made = self.would_make(name) and name not in planned
            return self._find_refusal_to_make(name, len(planned)) if is_made else None
        limit = self._policy.max_queue_bytes
        if queue.octets < limit or self._is_holding(peer, queue):
            return None
        return f"queue {_shown(name)} holds {queue.octets:,} octets, its limit (max-queue-bytes) is {limit:,}"

    def send(self, peer: Peer, envelope: Envelope) -> None:
        """Accept the messages of a SEND that was not refused.

        Raises:
            EnvelopeError: its lengths don't add up.
        """
        run = make_run(envelope, self._serial)
        queue = self._queues.get(envelope.destination)
        if queue is None:
            if not self.would_make(envelope.destination):
                self._counters.messages_dropped += run.count
                return
            queue = self._make(envelope.destination, None)
        self._append(queue, run)
        if queue.octets >= self._policy.max_queue_bytes and self._is_holding(peer, queue):
            self._counters.producers_held += self._holds.hold(peer, queue)

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
            return f"{_shown(name)} is a temporary queue: only its owner may consume"
        if queue is not None:
            return queue
        refusal = self._find_refusal_to_make(name, 0)
        return self._make(name, peer if is_temporary else None) if refusal is None else refusal

    def end_consumption(self, queue: Queue) -> None:
        """A consumer has left: a temporary queue ends with its owner's last one."""
        # an exclusive consumer may have made way for others
        self.changed[queue] = None
        if queue.owner is not None and not queue.consumers:
            self._counters.messages_dropped += queue.ready
            self._forget(queue)

    def put_back(self, queue: Queue, run: Run) -> None:
        """To its old place, as it is."""
        if queue.is_gone:
            self._counters.messages_dropped += run.count
            return
        queue.put_back(run)
        self.changed[queue] = None

    def requeue(self, queue: Queue, run: Run) -> None:
        """Back after a delivery; to the dead letters if it was the last one permitted."""
        if 0 < self._policy.max_deliveries <= run.deliveries + 1:
            self.bury(queue, run)
            return
        run.deliveries += 1
        self._counters.messages_requeued += run.count
        self.put_back(queue, run)

    def bury(self, queue: Queue, run: Run) -> None:
        """To the dead letters after a delivery; back to its place where that can't be."""
        run.deliveries += 1
        grave_name = self._policy.dead_letter_queue
        grave = self._queues.get(grave_name)
        is_full = grave is not None and grave.octets >= self._policy.max_queue_bytes
        if is_full or queue.is_gone or queue.name == grave_name:
            self._counters.messages_requeued += run.count
            self.put_back(queue, run)
            return
        queue.forget(run)
        run.origin = queue.name
        run.serial = self._serial
        self._counters.messages_dead_lettered += run.count
        self._append(grave or self._make(grave_name, None), run)

    def tidy(self, queue: Queue) -> None:
        """After messages or consumers left: let producers go on; forget a queue that is nobody's."""
        if queue.held and queue.octets * 100 < self._policy.max_queue_bytes * RESUME_PERCENT:
            self._holds.release(queue)
        if not (queue.messages or queue.consumers or queue.is_gone):
            self._forget(queue)

    def peer_ended(self, peer: Peer) -> None:
        """The peer need not be told that it may go on."""
        self._holds.peer_ended(peer)

    def _is_holding(self, peer: Peer, queue: Queue) -> bool:
        """Whether the queue at its limit holds this producer back, and takes what it has sent already.

        One that acknowledges messages of this queue could not do so any more, and would wait for ever: it is refused.
        """
        return not (self._policy.refuse_when_full or queue.consumers.settle_by(peer))

    def _find_refusal_to_make(self, name: bytes, planned: int) -> str | None:
        limit = self._policy.max_queues
        if len(self._queues) + planned < limit:
            return None
        return f"queue {_shown(name)} does not exist, and there are {limit:,} already, the limit (max-queues)"

    def _make(self, name: bytes, owner: Peer | None) -> Queue:
        queue = self._queues[name] = Queue(name, owner)
        return queue

    def _append(self, queue: Queue, run: Run) -> None:
        self._serial += run.count
        queue.append(run)
        self.changed[queue] = None

    def _forget(self, queue: Queue) -> None:
        queue.is_gone = True
        del self._queues[queue.name]
        self._holds.release(queue)


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
