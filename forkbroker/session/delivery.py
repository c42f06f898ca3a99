"""What is delivered to a subscription of either kind: more of it, no more of it, and its end.

UNSUBSCRIBE ends a subscription, and what was not settled goes back to its queue at once. With `drain:true` it only ends
the deliveries (U14): the client may settle what it has, and the subscription ends when nothing is left. Of a queue the
parent is told a credit of 0 meanwhile; what it has offered before that is declined.
"""

from __future__ import annotations

from forkbroker.session.passing import Passing
from forkbroker.session.subscription import QueueSubscription, Subscription, TopicSubscription
from forkbroker.session.subscriptions import Subscriptions
from forkbroker.session.topic_delivery import TopicDelivery
from forkbroker.session.unwritten import Unwritten
from forkbroker.session.upward import Upward
from forkbroker.wire.envelope import Buffer, pack
from forkbroker.wire.kinds import Flag, Kind


class Delivery:
    """What is delivered to the subscriptions of one session."""

    def __init__(
        self,
        subscriptions: Subscriptions,
        topics: TopicDelivery,
        passing: Passing,
        unwritten: Unwritten,
        upward: Upward,
    ) -> None:
        self._subscriptions = subscriptions
        self._topics = topics
        self._passing = passing
        self._unwritten = unwritten
        self._upward = upward
        self.draining: dict[Subscription, None] = {}
        """Subscriptions without deliveries that have something to be settled; look at `end_drained` when it may be."""

    def set_credit(self, subscription: Subscription, credit: int) -> None:
        """For a queue the parent keeps count, so that it is told the same SUBSCRIBE again."""
        subscription.credit = credit
        if isinstance(subscription, TopicSubscription):
            self._topics.deliver_waiting(subscription)
        else:
            self._upward.request(pack_subscribe(subscription))

    def drain(self, subscription: Subscription) -> None:
        """Deliver nothing more, and end the subscription when all is settled that it has."""
        if not self._is_unsettled(subscription):
            self.end(subscription)
            return
        self._subscriptions.retire(subscription)
        self._forget(subscription)
        self.draining[subscription] = None
        if isinstance(subscription, TopicSubscription):
            self._upward.request(pack_unsubscribe(subscription))
        else:
            self.set_credit(subscription, 0)

    def end_drained(self) -> None:
        """End those of which everything is settled by now."""
        for subscription in list(self.draining):
            if not self._is_unsettled(subscription):
                self.end(subscription)

    def end(self, subscription: Subscription, *, is_deleted: bool = False) -> None:
        """End reading; `is_deleted`: and the durable subscription, whose messages go on waiting otherwise."""
        was_told = subscription in self.draining and isinstance(subscription, TopicSubscription)
        self.draining.pop(subscription, None)
        self._subscriptions.remove(subscription)
        self._forget(subscription)
        if not was_told:
            self._upward.request(pack_unsubscribe(subscription, is_deleted=is_deleted))

    def _is_unsettled(self, subscription: Subscription) -> bool:
        """The client, or the kernel with `auto`, has something to settle, or has not done it for good (COMMIT)."""
        return bool(subscription.unacknowledged or subscription.in_transactions) or (
            not subscription.settles and self._unwritten.has_run(subscription.token)
        )

    def _forget(self, subscription: Subscription) -> None:
        """Nothing more waits for it."""
        if isinstance(subscription, TopicSubscription):
            self._topics.forget(subscription)
        elif isinstance(subscription, QueueSubscription):
            self._passing.forget(subscription)


def durable_name_of(subscription: Subscription) -> bytes:
    """The name of a durable subscription; nothing if it is none."""
    return subscription.durable if isinstance(subscription, QueueSubscription) else b""


def pack_subscribe(subscription: Subscription) -> list[Buffer]:
    """SUBSCRIBE; with a token that is in use, only the credit may be new."""
    flags = 0 if subscription.settles else int(Flag.AUTO)
    flags |= Flag.EXCLUSIVE if subscription.is_exclusive else 0
    if isinstance(subscription, QueueSubscription):
        flags |= Flag.TEMPORARY if subscription.is_temporary else 0
        flags |= Flag.DURABLE if subscription.durable else 0
    return pack(
        Kind.SUBSCRIBE,
        flags=flags,
        token=subscription.token,
        count=subscription.credit,
        destination=subscription.destination.name,
        block=durable_name_of(subscription),
    )


def pack_unsubscribe(subscription: Subscription, *, is_deleted: bool = False) -> list[Buffer]:
    """UNSUBSCRIBE; `is_deleted`: of a durable subscription that is to be deleted."""
    topic, durable = subscription.destination.name, durable_name_of(subscription)
    return pack(
        Kind.UNSUBSCRIBE,
        flags=Flag.DURABLE if is_deleted else 0,
        token=subscription.token,
        destination=topic if is_deleted or not durable else durable,
        block=durable if is_deleted else b"",
    )
