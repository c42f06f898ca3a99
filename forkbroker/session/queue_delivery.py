"""Messages of queues that are offered to this child among others: the claim that decides who gets them.

An offer is this child's if it is the first of the candidates at the semaphore. From the moment the semaphore is taken
the messages are this child's, told or not.
"""

from __future__ import annotations

from forkbroker.session.downward import Downward
from forkbroker.session.messages import Messages
from forkbroker.session.passing import Passing
from forkbroker.session.setup import Setup
from forkbroker.session.subscription import QueueSubscription
from forkbroker.session.subscriptions import Subscriptions
from forkbroker.session.upward import Upward
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Kind, Outcome


class QueueDelivery:
    """Claims for the queue subscriptions of one session."""

    def __init__(
        self, setup: Setup, subscriptions: Subscriptions, downward: Downward, upward: Upward, passing: Passing
    ) -> None:
        self._try_claim = setup.try_claim
        self._crash = setup.crash
        self._subscriptions = subscriptions
        self._downward = downward
        self._unwritten = downward.unwritten
        self._upward = upward
        self._passing = passing

    def receive(self, envelope: Envelope) -> None:
        """Messages that are offered to several children: try to claim them."""
        crash = self._crash
        if crash is not None:
            crash("child.offer-received")
        subscription = self._subscriptions.queue_by_token(envelope.token)
        if subscription is None or subscription.is_draining:
            self.decline(envelope)
        elif not self._passing.has_room(subscription):
            self._passing.begin(subscription)
            self.decline(envelope)
        elif self._try_claim(envelope.slot):
            if crash is not None:
                crash("child.claimed")
            self._upward.answer(Kind.CLAIMED, envelope.token, envelope.number)
            self._deliver_claimed(envelope, subscription)
        else:
            self._upward.answer(Kind.LOST, envelope.token, envelope.number)

    def decline(self, envelope: Envelope) -> None:
        """Leave an offer to the other candidates."""
        self._upward.answer(Kind.PASSED, envelope.token, envelope.number)

    def settle_written(self) -> None:
        """Tell the parent which runs of `auto` subscriptions the kernel has taken."""
        for token, serial, count in self._unwritten.take_written_runs():
            self._upward.settle_run(token, serial, count)

    def _deliver_claimed(self, envelope: Envelope, subscription: QueueSubscription) -> None:
        """Deliver the run; a prefetch in octets may be too small for all of it: others may have the rest."""
        messages = Messages(envelope, self._downward.version)
        count = envelope.count
        if not subscription.settles:
            frames = messages.frames(subscription.opening, 0, count)
            self._unwritten.put_run(frames, subscription.token, envelope.serial, count)
        else:
            if subscription.prefetch_octets:
                count = _fitting(messages, subscription)
            self._unwritten.put(self._downward.number(messages, subscription, 0, count, envelope.serial)[1])
        self._downward.delivered += count
        if count < envelope.count:
            self._passing.begin(subscription)  # what is on its way would overtake the rest
            rest = range(envelope.serial + count, envelope.serial + envelope.count)
            self._upward.settle(subscription.token, rest, Outcome.UNTOUCHED)


def _fitting(messages: Messages, subscription: QueueSubscription) -> int:
    """How many messages may go out until the subscription has all the octets that it may have; one at least."""
    room = subscription.prefetch_octets - subscription.octets
    for count, piece in enumerate(messages.pieces, 1):
        room -= len(piece)
        if room <= 0:
            return count
    return len(messages.pieces)
