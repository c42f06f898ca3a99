"""Runs: messages that lie side by side in one envelope, and are offered and delivered together.

Messages are not taken out of the envelope in which they came: a run only says which of them it means. Their serials
follow each other as they do; serials rise over all queues of a router and are the order of messages.

There is one exception. Messages that came one by one, and have waited, are put into one envelope when they are to be
offered (`join`): offers and settlements cost per run, and ten times as much where each message is one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from forkbroker.routing.handover import Record
from forkbroker.routing.peers import Peer, Token
from forkbroker.wire.details import DURABLY, PLAIN, Details
from forkbroker.wire.envelope import FEW, Envelope, pack, pack_pieces
from forkbroker.wire.kinds import Flag, Kind

ENVELOPE_OVERHEAD = 512
"""Octets that the objects about one envelope cost, roughly."""

UNSETTLED_OVERHEAD = 256
"""Octets that parent and child need for one message that is offered or unsettled, roughly, beside the message."""

_UNIFORM = int(Flag.UNIFORM)
_MIXED = int(Flag.MIXED)
_NAMED = int(Flag.NAMED)
_ESCAPED = int(Flag.ESCAPED)
_RECOVERED = int(Flag.RECOVERED)
_NOTHING = Envelope(b"".join(pack(Kind.SEND)))
_STUBS = [Envelope(b"".join(pack(Kind.PAGE, flags=_UNIFORM | flags))) for flags in (0, _RECOVERED)]
"""What stubs have instead of their envelopes: with one length for all bodies, as none is known."""


class Run(Record):
    """`count` messages of an envelope, from its `first` one on, all of the same fate so far."""

    ANEW = ("cost", "memory")
    __slots__ = (
        "alibis",
        "avoid",
        "cost",
        "count",
        "deliveries",
        "details",
        "envelope",
        "first",
        "held_until",
        "is_stub",
        "memory",
        "octets",
        "overhead",
        "serial",
    )

    def __init__(
        self,
        envelope: Envelope,
        *,
        first: int,
        count: int,
        serial: int,
        octets: int,
        overhead: int,
        deliveries: int = 0,
        details: Details = PLAIN,
    ) -> None:
        """`serial` is the first message's, `octets` the sum of the bodies.

        `overhead` is the memory (octets) that each message uses beside its body.
        """
        self.envelope = envelope
        self.first = first
        self.count = count
        self.serial = serial
        self.octets = octets
        self.overhead = overhead
        self.memory = octets + overhead * count
        """Octets of memory that these messages use. Empty bodies do as well."""
        self.cost = self.memory + UNSETTLED_OVERHEAD * count
        """Octets that a consumer is charged with that has them, or may claim them."""
        self.deliveries = deliveries
        self.details = details
        self.held_until = 0.0
        """When the lease of who holds them ends (seconds)."""
        self.is_stub = False
        """The store alone has the messages: this is only their place, and what became of them."""
        self.avoid: tuple[tuple[Peer, Token], ...] = ()
        """Consumers that lost them by a lease, or said NACK: the one that did so last is the last one here."""
        self.alibis = 0
        """How many unexplained crashes there had been when they became suspect, or were last blamed."""

    def rebuild(self) -> None:
        """Add up what the messages use."""
        self.memory = self.octets + self.overhead * self.count
        self.cost = self.memory + UNSETTLED_OVERHEAD * self.count

    def split(self, count: int) -> Run:
        """Cut off the first `count` messages, fewer than all: they are returned, this run keeps the others."""
        front = self.part(self.serial, count)
        self.first += count
        self.count -= count
        self.serial += count
        self.octets -= front.octets
        self.memory -= front.memory
        self.cost -= front.cost
        return front

    def part(self, serial: int, count: int) -> Run:
        """Return so many of the messages from this serial on as another run. This one stays as it is."""
        first = self.first + serial - self.serial
        if self.envelope.flags & _UNIFORM:
            octets = self.octets // self.count * count
        else:
            start, end = self.envelope.bounds(first, count)
            octets = end - start
        part = Run(
            self.envelope,
            first=first,
            count=count,
            serial=serial,
            octets=octets,
            overhead=self.overhead,
            deliveries=self.deliveries,
            details=self.details,
        )
        part.held_until = self.held_until
        part.is_stub = self.is_stub
        part.avoid = self.avoid
        part.alibis = self.alibis
        return part

    def move_out(self) -> Run:
        """Return all messages as another run. This one is empty from now on, and keeps nothing in memory."""
        moved = Run(
            self.envelope,
            first=self.first,
            count=self.count,
            serial=self.serial,
            octets=self.octets,
            overhead=self.overhead,
            deliveries=self.deliveries,
            details=self.details,
        )
        self.envelope = _NOTHING
        self.count = self.octets = self.memory = self.cost = 0
        return moved

    def drop_bodies(self) -> None:
        """Keep only the messages' place, and what became of them. The sizes of parts are a guess from now on."""
        self.envelope = _STUBS[bool(self.envelope.flags & _RECOVERED)]
        self.is_stub = True

    def revive(self, page: Run) -> int:
        """Take the bodies of these messages from what the store gave; by how many octets they are more than guessed."""
        memory = self.memory
        self.envelope, self.first, self.is_stub = page.envelope, page.first, False
        self.octets, self.overhead, self.memory, self.cost = page.octets, page.overhead, page.memory, page.cost
        return self.memory - memory

    def message_id(self, place: int) -> bytes:
        """The message-id of the message at this place, as clients see it; of a stub only the store has it."""
        envelope, at = self.envelope, self.first + place
        if envelope.flags & _NAMED:
            start, end = envelope.bounds(at, 1)
            return bytes(envelope.raw[start:end]).partition(b"\n")[0]
        return b"%d%b" % (envelope.index + at, envelope.block.partition(b"\n")[0])

    def octets_of(self, count: int) -> int:
        """Octets of the first `count` bodies."""
        if self.envelope.flags & _UNIFORM:
            return self.octets // self.count * count
        start, end = self.envelope.bounds(self.first, count)
        return end - start

    def fitting(self, count: int, octets: int) -> int:
        """How many of the first `count` messages have at most `octets` together; one at least."""
        if self.octets <= octets:
            return count
        return max(1, bisect_right(range(1, count + 1), octets, key=self.octets_of))

    def affordable(self, count: int, octets: int) -> int:
        """Return how many of the first `count` messages cost at most `octets` together; perhaps none."""
        if self.cost <= octets:
            return count
        return bisect_right(range(1, count + 1), octets, key=self.cost_of)

    def cost_of(self, count: int) -> int:
        """Return the cost of the first `count` messages."""
        return self.octets_of(count) + (self.overhead + UNSETTLED_OVERHEAD) * count


def make_run(envelope: Envelope, serial: int, details: Details = PLAIN) -> Run:
    """A run of all messages of an envelope.

    Raises:
        EnvelopeError: its lengths don't add up.
    """
    count = envelope.count
    start, end = envelope.bounds(0, count)
    octets = end - start
    overhead = (len(envelope.raw) - octets + ENVELOPE_OVERHEAD) // count
    return Run(
        envelope,
        first=0,
        count=count,
        serial=serial,
        octets=octets,
        overhead=overhead,
        deliveries=envelope.deliveries,
        details=details,
    )


def may_join(run: Run, head: Run) -> bool:
    """Whether messages can be put into one envelope with those of `head`, as far as they follow these."""
    details = run.details
    return (
        0 < run.count < FEW
        and details is head.details
        and (details is PLAIN or details is DURABLY)
        and not (run.deliveries or run.avoid or run.is_stub)
        and not (run.envelope.flags ^ head.envelope.flags) & _RECOVERED
    )


def join(runs: Sequence[Run]) -> Run:
    """The messages of these runs in one envelope (`NAMED`). They follow each other, and each `may_join` the first."""
    pieces: list[bytes] = []
    flags = _MIXED | _NAMED
    for run in runs:
        envelope = run.envelope
        number, block = envelope.index + run.first, envelope.block
        for at in range(run.first, run.first + run.count):
            start, end = envelope.bounds(at, 1)
            # in both forms of a block what stands before a piece is what is to stand in it
            name = b"" if envelope.flags & _NAMED else b"%d%b" % (number, block)
            pieces.append(name + bytes(envelope.raw[start:end]))
            number += 1
        flags |= envelope.flags & (_ESCAPED | _RECOVERED)
    form, payload = pack_pieces(pieces)
    joined = Envelope(b"".join(pack(Kind.PAGE, flags=flags | form, count=len(pieces), payload=payload)))
    senders = {run.envelope.sender for run in runs}
    joined.sender = senders.pop() if len(senders) == 1 else 0
    return make_run(joined, runs[0].serial, runs[0].details)
