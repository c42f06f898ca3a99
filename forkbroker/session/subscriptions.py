"""The client's subscriptions, each with what was delivered to it and waits for its ACK.

There are two kinds. A *queue subscription* is offered messages, which one consumer of the queue claims; the parent
counts its credit. It may also be on a topic: the messages of a durable subscription wait like those of a queue. A
*topic subscription* gets a copy of each message; its credit is counted here.

`Subscriptions` finds them by id, by token, and by the destination of a message that comes down.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter

from forkbroker.audience import Audience
from forkbroker.destinations import Destination, Sort
from forkbroker.session.budget import Budget
from forkbroker.session.errors import FrameError, shown
from forkbroker.session.messages import Messages
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.fields import MAX_AHEAD

MAX_TOKEN = 0xFFFF_FFFF
"""The field of an envelope has 32 bits."""
_CACHE_OCTETS = 262_144
"""Octets of destinations whose subscriptions are remembered: some 1,000 with one each. A pattern may see any number."""
_SUBSCRIPTION, _NODE = 2_500, 400
"""Octets of memory for a subscription beside its names, and for a level of a pattern."""


class AckMode(Enum):
    """The `ack` header of SUBSCRIBE (STOMP 1.2, SUBSCRIBE ack Header)."""

    AUTO = "auto"
    CLIENT = "client"
    """An ACK or NACK counts for all earlier messages of the subscription too."""
    CLIENT_INDIVIDUAL = "client-individual"


@dataclass(slots=True, eq=False)
class Subscription:
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
    settles: bool = field(init=False)
    """The client acknowledges."""

    def __post_init__(self) -> None:
        self.settles = self.mode is not AckMode.AUTO
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

    def room(self) -> int:
        """How many messages may be delivered, as far as their number is concerned."""
        return self.credit - len(self.unacknowledged) - self.in_transactions

    def has_octets(self) -> bool:
        """Another message may be delivered, as far as octets are concerned."""
        return not self.prefetch_octets or self.octets < self.prefetch_octets

    def weigh(self, numbers: Iterable[int], sizes: list[int]) -> None:
        """Let these deliveries, of so many octets each, use the prefetch in octets."""
        self.sizes.update(zip(numbers, sizes, strict=True))
        self.octets += sum(sizes)

    def lighten(self, numbers: Iterable[int]) -> None:
        """Let these deliveries use it no more, as far as they do."""
        for number in numbers:
            self.octets -= self.sizes.pop(number, 0)


@dataclass(slots=True, eq=False)
class Kept:
    """An offer ahead, which others may have as well: its messages are tried one after the other."""

    envelope: Envelope
    tried: int = 0
    """So many of the first messages are this child's or another one's."""
    messages: Messages | None = None
    """Made ready with the first that is delivered."""


@dataclass(slots=True, eq=False)
class QueueSubscription(Subscription):
    """On a queue, or on a topic's messages that wait like one."""

    durable: bytes = b""
    """Where messages of the topic wait for it when it outlives the client: a canonical name in `/dsub/`."""
    ahead: deque[Kept] = field(default_factory=deque)
    """Offers that wait for credit, the oldest first."""
    left: int = 0
    """So many of their messages it has not tried."""
    has_asked: bool = False
    """The parent was told that no more than half are left, and has not sent more since."""
    skips_ahead: bool = False
    """Something was given back that comes before whatever was offered ahead."""

    @property
    def weight(self) -> int:
        """As of any, and of the name under which it is stored."""
        return _weigh(self) + 2 * len(self.durable)

    @property
    def keeps(self) -> int:
        """How many offers it keeps ahead of its credit: some, if the client waits for each message."""
        return MAX_AHEAD if self.settles and self.credit == 1 and not self.prefetch_octets else 0

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


def _weigh(subscription: Subscription) -> int:
    destination = subscription.destination
    name = destination.name
    nodes = _NODE * (name.count(b".") + name.count(b"/")) if destination.is_pattern else 0
    return _SUBSCRIPTION + 4 * len(subscription.id) + 6 * len(name) + nodes


class Subscriptions:
    """All subscriptions of one client."""

    def __init__(self, budget: Budget, most: int, first_token: int = 1) -> None:
        """`budget` is the client's; at most `most` may be open. Tokens count from `first_token`; see `Session` for why
        that is not always 1."""
        self._budget = budget
        self._most = most
        self.by_id: dict[str, Subscription] = {}
        """Those that are open, by the client's ids. To be looked at, not to be changed."""
        self._by_token: dict[int, Subscription] = {}
        self._queues: dict[int, QueueSubscription] = {}
        self._audience: Audience[TopicSubscription] = Audience(_CACHE_OCTETS, attrgetter("token"))
        self.by_token: Callable[[int], Subscription | None] = self._by_token.get
        """The look-up by our token, `dict.get` itself."""
        self.queue_by_token: Callable[[int], QueueSubscription | None] = self._queues.get
        """The same for those that are offered messages."""
        self.known_for_topic = self._audience.known
        """What `for_topic` gives if it was asked for this topic before, `dict.get` itself; None: ask it."""
        self.count_from(first_token)

    def count_from(self, first_token: int) -> None:
        """Give the next subscription this token. For a client that has none yet."""
        self.first_token = first_token
        self.last_token = first_token - 1

    def limit(self, most: int) -> None:
        """So many may be open from now on; those that are stay."""
        self._most = most

    def __iter__(self) -> Iterator[Subscription]:
        return iter(list(self.by_id.values()))

    def queues(self) -> list[QueueSubscription]:
        """Those that are offered messages."""
        return list(self._queues.values())

    def topics(self) -> list[TopicSubscription]:
        """Those that get copies."""
        return [one for one in self.by_id.values() if isinstance(one, TopicSubscription)]

    def check_new(self, subscription_id: str) -> None:
        """Find out whether another subscription may have this id.

        Raises:
            FrameError: it is in use, or too many subscriptions are open.
        """
        if subscription_id in self.by_id:
            name = shown(subscription_id.lstrip("\0"))
            raise FrameError("subscription exists", f"there is a subscription {name} already; UNSUBSCRIBE it first")
        if len(self.by_id) >= self._most:
            raise FrameError(
                "too many subscriptions",
                f"max-subscriptions is {self._most:,} (or the quota of the user), and all are in use",
            )

    def next_token(self) -> int:
        """A token that was never used in this session.

        Raises:
            FrameError: all are used up.
        """
        if self.last_token >= MAX_TOKEN:
            raise FrameError(
                "too many subscriptions were made",
                f"a connection can make {MAX_TOKEN - self.first_token + 1:,} subscriptions in its life; connect again",
            )
        self.last_token += 1
        return self.last_token

    def add(self, subscription: QueueSubscription | TopicSubscription) -> None:
        """Take in a subscription whose id is not in use.

        Raises:
            FrameError: the client's memory is used up.
        """
        self._budget.take(subscription.weight, "this SUBSCRIBE")
        if isinstance(subscription, QueueSubscription):
            self._queues[subscription.token] = subscription
        else:
            self._audience.add(subscription, subscription.destination.name)
        self.by_id[subscription.id] = subscription
        self._by_token[subscription.token] = subscription

    def retire(self, subscription: Subscription) -> None:
        """It gets nothing more: its id is free, but its deliveries have their names until `remove`."""
        subscription.is_draining = True
        del self.by_id[subscription.id]
        if isinstance(subscription, TopicSubscription):
            self._audience.remove(subscription, subscription.destination.name)

    def remove(self, subscription: Subscription) -> None:
        """Forget it."""
        if not subscription.is_draining:
            self.retire(subscription)
        self._budget.give(subscription.weight)
        del self._by_token[subscription.token]
        self._queues.pop(subscription.token, None)

    def find(self, subscription_id: str) -> Subscription | None:
        """By the client's id."""
        return self.by_id.get(subscription_id)

    def hold_deliveries(self) -> bool:
        """Tell whether the client has deliveries of queues that it has not settled, or not yet for good (COMMIT)."""
        return any(queue.unacknowledged or queue.in_transactions for queue in self._queues.values())

    def for_topic(self, name: bytes) -> tuple[TopicSubscription, ...]:
        """The subscriptions that get a copy of what is sent to this topic, in the order they were made."""
        return self._audience.find(name)
