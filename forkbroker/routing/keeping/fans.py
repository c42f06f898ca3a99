"""What is sent to a topic, for several durable subscriptions: told to the store with its bodies once.

While a fan is open it collects who gets the batch. Then it is cut so that what the store has to write for each piece is
bounded: a thousand subscriptions make of 256 KiB a quarter of a GiB. The list of queues is bounded as well, as an
envelope has little room for it beside the largest batch: a thousand names can have more than 10 MiB.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

from forkbroker.routing.keeping.telling import pack_write
from forkbroker.routing.queues.runs import Run
from forkbroker.wire.details import Details
from forkbroker.wire.envelope import Buffer, Envelope, pack
from forkbroker.wire.fan import Target, pack_targets
from forkbroker.wire.kinds import Kind

FAN_OCTETS = 8_388_608
"""What the store has to write for one piece, at most, unless it is for one queue: the store's group."""
NAMES_OCTETS = 524_288
"""The targets of one piece, at most: half of what an envelope may grow by when the parent passes it on."""
MESSAGE_OCTETS = 128
"""What a message without a body is to the store, roughly."""


class Piece:
    """The same messages for some queues."""

    def __init__(self, run: Run, targets: list[Target]) -> None:
        self.run = run
        self.targets = targets

    @property
    def octets(self) -> int:
        """What the store has to write for it, roughly."""
        return weigh(self.run.envelope, self.run.octets, self.run.count) * len(self.targets)

    def cut(self) -> Iterator[Piece]:
        """Pieces that are small enough."""
        size = max(1, FAN_OCTETS * len(self.targets) // self.octets)
        for at in range(0, len(self.targets), size):
            yield from Piece(self.run, self.targets[at : at + size]).cut_names()

    def cut_names(self) -> Iterator[Piece]:
        """Pieces whose lists of targets are small enough."""
        part: list[Target] = []
        octets = 0
        for target in self.targets:
            octets += len(pack_targets((target,)))
            if octets > NAMES_OCTETS and part:
                yield Piece(self.run, part)
                part, octets = [], len(pack_targets((target,)))
            part.append(target)
        yield Piece(self.run, part)

    def pack(self, number: int = 0) -> list[Buffer]:
        """Return the envelope."""
        targets = self.targets
        if len(targets) == 1:
            return pack_write(targets[0][1], self.run, serial=targets[0][0], number=number)
        batch = pack_write(b"", self.run, serial=0, number=0)
        return pack(Kind.FAN, number=number, count=len(targets), block=pack_targets(targets), payload=batch)


class Fan:
    """One batch, and the queues that get it."""

    def __init__(self, envelope: Envelope) -> None:
        """Nobody gets it yet."""
        self._envelope = envelope
        self._pieces: dict[tuple[int, int, int, Details], Piece] = {}

    def add(self, queue: bytes, run: Run) -> bool:
        """The queue gets this; tell whether it is of the fan's batch."""
        if run.envelope is not self._envelope:
            return False
        key = (run.first, run.count, run.deliveries, run.details)
        target = (run.serial, queue)
        piece = self._pieces.get(key)
        if piece is None:
            # a copy: the run may be cut into parts before this is packed
            self._pieces[key] = Piece(copy(run), [target])
        else:
            piece.targets.append(target)
        return True

    @property
    def pieces(self) -> list[Piece]:
        """One for all queues that know the same of it."""
        return list(self._pieces.values())


def weigh(envelope: Envelope, octets: int, count: int) -> int:
    """Return what `count` messages of this envelope, with so many octets of bodies, are to the store for one queue."""
    length: int = envelope.block_length
    return octets + count * (MESSAGE_OCTETS + length)
