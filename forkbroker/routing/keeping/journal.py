"""What the store is told, and who waits for it.

Every change of what the store has is numbered and kept until the store says that it is COMMITTED (`telling.py`). A
store process that ends is started anew, and told again what was not: so a store can end at any instant, and nothing
that was accepted is lost while the parent lives.

A peer's FENCED says that all before its fence has been applied, and that what of it is persistent will survive: it
waits here until the last change that the peer brought about is committed. Whatever else answers that peer's requests
waits behind it, so answers come in the order of the asking; but for refusals while the store can't write. Who changed
nothing in the store waits for nothing.

A change that the store can't write, and never will, is not told any more; FENCED for it becomes REFUSED. Its messages
may have been delivered by then, and what later changes say of them meets nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from forkbroker.routing.handover import Loaded, Rule
from forkbroker.routing.keeping.fans import Fan, Piece
from forkbroker.routing.keeping.telling import Change, Telling, pack_write
from forkbroker.routing.kit import Kit
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.runs import Run
from forkbroker.routing.queues.window import Window
from forkbroker.wire.envelope import Buffer, Envelope, pack, pack_serial, with_number
from forkbroker.wire.kinds import Kind, Matter

MAX_OCTETS = 67_108_864
"""Octets that are told and not committed, above which who sends persistent messages is held."""
MAX_COPIES = 268_435_456
"""Octets that one transaction may have the store write for durable subscriptions beside what the client has sent."""

_ANSWERS = 2_000
"""Answers that are sent in one turn once what they have waited for is committed: each some 2 µs."""
_RESUME_PERCENT = 80
_ROOM_SHARE = 4
"""Producers are held when what is not committed is this part of the room that the store has: it is told of the room
now and then only, and what it writes takes more than what it is told."""
_PLENTY = 1 << 62
_FAILS_AFTER = 2
"""Ends without a commit and without a reason, in a row: one may be somebody's kill."""

_Part = tuple[list[Buffer], int]
"""An envelope, and how many octets it gives the store to write, roughly."""


class Draft:
    """A change that is being made, perhaps in several turns of the loop: others may be made meanwhile."""

    __slots__ = ("change", "parts")

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.change: Change | None = None
        """With its first part it gets its number, and all that comes later is told behind it."""


class Journal(Rule):
    """The router's side of the store."""

    DUMPED = (
        *("telling", "_behind", "_waiting", "releasing", "_ends"),
        *("last", "committed", "held", "failure", "shortage", "room"),
    )
    ANEW = ("_draft", "_parts", "_coming", "_fan", "_asked", "is_busy", "refusal", "most")
    """Between two turns no change is being made."""

    def __init__(self, kit: Kit, window: Window) -> None:
        """The `window` learns whether the store can take what memory has no room for."""
        self._out = kit.out
        self._notes = kit.notes
        self._window = window
        self.telling = Telling(kit.out)
        """To read."""
        self._draft: Draft | None = None
        """Of which what is told is a part."""
        self._parts: list[_Part] | None = None
        """Where what is told is collected."""
        self._coming = 0
        """The number of what is collected without a draft; 0: nothing is."""
        self._fan: Fan | None = None
        self._asked: list[list[Buffer]] = []
        """What was asked for meanwhile."""
        self._behind: dict[Peer, int] = {}
        self._waiting: dict[Peer, deque[tuple[int, list[Buffer]]]] = {}
        self.releasing: deque[Peer] = deque()
        """Those of which some may wait for what is committed already; to read."""
        self._ends = 0
        """Of store processes that have committed nothing."""
        self.last = 0
        """Number of the last change."""
        self.committed = 0
        """Number of the last change that will survive."""
        self.held: set[Peer] = set()
        """Producers that wait until there is less of that."""
        self.failure = ""
        """Why the store can't write; empty while it can, or may soon."""
        self.shortage = ""
        """Why the store should not be given more: the disk is nearly full."""
        self.refusal = ""
        """One of these: why nothing more should be given to the store; empty if it may."""
        self.is_busy = False
        """Something waits to be told to the store, or to be committed, or for that; perhaps a turn longer than it does.
        Where nothing does, nobody need ask here."""
        self.room = _PLENTY
        """Octets that it may be given before it is."""
        self.most = MAX_OCTETS
        """Octets that may be told and not committed."""

    def rebuild(self, loaded: Loaded) -> None:
        """Judge what the store has said last. The next turn sees whether something waits."""
        self.is_busy = True
        self.heed_disk(self.shortage, self.room)

    # -- changes

    def write(self, queue: bytes, run: Run) -> None:
        """New messages: WRITE them if they are persistent, SPILL them if they aren't."""
        if self._fan is not None and self._fan.add(queue, run):
            self._reserve()
        else:
            self._tell(pack_write(queue, run, serial=run.serial, number=self._next()))

    def delete(self, run: Run) -> None:
        """Persistent messages are settled."""
        self._tell(pack(Kind.DELETE, number=self._next(), serial=run.serial, count=run.count))

    def update(self, run: Run) -> None:
        """Persistent messages were delivered in vain."""
        self._tell(
            pack(
                Kind.UPDATE,
                number=self._next(),
                serial=run.serial,
                count=run.count,
                deliveries=run.deliveries,
                index=run.details.crashes,
            )
        )

    def move(self, serial: int, queue: bytes, run: Run, number: int = 0) -> None:
        """Persistent messages, the first of which had this serial, are in this queue now, as `run` says.

        Their message-ids begin with other numbers from now on, the first one's with `number`; 0: they stay.
        """
        self._tell(
            pack(
                Kind.MOVE,
                number=self._next(),
                serial=serial,
                index=number,
                count=run.count,
                destination=queue,
                section=run.details.pack(),
                deliveries=run.deliveries,
                payload=[pack_serial(run.serial)],
            )
        )

    def purge(self, queue: bytes) -> None:
        """All messages of the queue are gone."""
        self._tell(pack(Kind.PURGE, number=self._next(), destination=queue))

    def define(self, queue: bytes, topic: bytes, used_ms: int) -> None:
        """A durable subscription, and when it was last used (milliseconds since the epoch)."""
        self._tell(pack(Kind.DEFINE, number=self._next(), destination=queue, block=topic, serial=used_ms))

    def forget(self, queue: bytes) -> None:
        """A durable subscription is gone, and all its messages."""
        self._tell(pack(Kind.FORGET, number=self._next(), destination=queue))

    def note(self, queue: bytes, matter: Matter, value: bytes | None) -> None:
        """This is so of a queue; None: nothing is, any more."""
        count = 0 if value is None else 1
        self._tell(
            pack(Kind.NOTE, number=self._next(), destination=queue, token=matter, count=count, block=value or b"")
        )

    @contextmanager
    def one_change(self) -> Iterator[None]:
        """What is told meanwhile is one change: it was applied, so it is told even if an error ends it."""
        draft = Draft()
        try:
            with self.part_of(draft):
                yield
        finally:
            self.finish(draft)

    @contextmanager
    def part_of(self, draft: Draft) -> Iterator[None]:
        """What is told meanwhile is part of this change."""
        self._draft, self._parts = draft, draft.parts
        try:
            yield
        finally:
            self._draft = self._parts = None
            self._ask_all()

    def finish(self, draft: Draft) -> None:
        """These were all parts of this change. One without any is none."""
        if draft.change is not None:
            number, octets = draft.change.number, sum([octets for _, octets in draft.parts])
            self.telling.close(draft.change, _join(draft.parts, number), octets)

    @contextmanager
    def fan_out(self, envelope: Envelope, most: int) -> Iterator[None]:
        """The same batch is written for `most` queues at most: its bodies are told once.

        Within a change it is a part of that. Alone it is cut into several changes where it would be too large: receipts
        wait for the last one. What else is told meanwhile comes behind it, as it may be about what is written here.
        """
        before, others = self._parts, list[_Part]()
        self._parts = others
        self._fan = fan = Fan(envelope)
        if before is None:
            self._coming = self.last + most
        try:
            yield
        finally:
            self._parts, self._fan = before, None
            if before is not None:
                before += [(piece.pack(), piece.octets) for whole in fan.pieces for piece in whole.cut_names()]
                before += others
            else:
                coming, self._coming = self._coming, 0
                self._tell_pieces([piece for whole in fan.pieces for piece in whole.cut()], others, coming)
                self._ask_all()

    def _tell_pieces(self, pieces: list[Piece], others: list[_Part], coming: int) -> None:
        """All but the last one are changes by themselves."""
        for piece in pieces[:-1]:
            self._add([piece.pack(self._next())], piece.octets)
        parts = [*[(piece.pack(), piece.octets) for piece in pieces[-1:]], *others]
        if parts:
            # the number was known before: what is sent again meanwhile waits for it
            self.last = coming
            self._add(_join(parts, coming), sum([octets for _, octets in parts]))

    def _reserve(self) -> None:
        """The draft has a part, and so a number."""
        draft = self._draft
        if draft is not None and draft.change is None:
            self.last += 1
            draft.change = Change(self.last, [], 0, is_open=True)
            self.telling.add(draft.change)
            self.is_busy = True

    def _next(self) -> int:
        """The number of the next change; parts of one have none of their own."""
        if self._parts is not None:
            self._reserve()
            return 0
        self.last += 1
        return self.last

    def _tell(self, buffers: list[Buffer]) -> None:
        octets = sum(map(len, buffers))
        if self._parts is not None:
            self._parts.append((buffers, octets))
        else:
            self._add([buffers], octets)

    def _add(self, parts: list[list[Buffer]], octets: int) -> None:
        self.telling.add(Change(self.last, parts, octets))
        self.is_busy = True

    # -- reading

    def fetch(self, queue: bytes, priority: int, after: int, octets: int) -> bool:
        """Ask for what of a queue comes behind this serial; tell whether there is somebody to ask."""
        if self.telling.is_open:
            self._asked.append(pack(Kind.FETCH, destination=queue, index=priority, serial=after, count=octets))
            if self._parts is None:
                self._ask_all()
        return self.telling.is_open

    @property
    def is_open(self) -> bool:
        """A store process listens."""
        return self.telling.is_open

    def _ask_all(self) -> None:
        """Behind the change: what it pages out is counted, and would be taken for lost."""
        for buffers in self._asked:
            self.telling.ask(buffers)
            self.is_busy = True
        self._asked.clear()

    # -- who waits

    def find_refusal(self, octets: int) -> str:
        """Why so much should not be given to the store; empty if it may."""
        if not self.refusal and octets > self.room:
            return f"the disk has room for {self.room:,} bytes, and these are {octets:,}"
        return self.refusal

    @property
    def number(self) -> int:
        """Of the change that is being told, or was told last."""
        if self._draft is not None and self._draft.change is not None:
            return self._draft.change.number
        return self._coming or self.last

    @property
    def is_committed(self) -> bool:
        """Nothing waits to be written."""
        return self.committed >= self.last

    @property
    def octets(self) -> int:
        """Of changes that are not committed."""
        return self.telling.octets

    @property
    def is_full(self) -> bool:
        """So much is told and not committed that who brings more is to be held."""
        return self.telling.octets >= self.most

    @property
    def has_room(self) -> bool:
        """So little is left of it that who was held may go on."""
        return self.telling.octets * 100 < self.most * _RESUME_PERCENT

    def wait_for(self, peer: Peer, number: int) -> None:
        """What answers this peer from now on waits until this change is committed."""
        if number > max(self.committed, self._behind.get(peer, 0)):
            self._behind[peer] = number

    def attribute(self, peer: Peer, before: int) -> None:
        """All changes behind this one were brought about by the peer: its answers wait for them."""
        self.telling.attribute(peer, before)
        self._behind[peer] = self.last

    def answer(self, peer: Peer, buffers: list[Buffer]) -> None:
        """Answer this peer, once all that it brought about is committed."""
        number = self._behind.get(peer)
        if number is None and peer not in self._waiting:
            self._out.append((peer, buffers))
        else:
            # what has waited may not all have gone out yet
            self._waiting.setdefault(peer, deque()).append((number or self.committed, buffers))

    def refuse(self, peer: Peer, buffers: list[Buffer]) -> None:
        """As `answer`; but at once while the store can't write, as what would be waited for may never come."""
        if self.refusal:
            self._out.append((peer, buffers))
        else:
            self.answer(peer, buffers)

    def peer_ended(self, peer: Peer) -> None:
        """The peer wants no answers any more."""
        self._behind.pop(peer, None)
        self._waiting.pop(peer, None)

    # -- what the store says

    def opened(self) -> None:
        """A store process listens: tell it what was not committed.

        It works when it has committed that, or if there is nothing of it.
        """
        self.telling.opened()
        self.is_busy = True
        if not self.telling:
            self._works()

    def closed(self, reason: str) -> None:
        """The store process has ended; `reason` when it could not do its work."""
        self.telling.closed()
        self._ends += 1
        if reason:
            self.failure = reason
        else:
            self._set_aside()
        if not self.failure and self._ends >= _FAILS_AFTER:
            self.failure = f"the store process exited {self._ends} times without writing anything"
        self._judge()

    def commit(self, number: int) -> None:
        """All changes up to this number will survive: answer who waited for them.

        Raises:
            AssertionError: there was no such change.
        """
        self.telling.commit(number)
        if self._ends or self.failure:
            self._works()
        self.committed = max(self.committed, number)
        for peer in [peer for peer, behind in self._behind.items() if behind <= number]:
            del self._behind[peer]
        self.releasing = deque(self._waiting)
        self._release(_ANSWERS)

    def go_on(self) -> None:
        """A new turn: do more of what was too much for the ones before."""
        telling = self.telling
        telling.go_on()
        if self.releasing:
            self._release(_ANSWERS)
        self.is_busy = (
            bool(telling.changes or telling.questions or self.releasing or self.held) or telling.may_tell <= 0
        )

    @property
    def is_behind(self) -> bool:
        """There is something for the next turn."""
        return bool(self.releasing) or self.telling.is_behind

    def deleted(self, number: int) -> None:
        """This change will survive, although others before it wait for room: so do answers that wait for it alone.

        Raises:
            AssertionError: there is no such change.
        """
        change = self.telling.find(number)
        if change is None:
            raise AssertionError(f"change {number} is done, and is not one of those that are not committed")
        change.is_done = True
        if change.cause is not None:
            self._release_done(change.cause, self.telling.first_open(change.cause))

    def _release_done(self, peer: Peer, first_open: int) -> None:
        """What waits for changes of the peer's own that are all done; not for those of others."""
        waiting = self._waiting.get(peer, deque())
        while waiting and waiting[0][0] < first_open and self.telling.is_done(waiting[0][0]):
            self._out.append((peer, waiting.popleft()[1]))
        behind = self._behind.get(peer, 0)
        if behind and not waiting and behind < first_open and self.telling.is_done(behind):
            del self._behind[peer]
            self._waiting.pop(peer, None)

    def _works(self) -> None:
        self._ends = 0
        self.failure = ""
        self._judge()

    def _judge(self) -> None:
        self.refusal = self._window.refusal = self.failure or self.shortage

    def _release(self, most: int) -> None:
        """Send so many answers at most that have waited for what is committed."""
        while self.releasing and most > 0:
            peer = self.releasing[0]
            waiting = self._waiting.get(peer, ())
            if waiting and waiting[0][0] <= self.committed:
                self._out.append((peer, waiting.popleft()[1]))
                most -= 1
                continue
            self.releasing.popleft()
            most -= 1
            if not waiting:
                self._waiting.pop(peer, None)

    def heed_disk(self, reason: str, room: int) -> None:
        """The store says why it should not be given more, or nothing; and how many octets it has room for."""
        self.shortage = reason
        self.room = room
        self.most = max(1, min(MAX_OCTETS, room // _ROOM_SHARE))
        self._judge()

    # -- what can't be written

    def trying(self, number: int) -> None:
        """The store process is about to apply this one of the changes that it was told again."""
        self.telling.trying(number)

    def declined(self, number: int, reason: str) -> None:
        """The store can't write this change, and has kept it for the administrator.

        Raises:
            AssertionError: there is no such change.
        """
        change = self.telling.find(number)
        if change is None:
            raise AssertionError(f"change {number} is declined, and is not one of those that are not committed")
        self._refuse(change, f"the store cannot write this: {reason}")
        self.telling.drop(change)

    def _set_aside(self) -> None:
        """The store process has died: see whether it was for a change that another one has died at."""
        change = self.telling.died()
        if change is None:
            return
        if change.is_aside:
            self._notes.append(f"store: change {change.number} could not be kept in a file, dropped")
        self._refuse(change, "the store's process has died of this twice")
        self.telling.set_aside(change, "the store's process has died of this change twice")

    def _refuse(self, change: Change, reason: str) -> None:
        """Let who has brought this about know, instead of its receipt or, where it wants none, by itself."""
        peer = change.cause
        if peer is None or change.is_aside:
            return
        waiting = self._waiting.get(peer, ())
        for place, (number, buffers) in enumerate(waiting):
            if number >= change.number and Envelope(buffers[0]).kind is Kind.FENCED:
                fence = Envelope(buffers[0]).number
                self._waiting[peer][place] = (number, pack(Kind.REFUSED, number=fence, block=reason.encode()))
                return
        self.answer(peer, pack(Kind.REFUSED, block=reason.encode()))


def _join(parts: list[_Part], number: int) -> list[list[Buffer]]:
    """Return the envelopes of one change that has these parts, one at least."""
    if len(parts) == 1:
        return [with_number(parts[0][0], number)]
    return [*[buffers for buffers, _ in parts], pack(Kind.TOGETHER, number=number, count=len(parts))]
