"""Both ways of delivering, where it does not matter which of them a subscription has."""

from __future__ import annotations

from forkbroker.session.passing import Passing
from forkbroker.session.subscription import QueueSubscription, Subscription, TopicSubscription
from forkbroker.session.topic_delivery import TopicDelivery


class Delivery:
    """What is delivered to the subscriptions of one session."""

    def __init__(self, topics: TopicDelivery, passing: Passing) -> None:
        self._topics = topics
        self._passing = passing

    def go_on(self, subscription: Subscription) -> None:
        """Its credit has changed. Of queues the parent keeps count, and has been told."""
        if isinstance(subscription, TopicSubscription):
            self._topics.deliver_waiting(subscription)

    def forget(self, subscription: Subscription) -> None:
        """It has ended: nothing more waits for it."""
        if isinstance(subscription, TopicSubscription):
            self._topics.forget(subscription)
        elif isinstance(subscription, QueueSubscription):
            self._passing.forget(subscription)
