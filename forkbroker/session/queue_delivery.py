"""Messages of queues that are offered to this child among others: the claim that decides who gets them.

An offer is this child's if it is the first of the candidates at the semaphore. From the moment the semaphore is taken
the messages are this child's, told or not.

While the client has no room, offers are passed on to the others, and READY is how they come again. Having passed once,
a subscription passes all until the parent has heard READY: what the parent had on its way before comes again with what
was passed, and would overtake it now.
"""

from __future__ import annotations

from forkbroker.hosts import Space
from forkbroker.session.downward import Replies, Unwritten
from forkbroker.session.messages import Messages
from forkbroker.session.settling import Unacknowledged
from forkbroker.session.setup import Setup
from forkbroker.session.subscriptions import Kept, QueueSubscription, Subscriptions
from forkbroker.session.upward import Upward
from forkbroker.stomp.versions import Version
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import Kind, Outcome

OFFER_ROOM = 1_048_576
"""Octets that wait for the client above which offers are passed on to other consumers."""


class QueueDelivery:
    """Claims for the queue subscriptions of one session."""

    def __init__(
        self,
        setup: Setup,
        version: Version,
        space: Space,
        subscriptions: Subscriptions,
        unacknowledged: Unacknowledged,
        unwritten: Unwritten,
        upward: Upward,
        replies: Replies,
    ) -> None:
        self._try_claim = setup.try_claim
        self._crash = setup.crash
        self._version = version
        self._space = space
        self._find = subscriptions.queue_by_token
        self._subscriptions = subscriptions
        self._unacknowledged = unacknowledged
        self._unwritten = unwritten
        self._upward = upward
        self._replies = replies
        self.passed: set[QueueSubscription] = set()
        """Those that have passed something on, and have to ask for it again: `ask_again`."""
        self._passed_since_ready: set[QueueSubscription] | None = None
        self._is_stopped = False

    def receive(self, envelope: Envelope) -> None:
        """Messages that are offered to several children: try to claim them.

        AHEAD is one that is kept, and of which a message is tried whenever the client has credit.
        """
        if self._crash is not None:
            self._crash("child.offer-received")
        subscription = self._find(envelope.token)
        if subscription is None or subscription.is_draining:
            self.decline(envelope)
        elif not self._has_room(subscription):
            self._pass(subscription)
            self.decline(envelope)
        elif envelope.kind is Kind.AHEAD:
            self._keep(envelope, subscription)
        else:
            subscription.skips_ahead = False
            self._claim(envelope, subscription)

    def claim_ahead(self, subscription: QueueSubscription) -> None:
        """It has credit again: try what was offered ahead, from the first message to the last, as far as that goes.

        Runs with every message of a quick worker: as little as may be.
        """
        ahead, try_claim = subscription.ahead, self._try_claim
        # as `room` says, without a call
        room = subscription.credit - len(subscription.unacknowledged) - subscription.in_transactions
        while ahead and room > 0:
            if not self._has_room(subscription):
                self._pass(subscription)
                self._decline_ahead(subscription)
                return
            kept = ahead[0]
            envelope, at = kept.envelope, kept.tried
            slot, count = envelope.slot, envelope.count
            is_claimed = False
            while at < count and not is_claimed:
                is_claimed = try_claim(slot + at)
                at += 1
            subscription.left -= at - kept.tried
            kept.tried = at
            if is_claimed:
                if self._crash is not None:
                    self._crash("child.claimed")
                room -= 1
                messages, serial = kept.messages, envelope.serial + at - 1
                if messages is None:
                    messages = kept.messages = Messages(envelope, self._version, self._space)
                self._upward.claim_ahead(envelope.token, envelope.number, serial)
                self._unwritten.put(self._unacknowledged.deliver(messages, subscription, at - 1, 1, serial)[1], 1)
            if at == count:
                ahead.popleft()
                if not is_claimed:
                    # else the claim says it; a client without a message waits for more of them
                    self._tell_left(kept, Kind.LOST, is_urgent=not ahead)

    def hand_back(self, subscription: QueueSubscription) -> None:
        """Something older comes back to the queue by a NACK: leave what was offered ahead to come behind that.

        So is what the parent offered ahead before it had heard of it; then it offers what there is credit for.
        """
        subscription.skips_ahead = True
        while subscription.ahead:
            self._leave(subscription, subscription.ahead[0], Kind.LOST)

    def withdraw(self, envelope: Envelope) -> None:
        """The parent has taken back what it had offered ahead. If that was left meanwhile, it was told so."""
        subscription = self._find(envelope.token)
        if subscription is None:
            return
        for kept in subscription.ahead:
            if kept.envelope.number == envelope.number:
                self._leave(subscription, kept, Kind.LOST)
                return

    def stop(self) -> None:
        """Keep nothing any more: the session ends, or the broker."""
        self._is_stopped = True
        for subscription in self._subscriptions.queues():
            self._decline_ahead(subscription)

    def decline(self, envelope: Envelope) -> None:
        """Leave an offer to the other candidates."""
        if envelope.kind is Kind.AHEAD:
            self._tell_left(Kept(envelope), Kind.PASSED)
        else:
            self._upward.answer(Kind.PASSED, envelope.token, envelope.number)

    def settle_written(self) -> None:
        """Tell the parent which runs of `auto` subscriptions the kernel has taken."""
        for token, serial, count in self._unwritten.written_runs:
            self._upward.settle_run(token, serial, count)
        self._unwritten.written_runs.clear()

    def ask_again(self) -> None:
        """Ask the parent for what was passed on, when there is room again."""
        if self._passed_since_ready is None and self._may_ask():
            self._passed_since_ready = set()
            self._upward.request(pack(Kind.READY))
            self._replies.after(self._upward.fence(), self._hear_ready)

    def forget(self, subscription: QueueSubscription) -> None:
        """The subscription has ended: nothing is asked for any more."""
        self._decline_ahead(subscription)
        self.passed.discard(subscription)
        if self._passed_since_ready is not None:
            self._passed_since_ready.discard(subscription)

    def _has_room(self, subscription: QueueSubscription) -> bool:
        """Tell whether an offer may be claimed.

        The RECEIPT of SUBSCRIBE comes first: it may have to wait for a commit, which offers don't.
        """
        return (
            subscription.is_active
            and subscription not in self.passed
            and self._unwritten.pending < OFFER_ROOM
            and (not subscription.prefetch_octets or subscription.has_octets())
        )

    def _keep(self, envelope: Envelope, subscription: QueueSubscription) -> None:
        if self._is_stopped:
            self.decline(envelope)
        elif subscription.skips_ahead:
            self._tell_left(Kept(envelope), Kind.LOST)
        else:
            subscription.ahead.append(Kept(envelope))
            subscription.left += envelope.count
            subscription.has_asked = False
            self.claim_ahead(subscription)

    def _claim(self, envelope: Envelope, subscription: QueueSubscription) -> None:
        if self._try_claim(envelope.slot):
            if self._crash is not None:
                self._crash("child.claimed")
            self._upward.answer(Kind.CLAIMED, envelope.token, envelope.number)
            self._deliver(envelope, subscription)
        else:
            self._upward.answer(Kind.LOST, envelope.token, envelope.number)

    def _leave(self, subscription: QueueSubscription, kept: Kept, kind: Kind) -> None:
        """Keep this no more, before all of it was tried."""
        subscription.ahead.remove(kept)
        subscription.left -= kept.envelope.count - kept.tried
        self._tell_left(kept, kind)

    def _tell_left(self, kept: Kept, kind: Kind, *, is_urgent: bool = True) -> None:
        envelope = kept.envelope
        self._upward.leave_ahead(kind, envelope.token, envelope.number, kept.tried, is_urgent=is_urgent)

    def _decline_ahead(self, subscription: QueueSubscription) -> None:
        while subscription.ahead:
            self._leave(subscription, subscription.ahead[0], Kind.PASSED)

    def _deliver(self, envelope: Envelope, subscription: QueueSubscription) -> None:
        """Deliver the run; a prefetch in octets may be too small for all of it: others may have the rest."""
        messages = Messages(envelope, self._version, self._space)
        count = envelope.count
        if not subscription.settles:
            frames = messages.frames(subscription.opening, 0, count)
            self._unwritten.put(frames, count, (subscription.token, envelope.serial, count))
            return
        if subscription.prefetch_octets:
            count = _fitting(messages, subscription)
        self._unwritten.put(self._unacknowledged.deliver(messages, subscription, 0, count, envelope.serial)[1], count)
        if count < envelope.count:
            self._pass(subscription)  # what is on its way would overtake the rest
            rest = range(envelope.serial + count, envelope.serial + envelope.count)
            self._upward.settle(subscription.token, rest, Outcome.UNTOUCHED)

    def _pass(self, subscription: QueueSubscription) -> None:
        """It passes from now on."""
        self.passed.add(subscription)
        if self._passed_since_ready is not None:
            self._passed_since_ready.add(subscription)

    def _may_ask(self) -> bool:
        return self._unwritten.pending < OFFER_ROOM // 2 and any(s.is_active and s.has_octets() for s in self.passed)

    def _hear_ready(self) -> None:
        """The parent has heard READY. What was passed since then it was told later, and needs another one."""
        self.passed = self._passed_since_ready or set()
        self._passed_since_ready = None


def _fitting(messages: Messages, subscription: QueueSubscription) -> int:
    """How many messages may go out until the subscription has all the octets that it may have; one at least."""
    room = subscription.prefetch_octets - subscription.octets
    for count, piece in enumerate(messages.pieces, 1):
        room -= len(piece)
        if room <= 0:
            return count
    return len(messages.pieces)
