"""Message-ids of unsettled deliveries: found where they are clear, and forgotten in time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from forkbroker.destinations import parse_subscription
from forkbroker.session.settling import MessageIds
from forkbroker.session.subscriptions import AckMode, QueueSubscription, Subscriptions

from .play import no_subscriptions


def made(subscriptions: Subscriptions) -> QueueSubscription:
    """One more subscription that acknowledges."""
    token = subscriptions.next_token()
    queue = parse_subscription("/queue/a", "topic")
    subscription = QueueSubscription(str(token), token, queue, AckMode.CLIENT, b"", credit=9)
    subscriptions.add(subscription)
    return subscription


def holding(*numbers: int) -> tuple[MessageIds, QueueSubscription, Subscriptions]:
    """A subscription with these deliveries unsettled."""
    subscriptions = no_subscriptions()
    subscription = made(subscriptions)
    subscription.unacknowledged.update(dict.fromkeys(numbers, 0))
    return MessageIds(subscriptions.by_token), subscription, subscriptions


def test_every_message_of_a_run_is_found_by_its_number() -> None:
    """From the first to the last, and none before or behind."""
    message_ids, subscription, _ = holding(*range(1, 100))
    message_ids.add(b"-s-1", subscription.token, 5, 20, 3)

    found = [message_ids.find(str(index), b"-s-1") for index in range(4, 9)]

    assert found == [[], [(1, 20)], [(1, 21)], [(1, 22)], []]


def test_another_batch_or_session_is_not_meant() -> None:
    """The rest of the id has to be the same."""
    message_ids, subscription, _ = holding(20)
    message_ids.add(b"-s-1", subscription.token, 5, 20, 1)

    assert [message_ids.find("5", ident) for ident in (b"-s-2", b"-t-1", b"-s-11", b"")] == [[]] * 4


def test_what_is_settled_is_not_found() -> None:
    """Also where other messages of its run are unsettled, or in a transaction."""
    message_ids, subscription, _ = holding(21)
    subscription.in_transactions = 1
    message_ids.add(b"-s-1", subscription.token, 5, 20, 2)

    assert message_ids.find("5", b"-s-1") == []
    assert message_ids.find("6", b"-s-1") == [(subscription.token, 21)]


def test_a_message_of_two_subscriptions_is_found_twice() -> None:
    """Whoever asks has to say that this is not clear; what has ended is not meant."""
    message_ids, first, subscriptions = holding(20)
    second = made(subscriptions)
    second.unacknowledged[21] = 0
    for subscription, number in ((first, 20), (second, 21)):
        message_ids.add(b"-s-1", subscription.token, 5, number, 1)

    assert message_ids.find("5", b"-s-1") == [(first.token, 20), (second.token, 21)]
    subscriptions.remove(first)
    assert message_ids.find("5", b"-s-1") == [(second.token, 21)]


def test_messages_that_were_put_together_have_each_its_own() -> None:
    """Of several batches, in one delivery."""
    message_ids, subscription, _ = holding(20, 21, 22)
    message_ids.add_names([b"0-s-1", b"7-s-1", b"0-other-4"], subscription.token, 20)

    assert message_ids.find("0", b"-s-1") == [(subscription.token, 20)]
    assert message_ids.find("7", b"-s-1") == [(subscription.token, 21)]
    assert message_ids.find("0", b"-other-4") == [(subscription.token, 22)]
    assert message_ids.find("1", b"-s-1") == []


@pytest.mark.parametrize("index", ["", "x", "-1", "\N{ARABIC-INDIC DIGIT FIVE}", "9" * 5_000])
def test_what_is_no_number_finds_nothing(index: str) -> None:
    """However long."""
    message_ids, subscription, _ = holding(20)
    message_ids.add(b"-s-1", subscription.token, 5, 20, 1)

    assert message_ids.find(index, b"-s-1") == []


def test_what_is_settled_is_forgotten_in_time() -> None:
    """A consumer that settles what it gets leaves a bounded number of runs, not one for each message."""
    message_ids, subscription, _ = holding()
    most = 0
    for number in range(1, 5_001):
        subscription.unacknowledged[number] = 0
        message_ids.add(b"-s-%d" % number, subscription.token, 0, number, 1)
        subscription.unacknowledged.pop(number - 10, None)
        most = max(most, len(message_ids._runs))

    assert most <= 300
    assert message_ids.find("0", b"-s-4995") == [(subscription.token, 4995)]


def test_what_is_unsettled_is_never_forgotten() -> None:
    """Nor is a whole run of which one message is."""
    message_ids, subscription, _ = holding()
    for number in range(1, 3_001):
        subscription.unacknowledged[3 * number] = 0
        message_ids.add(b"-s-%d" % number, subscription.token, 0, 3 * number - 2, 3)

    assert all(message_ids.find("2", b"-s-%d" % number) for number in range(1, 3_001))


def test_what_a_transaction_holds_is_not_forgotten() -> None:
    """ABORT gives it back."""
    message_ids, subscription, subscriptions = holding()
    message_ids.add(b"-s-0", subscription.token, 0, 1, 1)
    subscription.in_transactions = 1
    other = made(subscriptions)
    for number in range(2, 2_000):
        message_ids.add(b"-s-%d" % number, other.token, 0, number, 1)
    subscription.in_transactions = 0
    subscription.unacknowledged[1] = 0

    assert message_ids.find("0", b"-s-0") == [(subscription.token, 1)]


def test_a_number_has_at_most_18_digits() -> None:
    """So many fit into 63 bits."""
    message_ids, subscription, _ = holding(20)
    message_ids.add(b"-s-1", subscription.token, 5, 20, 1)

    assert message_ids.find("5".zfill(18), b"-s-1") == [(subscription.token, 20)]
    assert message_ids.find("5".zfill(19), b"-s-1") == []


def test_runs_are_looked_at_when_there_are_256_more_than_twice_what_was_needed() -> None:
    """Not for each one that comes: that would cost more and more."""
    message_ids, subscription, _ = holding(1, 2, 3)
    kept = []
    for number in range(1, 520):
        message_ids.add(b"-s-%d" % number, subscription.token, 0, number, 1)
        kept.append(len(message_ids._runs))

    looked = [number for number, (before, after) in enumerate(pairwise(kept), 2) if after < before]
    assert looked == [256, 256 + (2 * 3 + 256 - 3)]
    assert [kept[at - 1] for at in looked] == [3, 3]


def test_runs_of_a_subscription_that_has_ended_are_forgotten() -> None:
    """Whatever was unsettled at it."""
    message_ids, subscription, subscriptions = holding(1)
    message_ids.add(b"-s-1", subscription.token, 0, 1, 1)
    subscriptions.remove(subscription)
    other = made(subscriptions)
    for number in range(2, 300):
        message_ids.add(b"-s-%d" % number, other.token, 0, number, 1)

    assert b"-s-1" not in message_ids._runs
