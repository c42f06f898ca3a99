"""MESSAGE frames on their way to the client: what both kinds of subscription have in common."""

from __future__ import annotations

from forkbroker.session.messages import Messages
from forkbroker.session.subscription import Subscription
from forkbroker.session.unacknowledged import Unacknowledged
from forkbroker.session.unwritten import Unwritten
from forkbroker.stomp.versions import Version
from forkbroker.wire.envelope import Buffer


class Downward:
    """Makes the frames of one client, and counts them."""

    def __init__(self, version: Version, unwritten: Unwritten, unacknowledged: Unacknowledged) -> None:
        self.version = version
        self.unwritten = unwritten
        self._unacknowledged = unacknowledged
        self.delivered = 0
        """Messages that wait to be written, or were."""

    def number(
        self, messages: Messages, subscription: Subscription, first: int, count: int, serial: int
    ) -> tuple[int, list[Buffer]]:
        """Frames of messages that wait for their ACK from now on, and the number of the first delivery.

        `serial` is that of the message `first` in its queue; 0 for a copy.
        """
        sizes = list(map(len, messages.pieces[first : first + count])) if subscription.prefetch_octets else [0] * count
        number = self._unacknowledged.add_run(subscription, serial, sizes)
        self._unacknowledged.name_run(subscription, messages.ident, messages.index + first, number, count)
        frames = messages.acknowledged_frames(subscription.opening, subscription.token, first, count, number)
        return number, frames

    def forget(self, subscription: Subscription, number: int, count: int) -> None:
        """Frames that `number` gave were dropped before any octet of them was written."""
        self._unacknowledged.forget(subscription, number, count)
