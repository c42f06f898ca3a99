"""Messages of topics that come down: each subscription that matches gets a copy, as far as it has credit.

Above half of `max-client-buffer` the publishers are held for a moment, or messages are lost, or the client is, as
`slow-subscribers` says.
"""

from __future__ import annotations

import math

from forkbroker.session.downward import Unwritten
from forkbroker.session.messages import Messages
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.settling import Unacknowledged
from forkbroker.session.subscriptions import Subscriptions, TopicSubscription
from forkbroker.session.upward import Upward
from forkbroker.stomp.versions import Version
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import Kind

CATCH_UP_S = 1.0
"""How long a slow subscriber may hold its publishers before it is disconnected."""
_AT_LEAST = 4
"""Batches that may wait whatever their size: a message above max-client-buffer must get through to who reads it."""


class SlowSubscriberError(Exception):
    """The client has read too little for too long, and `slow-subscribers` is `disconnect`."""


class TopicDelivery:
    """Copies for the topic subscriptions of one session."""

    def __init__(
        self,
        policy: SessionPolicy,
        version: Version,
        subscriptions: Subscriptions,
        unacknowledged: Unacknowledged,
        unwritten: Unwritten,
        upward: Upward,
    ) -> None:
        self._policy = policy
        self._version = version
        self._subscriptions = subscriptions
        self._find_known = subscriptions.known_for_topic
        self._unacknowledged = unacknowledged
        self._unwritten = unwritten
        self._upward = upward
        self._much = policy.max_client_buffer // 2
        self.is_behind = False
        """Publishers are held, or were: `catch_up` finds out when there is room again."""
        self._is_congested = False
        self._has_held = False
        self._waiting_octets = 0
        self.deadline = math.inf
        """When `tick` is due."""
        self.dropped = 0
        """Messages that the client lost by reading too slowly."""

    def receive(self, envelope: Envelope, now: float) -> None:
        """Messages of a topic, for every active subscription that matches.

        RENDERED is for the one of which the parent knew when it was sent, if that has not ended since: what came up
        meanwhile is not active before the parent knows it.

        Raises:
            SlowSubscriberError: too much waits for the client.
        """
        messages = None
        found = self._find_known(envelope.destination)
        for subscription in self._subscriptions.for_topic(envelope.destination) if found is None else found:
            if not subscription.is_active:
                continue
            if subscription.settles:
                subscription.waiting.append(envelope)
                self._waiting_octets += len(envelope.raw)
                self.deliver_waiting(subscription)
                continue
            if envelope.kind is Kind.RENDERED:
                if subscription.opening == envelope.block:
                    self._put_rendered(envelope)
                continue
            if messages is None:
                messages = Messages(envelope, self._version)
            self._unwritten.put_topic(messages.frames(subscription.opening, 0, envelope.count), envelope.count)
        if self._unwritten.pending + self._waiting_octets > self._much:
            # a RENDERED has a number if its frames are in a file
            octets = len(envelope.raw) + (envelope.number if envelope.kind is Kind.RENDERED else 0)
            self._limit(max(self._policy.max_client_buffer, _AT_LEAST * octets), now)

    def _put_rendered(self, envelope: Envelope) -> None:
        """Files that wait are open descriptors: beyond so many, their frames are kept without them."""
        unwritten = self._unwritten
        if not envelope.number:
            unwritten.put_topic([envelope.payload], envelope.count)
        elif unwritten.files < self._policy.max_files:
            unwritten.put_topic_file(envelope.file, envelope.count)
        else:
            unwritten.put_topic([envelope.file.read(0, envelope.file.size)], envelope.count)

    def deliver_waiting(self, subscription: TopicSubscription) -> None:
        """Deliver what waits for credit, as far as there is credit."""
        waiting = subscription.waiting
        while waiting:
            room = subscription.room()
            if room <= 0 or not subscription.has_octets():
                return
            envelope, first = waiting[0], subscription.waiting_first
            count = min(envelope.count - first, 1 if subscription.prefetch_octets else room)
            messages = subscription.waiting_messages or Messages(envelope, self._version)
            subscription.waiting_messages = messages
            self._deliver(messages, subscription, first, count)
            subscription.waiting_first += count
            if subscription.waiting_first == envelope.count:
                self._drop_waiting_head(subscription)

    def _deliver(self, messages: Messages, subscription: TopicSubscription, first: int, count: int) -> None:
        unacknowledged = self._unacknowledged
        number, frames = unacknowledged.deliver(messages, subscription, first, count, serial=0)
        self._unwritten.put_topic(frames, count, lambda: unacknowledged.forget(subscription, number, count))

    def forget(self, subscription: TopicSubscription) -> None:
        """The subscription has ended: nothing more waits for it."""
        while subscription.waiting:
            self._drop_waiting_head(subscription)

    def _drop_waiting_head(self, subscription: TopicSubscription) -> None:
        self._waiting_octets -= len(subscription.waiting.popleft().raw)
        subscription.waiting_first = 0
        subscription.waiting_messages = None

    def waiting(self) -> int:
        """Octets that wait for the client to take or acknowledge something."""
        return self._unwritten.pending + self._waiting_octets

    def _limit(self, limit: int, now: float) -> None:
        """`slow-subscribers`: the client reads slower than its topics are written, more than half of the limit waits.

        Who is to be disconnected may hold its publishers for a moment first: a burst is no reason, and a client that
        reads as fast as it can keeps up then. Who has not caught up by the end of that moment gets no other one.
        """
        if self._policy.slow_subscribers == "drop-oldest":
            self._drop_oldest(limit)
            return
        if not self._is_congested and not self._has_held:
            self._is_congested = self.is_behind = True
            self._upward.request(pack(Kind.CONGESTED))
            if self._policy.slow_subscribers == "disconnect":
                self.deadline = now + CATCH_UP_S
        if self._policy.slow_subscribers == "disconnect" and self.waiting() > limit:
            allowed = self._policy.max_client_buffer
            raise SlowSubscriberError(
                f"slow subscriber, {self.waiting():,} bytes wait and max-client-buffer is {allowed:,}"
            )

    def tick(self, now: float) -> None:
        """The moment to catch up is over."""
        if now >= self.deadline:
            self._relieve()
            self._has_held = True

    def catch_up(self) -> None:
        """Hold the publishers no longer when there is room again."""
        if self.waiting() < self._policy.max_client_buffer // 8:
            self._relieve()
            self.is_behind = self._has_held = False

    def _relieve(self) -> None:
        self.deadline = math.inf
        if self._is_congested:
            self._is_congested = False
            self._upward.request(pack(Kind.RELIEVED))

    def _drop_oldest(self, limit: int) -> None:
        if self.waiting() <= limit:
            return
        self.dropped += self._unwritten.drop_oldest_topics(limit)
        for subscription in self._subscriptions.topics():
            while subscription.waiting and self.waiting() > limit:
                self.dropped += subscription.waiting[0].count - subscription.waiting_first
                self._drop_waiting_head(subscription)
            self.deliver_waiting(subscription)
