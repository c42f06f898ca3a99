"""One subscription of either kind: what it is, what it has, and what it has room for."""

from __future__ import annotations

from collections import OrderedDict

import pytest

from forkbroker.destinations import parse_subscription
from forkbroker.session.subscription import AckMode, QueueSubscription, TopicSubscription


def queue(text: str = "/queue/a", mode: AckMode = AckMode.CLIENT, **fields: object) -> QueueSubscription:
    return QueueSubscription("1", 1, parse_subscription(text, "topic"), mode, b"", 3, **fields)  # type: ignore[arg-type]


def topic(text: str = "/topic/a", mode: AckMode = AckMode.CLIENT, **fields: object) -> TopicSubscription:
    return TopicSubscription("1", 1, parse_subscription(text, "topic"), mode, b"", 3, **fields)  # type: ignore[arg-type]


def test_what_a_subscription_is() -> None:
    """Temporary or not, acknowledged or not."""
    assert [queue(text).is_temporary for text in ("/queue/a", "/temp-queue/a", "/reply-queue/s.a")] == [
        False,
        True,
        True,
    ]
    assert [topic(mode=mode).settles for mode in AckMode] == [False, True, True]


def test_it_is_active_when_the_parent_has_registered_it() -> None:
    """Not when it is made."""
    made = topic()
    before = made.is_active
    made.activate()

    assert (before, made.is_active) == (False, True)


def test_a_delivery_of_a_queue_is_remembered_with_its_serial() -> None:
    """A copy has none; both are in the order of delivery."""
    from_queue, copied = queue(), topic()
    for one in (from_queue, copied):
        one.remember(range(5, 7), 20)
        one.remember(range(7, 8), 4)

    assert from_queue.unacknowledged == {5: 20, 6: 21, 7: 4}
    assert copied.unacknowledged == {5: 0, 6: 0, 7: 0}


@pytest.mark.parametrize("mode", list(AckMode))
def test_only_what_is_settled_from_the_front_has_an_order_of_its_own(mode: AckMode) -> None:
    """A dict goes over the places of all that was taken from its front before, and costs less elsewhere."""
    assert isinstance(queue(mode=mode).unacknowledged, OrderedDict) == (mode is AckMode.CLIENT)


def test_a_new_subscription_has_nothing() -> None:
    """Nothing is delivered to it, waits for it, or uses its prefetch; and the parent has not registered it."""
    new = topic()

    assert (dict(new.unacknowledged), new.sizes, new.octets, new.in_transactions) == ({}, {}, 0, 0)
    assert (len(new.waiting), new.waiting_first, new.waiting_messages, new.is_active) == (0, 0, None, False)
    assert (new.is_exclusive, new.room(), queue().durable) == (False, 3, b"")


def test_a_prefetch_in_octets_counts_each_delivery_once() -> None:
    """Until it is settled; what is settled again, or never used it, changes nothing."""
    made = topic()
    made.weigh([1, 2, 3], [10, 20, 30])
    assert made.octets == 60

    made.lighten([2, 9])
    assert (made.octets, made.sizes) == (40, {1: 10, 3: 30})
    made.lighten([2, 1, 3])
    assert (made.octets, made.sizes) == (0, {})


def test_room_is_what_is_neither_unacknowledged_nor_in_a_transaction() -> None:
    """And the prefetch may count octets."""
    made = topic()
    made.unacknowledged[1] = 0
    made.in_transactions = 1
    unbounded = made.has_octets()
    made.prefetch_octets = 10
    made.weigh([1], [9])
    has_some = made.has_octets()
    made.weigh([2], [1])

    assert made.room() == 1
    assert (unbounded, has_some, made.has_octets()) == (True, True, False)
    made.lighten([1, 7])
    assert (made.octets, made.sizes) == (1, {2: 1})


def test_names_have_a_weight() -> None:
    """Levels of a pattern and the name of a durable subscription as well."""
    plain = queue().weight

    assert plain == 2_500 + 4 + 6 * len(b"/queue/a")
    assert queue(durable=b"/dsub/me").weight - plain == 2 * len(b"/dsub/me")
    assert topic("/topic/a.*").weight == 2_500 + 4 + 6 * len(b"/topic/a.*") + 400 * 3
    assert topic("/topic/a.b").weight == 2_500 + 4 + 6 * len(b"/topic/a.b")
