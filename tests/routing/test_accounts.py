"""What users have made, against their quotas for queues and bytes in them."""

from __future__ import annotations

import marshal

import pytest
from session.play import Broker, Client, bodies, receipts

from forkbroker.routing.handover import dump, load
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.policies import Policy
from forkbroker.routing.records import RECORDS
from forkbroker.routing.router import Router


class House:
    """A broker whose clients have users."""

    def __init__(self, max_queues: int = 0, max_octets: int = 0) -> None:
        self.broker = Broker()
        self._limits = max_queues, max_octets

    def client(self, user: str = "alice") -> Client:
        """A client of this user; only alice has a quota."""
        client = self.broker.client()
        peer = max(self.broker.clients)
        self.broker.router.allot(user, *(self._limits if user == "alice" else (0, 0)), peer)
        return client

    def error(self, client: Client, *frames: dict[str, object]) -> str:
        """The ERROR that the last of these SENDs gets; nothing: its receipt."""
        for number, headers in enumerate(frames):
            client.do("SEND", b"x" * 1000, receipt=f"{number}", **headers)
        self.broker.run()
        last = client.inbox[-1]
        assert last.command == "ERROR" or receipts(client)[-1] == f"{len(frames) - 1}"
        return last.body.decode() if last.command == "ERROR" else ""


def queue(name: str) -> dict[str, object]:
    return {"destination": f"/queue/{name}"}


def test_queues_count_for_who_has_made_them_until_they_are_gone() -> None:
    """All clients of the user together; what others have made may be used."""
    house = House(max_queues=2)
    one, two, other = house.client(), house.client(), house.client("bob")
    assert not house.error(other, queue("b1"), queue("b2"), queue("b3"))
    assert not house.error(one, queue("a1"), queue("b1"))
    assert not house.error(two, queue("a2"))
    consumer = house.client("bob")
    consumer.do("SUBSCRIBE", destination="/queue/a1", id="1")
    house.broker.run()
    consumer.do("UNSUBSCRIBE", id="1")
    house.broker.run()
    assert bodies(consumer) == [b"x" * 1000]
    assert not house.error(two, queue("a3"))
    text = house.error(two, queue("a4"))
    assert text == "queue /queue/a4 does not exist, and user 'alice' has 2 already, the quota for queues\n"


@pytest.mark.parametrize(
    "headers",
    [
        {"destination": "/queue/new"},
        {"destination": "/temp-queue/new"},
        {"destination": "/topic/t", "durable": "true", "durable-subscription-name": "d"},
    ],
)
def test_each_kind_of_queue_counts(headers: dict[str, str]) -> None:
    """Those that a SUBSCRIBE makes as well."""
    house = House(max_queues=1)
    client = house.client()
    client.do("SUBSCRIBE", id="1", destination="/queue/one")
    client.do("SUBSCRIBE", id="2", receipt="r", **{name.replace("-", "_"): value for name, value in headers.items()})
    house.broker.run()

    assert client.inbox[-1].command == "ERROR"
    assert b"the quota for queues" in client.inbox[-1].body


def test_a_queue_of_delayed_messages_is_on_the_account_while_they_wait() -> None:
    """Nobody gets more queues by making them later."""
    house = House(max_queues=1)
    client = house.client()
    assert not house.error(client, {**queue("later"), "x-delay": 60_000})
    assert "the quota for queues" in house.error(client, queue("now"))


def test_bytes_are_those_of_all_queues_whoever_has_sent_them() -> None:
    """When messages leave there is room again."""
    house = House(max_octets=3500)
    alice, bob = house.client(), house.client("bob")
    assert not house.error(alice, queue("a1"), queue("a2"))
    assert not house.error(bob, queue("a1"), queue("b"))
    text = house.error(bob, queue("a2"), queue("a2"))
    assert text.startswith("queue /queue/a2 accepts no more messages: the queues of user 'alice' have ")
    assert text.endswith(" bytes, the quota for queue-bytes is 3,500\n")
    consumer = house.client("bob")
    consumer.do("SUBSCRIBE", destination="/queue/a1", id="1")
    house.broker.run()
    assert not house.error(house.client("bob"), queue("a2"))


def test_a_transaction_counts_as_a_whole() -> None:
    """Nothing of it is applied."""
    house = House(max_queues=2, max_octets=2500)
    for names, text in ((["a", "b", "c"], "the quota for queues"), (["a"] * 4, "queue-bytes")):
        client = house.client()
        client.do("BEGIN", transaction="t")
        for name in names:
            client.do("SEND", b"x" * 1000, transaction="t", **queue(name))
        client.do("COMMIT", transaction="t", receipt="r")
        house.broker.run()
        assert client.inbox[-1].command == "ERROR" and text.encode() in client.inbox[-1].body
    assert not house.broker.router.views()


def test_an_account_goes_over_to_another_process() -> None:
    """With the queues that are on it, those that are awaited as well."""
    house = House(max_queues=3)
    client = house.client()
    assert not house.error(client, queue("a"), {**queue("later"), "x-delay": 60_000})
    data = marshal.loads(marshal.dumps(dump(house.broker.router)))
    again = Router(Policy(), house.broker._slots, lambda: 0.0)
    load(again, data, RECORDS)
    accounts = again._queues.accounts
    (account,) = (accounts.of(Peer(peer)) for peer in house.broker.clients)

    assert account is not None and account.user == "alice"
    assert account.names == {b"/queue/a": again._queues.find(b"/queue/a"), b"/queue/later": None}
    again._queues.release(b"/queue/later")
    assert list(account.names) == [b"/queue/a"]


def test_who_is_gone_and_has_nothing_left_has_no_account() -> None:
    """So that many users in turn take no memory."""
    house = House(max_queues=3)
    client = house.client()
    assert not house.error(client, queue("a"))
    house.broker.end(client)
    house.broker.run()
    assert house.broker.router.allotted() == ["alice"]
    consumer = house.client("bob")
    consumer.do("SUBSCRIBE", destination="/queue/a", id="1")
    house.broker.run()
    consumer.do("UNSUBSCRIBE", id="1")
    house.broker.run()

    assert house.broker.router.allotted() == []
