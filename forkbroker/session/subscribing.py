"""SUBSCRIBE and UNSUBSCRIBE: what a client wants to get, more of it, no more of it, and the end.

UNSUBSCRIBE ends a subscription, and what was not settled goes back to its queue at once. With `drain:true` it only ends
the deliveries (U14): the client may settle what it has, and the subscription ends when nothing is left. Of a queue the
parent is told a credit of 0 meanwhile; what it has offered before that is declined.
"""

from __future__ import annotations

from collections.abc import Mapping

from forkbroker.destinations import Sort, is_queue, is_system
from forkbroker.permissions import Right, Rights
from forkbroker.session.dialects import (
    names_prefetch,
    pair_name,
    read_durable,
    read_explicit_name,
    read_prefetch,
    wants_deletion,
    wants_drain,
    wants_exclusive,
)
from forkbroker.session.downward import Replies, Unwritten
from forkbroker.session.errors import FrameError, shown
from forkbroker.session.messages import message_opening
from forkbroker.session.own_destinations import OwnDestinations
from forkbroker.session.queue_delivery import QueueDelivery
from forkbroker.session.setup import Terms
from forkbroker.session.subscriptions import (
    AckMode,
    QueueSubscription,
    Subscription,
    Subscriptions,
    TopicSubscription,
)
from forkbroker.session.topic_delivery import TopicDelivery
from forkbroker.session.upward import Upward
from forkbroker.wire.envelope import Buffer, pack
from forkbroker.wire.fields import MAX_OPENING
from forkbroker.wire.kinds import Flag, Kind


class Subscribing:
    """Opens the subscriptions of one session, and ends them."""

    def __init__(
        self,
        terms: Terms,
        own: OwnDestinations,
        rights: Rights,
        subscriptions: Subscriptions,
        topics: TopicDelivery,
        queues: QueueDelivery,
        unwritten: Unwritten,
        upward: Upward,
        replies: Replies,
    ) -> None:
        self._policy = terms.policy
        self._rules = terms.rules
        self._client_id = terms.client_id
        self._own = own
        self.rights = rights
        """What the client may do."""
        self._subscriptions = subscriptions
        self._topics = topics
        self._queues = queues
        self._unwritten = unwritten
        self._upward = upward
        self._replies = replies
        self.draining: dict[Subscription, None] = {}
        """Subscriptions without deliveries that have something to be settled; look at `end_drained` when it may be."""

    def subscribe(self, headers: Mapping[str, str], receipt: str | None) -> None:
        """SUBSCRIBE (STOMP 1.2, SUBSCRIBE). One that says all that is said already changes the credit (U13).

        Raises:
            FrameError, DestinationError, HeaderError, DeniedError: it can't be processed.
        """
        text = headers.get("destination")
        if text is None:
            raise FrameError("missing header destination", "a SUBSCRIBE needs a destination header")
        subscription_id = self._read_id(headers, text)
        known = self._subscriptions.find(subscription_id) if names_prefetch(headers) else None
        if known is None:
            self._subscriptions.check_new(subscription_id)
        if "selector" in headers:
            raise FrameError(
                "selectors are not supported",
                "this broker has no selectors; use separate destinations, and SUBSCRIBE without the selector header",
            )
        token = self._subscriptions.next_token() if known is None else known.token
        subscription = self._make(subscription_id, token, headers)
        self._check_right(subscription)
        if known is None:
            self._add(subscription, receipt)
        elif _is_like(known, subscription):
            self._change_credit(known, subscription.credit, receipt)
        else:
            self._subscriptions.check_new(subscription_id)

    def subscribe_to_replies(self, text: str) -> None:
        """A `reply-to` header names this temporary queue: its messages come under the name itself (RabbitMQ)."""
        name = self._own.for_subscribe(text).name
        if any(one.destination.name == name for one in self._subscriptions):
            return
        self._subscriptions.check_new(text)
        subscription = self._make(text, self._subscriptions.next_token(), {"destination": text})
        self._add(subscription, None)

    def unsubscribe(self, headers: Mapping[str, str], receipt: str | None) -> None:
        """UNSUBSCRIBE: what is unsettled at it goes back at once, but for `drain:true`; a durable subscription is
        deleted if it says so.

        Raises:
            FrameError: no such subscription.
            DestinationError: not a name of a durable subscription.
            DeniedError: the client may not delete it.
        """
        if not self._delete(headers):
            subscription = self._find_named(headers)
            if wants_drain(headers):
                self._drain(subscription)
            else:
                self._end(subscription)
        if receipt is not None:
            self._replies.receipts(self._upward.fence(), [receipt])

    def end_queue_subscriptions(self) -> None:
        """The client can't acknowledge any more: others get what is on its way to it."""
        for subscription in self._subscriptions.queues():
            self._end(subscription)

    def end_drained(self) -> None:
        """End those of which everything is settled by now."""
        for subscription in list(self.draining):
            if not self._is_unsettled(subscription):
                self._end(subscription)

    def _read_id(self, headers: Mapping[str, str], destination: str) -> str:
        subscription_id = headers.get("id")
        if subscription_id is None:
            if self._rules.subscription_id_required:
                raise FrameError("missing header id", f"STOMP {self._rules.name} demands an id on SUBSCRIBE")
            subscription_id = f"\0{destination}" if self._rules.anonymous_subscriptions else destination
        return subscription_id

    def _read_mode(self, headers: Mapping[str, str]) -> AckMode:
        value = headers.get("ack", "auto")
        permitted = self._rules.ack_modes
        if value not in permitted:
            permitted_modes = ", ".join(sorted(permitted))
            raise FrameError("unknown ack mode", f"ack is {shown(value)}; it must be one of {permitted_modes}")
        return AckMode(value)

    def _make(
        self, subscription_id: str, token: int, headers: Mapping[str, str]
    ) -> QueueSubscription | TopicSubscription:
        opening = message_opening(None if subscription_id.startswith("\0") else subscription_id, self._rules)
        mode = self._read_mode(headers)
        default = self._policy.prefetch_auto if mode is AckMode.AUTO else self._policy.prefetch
        prefetch = read_prefetch(headers, default)
        destination = self._own.for_subscribe(headers["destination"])
        durable = None
        if destination.sort is Sort.TOPIC:
            durable = read_durable(headers, self._client_id, destination.local)
        make: type[QueueSubscription] | type[TopicSubscription] = TopicSubscription
        if durable is not None or is_queue(destination.name):
            make = QueueSubscription
        made = make(subscription_id, token, destination, mode, opening, prefetch.messages, prefetch.octets)
        made.is_exclusive = wants_exclusive(headers)
        if durable is not None and is_system(destination.name):
            raise FrameError(
                "no durable subscription",
                f"{shown(headers['destination'])} is what the broker says of itself, which is not kept: subscribe "
                "without the headers for a durable subscription",
            )
        if isinstance(made, QueueSubscription) and durable is not None:
            made.durable = self._own.durable_name(durable)
        return made

    def _add(self, subscription: QueueSubscription | TopicSubscription, receipt: str | None) -> None:
        self._subscriptions.add(subscription)
        self._upward.asks_for_frames |= isinstance(subscription, TopicSubscription)
        self._upward.request(_pack_subscribe(subscription, may_create=self._may_create(subscription)))
        fence = self._upward.fence()
        if receipt is not None:
            self._replies.receipts(fence, [receipt])
        self._replies.after(fence, subscription.activate)

    def _change_credit(self, subscription: Subscription, credit: int, receipt: str | None) -> None:
        self._set_credit(subscription, credit)
        if receipt is not None:
            self._replies.receipts(self._upward.fence(), [receipt])

    def check_rights(self) -> None:
        """Look whether the client may still read all that it has subscribed to. Raises DeniedError."""
        for subscription in self._subscriptions:
            self._check_right(subscription)

    def _check_right(self, subscription: Subscription) -> None:
        name = subscription.destination.name
        self.rights.check(Right.MONITOR if is_system(name) else Right.READ, name)
        durable = _durable_name_of(subscription)
        if durable:
            self.rights.check(Right.READ, durable)

    def _may_create(self, subscription: Subscription) -> bool:
        name = _durable_name_of(subscription) or subscription.destination.name
        return not isinstance(subscription, QueueSubscription) or self.rights.allows(Right.CREATE, name)

    def _find_named(self, headers: Mapping[str, str]) -> Subscription:
        """The subscription that an UNSUBSCRIBE means: by its id, or by its destination (U08)."""
        subscription_id = headers.get("id")
        if subscription_id is not None:
            subscription = self._subscriptions.find(subscription_id)
            if subscription is None:
                raise FrameError("unknown subscription", f"there is no subscription {shown(subscription_id)}")
            return subscription
        if not (self._rules.unsubscribes_by_destination and "destination" in headers):
            raise FrameError("missing header id", "an UNSUBSCRIBE needs the id of the subscription")
        text = headers["destination"]
        name = self._own.for_subscribe(text).name
        found = [s for s in self._subscriptions if s.destination.name == name]
        if not found:
            raise FrameError("unknown subscription", f"there is no subscription to {shown(text)}")
        return min(found, key=lambda subscription: subscription.id.lstrip("\0") != text)

    def _set_credit(self, subscription: Subscription, credit: int) -> None:
        """For a queue the parent keeps count, so that it is told the same SUBSCRIBE again."""
        subscription.credit = credit
        if isinstance(subscription, TopicSubscription):
            self._topics.deliver_waiting(subscription)
        else:
            if isinstance(subscription, QueueSubscription):
                self._queues.claim_ahead(subscription)
            self._upward.request(_pack_subscribe(subscription))

    def _drain(self, subscription: Subscription) -> None:
        """Deliver nothing more, and end the subscription when all is settled that it has."""
        if not self._is_unsettled(subscription):
            self._end(subscription)
            return
        self._subscriptions.retire(subscription)
        self._forget(subscription)
        self.draining[subscription] = None
        if isinstance(subscription, TopicSubscription):
            self._upward.request(_pack_unsubscribe(subscription))
        else:
            self._set_credit(subscription, 0)

    def _end(self, subscription: Subscription, *, is_deleted: bool = False) -> None:
        """End reading; `is_deleted`: and the durable subscription, whose messages go on waiting otherwise."""
        was_told = subscription in self.draining and isinstance(subscription, TopicSubscription)
        self.draining.pop(subscription, None)
        self._subscriptions.remove(subscription)
        self._forget(subscription)
        if not was_told:
            self._upward.request(_pack_unsubscribe(subscription, is_deleted=is_deleted))

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
            self._queues.forget(subscription)

    def _delete(self, headers: Mapping[str, str]) -> bool:
        """Delete the durable subscription that an UNSUBSCRIBE means, whether or not this client reads from it.

        False: it means none. RabbitMQ deletes in one step, ActiveMQ's clients first end reading, then delete.
        """
        name = read_explicit_name(headers, self._client_id)
        if name is not None:
            self._delete_named(headers, name)
            return True
        if "id" in headers and wants_deletion(headers):
            self._delete_pair(headers)
            return True
        return False

    def _delete_named(self, headers: Mapping[str, str], written: str) -> None:
        name = self._own.durable_name(written)
        self.rights.check(Right.CREATE, name)
        if "id" in headers:
            subscription = self._subscriptions.find(headers["id"])
        else:
            subscription = next((queue for queue in self._subscriptions.queues() if queue.durable == name), None)
        if subscription is None:
            self._delete_unread(name)
        elif _durable_name_of(subscription) == name:
            self._end(subscription, is_deleted=True)
        else:
            raise FrameError(
                "wrong subscription",
                f"subscription {shown(subscription.id)} is not the durable subscription {shown(written)}",
            )

    def _delete_pair(self, headers: Mapping[str, str]) -> None:
        subscription = self._subscriptions.find(headers["id"])
        if subscription is not None:
            durable = _durable_name_of(subscription)
            if durable:
                self.rights.check(Right.CREATE, durable)
            self._end(subscription, is_deleted=bool(durable))
        elif "destination" in headers:
            topic = self._own.for_subscribe(headers["destination"]).local
            name = self._own.durable_name(pair_name(headers["id"], topic))
            self.rights.check(Right.CREATE, name)
            self._delete_unread(name)
        else:
            raise FrameError(
                "missing header destination",
                f"there is no subscription {shown(headers['id'])} on this connection; a durable one that is not open "
                "is deleted by its id and its destination",
            )

    def _delete_unread(self, name: bytes) -> None:
        """Delete a durable subscription that this client does not read from."""
        self._upward.request(pack(Kind.UNSUBSCRIBE, flags=Flag.DURABLE, destination=name, block=name))


def _durable_name_of(subscription: Subscription) -> bytes:
    """The name of a durable subscription; nothing if it is none."""
    return subscription.durable if isinstance(subscription, QueueSubscription) else b""


def _pack_subscribe(subscription: Subscription, *, may_create: bool = True) -> list[Buffer]:
    """SUBSCRIBE; with a token that is in use, only the credit may be new."""
    flags = 0 if subscription.settles else int(Flag.AUTO)
    flags |= 0 if may_create else Flag.EXISTING
    flags |= Flag.EXCLUSIVE if subscription.is_exclusive else 0
    if isinstance(subscription, QueueSubscription):
        flags |= Flag.TEMPORARY if subscription.is_temporary else 0
        flags |= Flag.DURABLE if subscription.durable else 0
    return pack(
        Kind.SUBSCRIBE,
        flags=flags,
        token=subscription.token,
        index=subscription.keeps if isinstance(subscription, QueueSubscription) else 0,
        count=subscription.credit,
        destination=subscription.destination.name,
        block=_durable_name_of(subscription) or _shared_opening_of(subscription),
    )


def _shared_opening_of(subscription: Subscription) -> bytes:
    """What the frames of the subscription begin with, where that is all that is its own: others may have the same."""
    is_own = isinstance(subscription, QueueSubscription) or subscription.settles or subscription.destination.is_pattern
    return b"" if is_own or len(subscription.opening) > MAX_OPENING else subscription.opening


def _pack_unsubscribe(subscription: Subscription, *, is_deleted: bool = False) -> list[Buffer]:
    """UNSUBSCRIBE; `is_deleted`: of a durable subscription that is to be deleted."""
    topic, durable = subscription.destination.name, _durable_name_of(subscription)
    return pack(
        Kind.UNSUBSCRIBE,
        flags=Flag.DURABLE if is_deleted else 0,
        token=subscription.token,
        destination=topic if is_deleted or not durable else durable,
        block=durable if is_deleted else b"",
    )


def _is_like(one: Subscription, other: Subscription) -> bool:
    """They differ in nothing but the number of messages that may wait for their ACK."""
    return (
        one.destination == other.destination
        and one.mode is other.mode
        and one.prefetch_octets == other.prefetch_octets
        and one.is_exclusive == other.is_exclusive
        and _durable_name_of(one) == _durable_name_of(other)
    )
