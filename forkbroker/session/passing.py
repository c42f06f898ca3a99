"""Offers that are passed on because the client has no room, and the READY by which they come again.

Having passed once, a subscription passes all until the parent has heard READY: what the parent had on its way before
comes again with what was passed, and would overtake it now.
"""

from __future__ import annotations

from forkbroker.session.replies import Replies
from forkbroker.session.subscription import QueueSubscription
from forkbroker.session.unwritten import Unwritten
from forkbroker.session.upward import Upward
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Kind

OFFER_ROOM = 1_048_576
"""Octets that wait for the client above which offers are passed on to other consumers."""


class Passing:
    """Which subscriptions of one session pass on what they are offered."""

    def __init__(self, unwritten: Unwritten, upward: Upward, replies: Replies) -> None:
        self._unwritten = unwritten
        self._upward = upward
        self._replies = replies
        self._passed: set[QueueSubscription] = set()
        self._passed_since_ready: set[QueueSubscription] | None = None

    def has_room(self, subscription: QueueSubscription) -> bool:
        """Tell whether an offer may be claimed.

        The RECEIPT of SUBSCRIBE comes first: it may have to wait for a commit, which offers don't.
        """
        return (
            subscription.is_active
            and subscription not in self._passed
            and self._unwritten.pending < OFFER_ROOM
            and subscription.has_octets()
        )

    def begin(self, subscription: QueueSubscription) -> None:
        """It passes from now on."""
        self._passed.add(subscription)
        if self._passed_since_ready is not None:
            self._passed_since_ready.add(subscription)

    def forget(self, subscription: QueueSubscription) -> None:
        """The subscription has ended."""
        self._passed.discard(subscription)
        if self._passed_since_ready is not None:
            self._passed_since_ready.discard(subscription)

    def ask_again(self) -> None:
        """Ask the parent for what was passed on, when there is room again."""
        if self._passed and self._passed_since_ready is None and self._may_ask():
            self._passed_since_ready = set()
            self._upward.request(pack(Kind.READY))
            self._replies.after(self._upward.fence(), self._end)

    def _may_ask(self) -> bool:
        return self._unwritten.pending < OFFER_ROOM // 2 and any(s.is_active and s.has_octets() for s in self._passed)

    def _end(self) -> None:
        """The parent has heard READY. What was passed since then it was told later, and needs another one."""
        self._passed = self._passed_since_ready or set()
        self._passed_since_ready = None
