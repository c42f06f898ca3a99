"""What was delivered to a subscription and is not settled: found by the name that an ACK or NACK gives.

A delivery's name is `<token>-<number>`: the subscription's token, and the number of the delivery in the session. So a
name that was never given out can be told from one that is settled, or was taken back (STOMP leaves both open; the
first is an error, the second comes of itself when a client acknowledges late).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile

from forkbroker.session.errors import FrameError, shown
from forkbroker.session.subscriptions import AckMode, Subscription, Subscriptions
from forkbroker.stomp.versions import Version

_MAX_DIGITS = 18
"""Of a number in a name. int() raises an exception of its own for thousands of them."""


class Unsettled:
    """The deliveries of one session, by name."""

    def __init__(self, subscriptions: Subscriptions, version: Version) -> None:
        self._subscriptions = subscriptions
        self._version = version
        self.last_delivery = 0
        self.late = 0
        """ACKs and NACKs of what was settled or taken back already."""

    def add_run(self, subscription: Subscription, serial: int, sizes: list[int], *, is_queue: bool) -> int:
        """Number these deliveries, of consecutive serials; returns the number of the first."""
        first, count = self.last_delivery + 1, len(sizes)
        self.last_delivery += count
        numbers = range(first, first + count)
        if is_queue:
            subscription.unsettled.update(zip(numbers, range(serial, serial + count), strict=True))
        else:
            subscription.unsettled.update(dict.fromkeys(numbers, 0))
        if subscription.window:
            subscription.sizes.update(zip(numbers, sizes, strict=True))
        return first

    def take(self, headers: Mapping[str, str]) -> tuple[Subscription, dict[int, int]] | None:
        """The deliveries that an ACK or NACK with these headers settles; None: it came too late.

        Raises:
            FrameError: headers are missing, or they name what this session has never seen.
        """
        token, number = self._read_name(headers)
        subscription = self._subscriptions.by_token(token)
        if subscription is None or number not in subscription.unsettled:
            self.late += 1
            return None
        self._check_subscription(headers, subscription)
        if subscription.mode is AckMode.CLIENT_INDIVIDUAL:
            taken = {number: subscription.unsettled.pop(number)}
        else:
            taken = dict(takewhile(lambda item: item[0] <= number, subscription.unsettled.items()))
            for n in taken:
                del subscription.unsettled[n]
        return subscription, taken

    def give_back(self, subscription: Subscription, taken: dict[int, int]) -> None:
        """ABORT: these are unsettled again, in their old order and under their old names."""
        subscription.unsettled = dict(sorted((subscription.unsettled | taken).items()))

    def forget(self, subscription: Subscription, first: int, count: int) -> None:
        """These deliveries, from number `first` on, were dropped before any octet of them was written."""
        for number in range(first, first + count):
            subscription.unsettled.pop(number, None)
            subscription.sizes.pop(number, None)

    def _read_name(self, headers: Mapping[str, str]) -> tuple[int, int]:
        version, header = self._version, self._version.ack_header
        name = headers.get(header, "")
        if not name:
            raise FrameError(f"missing header {header}", f"STOMP {version.name} demands {header} on ACK and NACK")
        if version.ack_names_subscription and "subscription" not in headers:
            raise FrameError("missing header subscription", f"STOMP {version.name} demands {header} and subscription")
        parts = name.split("-")
        if self._is_unacknowledged(parts):
            return 0, 0
        is_whole = len(parts) == (2 if version.message_carries_ack else 5)
        token, number = map(_read_number, parts[-2:]) if is_whole else (0, 0)
        subscriptions = self._subscriptions
        if subscriptions.first_token <= token <= subscriptions.last_token and 1 <= number <= self.last_delivery:
            return token, number
        raise FrameError("unknown delivery", f"{header} is {shown(name)}, which no MESSAGE of this connection has had")

    def _is_unacknowledged(self, parts: list[str]) -> bool:
        """Whether this is the `message-id` of an `auto` subscription's message: acknowledging it does nothing (A12).

        In 1.2 it might as well be the wrong name of a message that waits for its ACK: then it is an error.
        """
        if len(parts) != 3 or not (parts[0].isdecimal() and parts[2].isdecimal()):
            return False
        return not (self._version.message_carries_ack and any(s.settles for s in self._subscriptions))

    def _check_subscription(self, headers: Mapping[str, str], subscription: Subscription) -> None:
        named = headers["subscription"] if self._version.ack_names_subscription else subscription.id
        if named != subscription.id:
            raise FrameError(
                "wrong subscription",
                f"the message was delivered to subscription {shown(subscription.id)}, not to {shown(named)}",
            )


def _read_number(text: str) -> int:
    """A part of a name; 0, which is in none, for what is no number."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else 0
