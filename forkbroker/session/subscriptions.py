"""The client's subscriptions: found by id, by token, and by the destination of a message that comes down."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter

from forkbroker.audience import Audience
from forkbroker.session.budget import Budget
from forkbroker.session.errors import FrameError, shown
from forkbroker.session.subscription import QueueSubscription, Subscription, TopicSubscription

_CACHE_OCTETS = 262_144
"""Octets of destinations whose subscriptions are remembered: some 1,000 with one each. A pattern may see any number."""
MAX_TOKEN = 0xFFFF_FFFF
"""The field of an envelope has 32 bits."""


class Subscriptions:
    """All subscriptions of one client."""

    def __init__(self, budget: Budget, most: int, first_token: int = 1) -> None:
        """`budget` is the client's; at most `most` may be open. Tokens count from `first_token`; see `Session` for why
        that is not always 1."""
        self._budget = budget
        self._most = most
        self._by_id: dict[str, Subscription] = {}
        self._by_token: dict[int, Subscription] = {}
        self._queues: dict[int, QueueSubscription] = {}
        self._audience: Audience[TopicSubscription] = Audience(_CACHE_OCTETS, attrgetter("token"))
        self.first_token = first_token
        self.last_token = first_token - 1

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(list(self._by_id.values()))

    def queues(self) -> list[QueueSubscription]:
        """Those that are offered messages."""
        return list(self._queues.values())

    def topics(self) -> list[TopicSubscription]:
        """Those that get copies."""
        return [one for one in self._by_id.values() if isinstance(one, TopicSubscription)]

    def check_new(self, subscription_id: str) -> None:
        """Find out whether another subscription may have this id.

        Raises:
            FrameError: it is in use, or too many subscriptions are open.
        """
        if subscription_id in self._by_id:
            name = shown(subscription_id.lstrip("\0"))
            raise FrameError("subscription exists", f"there is a subscription {name} already; UNSUBSCRIBE it first")
        if len(self._by_id) >= self._most:
            raise FrameError("too many subscriptions", f"max-subscriptions is {self._most:,}, and all are in use")

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
        self._by_id[subscription.id] = subscription
        self._by_token[subscription.token] = subscription

    def retire(self, subscription: Subscription) -> None:
        """It gets nothing more: its id is free, but its deliveries have their names until `remove`."""
        subscription.is_draining = True
        del self._by_id[subscription.id]
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
        return self._by_id.get(subscription_id)

    def by_token(self, token: int) -> Subscription | None:
        """By our token."""
        return self._by_token.get(token)

    def queue_by_token(self, token: int) -> QueueSubscription | None:
        """By our token, if it is offered messages."""
        return self._queues.get(token)

    def hold_deliveries(self) -> bool:
        """Tell whether the client has deliveries of queues that it has not settled, or not yet for good (COMMIT)."""
        return any(queue.unacknowledged or queue.in_transactions for queue in self._queues.values())

    def for_topic(self, name: bytes) -> tuple[TopicSubscription, ...]:
        """The subscriptions that get a copy of what is sent to this topic, in the order they were made."""
        return self._audience.find(name)
