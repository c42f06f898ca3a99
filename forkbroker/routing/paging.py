"""What of deep queues comes back from the store, and when."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile

from forkbroker.routing.journal import Journal
from forkbroker.routing.lanes import Lane
from forkbroker.routing.queue import Queue
from forkbroker.routing.queues import Queues
from forkbroker.routing.runs import ENVELOPE_OVERHEAD, make_run
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Flag

_FINAL = int(Flag.FINAL)


class Paging:
    """Between the queues' memory and the store."""

    def __init__(self, queues: Queues, journal: Journal) -> None:
        self._queues = queues
        self._journal = journal

    def refill(self, queue: Queue) -> None:
        """Ask for what follows, where little is left in memory."""
        for lane in queue.lanes:
            if lane.paged and not lane.is_fetching:
                self._fetch(queue, lane)

    def next_lane(self, queue: Queue) -> Lane | None:
        """From which lane of the queue to take; None: there is nothing, or the store was asked for what comes first."""
        lanes = queue.lanes
        if lanes and lanes[0].ready:
            return lanes[0]
        return self._find(queue, lanes)

    def last_lane(self, queue: Queue) -> Lane | None:
        """From which lane to take what can be spared first; None as with `next_lane`."""
        return self._find(queue, takewhile(_can_spare, reversed(queue.lanes)))

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
        if window.free >= 0 or not queue.ready or queue.consumers.willing:
            return
        is_complete = queue.messages == queue.ready + queue.paged
        if is_complete and journal.is_open and not journal.refusal and not self._queues.is_expiring(queue):
            for lane in queue.lanes:
                if lane.ready and not lane.is_fetching:
                    self._page_back(queue, lane)

    def _page_back(self, queue: Queue, lane: Lane) -> None:
        spilled = [run for run in lane.runs() if not run.details.persistent]
        if spilled and lane.told != lane.last:
            # the store may still have some that were settled meanwhile: it is to forget all of these first
            self._ask(queue, lane, 0)
            return
        for run in spilled:
            self._queues.spill(queue, run)
        queue.page_back(lane)

    def restore(self, envelope: Envelope) -> None:
        """BACKLOG: the store has messages from before the broker's start."""
        queue = self._queues.restore(envelope.destination)
        octets = envelope.number + envelope.count * ENVELOPE_OVERHEAD
        queue.restore(envelope.index, envelope.count, octets)

    def page(self, queue: Queue, envelope: Envelope) -> None:
        """PAGE: messages that follow what is in memory.

        Raises:
            EnvelopeError: they can't be decoded.
        """
        run = make_run(envelope, envelope.serial, envelope.details)
        lane = queue.lane(run.details.priority)
        if run.serial <= lane.last:
            return
        self._queues.page_in(queue, run)

    def paged(self, queue: Queue, envelope: Envelope) -> None:
        """PAGED: that is all for now."""
        lane = queue.lane(envelope.index)
        if lane.is_fetching:
            lane.told = lane.asked_after
        self._end_asking(lane)
        if envelope.flags & _FINAL and lane.paged > lane.paged_since:
            queue.lose(lane, lane.paged - lane.paged_since)
            self._queues.tidy(queue)
        if envelope.count and not lane.paged:
            # to say that all have arrived: the store forgets what was taken when it is asked for more
            self._ask(queue, lane, 0)
        elif envelope.count and not lane.ready:
            # what came has gone already, perhaps because it has expired
            self._fetch(queue, lane)
        self._queues.changed[queue] = None

    def closed(self) -> None:
        """The store process has ended: nothing that it was asked for will come."""
        for queue in self._queues.all():
            for lane in queue.lanes:
                self._end_asking(lane)
            self._queues.changed[queue] = None

    def _fetch(self, queue: Queue, lane: Lane) -> bool:
        wanted = self._queues.window.wants(lane)
        return bool(wanted) and self._ask(queue, lane, wanted)

    def _ask(self, queue: Queue, lane: Lane, octets: int) -> bool:
        """Tell whether there is somebody to ask."""
        self._end_asking(lane)
        lane.is_fetching = self._journal.fetch(queue.name, lane.priority, lane.last, octets)
        lane.paged_since = 0
        if lane.is_fetching:
            lane.asked, lane.asked_after = octets, lane.last
            self._queues.window.asked += octets
        return lane.is_fetching

    def _end_asking(self, lane: Lane) -> None:
        lane.is_fetching = False
        self._queues.window.asked -= lane.asked
        lane.asked = 0


def _can_spare(lane: Lane) -> bool:
    """Whether the first message of this lane is not one that may not be seen yet."""
    return bool(lane.ready or not lane.pending)
