"""SUBSCRIBE and UNSUBSCRIBE: what a client wants to get."""

from __future__ import annotations

from collections.abc import Mapping

from forkbroker.destinations import Sort, durable_name, is_queue
from forkbroker.session.delivery import Delivery, durable_name_of, pack_subscribe
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
from forkbroker.session.errors import FrameError, shown
from forkbroker.session.messages import message_opening
from forkbroker.session.own_destinations import OwnDestinations
from forkbroker.session.replies import Replies
from forkbroker.session.setup import Terms
from forkbroker.session.subscription import AckMode, QueueSubscription, Subscription, TopicSubscription
from forkbroker.session.subscriptions import Subscriptions
from forkbroker.session.upward import Upward
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Flag, Kind


class Subscribing:
    """Opens and ends the subscriptions of one session."""

    def __init__(
        self,
        terms: Terms,
        own: OwnDestinations,
        subscriptions: Subscriptions,
        upward: Upward,
        replies: Replies,
        delivery: Delivery,
    ) -> None:
        self._policy = terms.policy
        self._rules = terms.rules
        self._client_id = terms.client_id
        self._own = own
        self._subscriptions = subscriptions
        self._upward = upward
        self._replies = replies
        self._delivery = delivery

    def subscribe(self, headers: Mapping[str, str], receipt: str | None) -> None:
        """SUBSCRIBE (STOMP 1.2, SUBSCRIBE). One that says all that is said already changes the credit (U13).

        Raises:
            FrameError, DestinationError, HeaderError: it can't be processed.
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
        """
        if not self._delete(headers):
            subscription = self._find_named(headers)
            end = self._delivery.drain if wants_drain(headers) else self._delivery.end
            end(subscription)
        if receipt is not None:
            self._replies.receipts(self._upward.fence(), [receipt])

    def end_queue_subscriptions(self) -> None:
        """The client can't acknowledge any more: others get what is on its way to it."""
        for subscription in self._subscriptions.queues():
            self._delivery.end(subscription)

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
        if isinstance(made, QueueSubscription) and durable is not None:
            made.durable = durable_name(durable)
        return made

    def _add(self, subscription: QueueSubscription | TopicSubscription, receipt: str | None) -> None:
        self._subscriptions.add(subscription)
        self._upward.request(pack_subscribe(subscription))
        fence = self._upward.fence()
        if receipt is not None:
            self._replies.receipts(fence, [receipt])
        self._replies.after(fence, subscription.activate)

    def _change_credit(self, subscription: Subscription, credit: int, receipt: str | None) -> None:
        self._delivery.set_credit(subscription, credit)
        if receipt is not None:
            self._replies.receipts(self._upward.fence(), [receipt])

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
        name = durable_name(written)
        if "id" in headers:
            subscription = self._subscriptions.find(headers["id"])
        else:
            subscription = next((queue for queue in self._subscriptions.queues() if queue.durable == name), None)
        if subscription is None:
            self._delete_unread(name)
        elif durable_name_of(subscription) == name:
            self._delivery.end(subscription, is_deleted=True)
        else:
            raise FrameError(
                "wrong subscription",
                f"subscription {shown(subscription.id)} is not the durable subscription {shown(written)}",
            )

    def _delete_pair(self, headers: Mapping[str, str]) -> None:
        subscription = self._subscriptions.find(headers["id"])
        if subscription is not None:
            self._delivery.end(subscription, is_deleted=bool(durable_name_of(subscription)))
        elif "destination" in headers:
            topic = self._own.for_subscribe(headers["destination"]).local
            self._delete_unread(durable_name(pair_name(headers["id"], topic)))
        else:
            raise FrameError(
                "missing header destination",
                f"there is no subscription {shown(headers['id'])} on this connection; a durable one that is not open "
                "is deleted by its id and its destination",
            )

    def _delete_unread(self, name: bytes) -> None:
        """Delete a durable subscription that this client does not read from."""
        self._upward.request(pack(Kind.UNSUBSCRIBE, flags=Flag.DURABLE, destination=name, block=name))


def _is_like(one: Subscription, other: Subscription) -> bool:
    """They differ in nothing but the number of messages that may wait for their ACK."""
    return (
        one.destination == other.destination
        and one.mode is other.mode
        and one.prefetch_octets == other.prefetch_octets
        and one.is_exclusive == other.is_exclusive
        and durable_name_of(one) == durable_name_of(other)
    )
