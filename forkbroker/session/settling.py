"""What was delivered and waits for its ACK, and what ACK and NACK make of it.

A delivery's name is `<token>-<number>`: the subscription's token, and the number of the delivery in the session. So a
name that was never given out can be told from one that is settled, or was taken back (STOMP leaves both open; the
first is an error, the second comes of itself when a client acknowledges late).

`Unacknowledged` gives out the names, and finds what they mean; `Settling` settles it, at once or with a transaction.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from itertools import repeat

from forkbroker.session.dialects import read_park_key, read_park_lease, read_reject_reason, wants_requeue
from forkbroker.session.downward import Replies
from forkbroker.session.errors import FrameError, shown
from forkbroker.session.messages import Messages
from forkbroker.session.setup import Terms
from forkbroker.session.subscriptions import AckMode, QueueSubscription, Subscription, Subscriptions, TopicSubscription
from forkbroker.session.transactions import Settlement, Transactions
from forkbroker.session.upward import Upward
from forkbroker.stomp.versions import Version
from forkbroker.wire.envelope import Buffer, pack
from forkbroker.wire.fields import MAX_AHEAD, MAX_OWNER
from forkbroker.wire.kinds import Kind, Outcome

_MAX_DIGITS = 18
"""Of a number in a name. int() raises an exception of its own for thousands of them."""
ENOUGH_AHEAD = MAX_AHEAD // 2
"""With more messages than this at hand, what is settled can wait to be told: the parent refills at the half as well."""
_FEW = 256
"""Runs of message-ids that are not worth a look."""


class Unacknowledged:
    """The deliveries of one session, by name."""

    def __init__(self, subscriptions: Subscriptions, rules: Version) -> None:
        """`rules` are those of the version, or more lenient ones."""
        self._subscriptions = subscriptions
        self._rules = rules
        self._message_ids = MessageIds(subscriptions.by_token) if rules.ack_by_message_id else None
        self.last_delivery = 0
        self.late = 0
        """ACKs and NACKs of what was settled or taken back already."""

    def deliver(
        self, messages: Messages, subscription: Subscription, first: int, count: int, serial: int
    ) -> tuple[int, list[Buffer]]:
        """Frames of messages that wait for their ACK from now on, and the number of the first delivery.

        `serial` is that of the message `first` in its queue; 0 for a copy, which has none: its ACK concerns this side
        alone.
        """
        number = self.last_delivery + 1
        self.last_delivery += count
        numbers = range(number, number + count)
        serials = range(serial, serial + count) if serial else repeat(0, count)
        subscription.unacknowledged.update(zip(numbers, serials, strict=True))
        if subscription.prefetch_octets:
            subscription.weigh(numbers, list(map(len, messages.pieces[first : first + count])))
        if self._message_ids is not None:
            if messages.names:
                self._message_ids.add_names(messages.names[first : first + count], subscription.token, number)
            else:
                self._message_ids.add(messages.ident, subscription.token, messages.index + first, number, count)
        return number, messages.acknowledged_frames(subscription.opening, subscription.token, first, count, number)

    def take(self, headers: Mapping[str, str]) -> tuple[Subscription, dict[int, int]] | None:
        """The deliveries that an ACK or NACK with these headers settles; None: it came too late.

        Raises:
            FrameError: headers are missing, or they name what this session has never seen.
        """
        token, number = self._read_name(headers)
        subscription = self._subscriptions.by_token(token)
        if subscription is None or number not in subscription.unacknowledged:
            self.late += 1
            return None
        if self._rules.ack_names_subscription and headers["subscription"] != subscription.id:
            raise FrameError(
                "wrong subscription",
                f"the message was delivered to subscription {shown(subscription.id)}, "
                f"not to {shown(headers['subscription'])}",
            )
        if subscription.mode is AckMode.CLIENT_INDIVIDUAL:
            taken = {number: subscription.unacknowledged.pop(number)}
        else:
            taken = _take_up_to(subscription.unacknowledged, number)
        return subscription, taken

    def take_all(self, ids: list[bytes]) -> tuple[Subscription, dict[int, int]] | None:
        """The deliveries that ACKs with these ids settle, each of them digits, `-` and digits; there is one at least.

        None, and nothing is taken: one of them has another subscription, or may be late, wrong, or one for several.
        """
        rules = self._rules
        if not rules.message_carries_ack or rules.ack_names_subscription:
            return None
        token, _, only = ids[0].partition(b"-")
        subscription = self._subscriptions.by_token(int(token))
        if subscription is None:
            return None
        held = subscription.unacknowledged
        if len(ids) == 1 and subscription.mode is AckMode.CLIENT_INDIVIDUAL:
            # of a worker that takes one message after the other
            number = int(only)
            return (subscription, {number: held.pop(number)}) if number in held else None
        size, front = len(token) + 1, token + b"-"
        numbers = [int(one[size:]) for one in ids if one.startswith(front)]
        taken = {number: held[number] for number in numbers if number in held}
        if len(taken) < len(ids):
            return None
        if subscription.mode is AckMode.CLIENT_INDIVIDUAL:
            for number in numbers:
                del held[number]
            return subscription, taken
        # an ACK of an earlier one would come too late
        return (subscription, _take_up_to(held, numbers[-1])) if numbers == sorted(numbers) else None

    def give_back(self, subscription: Subscription, taken: dict[int, int]) -> None:
        """ABORT: these wait for their ACK again, in their old order (where it counts) and under their old names."""
        held = subscription.unacknowledged
        if isinstance(held, OrderedDict):
            # What an earlier ABORT gave back may stand before these.
            taken = taken | _take_up_to(held, max(taken))
            for number in sorted(taken, reverse=True):
                held[number] = taken[number]
                held.move_to_end(number, last=False)
        else:
            held.update(taken)

    def forget(self, subscription: Subscription, first: int, count: int) -> None:
        """These deliveries, from number `first` on, were dropped before any octet of them was written."""
        for number in range(first, first + count):
            subscription.unacknowledged.pop(number, None)
        subscription.lighten(range(first, first + count))

    def _read_name(self, headers: Mapping[str, str]) -> tuple[int, int]:
        rules, header = self._rules, self._rules.ack_header
        name = headers.get(header, "")
        if not name:
            raise FrameError(f"missing header {header}", f"STOMP {rules.name} demands {header} on ACK and NACK")
        if rules.ack_names_subscription and "subscription" not in headers:
            raise FrameError("missing header subscription", f"STOMP {rules.name} demands {header} and subscription")
        parts = name.split("-")
        if len(parts) == 3 and parts[0].isdecimal() and parts[2].isdecimal():
            return self._find_message(name, parts[0])
        is_whole = len(parts) == (2 if rules.message_carries_ack else 5)
        token, number = _read_numbers(*parts[-2:]) if is_whole else (0, 0)
        subscriptions = self._subscriptions
        if subscriptions.first_token <= token <= subscriptions.last_token and 1 <= number <= self.last_delivery:
            return token, number
        raise self._unknown(name)

    def _find_message(self, name: str, index: str) -> tuple[int, int]:
        """The delivery whose whole `message-id` this is; (0, 0) when it needs no acknowledgement, or not any more.

        In 1.0 and 1.1 only messages of `auto` subscriptions have a message-id of this form. In 1.2 all have it: read by
        the letter, it would then be the wrong name of a message that waits for its ACK (A12).
        """
        if self._message_ids is None:
            if self._rules.message_carries_ack and any(s.settles for s in self._subscriptions):
                raise self._unknown(name)
            return 0, 0
        found = self._message_ids.find(index, name[len(index) :].encode())
        if len(found) > 1:
            raise FrameError(
                "ambiguous message-id",
                f"id is {shown(name)}, the message-id of {len(found)} deliveries that are not settled; "
                "the value of the ack header of each MESSAGE says which one is meant",
            )
        return found[0] if found else (0, 0)

    def _unknown(self, name: str) -> FrameError:
        header = self._rules.ack_header
        return FrameError("unknown delivery", f"{header} is {shown(name)}, which no MESSAGE of this connection has had")


class Settling:
    """Settles deliveries, at once or when their transaction is committed."""

    def __init__(
        self,
        terms: Terms,
        unacknowledged: Unacknowledged,
        transactions: Transactions,
        deliver_waiting: Callable[[TopicSubscription], None],
        claim_ahead: Callable[[QueueSubscription], None],
        hand_back: Callable[[QueueSubscription], None],
        upward: Upward,
        replies: Replies,
    ) -> None:
        """What follows for the subscription: `deliver_waiting` and `claim_ahead`, as it has credit again, or
        `hand_back`, as it gives something back."""
        self._is_strict = terms.policy.strict
        self._rules = terms.rules
        self._host = terms.host.key
        self.be(terms.identity.user)
        self._unacknowledged = unacknowledged
        self._transactions = transactions
        self._deliver_waiting = deliver_waiting
        self._claim_ahead = claim_ahead
        self._hand_back = hand_back
        self._upward = upward
        self._replies = replies

    def be(self, user: str) -> None:
        """This user's deliveries are those that are parked."""
        self.owner = f"{self._host}\n{user}".encode(errors="replace")[:MAX_OWNER]

    def acknowledge(self, headers: Mapping[str, str], receipt: str | None) -> None:
        """ACK (STOMP 1.2, ACK). With `park`, it is handed over to whoever has that key.

        Raises:
            FrameError, HeaderError: it can't be processed.
        """
        if "park" in headers:
            self._park(headers, receipt)
        else:
            self._settle(headers, receipt, Outcome.ACKNOWLEDGED)

    def acknowledge_all(self, ids: list[bytes], receipts: list[str | None] | None) -> bool:
        """ACKs that have nothing but these ids and receipts.

        False: nothing has happened, they have to be looked at one by one.
        """
        taken = self._unacknowledged.take_all(ids)
        if taken is None:
            return False
        self._apply(self._upward, *taken, Outcome.ACKNOWLEDGED)
        if receipts is not None:
            self._replies.receipts(self._upward.fence(), receipts)
        return True

    def reject(self, headers: Mapping[str, str], receipt: str | None) -> None:
        """NACK (STOMP 1.2, NACK): back to the queue, or with `requeue:false` to the dead letters. Raises FrameError.

        What its `reason` says stays with the message if this makes it a dead letter.
        """
        if not self._rules.nack_allowed:
            raise FrameError("NACK is not in STOMP 1.0", "NACK came with STOMP 1.1; connect with accept-version")
        outcome = Outcome.RELEASED if wants_requeue(headers) else Outcome.REJECTED
        self._settle(headers, receipt, outcome, read_reject_reason(headers))

    def apply(self, upward: Upward, settlement: Settlement) -> None:
        """Settle these deliveries for good, on the way that `upward` is."""
        self._apply(upward, settlement.subscription, settlement.deliveries, settlement.outcome, settlement.reason)

    def _apply(
        self,
        upward: Upward,
        subscription: Subscription,
        deliveries: Mapping[int, int],
        outcome: Outcome,
        reason: bytes = b"",
    ) -> None:
        """Tell the parent, and go on with what was offered ahead.

        While enough of that is left the parent can wait, so that it is woken once for several messages. What is given
        back is older than what was offered ahead, and comes before it.
        """
        if subscription.prefetch_octets:
            subscription.lighten(deliveries)
        if not isinstance(subscription, QueueSubscription):
            if isinstance(subscription, TopicSubscription):
                self._deliver_waiting(subscription)
            return
        is_release, ahead = outcome is Outcome.RELEASED, subscription.ahead
        if reason:
            upward.settle_with_reason(subscription.token, deliveries.values(), outcome, reason)
        else:
            is_short = subscription.left <= ENOUGH_AHEAD and not subscription.has_asked
            if is_short:
                subscription.has_asked = True
            upward.settle(
                subscription.token, deliveries.values(), outcome, is_urgent=is_short or is_release or not ahead
            )
        if is_release:
            self._hand_back(subscription)
        elif ahead:
            self._claim_ahead(subscription)

    def _park(self, headers: Mapping[str, str], receipt: str | None) -> None:
        """Let the delivery outlive this connection: it waits for `parked` of the same user."""
        key, lease_ms = read_park_key(headers, "park"), read_park_lease(headers)
        if "transaction" in headers:
            raise FrameError("park within a transaction", "a delivery is parked at once: leave out transaction")
        subscription, deliveries = self._unacknowledged.take(headers) or (None, {})
        if not isinstance(subscription, QueueSubscription) or len(deliveries) != 1:
            what = "one delivery of a queue, with ack:client-individual, that is not settled"
            raise FrameError("nothing to park", f"park is for {what}")
        if subscription.prefetch_octets:
            subscription.lighten(deliveries)
        (serial,) = deliveries.values()
        token = subscription.token
        self._upward.request(
            pack(Kind.PARK, token=token, index=lease_ms, serial=serial, destination=self.owner, block=key)
        )
        if subscription.ahead:
            self._claim_ahead(subscription)
        if receipt is not None:
            self._replies.receipts(self._upward.fence(), [receipt])

    def _settle_parked(self, headers: Mapping[str, str], receipt: str | None, outcome: Outcome, reason: bytes) -> None:
        """Settle a delivery that was parked, over any connection of the same user."""
        key = read_park_key(headers, "parked")
        if "transaction" in headers:
            raise FrameError("parked within a transaction", "what is parked is settled at once: leave out transaction")
        block = key + b"\n" + reason if reason else key
        self._upward.request(pack(Kind.UNPARK, token=outcome, destination=self.owner, block=block))
        # the parent may refuse it, and says so to whom this fence belongs
        fence = self._upward.fence()
        if receipt is not None:
            self._replies.receipts(fence, [receipt])

    def _settle(self, headers: Mapping[str, str], receipt: str | None, outcome: Outcome, reason: bytes = b"") -> None:
        if "parked" in headers:
            self._settle_parked(headers, receipt, outcome, reason)
            return
        name = headers.get("transaction")
        transaction = None if name is None else self._transactions.join(name, 1)
        taken = self._unacknowledged.take(headers)
        if taken is None:
            if self._is_strict:
                raise FrameError(
                    "delivery is settled already",
                    "this delivery was settled before, or its message has been returned to the queue",
                )
        else:
            settlement = Settlement(taken[0], taken[1], outcome, reason)
            if name is not None and transaction is not None:
                taken[0].in_transactions += len(taken[1])
                self._transactions.settle(name, transaction, settlement)
            else:
                self.apply(self._upward, settlement)
        if receipt is not None:
            self._replies.receipts(0 if transaction or taken is None else self._upward.fence(), [receipt])


_Run = tuple[int, int, int, int]
"""Token; the number of the first message within its batch, with which its message-id begins; the number of its
delivery; how many there are, of which the indices and deliveries follow. One is made with every message of a worker."""


class MessageIds:
    """The `message-id`s of what waits for its ACK: for clients of 1.2 that acknowledge by them, as those of 1.1 do.

    In 1.2 a delivery is acknowledged by the value of its `ack` header. Some clients send the `message-id` in its place.
    That names a message, which may have been delivered to several subscriptions, so it counts only where it is clear
    what is meant. Kept for each run of messages, not for each message: what all of them share, and where their numbers
    start. Runs of which nothing waits for its ACK any more are dropped now and then: at most as many stay as those that
    are needed, and as many again.
    """

    def __init__(self, by_token: Callable[[int], Subscription | None]) -> None:
        """`by_token` finds a subscription that has not ended."""
        self._by_token = by_token
        self._runs: dict[bytes, list[_Run]] = {}
        self._kept = 0
        self._tidy_at = _FEW

    def add(self, ident: bytes, token: int, index: int, delivery: int, count: int) -> None:
        """These deliveries have the message-ids `<index><ident>` and following."""
        self._runs.setdefault(ident, []).append((token, index, delivery, count))
        self._kept += 1
        if self._kept >= self._tidy_at:
            self._tidy()

    def add_names(self, names: list[bytes], token: int, delivery: int) -> None:
        """Deliveries from this number on have these message-ids."""
        for number, name in enumerate(names, delivery):
            index, dash, end = name.partition(b"-")
            self.add(dash + end, token, int(index), number, 1)

    def find(self, index: str, ident: bytes) -> list[tuple[int, int]]:
        """Token and number of each delivery that waits for its ACK under the message-id `<index><ident>`."""
        if not (index.isascii() and index.isdecimal() and len(index) <= _MAX_DIGITS):
            return []
        found = []
        for token, first, delivery, count in self._runs.get(ident, ()):
            distance = int(index) - first
            number = delivery + distance
            if 0 <= distance < count and self._waits(token, number):
                found.append((token, number))
        return found

    def _waits(self, token: int, number: int) -> bool:
        subscription = self._by_token(token)
        return subscription is not None and number in subscription.unacknowledged

    def _tidy(self) -> None:
        """Drop what is settled; twice as many as are left may come until the next time."""
        kept = {ident: [run for run in runs if self._is_needed(run)] for ident, runs in self._runs.items()}
        self._runs = {ident: runs for ident, runs in kept.items() if runs}
        self._kept = sum(map(len, self._runs.values()))
        self._tidy_at = 2 * self._kept + _FEW

    def _is_needed(self, run: _Run) -> bool:
        """Something of it waits for its ACK, or will if a transaction is aborted."""
        token, _, delivery, count = run
        subscription = self._by_token(token)
        if subscription is None:
            return False
        numbers = range(delivery, delivery + count)
        return bool(subscription.in_transactions) or any(number in subscription.unacknowledged for number in numbers)


def _take_up_to(held: dict[int, int], number: int) -> dict[int, int]:
    """Take out the oldest deliveries, up to this number."""
    taken = {}
    while held and (first := next(iter(held))) <= number:
        taken[first] = held.pop(first)
    return taken


def _read_numbers(token: str, number: str) -> tuple[int, int]:
    """The parts of a name; twice 0, which is in none, if one of them is no number."""
    digits = token + number
    are_short = len(token) <= _MAX_DIGITS and len(number) <= _MAX_DIGITS
    if not (token and number and are_short and digits.isascii() and digits.isdecimal()):
        return 0, 0
    return int(token), int(number)
