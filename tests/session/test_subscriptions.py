"""Subscriptions of either kind, and how they are found: by id, by token, by what a message's destination matches."""

from __future__ import annotations

from collections import OrderedDict

import pytest

from forkbroker.destinations import is_queue, parse_subscription
from forkbroker.session.budget import Budget
from forkbroker.session.errors import FrameError
from forkbroker.session.subscriptions import MAX_TOKEN, AckMode, QueueSubscription, Subscriptions, TopicSubscription

from .play import no_subscriptions


def subscription(
    all_of_them: Subscriptions, subscription_id: str, text: str, mode: AckMode = AckMode.AUTO
) -> QueueSubscription | TopicSubscription:
    destination = parse_subscription(text, "topic")
    make = QueueSubscription if is_queue(destination.name) else TopicSubscription
    made = make(subscription_id, all_of_them.next_token(), destination, mode, b"MESSAGE\n", credit=3)
    all_of_them.add(made)
    return made


def test_a_topic_finds_names_and_patterns_in_the_order_they_were_made() -> None:
    """Also after the answer was remembered."""
    subscriptions = no_subscriptions()
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
    subscriptions = no_subscriptions()
    wild = subscription(subscriptions, "1", "/topic/>")

    assert all(subscriptions.for_topic(b"/topic/%01000d" % n) == (wild,) for n in range(2500))
    assert 0 < subscriptions._audience._cache.octets <= 262_144


def test_only_topics_find_subscriptions() -> None:
    """A queue's messages are claimed for one subscription, by its token; so are those of a durable subscription."""
    subscriptions = no_subscriptions()
    subscription(subscriptions, "1", "/queue/a")
    durable = QueueSubscription(
        "2", 9, parse_subscription("/topic/a", "topic"), AckMode.AUTO, b"MESSAGE\n", credit=3, durable=b"/dsub/me"
    )
    subscriptions.add(durable)

    assert subscriptions.for_topic(b"/queue/a") == subscriptions.for_topic(b"/topic/a") == ()
    subscriptions.remove(durable)
    assert list(subscriptions.by_id) == ["1"]


def test_tokens_are_never_used_again() -> None:
    """Not even when all are gone; the first is the session's to choose."""
    subscriptions = no_subscriptions(first_token=50)
    first = subscription(subscriptions, "1", "/queue/a")
    subscriptions.remove(first)
    second = subscription(subscriptions, "1", "/queue/a")

    assert (first.token, second.token) == (50, 51)
    assert subscriptions.by_token(50) is None
    assert subscriptions.by_token(51) is subscriptions.find("1") is second
    assert list(subscriptions) == [second]


def test_tokens_end_where_the_field_of_an_envelope_does() -> None:
    """The last one is given out; then the client has to connect again, and is told so."""
    subscriptions = no_subscriptions(first_token=MAX_TOKEN)
    last = subscriptions.next_token()

    assert last == 2**32 - 1
    with pytest.raises(FrameError, match="too many subscriptions were made"):
        subscriptions.next_token()


def test_both_kinds_are_told_apart() -> None:
    """An offer is for a queue subscription; the others are those that lose what a slow client does not read."""
    subscriptions = no_subscriptions()
    queue = subscription(subscriptions, "1", "/queue/a")
    topic = subscription(subscriptions, "2", "/topic/a")

    assert (subscriptions.queues(), subscriptions.topics(), list(subscriptions)) == ([queue], [topic], [queue, topic])
    assert [subscriptions.queue_by_token(one.token) for one in (queue, topic)] == [queue, None]
    subscriptions.remove(queue)
    assert (subscriptions.queues(), subscriptions.queue_by_token(queue.token)) == ([], None)


def test_an_id_is_new_while_no_open_subscription_has_it() -> None:
    """And while there is room for another one."""
    subscriptions = Subscriptions(Budget(1 << 40), 2)
    first = subscription(subscriptions, "1", "/queue/a")
    with pytest.raises(FrameError, match="subscription exists"):
        subscriptions.check_new("1")
    subscriptions.check_new("2")
    subscription(subscriptions, "2", "/queue/a")
    with pytest.raises(FrameError, match="too many subscriptions"):
        subscriptions.check_new("3")
    subscriptions.remove(first)
    subscriptions.check_new("1")


def test_subscriptions_take_memory_while_they_are_open() -> None:
    """One that has no room is not kept."""
    budget = Budget(5000)
    subscriptions = Subscriptions(budget, 10)
    first = subscription(subscriptions, "1", "/queue/a")
    taken = budget.used
    with pytest.raises(FrameError, match="client memory is used up"):
        subscription(subscriptions, "2", "/queue/a")

    assert taken == first.weight
    assert list(subscriptions) == [first]


def test_only_queues_hold_deliveries() -> None:
    """Unacknowledged ones, or those that a transaction has settled."""
    subscriptions = no_subscriptions()
    queue = subscription(subscriptions, "1", "/queue/a", AckMode.CLIENT)
    topic = subscription(subscriptions, "2", "/topic/a", AckMode.CLIENT)
    topic.unacknowledged.update({1: 0, 2: 0})
    held = [subscriptions.hold_deliveries()]
    queue.unacknowledged[3] = 7
    held.append(subscriptions.hold_deliveries())
    queue.unacknowledged.clear()
    queue.in_transactions = 1
    held.append(subscriptions.hold_deliveries())

    assert held == [False, True, True]


def test_a_retired_subscription_is_known_by_its_token_alone() -> None:
    """It takes memory until it is removed, and is still to be told what concerns all queues."""
    budget = Budget(1 << 40)
    subscriptions = Subscriptions(budget, 10)
    queue = subscription(subscriptions, "1", "/queue/a")
    topic = subscription(subscriptions, "2", "/topic/a")
    used = budget.used
    for one in (queue, topic):
        subscriptions.retire(one)

    assert (list(subscriptions), subscriptions.find("1"), subscriptions.for_topic(b"/topic/a")) == ([], None, ())
    assert [subscriptions.by_token(one.token) for one in (queue, topic)] == [queue, topic]
    assert (subscriptions.queues(), budget.used) == ([queue], used)
    for one in (queue, topic):
        subscriptions.remove(one)
    assert (subscriptions.by_token(queue.token), subscriptions.queues(), budget.used) == (None, [], 0)


# ---------------------------------------------------------------- one subscription


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
