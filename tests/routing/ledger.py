"""What may be true of messages, whatever broker, store and children do, and die of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from forkbroker.routing.peers import Peer
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Flag, Outcome

from .simulation import DLQ
from .stock import Row


@dataclass
class Note:
    """What is known of one message. A body names it."""

    number: int
    queue: bytes
    priority: int
    is_persistent: bool
    is_recovered: bool = False
    is_safe: bool = False
    """It was sent, and a fence behind that was passed."""
    is_done: bool = False
    """It was acknowledged, and a fence behind that was passed."""
    deliveries: int = 0
    is_delayed: bool = False
    """Its place is that of its time."""
    was_offered: bool = False
    holder: Peer | None = None


class Ledger:
    """All messages of one store's life, over several brokers."""

    def __init__(self) -> None:
        self.notes: dict[bytes, Note] = {}
        self.present: dict[bytes, Note] = {}
        """Those that this broker has to deliver."""
        self.results: dict[bytes, bytes] = {}
        """Transactions: the job that one settles, and the result that it sends."""
        self._last: dict[tuple[bytes, int], int] = defaultdict(int)
        self._facts: dict[Peer, list[tuple[bytes, str]]] = defaultdict(list)
        self._fences: dict[Peer, dict[int, int]] = defaultdict(dict)

    # -- what is sent, and the answers

    def make_bodies(self, sizes: Iterable[int]) -> list[bytes]:
        """New messages, roughly of these sizes (octets)."""
        first = len(self.notes) + 1
        return [b"%d %s" % (number, b"x" * size) for number, size in enumerate(sizes, first)]

    def sent(
        self,
        peer: Peer,
        queue: bytes,
        priority: int,
        bodies: Iterable[bytes],
        *,
        is_persistent: bool,
        is_delayed: bool = False,
    ) -> None:
        """The router has accepted them."""
        for body in bodies:
            note = Note(len(self.notes) + 1, queue, priority, is_persistent, is_delayed=is_delayed)
            self.notes[body] = self.present[body] = note
            self._facts[peer].append((body, "is_safe"))

    def asked(self, peer: Peer, fence: int) -> None:
        """A fence behind all that the peer has said."""
        self._fences[peer][fence] = len(self._facts[peer])

    def answered(self, peer: Peer, fence: int) -> None:
        """FENCED."""
        fences = self._fences[peer]
        assert fence == min(fences), "an answer out of order, or to nothing"
        for body, fact in self._facts[peer][: fences.pop(fence)]:
            setattr(self.notes[body], fact, True)

    def refused(self, peer: Peer, fence: int) -> None:
        """REFUSED: at once while the store can't write, and so no promise of what came before."""
        assert fence in self._fences[peer], "a refusal of nothing"
        del self._fences[peer][fence]

    def unanswered(self, peer: Peer) -> list[int]:
        """Fences that were not passed."""
        return list(self._fences[peer])

    # -- deliveries

    def offered(self, offer: Envelope) -> None:
        """The router offers these."""
        for body in map(bytes, offer.pieces()):
            note = self.present.get(body)
            assert note is not None, "settled, or never accepted, or dead with the broker before"
            assert note.holder is None, "held by somebody"
            # a dead letter's new serial does not tell that it may have been delivered before the start
            least = int(note.is_recovered and offer.destination == DLQ)
            assert offer.deliveries == max(least, note.deliveries), "counted wrongly"
            is_marked = bool(offer.flags & Flag.RECOVERED or offer.deliveries)
            assert is_marked == (note.is_recovered or note.deliveries > 0), "marked wrongly"
            assert offer.destination in (note.queue, DLQ)
            assert offer.details.priority == note.priority
            if not (note.was_offered or note.is_delayed):
                assert note.number > self._last[note.queue, note.priority], "not in the order of sending"
                self._last[note.queue, note.priority] = note.number
            note.was_offered = True

    def claimed(self, peer: Peer, offer: Envelope) -> None:
        """The peer has the semaphore."""
        for body in map(bytes, offer.pieces()):
            note = self.present[body]
            assert note.holder is None, "held by two"
            note.holder = peer
            note.deliveries += 1

    def settled(self, peer: Peer, body: bytes, outcome: Outcome) -> None:
        """The peer has said so, or will have before its end."""
        note = self.present[body]
        assert note.holder == peer
        note.holder = None
        if outcome is Outcome.ACKNOWLEDGED:
            del self.present[body]
            self._facts[peer].append((body, "is_done"))
        elif outcome is Outcome.UNTOUCHED:
            note.deliveries -= 1

    def ended(self, peer: Peer) -> None:
        """The peer has no messages and wants no answers any more."""
        for note in self.present.values():
            if note.holder == peer:
                note.holder = None
        self._fences.pop(peer, None)

    # -- another broker

    def restarted(self, rows: Collection[Row]) -> None:
        """Everything is gone but these, and what was promised is among them."""
        there = {row.body: row for row in rows}
        assert len(there) == len(rows), "a message is there twice"
        for body, note in self.notes.items():
            if note.is_done:
                assert body not in there, "it was settled for good, and is there"
            elif note.is_safe and note.is_persistent and body in self.present:
                assert body in there, "it was there for good, and is lost"
            if body in there:
                assert note.is_persistent
                row = there[body]
                # what waits for its time cannot have been delivered
                note.is_recovered = note.is_recovered or not row.details.due
                note.holder, note.deliveries = None, row.deliveries
        for job, result in self.results.items():
            assert job not in there or result not in there, "half of a transaction"
            if self.notes[job].is_safe and result in self.present:
                assert job in there or result in there, "neither half of a transaction"
        self.present = {body: self.notes[body] for body in there}
        self._facts.clear()
        self._fences.clear()
