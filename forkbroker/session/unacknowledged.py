"""What was delivered and waits for its ACK: found by the name that an ACK or NACK gives.

A delivery's name is `<token>-<number>`: the subscription's token, and the number of the delivery in the session. So a
name that was never given out can be told from one that is settled, or was taken back (STOMP leaves both open; the
first is an error, the second comes of itself when a client acknowledges late). Clients of 1.2 that give a message-id
in its place are understood as well, see `message_ids`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from forkbroker.session.errors import FrameError, shown
from forkbroker.session.message_ids import MessageIds
from forkbroker.session.subscription import AckMode, Subscription
from forkbroker.session.subscriptions import Subscriptions
from forkbroker.stomp.versions import Version

_MAX_DIGITS = 18
"""Of a number in a name. int() raises an exception of its own for thousands of them."""


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

    def add_run(self, subscription: Subscription, serial: int, sizes: list[int]) -> int:
        """Number these deliveries, of consecutive serials; returns the number of the first."""
        first, count = self.last_delivery + 1, len(sizes)
        self.last_delivery += count
        numbers = range(first, first + count)
        subscription.remember(numbers, serial)
        if subscription.prefetch_octets:
            subscription.weigh(numbers, sizes)
        return first

    def name_run(self, subscription: Subscription, ident: bytes, index: int, first: int, count: int) -> None:
        """These deliveries, from number `first` on, have the message-ids `<index><ident>` and following."""
        if self._message_ids is not None:
            self._message_ids.add(ident, subscription.token, index, first, count)

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
        self._check_subscription(headers, subscription)
        if subscription.mode is AckMode.CLIENT_INDIVIDUAL:
            taken = {number: subscription.unacknowledged.pop(number)}
        else:
            taken = _take_up_to(subscription.unacknowledged, number)
        return subscription, taken

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
        token, number = map(_read_number, parts[-2:]) if is_whole else (0, 0)
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

    def _check_subscription(self, headers: Mapping[str, str], subscription: Subscription) -> None:
        named = headers["subscription"] if self._rules.ack_names_subscription else subscription.id
        if named != subscription.id:
            raise FrameError(
                "wrong subscription",
                f"the message was delivered to subscription {shown(subscription.id)}, not to {shown(named)}",
            )


def _take_up_to(held: dict[int, int], number: int) -> dict[int, int]:
    """Take out the oldest deliveries, up to this number."""
    taken = {}
    while held and (first := next(iter(held))) <= number:
        taken[first] = held.pop(first)
    return taken


def _read_number(text: str) -> int:
    """A part of a name; 0, which is in none, for what is no number."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else 0
