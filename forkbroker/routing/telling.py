"""The changes that the store was told and has not committed, and those that it has yet to be told.

Not more than a window of octets is told ahead of what is committed: the store reads all that is told again before it
writes it, as one group, so this is what it may have to keep in memory. What it is asked for waits in the same row, as
an answer has to know what was changed before.

A store process that dies says before, change by change, at which one it is (TRYING). A change at which two in a row
have died is set aside: the next one is not told it, but given its octets to keep for the administrator. If that is more
than it can bear as well, they are dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from forkbroker.routing.peers import STORE, Outbox, Peer
from forkbroker.wire.envelope import Buffer, pack
from forkbroker.wire.kinds import Kind

WINDOW_OCTETS = 134_217_728
"""Twice what producers are held at: in all ordinary cases there is nothing that waits to be told."""

_CUT_OCTETS = 1_048_576
"""Of a change that is set aside, told at once."""


class Change:
    """One change, and what becomes of it."""

    __slots__ = ("cause", "is_aside", "is_done", "number", "octets", "parts")

    def __init__(self, number: int, parts: list[list[Buffer]], octets: int) -> None:
        self.number = number
        self.parts = parts
        """Its envelopes."""
        self.octets = octets
        """What it gives the store to write, roughly."""
        self.cause: Peer | None = None
        """Who has brought it about."""
        self.is_done = False
        """It will survive, although what came before it is not committed."""
        self.is_aside = False
        """It is not to be written any more."""


class Telling:
    """What the store process is told, whichever it is."""

    def __init__(self, out: Outbox) -> None:
        """Envelopes for the store go to `out`."""
        self._out = out
        self._changes: deque[Change] = deque()
        self._untold: deque[Change | list[Buffer]] = deque()
        """Changes, and in between what the store is asked for."""
        self._told = 0
        """The number of the last change that any process was told."""
        self._told_octets = 0
        self._trying = 0
        self._died_at = 0
        """The change at which the process before has died; 0: at none."""
        self.octets = 0
        """Of all changes that are not committed."""
        self.is_open = False
        """A store process listens."""

    def __bool__(self) -> bool:
        """There are changes that are not committed."""
        return bool(self._changes)

    def add(self, change: Change) -> None:
        """A new change, behind all others."""
        self.octets += change.octets
        self._changes.append(change)
        self._untold.append(change)
        self._go_on()

    def ask(self, buffers: list[Buffer]) -> None:
        """Ask the store process, behind all changes that there are now."""
        self._untold.append(buffers)
        self._go_on()

    def since(self, number: int) -> Iterator[Change]:
        """The changes behind this number, the latest first."""
        for change in reversed(self._changes):
            if change.number <= number:
                return
            yield change

    def find(self, number: int) -> Change | None:
        """The change with this number, unless it is committed."""
        return next((change for change in self._changes if change.number == number), None)

    def is_done(self, number: int) -> bool:
        """Whether this change will survive."""
        change = self.find(number)
        return change is None or change.is_done

    def first_open(self, peer: Peer) -> int:
        """The number of the peer's first change that is not known to survive; above all numbers if there is none."""
        return next(
            (c.number for c in self._changes if c.cause == peer and not c.is_done), self._changes[-1].number + 1
        )

    def opened(self) -> None:
        """A store process listens: tell it again what an earlier one was told and did not commit.

        Perhaps it did, and only the word was lost. To write a part of it again would undo what followed: the half of a
        transaction would stand there, or a message where it was before it was moved. So it is one group (RETOLD).
        """
        self.is_open = True
        for change in self._changes:
            if change.number > self._told:
                break
            self._out.extend([(STORE, part) for part in change.parts])
        self._out.append((STORE, pack(Kind.RETOLD)))
        self._go_on()

    def closed(self) -> None:
        """The store process has ended: what it was asked for will not come."""
        self.is_open = False
        self._untold = deque(item for item in self._untold if isinstance(item, Change))

    def commit(self, number: int) -> None:
        """All changes up to this one will survive.

        Raises:
            AssertionError: that was not told.
        """
        if number > self._told:
            raise AssertionError(f"change {number} is committed, and {self._told} was the last that was told")
        changes = self._changes
        while changes and changes[0].number <= number:
            octets = changes.popleft().octets
            self.octets -= octets
            self._told_octets -= octets
        self._died_at = 0
        self._go_on()

    def _go_on(self) -> None:
        untold = self._untold
        while untold and self.is_open and self._told_octets < WINDOW_OCTETS:
            item = untold.popleft()
            if not isinstance(item, Change):
                self._out.append((STORE, item))
                continue
            self._told = item.number
            self._told_octets += item.octets
            self._out.extend([(STORE, part) for part in item.parts])

    # -- what can't be written

    def trying(self, number: int) -> None:
        """The store process is about to apply this change, of those that it was told again; 0: it has applied all."""
        self._trying = number

    def died(self) -> Change | None:
        """The store process has died without a word: the change that is to be set aside for it, if there is one."""
        number, self._trying = self._trying, 0
        died_at, self._died_at = self._died_at, number
        return self.find(number) if number == died_at else None

    def set_aside(self, change: Change, reason: str) -> None:
        """Don't tell this any more; but, for the first time, its octets."""
        octets = b"" if change.is_aside else b"".join([bytes(buffer) for part in change.parts for buffer in part])
        change.parts = [
            pack(Kind.SET_ASIDE, block=reason.encode(), payload=[octets[at : at + _CUT_OCTETS]])
            for at in range(0, len(octets), _CUT_OCTETS)
        ]
        change.parts.append(pack(Kind.TOGETHER, number=change.number, count=len(change.parts)))
        change.is_aside = True
        self._died_at = 0
        self._resize(change, len(octets))

    def drop(self, change: Change) -> None:
        """Don't tell this any more: the store has kept what is to be kept of it."""
        change.parts = [pack(Kind.TOGETHER, number=change.number)]
        change.is_aside = True
        self._resize(change, 0)

    def _resize(self, change: Change, octets: int) -> None:
        self.octets += octets - change.octets
        if change.number <= self._told:
            self._told_octets += octets - change.octets
        change.octets = octets
