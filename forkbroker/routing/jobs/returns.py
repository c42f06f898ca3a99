"""What becomes of messages that no consumer has acknowledged: back to their place, at once or later, or dead letters.

A message whose deliveries failed too often, that a consumer rejected, or that seems to crash the processes of
clients, goes to the dead letters of its queue. It stays in its queue when it can't: when the dead letters are at
their limit, or it is one of them already. Nothing is lost, and the limit of its own queue stands. Only what is to go
anyway (it has expired, or makes room) is dropped then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from forkbroker.routing.handover import Rule
from forkbroker.routing.keeping.custody import Custody
from forkbroker.routing.keeping.paging import Paging
from forkbroker.routing.kit import Kit
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.policies import Expired, Full
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import Queues, shown, text
from forkbroker.routing.queues.runs import Run
from forkbroker.routing.timers import BUDGET
from forkbroker.wire.details import Reason
from forkbroker.wire.kinds import Flag

_RECOVERED = int(Flag.RECOVERED)
MOST_TOLD = 20
"""Dead letters by NACK in a second that have a line of the log each; more of them are only counted."""
_SHOWN = 200
"""Characters of a consumer's reason in the log."""


@dataclass(frozen=True, slots=True)
class Nack:
    """A consumer does not want what it was given."""

    peer: Peer
    """Its client's child."""
    reason: bytes = b""
    """What it says; empty: nothing."""


class Returns(Rule):
    """The ways that lead out of a queue, or back into it, without an acknowledgement."""

    ANEW = ("_crowded", "_rejected", "_told")
    """Nobody makes room between two turns: that is done by chores."""

    def __init__(self, kit: Kit, queues: Queues, custody: Custody, paging: Paging) -> None:
        self._kit = kit
        self._counters = kit.counters
        self._queues = queues
        self._custody = custody
        self._paging = paging
        self._rejected: dict[tuple[bytes, bytes], int] = {}
        """Messages that consumers have rejected, by their queue and that of its dead letters, and that have no line of
        the log of their own."""
        self._told = 0
        """Such lines in this second."""
        self._crowded: set[Queue] = set()
        """Queues that are making room, perhaps in several turns."""

    def put_back(self, queue: Queue, run: Run) -> None:
        """Back as it was: nobody had it."""
        self._custody.put_back(queue, run)

    def requeue(self, queue: Queue, run: Run, poison: str = "", nack: Nack | None = None) -> None:
        """Back after a delivery; `poison`: why it is to be set aside, if it seems to crash who reads it.

        If it had its last delivery, what came with the `nack` goes with it to the dead letters.
        """
        run.deliveries += 1
        policy = queue.policy
        if self._bury_poison(queue, run, poison):
            return
        if 0 < policy.max_deliveries <= run.deliveries:
            self.bury(queue, run, Reason.DELIVERIES, nack)
            return
        self._put_back_later(queue, run)

    def put_back_blamed(self, queue: Queue, run: Run, poison: str) -> None:
        """Back without a delivery, and suspect: a process crashed that was to read it; `poison` as in `requeue`."""
        if not self._bury_poison(queue, run, poison):
            self._put_back_later(queue, run)

    def reject(self, queue: Queue, run: Run, nack: Nack) -> None:
        """NACK with `requeue:false`."""
        run.deliveries += 1
        self.bury(queue, run, Reason.REJECTED, nack)

    def note_rejected(self) -> None:
        """Let the log say how many messages consumers have rejected since the last call that have no line of their own.

        A line for each queue.
        """
        for (name, grave), count in self._rejected.items():
            messages = f"{count:,} more message{'' if count == 1 else 's'}"
            self._kit.events.append(f"queue {shown(name)}: {messages} rejected by consumers, moved to {shown(grave)}")
        self._rejected.clear()
        self._told = 0

    def bury(self, queue: Queue, run: Run, reason: Reason, nack: Nack | None = None) -> None:
        """Taken messages, to the dead letters; back to their place where that can't be."""
        grave = self._move(queue, run, reason, nack)
        if grave is not None:
            self.make_room(grave)

    def _move(self, queue: Queue, run: Run, reason: Reason, nack: Nack | None = None) -> Queue | None:
        """As `bury`, and the dead letters may be above their limit then: these, if the messages are there."""
        grave_name = queue.policy.dead_letter
        grave = self._queues.find(grave_name)
        if queue.is_gone or queue.name == grave_name or self._is_closed(grave, grave_name):
            if reason in (Reason.EXPIRED, Reason.LIMIT):
                self.drop(queue, run)
            else:
                self._put_back_later(queue, run)
            return None
        self._counters.messages_dead_lettered += run.count
        if nack is not None:
            self._log(queue, run, nack)
        said = b"" if nack is None else nack.reason
        if self._kit.news.listeners:
            self._tell_of_dead(queue, run, reason, said)
        queue.forget(run)
        if run.envelope.flags & _RECOVERED:
            # the new serial does not tell that it may have been delivered before the broker's start
            run.deliveries = max(1, run.deliveries)
        # made first: no message of a queue has a serial from before its making
        grave = grave or self._queues.make(grave_name)
        details = replace(run.details, origin=queue.name, reason=reason, reject_reason=said, expires=0)
        self._custody.move(grave, run, details)
        return grave

    def _log(self, queue: Queue, run: Run, nack: Nack) -> None:
        """Let the log say that this consumer has made dead letters."""
        grave = queue.policy.dead_letter
        if self._told >= MOST_TOLD:
            names = (queue.name, grave)
            self._rejected[names] = self._rejected.get(names, 0) + run.count
            return
        self._told += 1
        more = f" and {run.count - 1:,} more" if run.count > 1 else ""
        said = shown(nack.reason)
        said = f"reason: {said if len(said) <= _SHOWN else f'{said[:_SHOWN]}…'}" if said else "no reason given"
        told = f"message {_name(run)}{more} of {shown(queue.name)} rejected, moved to {shown(grave)}, {said}"
        self._kit.rejected.append((nack.peer, told))

    def _tell_of_dead(self, queue: Queue, run: Run, reason: Reason, said: bytes) -> None:
        self._kit.news.tell(
            "dead-letter",
            queue=text(queue.name),
            to=text(queue.policy.dead_letter),
            reason=reason.name.lower(),
            count=run.count,
            **({} if run.is_stub else {"message-id": _name(run)}),
            **({"reject-reason": text(said)} if said else {}),
        )

    def _is_closed(self, grave: Queue | None, name: bytes) -> bool:
        """Whether the dead letters of this name can't be more: they are full, or may not be made."""
        if grave is None:
            return self._queues.find_refusal_to_make(name) is not None
        return not grave.policy.full.is_losing and self._queues.find_excess(grave) is not None

    def drop(self, queue: Queue, run: Run) -> None:
        """Taken messages, to nowhere."""
        self._counters.messages_dropped += run.count
        self._custody.settle(queue, run)

    def make_room(self, queue: Queue) -> None:
        """A queue above its limit whose policy is to lose its oldest messages does so.

        Those are the oldest of the lowest priority. Where they are in the store alone they have to be fetched first.
        What they are moved to may be full then, and so on. Where that leads back to a queue that has made room already,
        it loses what is too much, or one message would go round for ever.
        """
        if not _has_excess(queue):
            self._queues.tidy(queue)
        elif queue not in self._crowded:
            self._crowded.add(queue)
            if self._kit.news.listeners:
                self._queues.tell_full(queue, "is full: its oldest messages make room")
            self._kit.chores.add(self._make_room(queue))

    def _make_room(self, queue: Queue) -> Iterator[None]:
        """In steps, as one large message can take the place of a hundred thousand small ones."""
        seen: set[Queue] = set()
        full: Queue | None = queue
        while full is not None:
            is_last = full.policy.full is not Full.DEAD_LETTER or full in seen
            seen.add(full)
            following: Queue | None = None
            for run in self._take_excess(full):
                if is_last:
                    self.drop(full, run)
                else:
                    following = self._move(full, run, Reason.LIMIT) or following
                yield
            if not full.is_gone:
                self._queues.tidy(full)
            full = following
        self._crowded.discard(queue)

    def _take_excess(self, queue: Queue) -> Iterator[Run]:
        """Take out the oldest messages until the queue keeps its limits; none where it does not lose messages."""
        policy = queue.policy
        while not queue.is_gone and _has_excess(queue):
            lane = self._paging.last_lane(queue)
            if lane is None:
                return
            yield queue.take(lane, max(1, queue.messages - policy.max_length) if policy.max_length else 1)

    def tick(self) -> None:
        """Deal with what has expired: a part of it, if it is much; then the next turn goes on."""
        expiring, budget = self._queues.expiring, BUDGET
        while expiring and budget > 0:
            queue = next(iter(expiring))
            expired = self._queues.take_expired(queue, budget)
            budget -= len(expired) + 1
            for run in expired:
                self._counters.messages_expired += run.count
                if queue.policy.expired is Expired.DEAD_LETTER:
                    self.bury(queue, run, Reason.EXPIRED)
                else:
                    self._custody.settle(queue, run)
            self._paging.look_on(queue)
            self._queues.tidy(queue)

    def _bury_poison(self, queue: Queue, run: Run, poison: str) -> bool:
        """Set messages aside if there is a reason; tell whether they are."""
        if not poison:
            return False
        self._kit.notes.append(
            f"queue {shown(queue.name)}: message {_name(run)} moved to {shown(queue.policy.dead_letter)}, {poison}"
        )
        self.bury(queue, run, Reason.POISON)
        return True

    def _put_back_later(self, queue: Queue, run: Run) -> None:
        """To its old place, after the wait that the policy asks for."""
        self._counters.messages_requeued += run.count
        self._custody.update(queue, run)
        wait_ms = 0 if queue.is_gone else queue.policy.redelivery_wait(run.deliveries)
        if wait_ms:
            self._custody.put_back_after(wait_ms, queue, run)
        else:
            self._custody.put_back(queue, run)


def _has_excess(queue: Queue) -> bool:
    """Whether the queue is to lose messages."""
    policy = queue.policy
    return policy.full.is_losing and bool(
        (policy.max_length and queue.messages > policy.max_length)
        or (policy.max_bytes and queue.octets > policy.max_bytes)
    )


def _name(run: Run) -> str:
    """Return the message-id of the first message: it stays the same when the message gets another serial.

    Only the store has the id of a stub, under this serial.
    """
    if run.is_stub:
        return f"with serial {run.serial}"
    return shown(run.message_id(0))
