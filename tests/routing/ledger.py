"""What may be true of messages, whatever broker, store and children do, and die of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from forkbroker.routing.peers import Peer
from forkbroker.wire.details import Reason
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Flag, Outcome

from .simulation import DLQ, names_of
from .stock import DEADLY, UNWRITABLE, Row

Key = tuple[bytes, bytes]
"""The queue that a message was sent to, and its body: copies for several durable subscriptions have the same one."""


@dataclass
class Note:
    """What is known of one message."""

    number: int
    key: Key
    priority: int
    is_persistent: bool
    is_recovered: bool = False
    is_safe: bool = False
    """It was sent, and a fence behind that was passed."""
    is_done: bool = False
    """It was acknowledged, and a fence behind that was passed."""
    is_doubtful: bool = False
    """It is, or was settled, in a change that nobody can write: its sender gets ERROR, and it may come or not."""
    expires_ms: int = 0
    """It may be gone from then on; 0: never."""
    deliveries: int = 0
    is_delayed: bool = False
    """Its place is that of its time."""
    was_offered: bool = False
    name: bytes = b""
    """The message-id with which it was offered first."""
    holder: Peer | None = None


class Ledger:
    """All messages of one store's life, over several brokers."""

    def __init__(self) -> None:
        self.notes: dict[Key, Note] = {}
        self.present: dict[Key, Note] = {}
        """Those that this broker has to deliver."""
        self.results: list[tuple[Key, list[Key]]] = []
        """Transactions: the job that one settles, and the results that it sends."""
        self.strangers: set[bytes] = set()
        """Bodies that a child which lies may have sent: nothing is known of them."""
        self._numbers = 0
        self._last: dict[tuple[bytes, int], int] = defaultdict(int)
        self._facts: dict[Peer, list[tuple[Key, str]]] = defaultdict(list)
        self._fences: dict[Peer, dict[int, int]] = defaultdict(dict)
        self._held: dict[tuple[Peer, int], Note] = {}

    # -- what is sent, and the answers

    def make_bodies(self, sizes: Iterable[int], mark: bytes = b"") -> list[bytes]:
        """New messages, roughly of these sizes (octets); the last one may have a mark."""
        bodies = [b"%d %s" % (self._next(), b"x" * size) for size in sizes]
        return [*bodies[:-1], bodies[-1] + mark]

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers

    def sent(
        self,
        peer: Peer,
        queue: bytes,
        priority: int,
        bodies: Iterable[bytes],
        *,
        is_persistent: bool,
        is_delayed: bool = False,
        expires_ms: int = 0,
        is_doubtful: bool = False,
    ) -> list[Key]:
        """The router has accepted them for this queue; `is_doubtful`: something in their change can't be written."""
        keys = [(queue, body) for body in bodies]
        is_doubtful = is_doubtful or any(body.endswith((DEADLY, UNWRITABLE)) for _, body in keys)
        for key in keys:
            note = Note(self._next(), key, priority, is_persistent, is_delayed=is_delayed, is_doubtful=is_doubtful)
            note.expires_ms = expires_ms
            self.notes[key] = self.present[key] = note
            self._facts[peer].append((key, "is_safe"))
        return keys

    def asked(self, peer: Peer, fence: int) -> None:
        """A fence behind all that the peer has said."""
        self._fences[peer][fence] = len(self._facts[peer])

    def answered(self, peer: Peer, fence: int) -> None:
        """FENCED: all before it is true, whatever dies from now on."""
        fences = self._fences[peer]
        assert fence == min(fences), "an answer out of order, or to nothing"
        for key, fact in self._facts[peer][: fences.pop(fence)]:
            setattr(self.notes[key], fact, True)

    def unanswered(self, peer: Peer) -> list[int]:
        """Fences that were not passed."""
        return list(self._fences[peer])

    # -- deliveries

    def notes_of(self, offer: Envelope, only: int = 0) -> Iterator[tuple[int, Note]]:
        """The messages of an offer, or the one with this serial, if they are known; all others are strangers."""
        queue = offer.details.origin or offer.destination
        for serial, body in enumerate(map(bytes, offer.pieces()), offer.serial):
            if only not in (0, serial):
                continue
            note = self.present.get((queue, body))
            if note is not None:
                yield serial, note
            else:
                assert body in self.strangers, "settled, or never accepted, or dead with the broker before"

    def offered(self, offer: Envelope) -> None:
        """The router offers these."""
        names = names_of(offer)
        for serial, note in self.notes_of(offer):
            assert note.holder is None, "held by somebody"
            name = names[serial - offer.serial]
            assert name == (note.name or name), "it has another message-id"
            note.name = name
            if note.is_recovered and offer.destination == DLQ:
                # its new serial would not tell that it may have been delivered before the start: so it counts
                note.deliveries = max(note.deliveries, min(1, offer.deliveries))
            assert offer.deliveries == note.deliveries, "counted wrongly"
            is_marked = bool(offer.flags & Flag.RECOVERED or offer.deliveries)
            assert is_marked == (note.is_recovered or note.deliveries > 0), "marked wrongly"
            assert offer.destination in (note.key[0], DLQ)
            assert offer.details.priority == note.priority
            if not (note.was_offered or note.is_delayed or offer.details.reason is Reason.EXPIRED):
                where = (note.key[0], note.priority)
                assert note.number > self._last[where], "not in the order of sending"
                self._last[where] = note.number
            note.was_offered = True

    def claimed(self, peer: Peer, offer: Envelope, only: int = 0) -> None:
        """The peer has the semaphore: of all these messages, or of the one with this serial."""
        for serial, note in self.notes_of(offer, only):
            assert note.holder is None, "held by two"
            note.holder = peer
            note.deliveries += 1
            self._held[peer, serial] = note

    def settled(self, peer: Peer, serial: int, outcome: Outcome, *, is_doubtful: bool = False) -> Key | None:
        """The peer has said so, or will have before its end; of which message, if it is known."""
        note = self._held.pop((peer, serial), None)
        if note is None:
            return None
        assert note.holder == peer
        note.holder = None
        if outcome is Outcome.ACKNOWLEDGED:
            del self.present[note.key]
            note.is_doubtful |= is_doubtful
            self._facts[peer].append((note.key, "is_done"))
        elif outcome is Outcome.UNTOUCHED:
            note.deliveries -= 1
        return note.key

    def ended(self, peer: Peer) -> None:
        """The peer has no messages and wants no answers any more."""
        for who, serial in list(self._held):
            if who == peer:
                self._held.pop((who, serial)).holder = None
        self._fences.pop(peer, None)
        self._facts.pop(peer, None)

    def check_count(self, count: int, now_ms: int) -> None:
        """The broker has so many messages."""
        if not self.strangers:
            least = sum(not (note.is_doubtful or 0 < note.expires_ms <= now_ms) for note in self.present.values())
            assert least <= count <= len(self.present), "the figures of queues are wrong"

    # -- another broker

    def restarted(self, rows: Collection[Row], now_ms: int, *, in_order: bool) -> None:
        """Everything is gone but these, and what was promised is among them."""
        known = [row for row in rows if row.body not in self.strangers]
        there = {(row.details.origin or row.queue, row.body): row for row in known}
        assert len(there) == len(known), "a message is there twice"
        for key, note in self.notes.items():
            if key in there:
                self._check_there(note, there[key], in_order=in_order)
            elif key in self.present and note.is_persistent and (note.is_safe or in_order) and not note.is_doubtful:
                assert 0 < note.expires_ms <= now_ms, "it was there for good, and is lost"
        self._check_transactions(there)
        self.present = {key: self.notes[key] for key in there}
        self._facts.clear()
        self._fences.clear()
        self._held.clear()

    def _check_there(self, note: Note, row: Row, *, in_order: bool) -> None:
        assert not note.is_done, "it was settled for good, and is there"
        assert note.is_persistent
        if in_order and not note.is_doubtful:
            assert note.key in self.present, "it was settled before the end, and is there"
            assert row.deliveries == max(note.deliveries, row.deliveries * note.is_recovered), "counted wrongly"
        # what waits for its time cannot have been delivered
        note.is_recovered = note.is_recovered or not (in_order or row.details.due)
        note.holder, note.deliveries = None, row.deliveries

    def _check_transactions(self, there: Collection[Key]) -> None:
        for job, results in self.results:
            found = [result in there for result in results if result in self.present]
            if job in there:
                assert not any(found), "half of a transaction"
            elif self.notes[job].is_safe or any(found):
                assert all(found), "neither half of a transaction, or a part of one"
