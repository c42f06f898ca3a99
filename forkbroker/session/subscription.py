"""One subscription of the client, with what was delivered to it and waits for its ACK.

There are two kinds. A *queue subscription* is offered messages, which one consumer of the queue claims; the parent
counts its credit. It may also be on a topic: the messages of a durable subscription wait like those of a queue. A
*topic subscription* gets a copy of each message; its credit is counted here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from forkbroker.destinations import Destination, Sort
from forkbroker.session.messages import Messages
from forkbroker.wire.envelope import Envelope

_SUBSCRIPTION, _NODE = 2_500, 400
"""Octets of memory for a subscription beside its names, and for a level of a pattern."""


class AckMode(Enum):
    """The `ack` header of SUBSCRIBE (STOMP 1.2, SUBSCRIBE ack Header)."""

    AUTO = "auto"
    CLIENT = "client"
    """An ACK or NACK counts for all earlier messages of the subscription too."""
    CLIENT_INDIVIDUAL = "client-individual"


@dataclass(slots=True, eq=False)
class Subscription(ABC):
    """What both kinds have."""

    id: str
    """The client's name for it; for STOMP 1.0 without `id` its destination, behind a NUL."""
    token: int
    """Our name for it, unique in the session and never used again."""
    destination: Destination
    mode: AckMode
    opening: bytes
    """`MESSAGE LF` and, where there is an id, `subscription:… LF`."""
    credit: int
    """How many messages may wait for their ACK."""
    prefetch_octets: int = 0
    """How many octets may wait for their ACK; 0: any."""
    is_exclusive: bool = False
    """One consumer of the queue at a time, with fail-over."""
    is_active: bool = False
    """The parent has registered it, and so its RECEIPT is out: messages may follow."""
    is_draining: bool = False
    """Nothing more is delivered, but what was may yet be settled."""
    unacknowledged: dict[int, int] = field(default_factory=dict)
    """Delivery number → serial in the queue (0 for a topic), in the order of delivery."""
    octets: int = 0
    """The sum of `sizes`, which are changed by `weigh` and `lighten` alone."""
    sizes: dict[int, int] = field(default_factory=dict)
    """Delivery number → octets, only where `prefetch_octets` bounds them, until it is settled for good (COMMIT)."""
    in_transactions: int = 0
    """How many deliveries the ACKs and NACKs of open transactions name: they use credit until COMMIT (A13)."""

    def __post_init__(self) -> None:
        if self.mode is AckMode.CLIENT:
            # An ACK takes from the front. A plain dict goes each time over the places of all that was taken before.
            self.unacknowledged = OrderedDict()

    def activate(self) -> None:
        """The parent has registered it, and its RECEIPT is out."""
        self.is_active = True

    @property
    def weight(self) -> int:
        """Octets of memory, about, that it takes by itself, without what is delivered to it."""
        return _weigh(self)

    @property
    def settles(self) -> bool:
        """The client acknowledges."""
        return self.mode is not AckMode.AUTO

    def has_octets(self) -> bool:
        """Another message may be delivered, as far as octets are concerned."""
        return not self.prefetch_octets or self.octets < self.prefetch_octets

    @abstractmethod
    def remember(self, numbers: range, serial: int) -> None:
        """These deliveries, of consecutive serials, wait for their ACK."""

    def weigh(self, numbers: Iterable[int], sizes: list[int]) -> None:
        """Let these deliveries, of so many octets each, use the prefetch in octets."""
        self.sizes.update(zip(numbers, sizes, strict=True))
        self.octets += sum(sizes)

    def lighten(self, numbers: Iterable[int]) -> None:
        """Let these deliveries use it no more, as far as they do."""
        for number in numbers:
            self.octets -= self.sizes.pop(number, 0)


@dataclass(slots=True, eq=False)
class QueueSubscription(Subscription):
    """On a queue, or on a topic's messages that wait like one."""

    durable: bytes = b""
    """Where messages of the topic wait for it when it outlives the client: a canonical name in `/dsub/`."""

    def remember(self, numbers: range, serial: int) -> None:
        """The serials tell the parent what an ACK means."""
        self.unacknowledged.update(zip(numbers, range(serial, serial + len(numbers)), strict=True))

    @property
    def weight(self) -> int:
        """As of any, and of the name under which it is stored."""
        return _weigh(self) + 2 * len(self.durable)

    @property
    def is_temporary(self) -> bool:
        """On a queue that is this client's own and ends with it."""
        return self.destination.sort in (Sort.TEMP_QUEUE, Sort.REPLY_QUEUE)


@dataclass(slots=True, eq=False)
class TopicSubscription(Subscription):
    """On a topic, or a pattern of them, as long as the client is there."""

    waiting: deque[Envelope] = field(default_factory=deque)
    """Messages that wait for credit."""
    waiting_first: int = 0
    """The first message of `waiting[0]` that was not delivered."""
    waiting_messages: Messages | None = None
    """`waiting[0]` made ready: it may take many ACKs until all of it is delivered."""

    def remember(self, numbers: range, serial: int) -> None:
        """A copy has no serial, and an ACK of it concerns this side alone."""
        self.unacknowledged.update(dict.fromkeys(numbers, 0))

    def room(self) -> int:
        """How many messages may be delivered, as far as their number is concerned."""
        return self.credit - len(self.unacknowledged) - self.in_transactions


def _weigh(subscription: Subscription) -> int:
    destination = subscription.destination
    name = destination.name
    nodes = _NODE * (name.count(b".") + name.count(b"/")) if destination.is_pattern else 0
    return _SUBSCRIPTION + 4 * len(subscription.id) + 6 * len(name) + nodes
