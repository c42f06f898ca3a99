"""Names of deliveries: what they mean, and what was never one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice

import pytest

from forkbroker.destinations import parse_subscription
from forkbroker.session.messages import Messages
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.settling import Unacknowledged
from forkbroker.session.subscriptions import AckMode, TopicSubscription
from forkbroker.stomp.versions import V12

from .play import Client, frame, no_subscriptions, sent


def holding(version: str = "1.2", session_id: str = "s1") -> Client:
    """A client with one unsettled message."""
    client = Client(version, session_id=session_id)
    client.connect()
    token = client.subscribe("/queue/a", "client")
    client.offer(sent("/queue/a", b"x"), token)
    client.told()
    client.read()
    return client


@pytest.mark.row("A11")
@pytest.mark.parametrize(
    "name", ["", "1", "-", "a-b", "1-1", "0-0", "9" * 5000 + "-1", "1-" + "9" * 5000, "\u0661-\u0661", "-1-1"]
)
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_a_name_that_was_never_given_out_is_an_error(version: str, name: str) -> None:
    """However long or odd it is."""
    client = holding(version)
    header = "id" if version == "1.2" else "message-id"
    client.receive(frame("ACK", {header: name, "subscription": "1"}))

    assert client.error()["message"] in ("unknown delivery", f"missing header {header}")


@pytest.mark.row("A11")
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_a_name_of_another_connection_settles_nothing(version: str) -> None:
    """A client that acknowledges late, on its next connection, must not settle what it got there."""
    old, new = holding(version, "s1"), holding(version, "s2")
    header = "id" if version == "1.2" else "message-id"
    name = old.inbox[-1]["ack" if version == "1.2" else "message-id"]
    new.receive(frame("ACK", {header: name, "subscription": "1"}))

    assert new.error()["message"] == "unknown delivery"


@pytest.mark.row("A11")
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
@pytest.mark.parametrize("beyond", ["token", "delivery"])
def test_a_name_that_comes_later_is_an_error(version: str, beyond: str) -> None:
    """It has the right form, but was not given out yet."""
    client = holding(version)
    got = client.inbox[-1]
    *rest, token, delivery = (got["ack"] if version == "1.2" else got["message-id"]).split("-")
    name = [*rest, str(int(token) + (beyond == "token")), str(int(delivery) + (beyond == "delivery"))]
    client.receive(frame("ACK", {"id" if version == "1.2" else "message-id": "-".join(name), "subscription": "1"}))

    assert client.error()["message"] == "unknown delivery"


def test_the_name_in_force_is_taken() -> None:
    """The control of the tests above."""
    client = holding()
    client.do("ACK", id=client.inbox[-1]["ack"])

    assert client.session.is_open
    assert len(client.told()) == 1


class Watched(OrderedDict[int, int]):
    """Counts the entries that somebody looks at."""

    looks = 0

    def __iter__(self) -> Iterator[int]:
        for number in super().__iter__():
            self.looks += 1
            yield number


def consumer(mode: AckMode, window: int = 0) -> tuple[Unacknowledged, TopicSubscription]:
    """A subscription to a topic, and its deliveries; the token is 1."""
    subscriptions = no_subscriptions()
    subscription = TopicSubscription(
        "1",
        subscriptions.next_token(),
        parse_subscription("/topic/a", "topic"),
        mode,
        b"",
        credit=9,
        prefetch_octets=window,
    )
    subscriptions.add(subscription)
    return Unacknowledged(subscriptions, V12), subscription


def deliver(unacknowledged: Unacknowledged, subscription: TopicSubscription, sizes: list[int], serial: int = 0) -> None:
    """So many octets each, in one run."""
    messages = Messages(sent("/topic/a", *map(bytes, sizes)), V12)
    unacknowledged.deliver(messages, subscription, 0, len(sizes), serial)


def test_a_delivery_of_a_queue_is_remembered_with_its_serial() -> None:
    """A copy has none; both are in the order of delivery."""
    for serial, serials in ((20, [20, 21]), (0, [0, 0])):
        unacknowledged, subscription = consumer(AckMode.CLIENT)
        deliver(unacknowledged, subscription, [1], 7)
        deliver(unacknowledged, subscription, [1, 1], serial)

        assert list(subscription.unacknowledged.items()) == list(zip((1, 2, 3), [7, *serials], strict=True))


def test_many_cumulative_acks_cost_no_more_than_what_they_settle() -> None:
    """The deliveries are in order: the walk begins at the oldest one, and ends behind the one that is named."""
    unacknowledged, subscription = consumer(AckMode.CLIENT)
    is_linked = isinstance(subscription.unacknowledged, OrderedDict)
    watched = subscription.unacknowledged = Watched()
    deliver(unacknowledged, subscription, [1] * 1000)
    for number in range(1, 1001):
        unacknowledged.take({"id": f"1-{number}"})

    assert is_linked  # a dict would go over the places of all that was there before
    assert watched == {}
    assert watched.looks <= 2 * 1000


def test_a_cumulative_ack_settles_all_up_to_the_one_that_it_names() -> None:
    """Nothing younger, and an individual one nothing else."""
    for mode, settled in ((AckMode.CLIENT, {1: 0, 2: 0, 3: 0}), (AckMode.CLIENT_INDIVIDUAL, {3: 0})):
        unacknowledged, subscription = consumer(mode)
        deliver(unacknowledged, subscription, [1] * 5)

        assert unacknowledged.take({"id": "1-3"}) == (subscription, settled)
        assert subscription.unacknowledged.keys() == {1, 2, 3, 4, 5} - settled.keys()


def test_what_is_given_back_stands_in_its_old_order() -> None:
    """Whichever part comes back first, before what was delivered since."""
    for order in (0, 1), (1, 0):
        unacknowledged, subscription = consumer(AckMode.CLIENT)
        deliver(unacknowledged, subscription, [1] * 9)
        taken = [unacknowledged.take({"id": name}) for name in ("1-2", "1-5")]
        for place in order:
            unacknowledged.give_back(*taken[place])  # type: ignore[misc]

        assert list(subscription.unacknowledged) == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_giving_back_looks_at_what_comes_back_alone() -> None:
    """However much stands behind it."""
    unacknowledged, subscription = consumer(AckMode.CLIENT)
    deliver(unacknowledged, subscription, [1] * 1024)
    taken = unacknowledged.take({"id": "1-10"})
    watched = subscription.unacknowledged = Watched(subscription.unacknowledged)
    unacknowledged.give_back(*taken)  # type: ignore[misc]

    assert watched.looks <= 2
    assert list(islice(OrderedDict(watched), 11)) == list(range(1, 12))


class Unsummed(dict[int, int]):
    """Sizes that nobody may go through."""

    def values(self) -> object:  # type: ignore[override]
        raise AssertionError("all sizes are summed up")


def test_a_window_is_a_figure_that_is_kept() -> None:
    """Not the sum over all that is unacknowledged, for each message again."""
    unacknowledged, subscription = consumer(AckMode.CLIENT_INDIVIDUAL, window=1000)
    subscription.sizes = Unsummed()
    deliver(unacknowledged, subscription, [300, 300])
    opened = subscription.has_octets()
    deliver(unacknowledged, subscription, [400])
    closed = subscription.has_octets()

    assert (opened, closed) == (True, False)


@pytest.mark.parametrize("ack", ["client", "client-individual"])
def test_a_window_is_exact_whatever_becomes_of_its_messages(ack: str) -> None:
    """ACK, ABORT, COMMIT, what was dropped before it was written, and a subscription that has ended meanwhile."""
    policy = SessionPolicy(max_client_buffer=2000, slow_subscribers="drop-oldest")
    client = Client(policy=policy)
    client.connect()
    client.subscribe("/topic/a", ack, credit="100,5000")
    (subscription,) = client.session._subscriptions
    figures = []

    def note() -> None:
        assert subscription.octets == sum(subscription.sizes.values())
        figures.append(subscription.octets)

    client.forward(sent("/topic/a", *[bytes(100)] * 4))
    got = [each["ack"] for each in client.read()]
    note()
    client.do("ACK", id=got[0])
    note()
    for verb in "ABORT", "COMMIT":
        client.do("BEGIN", transaction="t")
        client.do("ACK", id=got[1], transaction="t")
        note()
        client.do(verb, transaction="t")
        note()
    for _ in range(9):
        client.forward(sent("/topic/a", bytes(500)))
    note()
    late = client.read()
    client.do("BEGIN", transaction="t")
    client.do("ACK", id=late[-1]["ack"], transaction="t")
    client.do("ACK", id=got[3], transaction="t")
    client.do("UNSUBSCRIBE", id="1")
    client.do("COMMIT", transaction="t")
    note()

    assert 0 < len(late) < 9
    assert figures[:7] == [400, 300, 300, 300, 300, 200, 200 + 500 * len(late)]
    assert figures[7] == (0 if ack == "client" else 100 + 500 * (len(late) - 1))
