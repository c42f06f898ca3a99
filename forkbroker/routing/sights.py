"""What there is, for whoever looks: queues, topics, subscriptions and the schedule as they are at one moment.

All of them are iterators that make a view when it is asked for, so a caller can go through ten thousand queues in as
many portions as it likes. What changes meanwhile does no harm: what is gone by its turn is left out, and what is new is
not among it. None is a step in which there was nothing to show.

`describe` makes lines of the same views, for the log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from forkbroker.routing.ages import Ages
from forkbroker.routing.counters import QueueView
from forkbroker.routing.jobs.delays import Delays
from forkbroker.routing.keeping.keeping import Keeping
from forkbroker.routing.kit import Kit
from forkbroker.routing.offers.clientele import Clientele
from forkbroker.routing.offers.consumers import Consumer
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import shown
from forkbroker.routing.topics.durables import Durables
from forkbroker.routing.topics.topics import Topics

Matches = Callable[[bytes], bool]
"""Whether somebody who looks means this name."""


@dataclass(frozen=True, slots=True)
class QueueSight:
    """A queue at one moment, with all that is known of it."""

    view: QueueView
    topic: bytes
    """Of a durable subscription: what it is to; else empty."""
    used_ms: int
    """When a durable subscription was last used (milliseconds since the epoch)."""
    delayed: int
    """Messages that wait for their time elsewhere, to come to this queue."""
    memory: int
    """Octets of its messages that are in memory."""
    blocked: int
    """Producers that wait for room in it."""
    entered: int
    """Messages that have come to it since it was made, or since the start."""
    left: int
    """Messages that have left it."""
    oldest_s: float | None
    """How long the oldest message that waits has been here; None: none waits."""
    is_older: bool
    """Longer than that: it is from before the broker's start."""
    account: str | None
    """The user on whose account it is: empty for clients without a login; None: nobody's."""


@dataclass(frozen=True, slots=True)
class TopicSight:
    """What somebody has subscribed to."""

    name: bytes
    subscribers: int
    durables: int
    """Durable subscriptions to this very name or pattern."""


@dataclass(frozen=True, slots=True)
class SubscriptionSight:
    """A subscription of a client."""

    peer: Peer
    destination: bytes
    credit: int
    """Messages that it may hold; 0: of a topic."""
    unsettled: int
    acknowledges: bool
    exclusive: bool


class Sights:
    """All that there is in one router."""

    def __init__(
        self, kit: Kit, keeping: Keeping, topics: Topics, delays: Delays, clientele: Clientele, ages: Ages
    ) -> None:
        self._kit = kit
        self._queues = keeping.queues
        self._journal = keeping.journal
        self._durables: Durables = topics.durables
        self._interest = topics.interest
        self._delays = delays
        self._clientele = clientele
        self._ages = ages
        self.counters = kit.counters

    # -- queues

    def queues(self, matches: Matches, absent: Collection[bytes] = ()) -> Iterator[QueueSight | None]:
        """The queues that are meant, by name; those of `absent` also if they do not exist."""
        for name in sorted({*absent, *(queue.name for queue in self._queues.all())}):
            queue = self._queues.find(name) if matches(name) else None
            if queue is None and name in absent and matches(name):
                yield self._see_absent(name)
            else:
                yield None if queue is None else self._see(queue)

    def queue(self, name: bytes) -> QueueSight | None:
        """The queue of this name, if there is one."""
        queue = self._queues.find(name)
        return None if queue is None else self._see(queue)

    @property
    def dead_letter_names(self) -> set[bytes]:
        """The names of all queues to which dead letters go, whether these exist or not."""
        return self._queues.dead_letter_names

    def wall_ms(self) -> int:
        """The time (milliseconds since the epoch)."""
        return self._kit.timers.wall_ms()

    def _see_absent(self, name: bytes) -> QueueSight:
        """A queue that does not exist has nothing, but something may be to come to it."""
        return QueueSight(
            view=QueueView(name, ready=0, unsettled=0, octets=0, consumers=0),
            topic=b"",
            used_ms=0,
            delayed=self._delays.weigh(name)[0],
            memory=0,
            blocked=0,
            entered=0,
            left=0,
            oldest_s=None,
            is_older=False,
            account=None,
        )

    def _see(self, queue: Queue) -> QueueSight:
        durable = self._durables.find(queue.name)
        serial = queue.oldest()
        oldest_s, is_older = self._ages.find(serial, self._kit.timers.now) if serial else (None, False)
        return QueueSight(
            view=queue.view(),
            topic=b"" if durable is None else durable.topic,
            used_ms=0 if durable is None else durable.used_ms,
            delayed=self._delays.weigh(queue.name)[0],
            memory=queue.memory,
            blocked=len(queue.held),
            entered=queue.entered,
            left=queue.entered - queue.messages,
            oldest_s=oldest_s,
            is_older=is_older,
            account=None if queue.account is None else queue.account.user,
        )

    @property
    def queue_count(self) -> int:
        """How many there are, durable subscriptions included."""
        return len(self._queues)

    @property
    def durable_count(self) -> int:
        """How many durable subscriptions there are."""
        return len(self._durables)

    @property
    def scheduled(self) -> tuple[int, int]:
        """Messages that wait for their time, and the octets of memory that they use."""
        return self._delays.messages, self._delays.octets

    @property
    def store(self) -> tuple[bool, str, int]:
        """Whether a store process works; why it is given no more, or nothing; octets that are not committed."""
        journal = self._journal
        return journal.is_open, journal.refusal, journal.octets

    @property
    def memory(self) -> tuple[int, int]:
        """Octets of memory that the messages of queues use, and may use."""
        window = self._queues.window
        return window.used, window.limit

    # -- topics

    def topics(self, matches: Matches) -> Iterator[TopicSight | None]:
        """What clients and durable subscriptions have subscribed to, by name."""
        subscribers: dict[bytes, int] = {}
        for _, name in self._interest.all():
            if matches(name):
                subscribers[name] = subscribers.get(name, 0) + 1
            yield None
        durables: dict[bytes, int] = {}
        for durable in list(self._durables.all.values()):
            if matches(durable.topic):
                durables[durable.topic] = durables.get(durable.topic, 0) + 1
            yield None
        for name in sorted(subscribers.keys() | durables.keys()):
            yield TopicSight(name, subscribers.get(name, 0), durables.get(name, 0))

    # -- subscriptions

    def subscriptions(self, matches: Matches) -> Iterator[SubscriptionSight | None]:
        """Those of all clients: those to queues, then those to topics."""
        for peer, child in list(self._clientele.children.items()):
            for consumer in list(child.consumers.values()):
                is_meant = not consumer.is_gone and matches(consumer.queue.name)
                yield _see_consumer(peer, consumer) if is_meant else None
        for peer, name in self._interest.all():
            is_meant = matches(name)
            yield SubscriptionSight(peer, name, 0, 0, acknowledges=False, exclusive=False) if is_meant else None

    def load_of(self, peer: Peer) -> tuple[int, int]:
        """How many subscriptions to queues a client has, and how many messages it has not settled."""
        child = self._clientele.children.get(peer)
        if child is None:
            return 0, 0
        return len(child.consumers), sum(map(_count_unsettled, child.consumers.values()))

    # -- lines

    def describe(self) -> Iterator[str]:
        """A line for each queue and durable subscription, and the schedule."""
        is_empty = True
        for sight in self.queues(lambda _: True):
            is_empty = False
            if sight is not None:
                yield f"{_describe_name(sight)}: {_describe_view(sight.view)}"
        if is_empty:
            yield "no queues"
        messages, octets = self.scheduled
        if messages:
            yield f"schedule: {messages:,} messages, {octets:,} bytes"


def _see_consumer(peer: Peer, consumer: Consumer) -> SubscriptionSight:
    return SubscriptionSight(
        peer,
        consumer.queue.name,
        consumer.credit,
        _count_unsettled(consumer),
        acknowledges=not consumer.auto,
        exclusive=consumer.exclusive,
    )


def _count_unsettled(consumer: Consumer) -> int:
    """What it was offered and holds."""
    return consumer.credit - consumer.free - consumer.withheld


def _describe_name(sight: QueueSight) -> str:
    name = shown(sight.view.name)
    if not sight.topic:
        return f"queue {name}"
    used = datetime.fromtimestamp(sight.used_ms / 1000).isoformat(" ", "seconds")
    return f"durable subscription {name} to {shown(sight.topic)}, last used {used}"


def _describe_view(view: QueueView) -> str:
    text = (
        f"{view.ready:,} ready, {view.unsettled:,} unsettled, {view.octets:,} bytes, "
        f"{view.consumers:,} consumer{'' if view.consumers == 1 else 's'}"
    )
    return f"{text}, {view.paged:,} on disk only" if view.paged else text
