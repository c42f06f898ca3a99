"""Subscriptions by id, by token, and by what a message's destination matches."""

from __future__ import annotations

from collections import OrderedDict

import pytest

from forkbroker.destinations import parse_subscription
from forkbroker.session.errors import FrameError
from forkbroker.session.subscriptions import MAX_TOKEN, AckMode, Subscription, Subscriptions


def subscription(
    all_of_them: Subscriptions, subscription_id: str, text: str, mode: AckMode = AckMode.AUTO
) -> Subscription:
    made = Subscription(
        subscription_id, all_of_them.next_token(), parse_subscription(text, "topic"), mode, b"MESSAGE\n", credit=3
    )
    all_of_them.add(made)
    return made


def test_a_topic_finds_names_and_patterns_in_the_order_they_were_made() -> None:
    """Also after the answer was remembered."""
    subscriptions = Subscriptions()
    first = subscription(subscriptions, "1", "/topic/a.*")
    second = subscription(subscriptions, "2", "/topic/a.b")
    subscription(subscriptions, "3", "/topic/b.>")
    before = subscriptions.for_topic(b"/topic/a.b")
    fourth = subscription(subscriptions, "4", "/topic/#")
    subscriptions.remove(first)

    assert before == (first, second)
    assert subscriptions.for_topic(b"/topic/a.b") == (second, fourth)
    assert subscriptions.for_topic(b"/topic/a.b") == (second, fourth)


def test_what_is_remembered_is_bounded() -> None:
    """A wildcard subscription may see any number of destinations, and long ones."""
    subscriptions = Subscriptions()
    wild = subscription(subscriptions, "1", "/topic/>")

    assert all(subscriptions.for_topic(b"/topic/%01000d" % n) == (wild,) for n in range(2500))
    assert 0 < subscriptions._audience._cache.octets <= 262_144


def test_only_topics_find_subscriptions() -> None:
    """A queue's messages are claimed for one subscription, by its token; so are those of a durable subscription."""
    subscriptions = Subscriptions()
    subscription(subscriptions, "1", "/queue/a")
    durable = Subscription(
        "2", 9, parse_subscription("/topic/a", "topic"), AckMode.AUTO, b"MESSAGE\n", credit=3, durable=b"/dsub/me"
    )
    subscriptions.add(durable)

    assert subscriptions.for_topic(b"/queue/a") == subscriptions.for_topic(b"/topic/a") == ()
    subscriptions.remove(durable)
    assert len(subscriptions) == 1


def test_tokens_are_never_used_again() -> None:
    """Not even when all are gone; the first is the session's to choose."""
    subscriptions = Subscriptions(first_token=50)
    first = subscription(subscriptions, "1", "/queue/a")
    subscriptions.remove(first)
    second = subscription(subscriptions, "1", "/queue/a")

    assert (first.token, second.token) == (50, 51)
    assert subscriptions.by_token(50) is None
    assert subscriptions.by_token(51) is subscriptions.find("1") is second
    assert list(subscriptions) == [second]


def test_tokens_end_where_the_field_of_an_envelope_does() -> None:
    """The last one is given out; then the client has to connect again, and is told so."""
    subscriptions = Subscriptions(first_token=MAX_TOKEN)
    last = subscriptions.next_token()

    assert last == 2**32 - 1
    with pytest.raises(FrameError, match="too many subscriptions were made"):
        subscriptions.next_token()


def test_what_a_subscription_is() -> None:
    """Queue or topic, temporary or not, acknowledged or not."""
    subscriptions = Subscriptions()
    queue = subscription(subscriptions, "1", "/queue/a", AckMode.CLIENT)
    topic = subscription(subscriptions, "2", "/topic/a")
    reply = subscription(subscriptions, "3", "/reply-queue/s.a")

    assert [s.is_queue for s in (queue, topic, reply)] == [True, False, True]
    assert [s.is_temporary for s in (queue, topic, reply)] == [False, False, True]
    assert [s.settles for s in (queue, topic, reply)] == [True, False, False]


def test_room_is_what_is_neither_unsettled_nor_in_a_transaction() -> None:
    """And a window counts octets."""
    topic = subscription(Subscriptions(), "1", "/topic/a", AckMode.CLIENT)
    topic.unsettled[1] = 0
    topic.in_transactions = 1
    unbounded = topic.has_window()
    topic.window = 10
    topic.weigh([1], [9])
    open_window = topic.has_window()
    topic.weigh([2], [1])

    assert topic.room() == 1
    assert (unbounded, open_window, topic.has_window()) == (True, True, False)


def test_a_new_subscription_has_nothing() -> None:
    """Nothing is delivered to it, waits for it, or uses its window; and the parent has not registered it."""
    new = subscription(Subscriptions(), "1", "/topic/a", AckMode.CLIENT)

    assert (dict(new.unsettled), new.sizes, new.octets, new.in_transactions) == ({}, {}, 0, 0)
    assert (len(new.waiting), new.waiting_first, new.waiting_messages, new.is_active) == (0, 0, None, False)
    assert new.room() == 3


def test_a_window_counts_each_delivery_once() -> None:
    """Until it is settled; what is settled again, or never used the window, changes nothing."""
    topic = subscription(Subscriptions(), "1", "/topic/a", AckMode.CLIENT)
    topic.weigh([1, 2, 3], [10, 20, 30])
    assert topic.octets == 60

    topic.lighten([2, 9])
    assert (topic.octets, topic.sizes) == (40, {1: 10, 3: 30})
    topic.lighten([2, 1, 3])
    assert (topic.octets, topic.sizes) == (0, {})


@pytest.mark.parametrize("mode", list(AckMode))
def test_only_what_is_settled_from_the_front_has_an_order_of_its_own(mode: AckMode) -> None:
    """A dict goes over the places of all that was taken from its front before, and costs less elsewhere."""
    unsettled = subscription(Subscriptions(), "1", "/queue/a", mode).unsettled

    assert isinstance(unsettled, OrderedDict) == (mode is AckMode.CLIENT)
