"""What comes down from the parent: which of it the client gets, and the claim that decides it for queues.

A topic's batch goes to each matching subscription. An offer goes to one subscription, if this child is the first of
the candidates at the semaphore: from the moment the semaphore is taken the messages are this child's, told or not.
"""

from __future__ import annotations

from collections.abc import Callable

from forkbroker.session.messages import Messages
from forkbroker.session.outbox import Outbox
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.subscriptions import Subscription, Subscriptions
from forkbroker.session.unsettled import Unsettled
from forkbroker.session.upward import Upward
from forkbroker.stomp.versions import Version
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import Kind, Outcome

CATCH_UP_S = 1.0
"""How long a slow subscriber may hold its publishers before it is disconnected."""
_AT_LEAST = 4
"""Batches that may wait whatever their size: a message above max-client-buffer must get through to who reads it."""
OFFER_ROOM = 1_048_576
"""Octets in the outbox above which offers are passed on to other consumers."""


class SlowSubscriberError(Exception):
    """The client has read too little for too long, and `slow-subscribers` is `disconnect`."""


class Delivery:
    """The way down of one session."""

    def __init__(
        self,
        policy: SessionPolicy,
        subscriptions: Subscriptions,
        unsettled: Unsettled,
        outbox: Outbox,
        upward: Upward,
        version: Version,
        try_claim: Callable[[int], bool],
        after: Callable[[int, Callable[[], None]], None],
        crash: Callable[[str], None] | None,
    ) -> None:
        """`try_claim` tries the semaphore of a slot; `after` does something once a fence is passed."""
        self._policy = policy
        self._subscriptions = subscriptions
        self._unsettled = unsettled
        self._outbox = outbox
        self._upward = upward
        self._version = version
        self._try_claim = try_claim
        self._after = after
        self._crash = crash
        self._passed: set[Subscription] = set()
        self._passed_since_ready: set[Subscription] | None = None
        self._is_congested = False
        self._has_held = False
        self._waiting_octets = 0
        self.deadline: float | None = None
        """When `tick` is due."""
        self.delivered = 0
        """Messages put into the outbox."""
        self.dropped = 0
        """Messages of topics that the client lost by reading too slowly."""

    def topic(self, envelope: Envelope, now: float) -> None:
        """Messages of a topic, for every active subscription that matches.

        Raises:
            SlowSubscriberError: too much waits for the client.
        """
        messages = None
        for subscription in self._subscriptions.for_topic(envelope.destination):
            if not subscription.is_active:
                continue
            if subscription.settles:
                subscription.waiting.append(envelope)
                self._waiting_octets += len(envelope.raw)
                self.deliver_waiting(subscription)
                continue
            if messages is None:
                messages = Messages(envelope, self._version)
            self._outbox.put_topic(messages.frames(subscription, 0, envelope.count), envelope.count)
            self.delivered += envelope.count
        if self.waiting() > self._policy.max_client_buffer // 2:
            self._limit_topics(max(self._policy.max_client_buffer, _AT_LEAST * len(envelope.raw)), now)

    def deliver_waiting(self, subscription: Subscription) -> None:
        """Deliver what of a topic waits for credit, as far as there is credit."""
        waiting = subscription.waiting
        while waiting:
            room = subscription.room()
            if room <= 0 or not subscription.has_window():
                return
            envelope, first = waiting[0], subscription.waiting_first
            count = min(envelope.count - first, 1 if subscription.window else room)
            messages = subscription.waiting_messages or Messages(envelope, self._version)
            subscription.waiting_messages = messages
            self._deliver(messages, subscription, first, count, serial=0)
            subscription.waiting_first += count
            if subscription.waiting_first == envelope.count:
                self._drop_waiting_head(subscription)

    def offer(self, envelope: Envelope, *, is_open: bool) -> None:
        """Messages of a queue, offered to several children: try to claim them.

        `is_open`: the session goes on; one that ends passes.
        """
        crash = self._crash
        if crash is not None:
            crash("child.offer-received")
        subscription = self._subscriptions.by_token(envelope.token)
        if subscription is None or not is_open:
            self._upward.answer(Kind.PASSED, envelope.token, envelope.number)
        elif not self._has_room(subscription):
            self._pass_from_now(subscription)
            self._upward.answer(Kind.PASSED, envelope.token, envelope.number)
        elif self._try_claim(envelope.slot):
            if crash is not None:
                crash("child.claimed")
            self._upward.answer(Kind.CLAIMED, envelope.token, envelope.number)
            self._deliver_claimed(envelope, subscription)
        else:
            self._upward.answer(Kind.LOST, envelope.token, envelope.number)

    def settle_written(self) -> None:
        """Tell the parent which runs of `auto` subscriptions the kernel has taken."""
        for token, serial, count in self._outbox.take_written_runs():
            self._upward.settle_run(token, serial, count)

    def ask_again(self) -> None:
        """Ask the parent for what was passed on, or held back, when there is room again."""
        if self._passed and self._passed_since_ready is None and self._may_ask():
            self._passed_since_ready = set()
            self._upward.request(pack(Kind.READY))
            self._after(self._upward.fence(), self._stop_passing)
        if (self._is_congested or self._has_held) and self.waiting() < self._policy.max_client_buffer // 8:
            self._relieve()
            self._has_held = False

    def _may_ask(self) -> bool:
        return self._outbox.pending < OFFER_ROOM // 2 and any(s.is_active and s.has_window() for s in self._passed)

    def _stop_passing(self) -> None:
        """The parent has heard READY. What was passed since then it was told later, and needs another one."""
        self._passed = self._passed_since_ready or set()
        self._passed_since_ready = None

    def forget(self, subscription: Subscription) -> None:
        """The subscription has ended: nothing more waits for it."""
        self._passed.discard(subscription)
        if self._passed_since_ready is not None:
            self._passed_since_ready.discard(subscription)
        while subscription.waiting:
            self._drop_waiting_head(subscription)

    def _pass_from_now(self, subscription: Subscription) -> None:
        self._passed.add(subscription)
        if self._passed_since_ready is not None:
            self._passed_since_ready.add(subscription)

    def _has_room(self, subscription: Subscription) -> bool:
        """Having passed once, pass all until the parent has heard READY: what it had on its way before comes again
        with what was passed, and would overtake it now. The RECEIPT of SUBSCRIBE comes first: it may have to wait for
        a commit, which offers don't."""
        return (
            subscription.is_active
            and subscription not in self._passed
            and self._outbox.pending < OFFER_ROOM
            and subscription.has_window()
        )

    def _deliver_claimed(self, envelope: Envelope, subscription: Subscription) -> None:
        """Deliver the run; a window of octets may be too small for all of it: others may have the rest."""
        messages = Messages(envelope, self._version)
        count = envelope.count
        if subscription.window and subscription.settles:
            count = _fitting(messages, subscription)
        self._deliver(messages, subscription, 0, count, envelope.serial)
        if count < envelope.count:
            self._pass_from_now(subscription)  # what is on its way would overtake the rest
            rest = range(envelope.serial + count, envelope.serial + envelope.count)
            self._upward.settle(subscription.token, rest, Outcome.UNTOUCHED)

    def _deliver(self, messages: Messages, subscription: Subscription, first: int, count: int, serial: int) -> None:
        is_queue = subscription.is_queue
        self.delivered += count
        if not subscription.settles:
            frames = messages.frames(subscription, first, count)
            self._outbox.put_run(frames, subscription.token, serial, count)
            return
        sizes = list(map(len, messages.pieces[first : first + count])) if subscription.window else [0] * count
        number = self._unsettled.add_run(subscription, serial, sizes, is_queue=is_queue)
        self._unsettled.name_run(subscription, messages.ident, messages.index + first, number, count)
        frames = messages.acknowledged_frames(subscription, first, count, number, self._version)
        if is_queue:
            self._outbox.put(frames)
        else:
            self._outbox.put_topic(frames, count, lambda: self._unsettled.forget(subscription, number, count))

    def _drop_waiting_head(self, subscription: Subscription) -> None:
        self._waiting_octets -= len(subscription.waiting.popleft().raw)
        subscription.waiting_first = 0
        subscription.waiting_messages = None

    def waiting(self) -> int:
        """Octets that wait for the client to take or acknowledge something."""
        return self._outbox.pending + self._waiting_octets

    def _limit_topics(self, limit: int, now: float) -> None:
        """`slow-subscribers`: the client reads slower than its topics are written, more than half of the limit waits.

        Who is to be disconnected may hold its publishers for a moment first: a burst is no reason, and a client that
        reads as fast as it can keeps up then. Who has not caught up by the end of that moment gets no other one.
        """
        if self._policy.slow_subscribers == "drop-oldest":
            self._drop_topics(limit)
            return
        if not self._is_congested and not self._has_held:
            self._is_congested = True
            self._upward.request(pack(Kind.CONGESTED))
            if self._policy.slow_subscribers == "disconnect":
                self.deadline = now + CATCH_UP_S
        if self._policy.slow_subscribers == "disconnect" and self.waiting() > limit:
            allowed = self._policy.max_client_buffer
            raise SlowSubscriberError(
                f"slow subscriber, {self.waiting():,} octets wait and max-client-buffer is {allowed:,}"
            )

    def tick(self, now: float) -> None:
        """The moment to catch up is over."""
        if self.deadline is not None and now >= self.deadline:
            self._relieve()
            self._has_held = True

    def _relieve(self) -> None:
        self.deadline = None
        if self._is_congested:
            self._is_congested = False
            self._upward.request(pack(Kind.RELIEVED))

    def _drop_topics(self, limit: int) -> None:
        if self.waiting() <= limit:
            return
        unwritten = self._outbox.drop_oldest_topics(limit)
        self.dropped += unwritten
        self.delivered -= unwritten
        for subscription in self._subscriptions:
            while subscription.waiting and self._outbox.pending + self._waiting_octets > limit:
                self.dropped += subscription.waiting[0].count - subscription.waiting_first
                self._drop_waiting_head(subscription)
            self.deliver_waiting(subscription)


def _fitting(messages: Messages, subscription: Subscription) -> int:
    """How many messages may go out until the subscription's window is closed; one at least."""
    room = subscription.window - subscription.octets
    for count, piece in enumerate(messages.pieces, 1):
        room -= len(piece)
        if room <= 0:
            return count
    return len(messages.pieces)
