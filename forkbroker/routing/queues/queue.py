"""One queue: its messages by priority and in order, and what they amount to."""

from __future__ import annotations

from collections import deque
from typing import Any

from forkbroker.routing.counters import QueueView
from forkbroker.routing.handover import Record
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.accounts import Account
from forkbroker.routing.queues.lanes import Lane
from forkbroker.routing.queues.policies import QueuePolicy
from forkbroker.routing.queues.readers import Readers
from forkbroker.routing.queues.runs import Run
from forkbroker.routing.queues.window import Window
from forkbroker.wire.envelope import MAX_BATCH, MAX_NAMED, MAX_NAMED_OCTETS

MAX_OFFER_OCTETS = 262_144
"""Bodies in one offer at most, unless it is one message: one read of a channel, so a long run holds up nobody."""


class Queue(Record):
    """Messages that wait, and what is to be known of those who wait for them."""

    ANEW = ("policy", "readers", "ready", "window")
    """The policy and the window come from who keeps all queues. The other sums are about what was taken as well."""
    __slots__ = (
        "_born",
        "account",
        "catching_up_until",
        "entered",
        "has_leases",
        "held",
        "is_durable",
        "is_full",
        "is_gone",
        "lanes",
        "memory",
        "messages",
        "name",
        "octets",
        "owner",
        "policy",
        "readers",
        "ready",
        "returning",
        "used",
        "waiting",
        "window",
    )

    def __init__(
        self,
        name: bytes,
        policy: QueuePolicy,
        window: Window,
        owner: Peer | None = None,
        *,
        is_durable: bool = False,
        born: int = 0,
    ) -> None:
        """Start empty. `owner` is the peer with which a temporary queue ends; all queues share the `window`.

        No message has a serial up to `born`: what the store still says of an older queue of this name is not meant.
        """
        self.name = name
        self.policy = policy
        self.has_leases = bool(policy.lease)
        """Consumers can lose messages by a lease, or could before the policy was changed: some may not know yet."""
        self.window = window
        self.owner = owner
        self.account: Account | None = None
        """That of the user who has made it, if that has a quota."""
        self._born = born
        self.is_durable = is_durable
        """Of a durable subscription: not forgotten when it is empty and nobody consumes."""
        self.readers = Readers()
        self.lanes: list[Lane] = []
        """Highest priority first."""
        self.ready = 0
        """Messages in memory that can be taken."""
        self.messages = 0
        """All that are not settled: ready, offered, delivered, delayed, and paged."""
        self.octets = 0
        """Of all these: bodies, headers and overhead, wherever they are."""
        self.memory = 0
        """Of these octets: in memory."""
        self.entered = 0
        """Messages that have come to it, or were here at the start: so many less `messages` have left it."""
        self.catching_up_until = 0.0
        """How long producers may wait for consumers to make room in memory (seconds); 0: there is room."""
        self.held: set[Peer] = set()
        """Producers that are held back because of this queue."""
        self.waiting: dict[int, Run] = {}
        """Runs that were delivered and wait for their redelivery, by their serials."""
        self.used = 0.0
        """When somebody last sent to it, or stopped consuming from it (seconds)."""
        self.is_full = False
        """It was told that the queue is at a limit, and has had no room since."""
        self.returning = 0
        """Readers from which messages come back in several turns: what could be offered meanwhile is younger."""
        self.is_gone = False
        """Forgotten, or ended with its owner: what comes back is dropped."""

    def rebuild(self) -> None:
        """Add up what is ready; whoever reads the queue notes that here again."""
        self.ready = sum(lane.ready for lane in self.lanes)
        self.readers = Readers()

    @property
    def is_temporary(self) -> bool:
        """It ends with its owner: nothing of it survives."""
        return self.owner is not None

    def lane(self, priority: int) -> Lane:
        """The lane of this priority, made if need be."""
        lanes = self.lanes
        if lanes and lanes[0].priority == priority:
            return lanes[0]
        for lane in lanes:
            if lane.priority == priority:
                return lane
        lane = Lane(priority, self._born)
        lanes.append(lane)
        lanes.sort(key=_by_priority)
        return lane

    def keeps(self, lane: Lane, run: Run) -> bool:
        """Whether these new messages of a lane stay in memory; else the store has to have them.

        Beyond what memory has room for, what a consumer can have at once stays: the way through the store would end
        in memory as well.
        """
        if lane.paged:
            return False
        window = self.window
        if self.memory + run.memory + window.used <= window.limit:
            return True
        return bool(self.readers.willing) and not any(lane.memory for lane in self.lanes)

    def append(self, lane: Lane, run: Run, number: int = 0) -> None:
        """New messages of a lane, with serials above all before, that stay in memory. `number` as there."""
        memory = run.memory
        self.ready -= lane.ready
        lane.append(run, number)
        self.ready += lane.ready
        self.messages += run.count
        self.entered += run.count
        self.octets += memory
        self.memory += memory
        self.window.used += memory

    def commit(self, lane: Lane, number: int) -> list[Run]:
        """All changes up to this number are committed: the messages of this lane that can be taken by that."""
        shown = lane.commit(number)
        self.ready += sum(run.count for run in shown)
        return shown

    def page_out(self, run: Run) -> None:
        """New messages that only the store keeps."""
        self.lane(run.details.priority).page_out(run)
        self.messages += run.count
        self.entered += run.count
        self.octets += run.memory

    def page_in(self, run: Run) -> Lane:
        """Paged messages that follow what is in memory; in which lane."""
        lane = self.lane(run.details.priority)
        self.ready -= lane.ready
        self.octets += lane.page_in(run)
        self.ready += lane.ready
        self._use(run.memory)
        return lane

    def page_back(self, lane: Lane) -> None:
        """All that is ready of the lane, of which the store has every message, is in the store alone again."""
        self.ready -= lane.ready
        self._use(-lane.memory)
        lane.page_back()

    def put_back(self, run: Run) -> None:
        """Messages that were taken, to their old place in the order."""
        self.lane(run.details.priority).put_back(run)
        if not run.is_stub:
            self.ready += run.count

    def join(self, lane: Lane, most: int) -> Run:
        """The oldest run of a lane that has some; of up to so many messages, if these came one by one."""
        more = lane.join(min(most, MAX_NAMED), MAX_NAMED_OCTETS)
        self.octets += more
        self._use(more)
        return lane.head()

    def drop_bodies(self, run: Run) -> None:
        """Keep of messages that were taken no more than their place: the store has them."""
        self._use(-run.memory)
        run.drop_bodies()

    def revive(self, stub: Run, page: Run) -> None:
        """These messages, which were a stub, have come from the store again."""
        self.octets += stub.revive(page)
        self._use(stub.memory)
        self.put_back(stub)

    def lose_stub(self, stub: Run) -> None:
        """The store does not have these any more."""
        self.messages -= stub.count
        self.octets -= stub.memory

    def take(self, lane: Lane, most: int) -> Run:
        """The oldest messages of this lane, where some are ready: at most `most`, at least one, from one envelope."""
        run = lane.head()
        count = min(most, run.count, MAX_BATCH)
        if run.octets > MAX_OFFER_OCTETS:
            count = run.fitting(count, MAX_OFFER_OCTETS)
        self.ready -= count
        return lane.take(count)

    def take_expired(self, now_ms: int, most: int) -> list[Run]:
        """Take out of memory what has expired by now: so many runs at most."""
        expired: list[Run] = []
        for lane in self.lanes:
            expired += lane.take_expired(now_ms, most - len(expired))
        self.ready -= sum(run.count for run in expired if not run.is_stub)
        return expired

    def oldest(self) -> int:
        """The serial of the oldest message that waits, or a lower one that no message has; 0: none waits."""
        return min(filter(None, (lane.oldest() for lane in self.lanes)), default=0)

    def next_expiry(self) -> int:
        """When the first of what can be taken expires (milliseconds since the epoch); 0: never."""
        return min(filter(None, (lane.expiries.next() for lane in self.lanes)), default=0)

    def drop_ready(self) -> list[list[Any] | deque[Any]]:
        """The queue is gone, and what waits in memory with it: return what is still to be freed."""
        self._use(-sum(lane.memory for lane in self.lanes))
        self.window.asked -= sum(lane.asked for lane in self.lanes)
        remains = [container for lane in self.lanes for container in lane.containers()]
        self.lanes.clear()
        self.ready = 0
        return remains

    def forget(self, run: Run) -> None:
        """Messages that were taken and will not come back."""
        memory = run.memory
        self.messages -= run.count
        self.octets -= memory
        if not run.is_stub:
            self.memory -= memory
            self.window.used -= memory

    def restore(self, priority: int, count: int, octets: int) -> None:
        """The store has these, from before the broker's start."""
        lane = self.lane(priority)
        lane.paged += count
        lane.paged_octets += octets
        self.messages += count
        self.entered += count
        self.octets += octets

    def lose(self, lane: Lane, count: int) -> None:
        """The store has fewer messages than was thought: somebody has mended the queue by hand."""
        octets = lane.paged_octets * count // lane.paged
        lane.paged -= count
        lane.paged_octets -= octets
        self.messages -= count
        self.octets -= octets

    @property
    def paged(self) -> int:
        """Messages that only the store has."""
        return sum(lane.paged + lane.stubbed for lane in self.lanes)

    def view(self) -> QueueView:
        """What it looks like now."""
        paged = self.paged
        waiting = self.ready + paged + sum(lane.hidden for lane in self.lanes)
        unsettled = self.messages - waiting
        return QueueView(self.name, waiting, unsettled, self.octets, len(self.readers), paged)

    def _use(self, octets: int) -> None:
        self.memory += octets
        self.window.used += octets


def _by_priority(lane: Lane) -> int:
    return -lane.priority
