"""What an administrator does with the messages of a queue: look at them, move, copy, retry or remove them.

A *scan* goes through what waits, the oldest first, as far as it was there when the scan began. It takes runs out as a
consumer does, so what is in the store alone is paged in on the way, and each change is one that exists: MOVE or DELETE,
one for each run, which the store applies or doesn't. So whatever is killed, and when, a persistent message is in one
queue. What is not meant stands aside, and goes back to its old place in the end. Meanwhile the queue offers nothing, as
it would be younger.

Messages that a consumer has are not waiting: they are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from forkbroker.control.arguments import RequestError
from forkbroker.routing.jobs.returns import Returns
from forkbroker.routing.keeping.keeping import Keeping
from forkbroker.routing.kit import Kit
from forkbroker.routing.queues.lanes import Lane
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import shown
from forkbroker.routing.queues.runs import Run
from forkbroker.wire.details import Details, Reason
from forkbroker.wire.envelope import MAX_BATCH
from forkbroker.wire.kinds import Flag

MOST_ASIDE = 100_000
"""Runs that may stand aside, each of some hundred octets of memory without its bodies."""
_SHARE = 20
"""Messages that are looked at in the time of one step."""
_MIXED = int(Flag.MIXED)
_NAMED = int(Flag.NAMED)
_RECOVERED = int(Flag.RECOVERED)

WAIT = -1
"""A step in which nothing can be done before the store has answered."""

MARKS: Mapping[str, Callable[[Details], bytes]] = {
    "original-destination": lambda details: details.origin,
    "dead-letter-reason": lambda details: details.reason.name.lower().encode() if details.reason else b"",
    "reject-reason": lambda details: details.reject_reason,
}
"""Headers of dead letters that are the broker's own to set, and so do not stand in envelopes."""

Scan = Generator[int, None, None]
"""Steps: how many more each of them was worth, or `WAIT`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which messages of a queue are meant: those for which all of this holds."""

    ids: frozenset[bytes] | None = None
    """Their message-ids; None: any."""
    reason: Reason | None = None
    """Why they became dead letters."""
    origin: bytes | None = None
    """The queue in which they became dead letters."""
    lines: frozenset[bytes] = frozenset()
    """Header lines that they have, as they stand in envelopes."""
    marks: frozenset[tuple[str, bytes]] = frozenset()
    """What the broker itself says of them in headers, by the names in `MARKS`."""
    most: int | None = None
    """So many, the oldest ones."""

    @property
    def looks_inside(self) -> bool:
        """Messages of one run may differ in what is asked for."""
        return self.ids is not None or bool(self.lines)

    def accepts_all(self, details: Details) -> bool:
        """Whether messages with these details are meant, as far as these go."""
        if self.reason is not None and details.reason is not self.reason:
            return False
        if self.origin is not None and details.origin != self.origin:
            return False
        return all(MARKS[name](details) == value for name, value in self.marks)

    def accepts(self, run: Run, place: int) -> bool:
        """Whether the message at this place of a run is meant, as far as its id and headers go."""
        if self.ids is not None and run.message_id(place) not in self.ids:
            return False
        return not self.lines or self.lines <= set(lines_of(run, place))


@dataclass(slots=True)
class Tally:
    """What has become of it."""

    chosen: int = 0
    """Messages that were meant, and dealt with."""
    left_out: int = 0
    """That were meant, and could not be dealt with."""
    reason: str = ""
    """Why not, of the first of them."""
    seen: int = 0
    found: set[bytes] = field(default_factory=set)
    """The ids, where these were asked for."""


class Moving:
    """The messages of all queues, for an administrator."""

    def __init__(self, kit: Kit, keeping: Keeping, returns: Returns) -> None:
        self._kit = kit
        self._counters = kit.counters
        self._queues = keeping.queues
        self._journal = keeping.journal
        self._custody = keeping.custody
        self._paging = keeping.paging
        self._returns = returns

    def find(self, name: bytes) -> Queue:
        """The queue of this name. Raises RequestError."""
        queue = self._queues.find(name)
        if queue is None:
            raise RequestError("not-found", f"there is no queue {shown(name)}")
        return queue

    # -- what is done

    def look(self, queue: Queue, choice: Choice, tally: Tally, see: Callable[[Run], None]) -> Scan:
        """Show each run that is meant, and leave it where it is."""
        return self._scan(queue, choice, tally, see, takes=False)

    def count(self, queue: Queue, choice: Choice, tally: Tally) -> Scan:
        """Tell how many are meant, and leave them where they are."""
        return self._scan(queue, choice, tally, lambda _: None, takes=False)

    def remove(self, queue: Queue, choice: Choice, tally: Tally) -> Scan:
        """Drop what is meant."""

        def drop(run: Run) -> None:
            self._returns.drop(queue, run)

        return self._scan(queue, choice, tally, drop)

    def purge(self, queue: Queue, tally: Tally) -> Scan:
        """Drop all that waits.

        Where some of it is in the store alone, and nobody has or gets anything of the queue, the store drops it by one
        change, and nothing of it is read. The queue ends, as any does that is empty and not used.
        """
        if queue.paged and _is_idle(queue):
            return self._purge_at_once(queue, tally)
        return self.remove(queue, Choice(), tally)

    def _purge_at_once(self, queue: Queue, tally: Tally) -> Scan:
        count = queue.messages
        self._kit.is_at_rest = False
        self._counters.messages_dropped += count
        self._custody.forget(queue)
        tally.seen += count
        tally.chosen += count
        yield 0

    def move(self, queue: Queue, target: bytes, choice: Choice, tally: Tally) -> Scan:
        """Move what is meant to the end of another queue. Raises RequestError if that takes nothing more."""

        def move(run: Run) -> None:
            self._put(queue, self._require(target), run, anew=False)

        return self._scan(queue, choice, tally, move)

    def copy(self, queue: Queue, target: bytes, choice: Choice, tally: Tally) -> Scan:
        """Put a copy of what is meant at the end of another queue. Raises RequestError as `move`."""

        def copy(run: Run) -> None:
            there = self._require(target)
            twin = Run(
                run.envelope,
                first=run.first,
                count=run.count,
                serial=self._queues.take_serials(run.count),
                octets=run.octets,
                overhead=run.overhead,
                details=replace(run.details, crashes=0),
            )
            self._custody.append(there, twin)
            self._returns.make_room(there)

        return self._scan(queue, choice, tally, copy, takes=False)

    def retry(self, queue: Queue, choice: Choice, tally: Tally, target: bytes | None = None) -> Scan:
        """Move dead letters back to where they came from, or to another queue, as if they had never been delivered."""

        def retry(run: Run) -> None:
            origin = target or run.details.origin
            if not origin:
                raise _LeftOutError("it is no dead letter, and has no original-destination")
            if self._queues.find(origin) is None and not self._queues.takes(origin):
                raise _LeftOutError(f"{shown(origin)} does not exist any more")
            self._put(queue, self._require(origin), run, anew=True)

        return self._scan(queue, choice, tally, retry)

    def _require(self, name: bytes) -> Queue:
        """The queue of this name, made if need be, with room for more. Raises RequestError."""
        queue = self._queues.find(name)
        if queue is None:
            if not self._queues.takes(name):
                raise RequestError("not-found", f"there is no queue {shown(name)}, and no message makes one")
            refusal = self._queues.find_refusal_to_make(name)
            if refusal is not None:
                raise RequestError("conflict", refusal)
            return self._queues.make(name)
        if not queue.policy.full.is_losing and (excess := self._queues.find_excess(queue)) is not None:
            raise RequestError("conflict", f"queue {shown(name)} {excess}")
        return queue

    def _put(self, queue: Queue, target: Queue, run: Run, *, anew: bool) -> None:
        queue.forget(run)
        details = run.details
        if anew:
            run.deliveries = 0
            run.avoid = ()
            details = replace(details, origin=b"", reason=Reason.NONE, reject_reason=b"", crashes=0)
        elif run.envelope.flags & _RECOVERED:
            # the new serial does not tell that it may have been delivered before the broker's start
            run.deliveries = max(1, run.deliveries)
        self._custody.move(target, run, details)
        self._returns.make_room(target)

    # -- the way through a queue

    def _scan(
        self, queue: Queue, choice: Choice, tally: Tally, act: Callable[[Run], None], *, takes: bool = True
    ) -> Scan:
        """`act` is given each run that is meant, and has taken it over unless this one only looks."""
        bound = self._queues.next_serial
        aside: list[Run] = []
        kept = 0  # octets of memory for what stands aside
        queue.returning += 1
        try:
            for lane in list(queue.lanes):
                while not queue.is_gone and not _has_enough(choice, tally):
                    if _next_serial(lane) >= bound:
                        break
                    if self._paging.find_first(queue, lane) is None:
                        if _is_empty(lane, bound):
                            break
                        self._check_store()
                        yield WAIT
                        continue
                    run = queue.take(lane, MAX_BATCH)
                    tally.seen += run.count
                    # noted first: if something goes wrong, all of it has a place to go back to
                    aside.append(run)
                    before = len(aside) - 1
                    self._choose(choice, tally, act, aside, takes=takes)
                    kept += self._make_light(queue, aside[before:])
                    if len(aside) > MOST_ASIDE or kept > self._queues.window.limit:
                        raise _too_deep(queue, aside)
                    yield run.count // _SHARE
        finally:
            self._kit.is_at_rest = False
            self._kit.chores.add(self._give_back(queue, aside))

    def _choose(
        self, choice: Choice, tally: Tally, act: Callable[[Run], None], aside: list[Run], *, takes: bool
    ) -> None:
        """Deal with the run that stands aside last: what is done with is taken from there."""
        whole = aside.pop()
        for part, is_meant in _split(whole, choice, tally):
            aside.append(part)
            if not is_meant:
                continue
            try:
                act(part)
            except _LeftOutError as error:
                tally.left_out += part.count
                tally.reason = tally.reason or str(error)
                continue
            except BaseException:
                if part is not whole:
                    # what was not looked at
                    aside.append(whole)
                raise
            tally.chosen += part.count
            if choice.ids is not None:
                tally.found |= {part.message_id(place) for place in range(part.count)}
            if takes:
                aside.pop()

    def _make_light(self, queue: Queue, runs: list[Run]) -> int:
        """Keep of what stands aside no more than its place, where memory is scarce; octets that it uses."""
        kept = 0
        for run in runs:
            if run.details.persistent and not run.is_stub:
                self._custody.drop_bodies(queue, run)
            kept += 0 if run.is_stub else run.memory
        return kept

    def _check_store(self) -> None:
        if self._journal.failure:
            raise RequestError("unavailable", f"the store cannot be read: {self._journal.failure}")

    def _give_back(self, queue: Queue, aside: list[Run]) -> Iterator[None]:
        while aside:
            self._custody.put_back(queue, aside.pop())
            yield
        queue.returning -= 1
        if not queue.is_gone:
            self._queues.changed[queue] = None
            self._queues.tidy(queue)


def _is_idle(queue: Queue) -> bool:
    """No consumer, nothing that could come back, and no subscriber who counts on it: it may end."""
    is_used = queue.readers.all or queue.returning or queue.waiting or queue.view().unsettled
    return not (is_used or queue.is_durable or queue.owner is not None)


def _too_deep(queue: Queue, aside: list[Run]) -> RequestError:
    count = sum(run.count for run in aside)
    return RequestError(
        "conflict",
        f"queue {shown(queue.name)} is too deep to look through: memory is used up by {count:,} messages that "
        "are not meant and stand before the others; consume or move some of them first",
    )


class _LeftOutError(Exception):
    """These messages stay where they are."""


def _has_enough(choice: Choice, tally: Tally) -> bool:
    if choice.most is not None and tally.chosen >= choice.most:
        return True
    return choice.ids is not None and len(tally.found) >= len(choice.ids)


def _next_serial(lane: Lane) -> int:
    """Of the first message that can be taken now, if there is one."""
    return lane.head().serial if lane.ready else 0


def _is_empty(lane: Lane, bound: int) -> bool:
    """Nothing will come that was there before this serial."""
    is_pending = bool(lane.pending) and lane.pending[0][1].serial < bound
    return not (lane.ready or lane.paged or lane.stubs or is_pending)


def _split(run: Run, choice: Choice, tally: Tally) -> Iterator[tuple[Run, bool]]:
    """The parts of a run, in order, and whether they are meant. The last part is the run itself."""
    is_meant = choice.accepts_all(run.details)
    if is_meant and choice.looks_inside:
        accepted = [choice.accepts(run, place) for place in range(run.count)]
        groups = [(is_one, len(list(some))) for is_one, some in groupby(accepted)]
    else:
        groups = [(is_meant, run.count)]
    for is_one, count in groups:
        room = count if choice.most is None else max(0, choice.most - tally.chosen)
        sizes = [(min(count, room), True), (count - min(count, room), False)] if is_one else [(count, False)]
        for size, is_chosen in sizes:
            if size:
                yield (run.split(size) if size < run.count else run), is_chosen


def lines_of(run: Run, place: int) -> Sequence[bytes]:
    """Its header lines, as they stand in envelopes: in the escaping of STOMP 1.2."""
    return _cut(run, place)[0]


def body_of(run: Run, place: int) -> bytes:
    """Its body."""
    return _cut(run, place)[1]


def _cut(run: Run, place: int) -> tuple[list[bytes], bytes]:
    envelope = run.envelope
    start, end = envelope.bounds(run.first + place, 1)
    piece = bytes(envelope.raw[start:end])
    if envelope.flags & _NAMED:
        _, _, piece = piece.partition(b"\n")
    if envelope.flags & _MIXED:
        head, _, body = piece.partition(b"\n\n") if not piece.startswith(b"\n") else (b"", b"", piece[1:])
        return head.split(b"\n"), body
    _, _, head = envelope.block.partition(b"\n")
    return _lines(head), piece


def _lines(head: bytes) -> list[bytes]:
    return [line for line in head.split(b"\n") if line]
