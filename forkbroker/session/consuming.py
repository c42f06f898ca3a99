"""SUBSCRIBE, UNSUBSCRIBE, ACK and NACK: what a client wants, and what it says of what it got."""

from __future__ import annotations

from collections.abc import Mapping

from forkbroker.destinations import Sort, durable_name
from forkbroker.session.budget import Budget
from forkbroker.session.delivery import Delivery
from forkbroker.session.dialects import (
    Window,
    pair_name,
    read_durable,
    read_explicit_name,
    read_window,
    wants_deletion,
    wants_exclusive,
    wants_requeue,
)
from forkbroker.session.errors import FrameError, shown
from forkbroker.session.messages import message_opening
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.publishing import OwnDestinations
from forkbroker.session.replies import Replies
from forkbroker.session.subscriptions import AckMode, Subscription, Subscriptions
from forkbroker.session.transactions import Settlement, Transaction, Transactions
from forkbroker.session.unsettled import Unsettled
from forkbroker.session.upward import Upward
from forkbroker.stomp.versions import Version
from forkbroker.wire.envelope import Buffer, pack
from forkbroker.wire.kinds import Flag, Kind, Outcome


class Consuming:
    """The consumer's side of one session."""

    def __init__(
        self,
        policy: SessionPolicy,
        rules: Version,
        own: OwnDestinations,
        subscriptions: Subscriptions,
        unsettled: Unsettled,
        transactions: Transactions,
        upward: Upward,
        replies: Replies,
        delivery: Delivery,
        budget: Budget,
        client_id: str,
    ) -> None:
        """`rules` are those of the version, or more lenient ones; `budget` is the client's; `client_id` is what CONNECT
        said: names of durable subscriptions are within it."""
        self._policy = policy
        self._rules = rules
        self._own = own
        self._subscriptions = subscriptions
        self._unsettled = unsettled
        self._transactions = transactions
        self._upward = upward
        self._replies = replies
        self._delivery = delivery
        self._budget = budget
        self._client_id = client_id

    def subscribe(self, headers: Mapping[str, str], receipt: str | None) -> None:
        """SUBSCRIBE (STOMP 1.2, SUBSCRIBE).

        Raises:
            FrameError, DestinationError, HeaderError: it can't be processed.
        """
        text = headers.get("destination")
        if text is None:
            raise FrameError("missing header destination", "a SUBSCRIBE needs a destination header")
        subscription_id = self._read_id(headers, text)
        if "selector" in headers:
            raise FrameError(
                "selectors are not supported",
                "SUBSCRIBE with a selector header would get messages that it doesn't want; use destinations instead",
            )
        mode = self._read_mode(headers)
        default = self._policy.prefetch_auto if mode is AckMode.AUTO else self._policy.prefetch
        window = read_window(headers, default)
        subscription = self._make(subscription_id, text, mode, window)
        if subscription.destination.sort is Sort.TOPIC:
            durable = read_durable(headers, self._client_id, subscription.destination.local)
            subscription.durable = b"" if durable is None else durable_name(durable)
        self._add(subscription, wants_exclusive(headers), receipt)

    def subscribe_to_replies(self, text: str) -> None:
        """A `reply-to` header names this temporary queue: its messages come under the name itself (RabbitMQ)."""
        name = self._own.for_subscribe(text).name
        if any(s.destination.name == name for s in self._subscriptions):
            return
        self._check_new(text)
        subscription = self._make(text, text, AckMode.AUTO, Window(self._policy.prefetch_auto))
        self._add(subscription, exclusive=False, receipt=None)

    def unsubscribe(self, headers: Mapping[str, str], receipt: str | None) -> None:
        """UNSUBSCRIBE: what is unsettled at it goes back at once; a durable subscription is deleted if it says so.

        Raises:
            FrameError: no such subscription.
            DestinationError: not a name of a durable subscription.
        """
        if not self._delete(headers):
            self._end(self._find_named(headers))
        if receipt is not None:
            self._replies.receipts(self._upward.fence(), [receipt])

    def end_queue_subscriptions(self) -> None:
        """The client can't acknowledge any more: others get what is on its way to it."""
        for subscription in self._subscriptions:
            if subscription.is_queue:
                self._end(subscription)

    def acknowledge(self, headers: Mapping[str, str], receipt: str | None) -> None:
        """ACK (STOMP 1.2, ACK). Raises FrameError."""
        self._settle(headers, receipt, Outcome.ACKNOWLEDGED)

    def reject(self, headers: Mapping[str, str], receipt: str | None) -> None:
        """NACK (STOMP 1.2, NACK): back to the queue, or with `requeue:false` to the dead letters. Raises FrameError."""
        if not self._rules.nack_allowed:
            raise FrameError("NACK is not in STOMP 1.0", "NACK came with STOMP 1.1; connect with accept-version")
        self._settle(headers, receipt, Outcome.RELEASED if wants_requeue(headers) else Outcome.REJECTED)

    def commit(self, name: str, receipt: str | None) -> None:
        """COMMIT: all of the transaction goes up as one envelope. Raises FrameError."""
        transaction = self._transactions.end(name)
        self._check_whole(name, transaction)
        for settlement in transaction.settlements:
            settlement.subscription.in_transactions -= len(settlement.deliveries)
            self._apply(transaction.upward, settlement)
        envelopes = transaction.upward.take()
        if envelopes:
            payload: list[Buffer] = [buffer for envelope in envelopes for buffer in envelope]
            self._upward.request(pack(Kind.TRANSACTION, count=len(envelopes), payload=payload))
        if receipt is not None:
            self._replies.receipts(self._upward.fence() if envelopes else 0, [receipt])

    def abort(self, name: str, receipt: str | None) -> None:
        """ABORT: nothing was sent, and what was acknowledged is unsettled again. Raises FrameError."""
        taken: dict[Subscription, dict[int, int]] = {}
        for settlement in self._transactions.end(name).settlements:
            settlement.subscription.in_transactions -= len(settlement.deliveries)
            taken.setdefault(settlement.subscription, {}).update(settlement.deliveries)
        for subscription, deliveries in taken.items():
            self._unsettled.give_back(subscription, deliveries)
        if receipt is not None:
            self._replies.receipts(0, [receipt])

    def _read_id(self, headers: Mapping[str, str], destination: str) -> str:
        subscription_id = headers.get("id")
        if subscription_id is None:
            if self._rules.subscription_id_required:
                raise FrameError("missing header id", f"STOMP {self._rules.name} demands an id on SUBSCRIBE")
            subscription_id = f"\0{destination}" if self._rules.anonymous_subscriptions else destination
        self._check_new(subscription_id)
        return subscription_id

    def _check_new(self, subscription_id: str) -> None:
        if self._subscriptions.find(subscription_id) is not None:
            name = shown(subscription_id.lstrip("\0"))
            raise FrameError("subscription exists", f"there is a subscription {name} already; UNSUBSCRIBE it first")
        if len(self._subscriptions) >= self._policy.max_subscriptions:
            raise FrameError(
                "too many subscriptions", f"max-subscriptions is {self._policy.max_subscriptions:,}, and all are in use"
            )

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

    def _check_whole(self, name: str, transaction: Transaction) -> None:
        """A subscription that has ended gave its messages back, those that this transaction has settled as well."""
        for settlement in transaction.settlements:
            subscription = settlement.subscription
            if subscription.is_queue and self._subscriptions.by_token(subscription.token) is None:
                raise FrameError(
                    "transaction can't be applied as a whole",
                    f"transaction {shown(name)} has an ACK or NACK of messages that went back to their queue "
                    f"with UNSUBSCRIBE of {shown(subscription.id.lstrip(chr(0)))}; COMMIT before UNSUBSCRIBE",
                )

    def _read_mode(self, headers: Mapping[str, str]) -> AckMode:
        value = headers.get("ack", "auto")
        permitted = self._rules.ack_modes
        if value not in permitted:
            would_be_right = ", ".join(sorted(permitted))
            raise FrameError("unknown ack mode", f"ack is {shown(value)}, one of {would_be_right} would be right")
        return AckMode(value)

    def _make(self, subscription_id: str, text: str, mode: AckMode, window: Window) -> Subscription:
        shown_id = None if subscription_id.startswith("\0") else subscription_id
        return Subscription(
            subscription_id,
            self._subscriptions.next_token(),
            self._own.for_subscribe(text),
            mode,
            message_opening(shown_id, self._rules),
            credit=window.messages,
            window=window.octets,
        )

    def _add(self, subscription: Subscription, exclusive: bool, receipt: str | None) -> None:
        self._budget.take(subscription.weight, "this SUBSCRIBE")
        self._subscriptions.add(subscription)
        flags = 0 if subscription.settles else int(Flag.AUTO)
        flags |= Flag.EXCLUSIVE if exclusive else 0
        flags |= Flag.TEMPORARY if subscription.is_temporary else 0
        flags |= Flag.DURABLE if subscription.durable else 0
        self._upward.request(
            pack(
                Kind.SUBSCRIBE,
                flags=flags,
                token=subscription.token,
                count=subscription.credit,
                destination=subscription.destination.name,
                block=subscription.durable,
            )
        )
        fence = self._upward.fence()
        if receipt is not None:
            self._replies.receipts(fence, [receipt])
        self._replies.after(fence, subscription.activate)

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
            subscription = next((s for s in self._subscriptions if s.durable == name), None)
        if subscription is None:
            self._delete_unread(name)
        elif subscription.durable == name:
            self._end(subscription, is_deleted=True)
        else:
            raise FrameError(
                "wrong subscription",
                f"subscription {shown(subscription.id)} is not the durable subscription {shown(written)}",
            )

    def _delete_pair(self, headers: Mapping[str, str]) -> None:
        subscription = self._subscriptions.find(headers["id"])
        if subscription is not None:
            self._end(subscription, is_deleted=bool(subscription.durable))
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

    def _end(self, subscription: Subscription, *, is_deleted: bool = False) -> None:
        """End reading; `is_deleted`: and the durable subscription, whose messages go on waiting otherwise."""
        self._subscriptions.remove(subscription)
        self._budget.give(subscription.weight)
        self._delivery.forget(subscription)
        topic, durable = subscription.destination.name, subscription.durable
        self._upward.request(
            pack(
                Kind.UNSUBSCRIBE,
                flags=Flag.DURABLE if is_deleted else 0,
                token=subscription.token,
                destination=topic if is_deleted or not durable else durable,
                block=durable if is_deleted else b"",
            )
        )

    def _settle(self, headers: Mapping[str, str], receipt: str | None, outcome: Outcome) -> None:
        name = headers.get("transaction")
        transaction = None if name is None else self._transactions.join(name, 1)
        taken = self._unsettled.take(headers)
        if taken is None:
            if self._policy.strict:
                raise FrameError("delivery is settled already", "ACK or NACK of what is settled, expired or taken back")
        else:
            settlement = Settlement(taken[0], taken[1], outcome)
            if name is not None and transaction is not None:
                taken[0].in_transactions += len(taken[1])
                self._transactions.settle(name, transaction, settlement)
            else:
                self._apply(self._upward, settlement)
        if receipt is not None:
            self._replies.receipts(0 if transaction or taken is None else self._upward.fence(), [receipt])

    def _apply(self, upward: Upward, settlement: Settlement) -> None:
        subscription, deliveries = settlement.subscription, settlement.deliveries
        if subscription.window:
            subscription.lighten(deliveries)
        if subscription.is_queue:
            upward.settle(subscription.token, deliveries.values(), settlement.outcome)
        else:
            self._delivery.deliver_waiting(subscription)
