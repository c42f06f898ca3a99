"""The client's subscriptions: found by id, by token, and by the destination of a message that comes down."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter
from typing import TYPE_CHECKING

from forkbroker.audience import Audience
from forkbroker.destinations import Destination, Sort, is_queue
from forkbroker.session.errors import FrameError
from forkbroker.wire.envelope import Envelope

if TYPE_CHECKING:
    from forkbroker.session.messages import Messages

_CACHE_OCTETS = 262_144
"""Octets of destinations whose subscriptions are remembered: some 1,000 with one each. A pattern may see any number."""
_SUBSCRIPTION, _NODE = 2_500, 400
"""Octets of memory for a subscription beside its names, and for a level of a pattern."""
MAX_TOKEN = 0xFFFF_FFFF
"""The field of an envelope has 32 bits."""


class AckMode(Enum):
    """The `ack` header of SUBSCRIBE (STOMP 1.2, SUBSCRIBE ack Header)."""

    AUTO = "auto"
    CLIENT = "client"
    """An ACK or NACK counts for all earlier messages of the subscription too."""
    CLIENT_INDIVIDUAL = "client-individual"


@dataclass(slots=True, eq=False)
class Subscription:
    """One subscription of the client, with what was delivered to it and is not settled."""

    id: str
    """The client's name for it; for STOMP 1.0 without `id` its destination, behind a NUL."""
    token: int
    """Our name for it, unique in the session and never used again."""
    destination: Destination
    mode: AckMode
    opening: bytes
    """`MESSAGE LF` and, where there is an id, `subscription:… LF`."""
    credit: int
    """How many messages may be unsettled. The parent keeps count for queues, this side for topics."""
    window: int = 0
    """How many octets may be unsettled; 0: any."""
    durable: bytes = b""
    """Where messages of the topic wait for it when it outlives the client: a canonical name in `/dsub/`."""
    is_active: bool = False
    """The parent has registered it, and so its RECEIPT is out: messages may follow."""
    unsettled: dict[int, int] = field(default_factory=dict)
    """Delivery number → serial in the queue (0 for a topic), in the order of delivery."""
    octets: int = 0
    """The sum of `sizes`, which are changed by `weigh` and `lighten` alone."""
    sizes: dict[int, int] = field(default_factory=dict)
    """Delivery number → octets, only where a window bounds them, until the delivery is settled for good (COMMIT)."""
    waiting: deque[Envelope] = field(default_factory=deque)
    """Topic messages that wait for credit."""
    waiting_first: int = 0
    """The first message of `waiting[0]` that was not delivered."""
    waiting_messages: Messages | None = None
    """`waiting[0]` made ready: it may take many ACKs until all of it is delivered."""
    in_transactions: int = 0
    """How many deliveries the ACKs and NACKs of open transactions name: they use credit until COMMIT (A13)."""

    def __post_init__(self) -> None:
        if self.mode is AckMode.CLIENT:
            # An ACK takes from the front. A plain dict goes each time over the places of all that was taken before.
            self.unsettled = OrderedDict()

    def activate(self) -> None:
        """The parent has registered it, and its RECEIPT is out."""
        self.is_active = True

    @property
    def weight(self) -> int:
        """Octets of memory, about, that it takes by itself, without what is delivered to it."""
        name = self.destination.name
        nodes = _NODE * (name.count(b".") + name.count(b"/")) if self.destination.is_pattern else 0
        return _SUBSCRIPTION + 4 * len(self.id) + 6 * len(name) + 2 * len(self.durable) + nodes

    @property
    def is_temporary(self) -> bool:
        """On a queue that is this client's own and ends with it."""
        return self.destination.sort in (Sort.TEMP_QUEUE, Sort.REPLY_QUEUE)

    @property
    def is_queue(self) -> bool:
        """On a queue, or on a topic's messages that wait like one: they are claimed. Else each subscription of a topic
        has its copy."""
        return bool(self.durable) or is_queue(self.destination.name)

    @property
    def settles(self) -> bool:
        """The client acknowledges."""
        return self.mode is not AckMode.AUTO

    def room(self) -> int:
        """How many messages of a topic may be delivered, as far as their number is concerned."""
        return self.credit - len(self.unsettled) - self.in_transactions

    def has_window(self) -> bool:
        """Another message may be delivered, as far as octets are concerned."""
        return not self.window or self.octets < self.window

    def weigh(self, numbers: Iterable[int], sizes: list[int]) -> None:
        """Let these deliveries, of so many octets each, use the window."""
        self.sizes.update(zip(numbers, sizes, strict=True))
        self.octets += sum(sizes)

    def lighten(self, numbers: Iterable[int]) -> None:
        """Let these deliveries use the window no more, as far as they do."""
        for number in numbers:
            self.octets -= self.sizes.pop(number, 0)


class Subscriptions:
    """All subscriptions of one client."""

    def __init__(self, first_token: int = 1) -> None:
        """Tokens count from `first_token`; see `Session` for why that is not always 1."""
        self._by_id: dict[str, Subscription] = {}
        self._by_token: dict[int, Subscription] = {}
        self._audience: Audience[Subscription] = Audience(_CACHE_OCTETS, attrgetter("token"))
        self.first_token = first_token
        self.last_token = first_token - 1

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(list(self._by_id.values()))

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

    def add(self, subscription: Subscription) -> None:
        """Take in a subscription whose id is not in use."""
        if not subscription.is_queue:
            self._audience.add(subscription, subscription.destination.name)
        self._by_id[subscription.id] = subscription
        self._by_token[subscription.token] = subscription

    def remove(self, subscription: Subscription) -> None:
        """Forget it."""
        del self._by_id[subscription.id]
        del self._by_token[subscription.token]
        if not subscription.is_queue:
            self._audience.remove(subscription, subscription.destination.name)

    def find(self, subscription_id: str) -> Subscription | None:
        """By the client's id."""
        return self._by_id.get(subscription_id)

    def by_token(self, token: int) -> Subscription | None:
        """By our token."""
        return self._by_token.get(token)

    def hold_deliveries(self) -> bool:
        """Tell whether the client has deliveries of queues that it has not settled, or not yet for good (COMMIT)."""
        return any(s.is_queue and (s.unsettled or s.in_transactions) for s in self._by_id.values())

    def for_topic(self, name: bytes) -> tuple[Subscription, ...]:
        """The subscriptions that get a copy of what is sent to this topic, in the order they were made."""
        return self._audience.find(name)
