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
from forkbroker.wire.details import Wishes
from forkbroker.wire.kinds import Kind, Matter

from .simulation import Child, World
from .stock import Stock


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


# ---------------------------------------------------------------- over a start of the broker

A, B, LATER = b"/queue/a", b"/queue/b", b"/queue/later"


def owned(**allotments: tuple[int, int]) -> tuple[World, dict[str, Child]]:
    """A broker with a store, and a client of each of these users, who may have so many queues and bytes."""
    world = World(Policy(), stock=Stock())
    return world, enter(world, **allotments)


def enter(world: World, **allotments: tuple[int, int]) -> dict[str, Child]:
    children = {}
    for user, allotment in allotments.items():
        children[user] = world.add_child()
        world.router.allot(user, *allotment, children[user].peer)
    return children


def restart(world: World) -> World:
    """Another broker, with what the store has been told."""
    world.run_store()
    world.kill_store()
    return World(world.policy, stock=world.stock)


def refuse(world: World, child: Child, name: bytes) -> str:
    """Why a message to this queue is refused."""
    world.send(child, name, [b"x"])
    return world.refusal(child)


def owners(world: World) -> dict[bytes, str | None]:
    """On whose account each queue is."""
    return {sight.view.name: sight.account for sight in world.router.sights.queues(lambda _: True) if sight}


def test_the_store_knows_whose_queues_are_that_survive() -> None:
    """A quota counts them after a start, before the user is there; what others send there counts as before."""
    world, children = owned(alice=(2, 20_000), bob=(0, 0))
    world.send(children["alice"], A, [b"x" * 10_000], persistent=True)
    world.send(children["alice"], B, [b"x"])
    world.send(children["bob"], b"/queue/c", [b"x"], persistent=True)
    again = restart(world)
    assert owners(again) == {A: "alice", b"/queue/c": None}
    assert again.router.allotted() == ["alice"]
    again.router.allot("alice", 2, 20_000)
    bob = enter(again, bob=(0, 0))["bob"]
    again.send(bob, A, [b"x" * 10_000], persistent=True)

    assert "the quota for queue-bytes is 20,000" in refuse(again, bob, A)
    alice = enter(again, alice=(2, 0))["alice"]
    again.send(alice, B, [b"x"])
    assert "user 'alice' has 2 already" in refuse(again, alice, LATER)


@pytest.mark.parametrize("user", ["", "\udcff"])
def test_any_name_of_a_user_is_kept(user: str) -> None:
    """That of clients without a login as well."""
    world, _ = owned()
    child = world.add_child()
    world.router.allot(user, 1, 0, child.peer)
    world.send(child, A, [b"x"], persistent=True)

    assert owners(restart(world)) == {A: user}


def test_delayed_messages_and_durable_subscriptions_keep_their_owner() -> None:
    """The queue of a delayed message need not exist."""
    world, children = owned(alice=(3, 0))
    alice = children["alice"]
    world.send(alice, LATER, [b"x"], persistent=True, wishes=Wishes(delay=60_000))
    world.subscribe(alice, b"/topic/t", durable=b"/dsub/d")
    world.turn()
    again = restart(world)
    alice = enter(again, alice=(2, 0))["alice"]

    assert owners(again) == {b"/dsub/d": "alice"}
    assert "user 'alice' has 2 already" in refuse(again, alice, A)
    again.pass_time(61)
    again.turn()
    assert owners(again) == {b"/dsub/d": "alice", LATER: "alice"}


def test_what_is_gone_is_forgotten_in_the_store() -> None:
    """The queue that was emptied, and the delayed message that was cancelled."""
    world, children = owned(alice=(9, 0))
    alice = children["alice"]
    world.send(alice, A, [b"x"], persistent=True)
    world.send(alice, LATER, [b"x"], persistent=True, wishes=Wishes(delay=60_000))
    world.run_store()
    assert set(world.stock.notes) == {(A, Matter.OWNER), (LATER, Matter.OWNER)}
    again = restart(world)
    reader = again.add_child()
    again.subscribe(reader, A)
    again.consume(reader)
    again.unsubscribe(reader)
    for name, run in list(again.router.delays.all()):
        again.router.delays.cancel(name, run)
    again.turn()
    again.run_store()

    assert again.stock.notes == {}
    assert again.router.allotted() == []


@pytest.mark.parametrize("commits", range(1, 5))
def test_a_broker_that_is_killed_between_queue_and_owner_loses_neither(commits: int) -> None:
    """The owner is told before the first message and after the last one: what has no queue is dropped at the start."""
    world, children = owned(alice=(9, 0))
    alice, reader = children["alice"], world.add_child()
    world.send(alice, A, [b"x"], persistent=True)
    world.subscribe(reader, A)
    offer = world.take_one(reader)
    world.settle(reader, offer.serial)
    world.hear(reader)
    world.unsubscribe(reader)
    world.turn()
    told = [envelope.kind for envelope in world.stock.told if envelope.number]
    world.stock.work(commits + 1)  # RETOLD is one of them
    world.kill_store()
    again = World(world.policy, stock=world.stock)
    again.run_store()

    assert told == [Kind.NOTE, Kind.WRITE, Kind.DELETE, Kind.NOTE]
    assert owners(again) == ({A: "alice"} if again.stock.rows else {})
    assert set(again.stock.notes) == ({(A, Matter.OWNER)} if again.stock.rows else set())


def test_only_what_survives_is_told_and_each_queue_once() -> None:
    """Nor is anything told of those who have no quota."""
    world, children = owned(alice=(9, 0), bob=(0, 0))
    world.send(children["alice"], A, [b"x"])
    world.send(children["bob"], B, [b"x"], persistent=True)
    for _ in range(3):
        world.send(children["alice"], A, [b"x"], persistent=True)
    world.deliver()
    told = [envelope.destination for envelope in world.stock.told if envelope.kind is Kind.NOTE]

    assert told == [A]
