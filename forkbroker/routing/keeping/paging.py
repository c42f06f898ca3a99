"""What of deep queues comes back from the store, and when."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile

from forkbroker.routing.handover import Rule
from forkbroker.routing.keeping.custody import Custody
from forkbroker.routing.keeping.journal import Journal
from forkbroker.routing.queues.lanes import Lane
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import Queues
from forkbroker.routing.queues.runs import ENVELOPE_OVERHEAD, make_run
from forkbroker.routing.queues.window import FETCH
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Flag

_FINAL = int(Flag.FINAL)


class Paging(Rule):
    """Between the queues' memory and the store."""

    DUMPED = ("_asking",)

    def __init__(self, queues: Queues, custody: Custody, journal: Journal) -> None:
        self._queues = queues
        self._custody = custody
        self._journal = journal
        self._asking: dict[Queue, None] = {}
        """Queues for which the store was asked, and may not have answered: not all that there are."""
        queues.watchers.append(self._forget)

    def refill(self, queue: Queue) -> None:
        """Ask for what follows, where little is left in memory."""
        for lane in queue.lanes:
            if lane.is_fetching:
                continue
            if lane.is_blocked:
                self._fetch_stubs(queue, lane)
            elif lane.paged:
                self._fetch(queue, lane)

    def next_lane(self, queue: Queue) -> Lane | None:
        """From which lane of the queue to take; None: there is nothing, or the store was asked for what comes first."""
        return self._find(queue, queue.lanes)

    def last_lane(self, queue: Queue) -> Lane | None:
        """From which lane to take what can be spared first; None as with `next_lane`."""
        return self._find(queue, takewhile(_can_spare, reversed(queue.lanes)))

    def find_first(self, queue: Queue, lane: Lane) -> Lane | None:
        """As `next_lane`, of this lane alone."""
        return self._find(queue, (lane,))

    def look_on(self, queue: Queue) -> None:
        """What was in memory has expired: ask for what follows, which may have as well."""
        for lane in queue.lanes:
            if lane.paged and not lane.ready and not lane.is_fetching:
                self._fetch(queue, lane)

    def peek(self, queue: Queue) -> None:
        """Ask for the first message of what is in the store alone: somebody has to see it expire."""
        for lane in queue.lanes:
            if lane.paged and not lane.ready:
                self._ask(queue, lane, 1)

    def _find(self, queue: Queue, lanes: Iterable[Lane]) -> Lane | None:
        for lane in lanes:
            if lane.is_blocked and (lane.is_fetching or self._fetch_stubs(queue, lane) or not self._journal.failure):
                # only a store that fails is not waited for
                return None
            if lane.ready:
                return lane
            if lane.paged and (lane.is_fetching or self._fetch(queue, lane)):
                return None
        return None

    def relieve(self, queue: Queue) -> None:
        """Let the store have what is in memory, where memory is used up and no consumer can have it now.

        Not while anything of the queue is delivered, or waits for its redelivery: what is in the store alone would no
        longer be what follows the messages that were taken.
        """
        window, journal = self._queues.window, self._journal
        if window.used <= window.limit or not queue.ready or queue.readers.willing:
            return
        is_complete = queue.messages == queue.ready + queue.paged
        if is_complete and journal.is_open and not journal.refusal and not self._queues.is_expiring(queue):
            for lane in queue.lanes:
                if lane.ready and not lane.is_fetching:
                    self._page_back(queue, lane)

    def _page_back(self, queue: Queue, lane: Lane) -> None:
        if lane.told != lane.last:
            # the store may still have some that were settled meanwhile: it is to forget all of these first
            self._ask(queue, lane, 0)
            return
        for run in lane.runs():
            if not run.details.persistent:
                self._custody.spill(queue, run)
        queue.page_back(lane)

    def restore(self, envelope: Envelope) -> None:
        """BACKLOG: the store has messages from before the broker's start."""
        queue = self._queues.restore(envelope.destination)
        octets = envelope.number + envelope.count * ENVELOPE_OVERHEAD
        queue.restore(envelope.index, envelope.count, octets)

    def page(self, queue: Queue, envelope: Envelope) -> None:
        """PAGE: messages that follow what is in memory, or were in memory before.

        Raises:
            EnvelopeError: they can't be decoded.
        """
        run = make_run(envelope, envelope.serial, envelope.details)
        lane = queue.lane(run.details.priority)
        end = run.serial + run.count
        if lane.stubs_from:
            self._lose_stubs(queue, lane, lane.stubs_from, run.serial)
            lane.stubs_from = end
        for stub in lane.take_stubs(run.serial, min(end, lane.last + 1)) if lane.stubs else ():
            if stub.serial > run.serial:
                run.split(stub.serial - run.serial)
            self._custody.revive(queue, stub, run.split(stub.count) if stub.count < run.count else run)
        if end <= lane.last + 1:
            return
        if run.serial <= lane.last:
            run.split(lane.last + 1 - run.serial)
        self._custody.page_in(queue, run)

    def paged(self, queue: Queue, envelope: Envelope) -> None:
        """PAGED: that is all for now."""
        lane = queue.lane(envelope.index)
        if lane.is_fetching:
            lane.told = lane.asked_after
        if lane.stubs_from and envelope.flags & _FINAL:
            self._lose_stubs(queue, lane, lane.stubs_from, lane.stubs_to)
        has_followed = lane.last >= lane.stubs_to
        self._end_asking(lane)
        if envelope.flags & _FINAL and lane.paged > lane.paged_since:
            queue.lose(lane, lane.paged - lane.paged_since)
            self._queues.tidy(queue)
        if envelope.count and not lane.paged and has_followed:
            # to say that all have arrived: the store forgets what was taken when it is asked for more
            self._ask(queue, lane, 0)
        elif envelope.count and lane.paged and not lane.ready:
            # what came has gone already, perhaps because it has expired
            self._fetch(queue, lane)
        self._queues.changed[queue] = None

    def closed(self) -> None:
        """The store process has ended: nothing that it was asked for will come."""
        asking, self._asking = self._asking, {}
        for queue in asking:
            for lane in queue.lanes:
                self._end_asking(lane)
            self._queues.changed[queue] = None

    def _forget(self, queue: Queue) -> None:
        """The queue is gone."""
        self._asking.pop(queue, None)

    def _fetch(self, queue: Queue, lane: Lane) -> bool:
        wanted = self._queues.window.wants(lane)
        return bool(wanted) and self._ask(queue, lane, wanted)

    def _fetch_stubs(self, queue: Queue, lane: Lane) -> bool:
        """Ask for the bodies of stubs, the oldest first. What is between them comes with them, and is ignored."""
        octets = 0
        for stub in reversed(lane.stubs):
            octets += stub.memory
            if octets >= FETCH:
                break
        first = lane.stubs[-1].serial
        if not self._ask(queue, lane, min(octets, FETCH), first - 1):
            return False
        lane.stubs_from = first
        return True

    def _lose_stubs(self, queue: Queue, lane: Lane, start: int, end: int) -> None:
        """The store has none of the messages with serials from `start` up to `end`, without that one.

        What it was asked for had been told to it before; a stub that is younger came back after the question.
        """
        for stub in lane.take_stubs(start, min(end, lane.stubs_to)):
            queue.lose_stub(stub)
            self._queues.tidy(queue)

    def _ask(self, queue: Queue, lane: Lane, octets: int, after: int | None = None) -> bool:
        """Ask for what is behind this serial, or behind what is in memory; tell whether there is somebody to ask."""
        self._end_asking(lane)
        after = lane.last if after is None else after
        lane.is_fetching = self._journal.fetch(queue.name, lane.priority, after, octets)
        lane.paged_since = 0
        if lane.is_fetching:
            lane.asked, lane.asked_after, lane.stubs_to = octets, after, lane.last + 1
            self._queues.window.asked += octets
            self._asking[queue] = None
        return lane.is_fetching

    def _end_asking(self, lane: Lane) -> None:
        lane.is_fetching, lane.stubs_from = False, 0
        self._queues.window.asked -= lane.asked
        lane.asked = 0


def _can_spare(lane: Lane) -> bool:
    """Whether the first message of this lane is not one that may not be seen yet."""
    return bool(lane.ready or not lane.pending)
