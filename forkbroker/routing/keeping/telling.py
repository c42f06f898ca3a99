"""The changes that the store was told and has not committed, and those that it has yet to be told.

Not more than a window of octets is told ahead of what is committed: the store reads all that is told again before it
writes it, as one group, so this is what it may have to keep in memory. What it is asked for waits in the same row, as
an answer has to know what was changed before.

A change may be open: more is still to become part of it. It has its number, and it and all behind it wait to be told.

No call here costs more than a bounded number of steps, however many changes there are: one turn of the router's loop
tells a part of what waits, and forgets a part of what is committed (`go_on`).

A store process that dies says before, change by change, at which one it is (TRYING). A change at which two in a row
have died is set aside: the next one is not told it, but given its octets to keep for the administrator. If that is more
than it can bear as well, they are dropped.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from operator import attrgetter

from forkbroker.routing.handover import Loaded, Record, Rule
from forkbroker.routing.peers import STORE, Outbox, Peer
from forkbroker.routing.queues.runs import Run
from forkbroker.wire.envelope import Buffer, pack, pack_number, pack_run
from forkbroker.wire.kinds import Kind

WINDOW_OCTETS = 134_217_728
"""Twice what producers are held at: in all ordinary cases there is nothing that waits to be told."""
BUDGET = 2_000
"""Changes that are told, and as many that are forgotten, in one turn: each some 2 µs."""

_CUT_OCTETS = 1_048_576
"""Of a change that is set aside, told at once."""
_NUMBER = attrgetter("number")


class Change(Record):
    """One change, and what becomes of it."""

    __slots__ = ("cause", "is_aside", "is_done", "is_open", "number", "octets", "parts")

    def __init__(self, number: int, parts: list[list[Buffer]], octets: int, *, is_open: bool = False) -> None:
        self.number = number
        self.parts = parts
        """Its envelopes."""
        self.octets = octets
        """What it gives the store to write, roughly."""
        self.cause: Peer | None = None
        """Who has brought it about."""
        self.is_open = is_open
        """More will be part of it."""
        self.is_done = False
        """It will survive, although what came before it is not committed."""
        self.is_aside = False
        """It is not to be written any more."""


class Telling(Rule):
    """What the store process is told, whichever it is."""

    DUMPED = ("changes", "_at", "questions", "_told", "_committed", "_trying", "_died_at", "is_open")
    ANEW = ("_causes", "_told_octets", "may_tell", "octets")

    def __init__(self, out: Outbox) -> None:
        """Envelopes for the store go to `out`."""
        self._out = out
        self.changes: list[Change] = []
        """By number. The first ones may be committed, and are to be forgotten. To read."""
        self._at = 0
        """The place of the one that is told next."""
        self.questions: deque[tuple[int, list[Buffer]]] = deque()
        """What the store is to be asked for, and the number of the change behind which that is; to read."""
        self._causes: dict[Peer, deque[Change]] = {}
        """What each peer has brought about and is not forgotten, in order."""
        self._told = 0
        """The number of the last change that any process was told."""
        self._told_octets = 0
        self._committed = 0
        self._trying = 0
        self._died_at = 0
        """The change at which the process before has died; 0: at none."""
        self.may_tell = BUDGET
        """So many changes in this turn; to read."""
        self.octets = 0
        """Of all changes that are not committed."""
        self.is_open = False
        """A store process listens."""

    def rebuild(self, loaded: Loaded) -> None:
        """Add up the changes, and note who has brought them about."""
        for change in self.changes:
            self.octets += change.octets
            self._told_octets += change.octets if change.number <= self._told else 0
            if change.cause is not None:
                self._causes.setdefault(change.cause, deque()).append(change)

    def __bool__(self) -> bool:
        """There are changes that are not committed."""
        return bool(self.changes) and self.changes[-1].number > self._committed

    @property
    def is_behind(self) -> bool:
        """Whether `go_on` has something to do, and waits for nothing but its turn."""
        return self.may_tell <= 0 or (bool(self.changes) and self.changes[0].number <= self._committed)

    def add(self, change: Change) -> None:
        """A new change, behind all others."""
        self.octets += change.octets
        self.changes.append(change)
        self._tell()

    def close(self, change: Change, parts: list[list[Buffer]], octets: int) -> None:
        """These are all parts of an open change."""
        change.parts, change.is_open = parts, False
        self._resize(change, octets)
        self._tell()

    def ask(self, buffers: list[Buffer]) -> None:
        """Ask the store process, behind all changes that there are now."""
        self.questions.append((self.changes[-1].number if self.changes else 0, buffers))
        self._tell()

    def attribute(self, peer: Peer, before: int) -> None:
        """All changes behind this number were brought about by the peer."""
        at = len(self.changes)
        while at and self.changes[at - 1].number > before:
            at -= 1
        causes = self._causes.setdefault(peer, deque())
        for change in self.changes[at:]:
            change.cause = peer
            causes.append(change)

    def find(self, number: int) -> Change | None:
        """The change with this number, unless it is committed."""
        at = self._place_of(number)
        is_there = number > self._committed and at < len(self.changes) and self.changes[at].number == number
        return self.changes[at] if is_there else None

    def is_done(self, number: int) -> bool:
        """Whether this change will survive."""
        change = self.find(number)
        return change is None or change.is_done

    def first_open(self, peer: Peer) -> int:
        """The number of the peer's first change that is not known to survive; above all numbers if there is none."""
        causes = self._causes.get(peer, deque())
        while causes and (causes[0].is_done or causes[0].number <= self._committed):
            causes.popleft()
        return causes[0].number if causes else self.changes[-1].number + 1

    def opened(self) -> None:
        """A store process listens: tell it again what an earlier one was told and did not commit.

        Perhaps it did, and only the word was lost. To write a part of it again would undo what followed: the half of a
        transaction would stand there, or a message where it was before it was moved. So it is one group (RETOLD), which
        was told within the window once, and fits in any case.
        """
        self.is_open = True
        # what the one before was at when it ended with a reason is not where this one dies
        self._trying = 0
        self._at = self._place_of(self._committed + 1)
        self.questions.append((self._told, pack(Kind.RETOLD)))
        self._tell()

    def closed(self) -> None:
        """The store process has ended: what it was asked for will not come."""
        self.is_open = False
        self.questions.clear()

    def commit(self, number: int) -> None:
        """All changes up to this one will survive.

        Raises:
            AssertionError: that was not told.
        """
        if number > self._told:
            raise AssertionError(f"change {number} is committed, and {self._told} was the last that was told")
        self._committed = max(self._committed, number)
        self._died_at = 0
        self._forget_committed()
        self._tell()

    def go_on(self) -> None:
        """A new turn: tell what was too much for the one before, and forget more of what is committed."""
        self.may_tell = BUDGET
        if self.changes and self.changes[0].number <= self._committed:
            self._forget_committed()
        if self._at < len(self.changes) or self.questions:
            self._tell()

    def _place_of(self, number: int) -> int:
        """Where the first change stands that has this number or a higher one."""
        return bisect_left(self.changes, number, key=_NUMBER)

    def _forget_committed(self) -> None:
        count = min(self._place_of(self._committed + 1), BUDGET)
        for change in self.changes[:count]:
            self.octets -= change.octets
            self._told_octets -= change.octets
            if change.cause is not None:
                self._forget_cause(change.cause, change.number)
        del self.changes[:count]
        self._at = max(0, self._at - count)

    def _forget_cause(self, peer: Peer, number: int) -> None:
        causes = self._causes.get(peer, deque())
        while causes and causes[0].number <= number:
            causes.popleft()
        if not causes:
            self._causes.pop(peer, None)

    def _tell(self) -> None:
        """What may be told now, a turn's part of it."""
        changes, questions = self.changes, self.questions
        while self.is_open and self.may_tell > 0:
            change = changes[self._at] if self._at < len(changes) else None
            if questions and (change is None or questions[0][0] < change.number):
                self._out.append((STORE, questions.popleft()[1]))
                continue
            if change is None or change.is_open or not self._fits(change):
                return
            self._at += 1
            self.may_tell -= 1
            for part in change.parts:
                self._out.append((STORE, part))

    def _fits(self, change: Change) -> bool:
        """Count a change as told, if there is room in the window, or it was told to another process."""
        if change.number <= self._told:
            return True
        if self._told_octets >= WINDOW_OCTETS:
            return False
        self._told = change.number
        self._told_octets += change.octets
        return True

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
        change.parts = [pack_number(Kind.TOGETHER, change.number)]
        change.is_aside = True
        self._resize(change, 0)

    def _resize(self, change: Change, octets: int) -> None:
        self.octets += octets - change.octets
        if change.number <= self._told:
            self._told_octets += octets - change.octets
        change.octets = octets


def pack_write(queue: bytes, run: Run, *, serial: int, number: int) -> list[Buffer]:
    """Return a WRITE if the messages are persistent, a SPILL if they aren't."""
    return pack_run(
        Kind.WRITE if run.details.persistent else Kind.SPILL,
        run.envelope,
        first=run.first,
        count=run.count,
        number=number,
        serial=serial,
        deliveries=run.deliveries,
        destination=queue,
        details=run.details,
    )
