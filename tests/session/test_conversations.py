"""A whole broker inside one test: sessions and a router, joined by lists, with a simulated semaphore."""

from __future__ import annotations

import random

import pytest

from forkbroker.routing.queues.policies import Policy, QueuePolicy
from forkbroker.session.policy import SessionPolicy
from forkbroker.wire.kinds import Kind

from .play import Broker, Client, Got, bodies, frame, receipts


def acknowledge(client: Client, got: Got, command: str = "ACK", **headers: object) -> None:
    """ACK or NACK as the client's version wants it."""
    if client.version == "1.2":
        names: dict[str, object] = {"id": got["ack"]}
    else:
        names = {"message-id": got["message-id"]}
        if client.version == "1.1":
            names["subscription"] = got["subscription"]
    client.receive(frame(command, names | headers))


def messages(client: Client) -> list[Got]:
    return [got for got in client.inbox if got.command == "MESSAGE"]


# Topics


@pytest.mark.parametrize("sender", ["1.0", "1.1", "1.2"])
@pytest.mark.parametrize("receiver", ["1.0", "1.1", "1.2"])
def test_a_topic_reaches_all_who_subscribed_in_every_version(sender: str, receiver: str) -> None:
    """In the producer's order, each subscription with its own copy."""
    broker = Broker()
    producer, exact, wild, other = [broker.client(v) for v in (sender, receiver, receiver, receiver)]
    exact.do("SUBSCRIBE", destination="/topic/a.b", id="1")
    exact.do("SUBSCRIBE", destination="/topic/a.#", id="2")
    wild.do("SUBSCRIBE", destination="/topic/*.b", id="1")
    other.do("SUBSCRIBE", destination="/topic/b", id="1")
    broker.run()
    producer.receive(*(frame("SEND", {"destination": "/topic/a.b"}, b"%d" % n) for n in range(2000)))
    broker.run()

    assert [got.body for got in messages(exact) if got["subscription"] == "1"] == [b"%d" % n for n in range(2000)]
    assert len(messages(exact)) == 4000
    assert len(messages(wild)) == 2000
    assert messages(other) == []


def test_broadcast_to_all_shows_clients_the_same() -> None:
    """Each child decides for itself."""
    seen = []
    for is_all in (False, True):
        broker = Broker(Policy(broadcast_all=is_all))
        clients = [broker.client() for _ in range(4)]
        for n, client in enumerate(clients[1:]):
            client.do("SUBSCRIBE", destination=f"/topic/{n}", id="1")
        broker.run()
        clients[0].do("SEND", b"x", destination="/topic/1", receipt="r")
        broker.run()
        seen.append([[(got.command, got.body) for got in client.inbox] for client in clients])

    assert seen[0] == seen[1]


@pytest.mark.row("R02", "U06")
def test_who_has_the_receipt_of_subscribe_misses_nothing() -> None:
    """Whatever anyone sends after it."""
    broker = Broker()
    producer, consumer = broker.client(), broker.client()
    consumer.do("SUBSCRIBE", destination="/topic/a", id="1", receipt="here")
    broker.run()
    got_receipt = receipts(consumer)
    producer.do("SEND", b"x", destination="/topic/a", receipt="sent")
    broker.run()

    assert got_receipt == ["here"]
    assert receipts(producer) == ["sent"]
    assert bodies(consumer) == [b"x"]


# Queues


@pytest.mark.row("A07", "C16", "U10")
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
@pytest.mark.parametrize("end", ["disconnect", "killed", "unsubscribe", "half-closed"])
def test_what_is_unsettled_goes_to_another_in_order_and_marked(version: str, end: str) -> None:
    """Whichever way its consumer ends."""
    broker = Broker()
    producer, first = broker.client(), broker.client(version)
    first.do("SUBSCRIBE", destination="/queue/a", id="1", ack="client")
    producer.receive(*(frame("SEND", {"destination": "/queue/a"}, b"%d" % n) for n in range(5)))
    broker.run()
    acknowledge(first, messages(first)[0])
    broker.run()
    if end == "disconnect":
        first.do("DISCONNECT")
        broker.run()
        broker.end(first)
    elif end == "killed":
        broker.end(first)
    elif end == "unsubscribe":
        first.do("UNSUBSCRIBE", id="1")
    else:
        first.session.end_of_input(first.now)
    second = broker.client(version)
    second.do("SUBSCRIBE", destination="/queue/a", id="1", ack="client")
    broker.run()

    assert bodies(second) == [b"1", b"2", b"3", b"4"]
    assert {(got["redelivered"], got["delivery-count"]) for got in messages(second)} == {("true", "2")}
    assert all("redelivered" not in got.headers for got in messages(first))


@pytest.mark.row("A10")
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_nack_goes_back_to_its_place(version: str) -> None:
    """Before all that came later, with one delivery more."""
    broker = Broker()
    client = broker.client(version)
    client.receive(
        frame("SUBSCRIBE", {"destination": "/queue/a", "id": "1", "ack": "client-individual", "prefetch-count": 1})
    )
    client.receive(*(frame("SEND", {"destination": "/queue/a"}, b"%d" % n) for n in range(3)))
    broker.run()
    acknowledge(client, messages(client)[0], "NACK")
    broker.run()
    again = messages(client)[1]
    for _ in range(3):
        acknowledge(client, messages(client)[-1])
        broker.run()

    assert (again.body, again["delivery-count"]) == (b"0", "2")
    assert bodies(client) == [b"0", b"0", b"1", b"2"]


@pytest.mark.row("A10")
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_rejected_and_too_often_failed_messages_are_dead_letters(version: str) -> None:
    """They tell where they come from."""
    broker = Broker(Policy(queue=QueuePolicy(max_deliveries=3)))
    client, undertaker = broker.client(version), broker.client(version)
    client.receive(frame("SUBSCRIBE", {"destination": "/queue/a", "id": "1", "ack": "client", "prefetch-count": 1}))
    undertaker.do("SUBSCRIBE", destination="/queue/DLQ", id="1")
    client.do("SEND", b"poison", destination="/queue/a", mine="1")
    client.do("SEND", b"reject", destination="/queue/a")
    broker.run()
    while messages(client)[-1].body == b"poison":
        acknowledge(client, messages(client)[-1], "NACK")
        broker.run()
    acknowledge(client, messages(client)[-1], "NACK", requeue="false")
    broker.run()

    assert bodies(client) == [b"poison"] * 3 + [b"reject"]
    assert bodies(undertaker) == [b"poison", b"reject"]
    assert messages(undertaker)[0]["original-destination"] == "/queue/a"
    assert messages(undertaker)[0]["destination"] == "/queue/DLQ"
    assert messages(undertaker)[0]["mine"] == "1"


@pytest.mark.row("U05")
def test_two_subscriptions_of_one_client_compete_for_a_queue() -> None:
    """Each message goes to one of them."""
    broker = Broker()
    client = broker.client()
    for n in "12":
        client.do("SUBSCRIBE", destination="/queue/a", id=n)
    broker.run()
    for n in range(20):
        client.do("SEND", b"%d" % n, destination="/queue/a")
        broker.run()

    assert sorted(map(int, bodies(client))) == list(range(20))
    assert {got["subscription"] for got in messages(client)} == {"1", "2"}


def test_a_backlog_waits_for_its_consumer_and_prefetch_bounds_what_it_gets() -> None:
    """In order, and no more than was asked for."""
    broker = Broker()
    producer = broker.client()
    for n in range(300):
        producer.do("SEND", b"%d" % n, destination="/queue/a")
        broker.run()
    consumer = broker.client()
    consumer.do("SUBSCRIBE", destination="/queue/a", id="1", ack="client", prefetch_count=10)
    broker.run()
    first = bodies(consumer)
    acknowledge(consumer, messages(consumer)[4])
    broker.run()

    assert first == [b"%d" % n for n in range(10)]
    assert bodies(consumer) == [b"%d" % n for n in range(15)]


@pytest.mark.parametrize("name", ["consumer-window-size", "credit"])
def test_a_window_of_octets_holds_and_loses_nothing(name: str) -> None:
    """Two consumers, one with a small window: all arrives once, in order for each."""
    broker = Broker()
    producer, small = broker.client(), broker.client()
    value = "1000" if name == "consumer-window-size" else "50,1000"
    small.receive(frame("SUBSCRIBE", {"destination": "/queue/a", "id": "1", "ack": "client-individual", name: value}))
    broker.run()
    producer.receive(*(frame("SEND", {"destination": "/queue/a"}, b"%03d" % n + b"x" * 97) for n in range(100)))
    broker.run()
    seen = 0
    while seen < len(messages(small)):
        assert len(messages(small)) - seen <= 11
        got = messages(small)[seen]
        seen += 1
        acknowledge(small, got)
        broker.run()

    assert [int(body[:3]) for body in bodies(small)] == list(range(100))
    assert all("redelivered" not in got.headers for got in messages(small))


def test_a_client_that_stops_reading_loses_nothing_and_keeps_the_order() -> None:
    """It passes offers while its outbox is full, and asks again."""
    broker = Broker()
    producer, consumer = broker.client(), broker.client()
    consumer.do("SUBSCRIBE", destination="/queue/a", id="1")
    broker.run()
    consumer.is_reading = False
    for n in range(40):
        producer.do("SEND", b"%02d" % n + bytes(100_000).replace(b"\0", b"x"), destination="/queue/a")
        broker.run()
    stuck = consumer.session.unwritten.pending
    consumer.is_reading = True
    broker.run()

    assert stuck < 2_000_000
    assert [int(body[:2]) for body in bodies(consumer)] == list(range(40))


# Transactions


@pytest.mark.row("T04")
def test_a_transaction_is_applied_as_a_whole_or_not_at_all() -> None:
    """A queue that refuses one message of it refuses all, the acknowledgements as well."""
    broker = Broker(Policy(max_queues=2))
    worker, watcher = broker.client(), broker.client()
    watcher.do("SUBSCRIBE", destination="/topic/t", id="1")
    worker.do("SUBSCRIBE", destination="/queue/a", id="1", ack="client")
    worker.do("SEND", b"job", destination="/queue/a")
    worker.do("SEND", b"x", destination="/queue/b")
    broker.run()
    worker.do("BEGIN", transaction="t")
    acknowledge(worker, messages(worker)[0], transaction="t")
    worker.do("SEND", b"y", destination="/topic/t", transaction="t")
    worker.do("SEND", b"z", destination="/queue/c", transaction="t")
    worker.do("COMMIT", transaction="t", receipt="r")
    broker.run()
    broker.end(worker)
    other = broker.client()
    other.do("SUBSCRIBE", destination="/queue/a", id="1")
    broker.run()

    assert worker.inbox[-1].command == "ERROR"
    assert worker.inbox[-1]["receipt-id"] == "r"
    assert bodies(watcher) == []
    assert bodies(other) == [b"job"]


@pytest.mark.row("T04", "A13")
def test_work_in_a_transaction_is_done_once() -> None:
    """The result is out and the job is gone with the COMMIT's receipt."""
    broker = Broker()
    worker, watcher = broker.client(), broker.client()
    watcher.do("SUBSCRIBE", destination="/queue/done", id="1")
    worker.do("SUBSCRIBE", destination="/queue/jobs", id="1", ack="client", prefetch_count=1)
    watcher.receive(*(frame("SEND", {"destination": "/queue/jobs"}, b"%d" % n) for n in range(5)))
    broker.run()
    for n in range(5):
        worker.do("BEGIN", transaction="t")
        worker.do("SEND", b"done " + messages(worker)[-1].body, destination="/queue/done", transaction="t")
        acknowledge(worker, messages(worker)[-1], transaction="t")
        broker.run()
        assert len(messages(worker)) == n + 1
        worker.do("COMMIT", transaction="t", receipt=n)
        broker.run()

    assert receipts(worker) == list("01234")
    assert bodies(watcher) == [b"done %d" % n for n in range(5)]
    assert [view.name for view in broker.router.views() if view.ready or view.unsettled] == []


# Temporary queues


@pytest.mark.parametrize("style", ["subscribe", "reply-to only"])
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_request_and_reply_in_both_styles(style: str, version: str) -> None:
    """The replier answers to what it finds in reply-to."""
    broker = Broker()
    server, client = broker.client(version), broker.client(version)
    server.do("SUBSCRIBE", destination="/queue/service", id="1")
    if style == "subscribe":
        client.do("SUBSCRIBE", destination="/temp-queue/answers", id="mine")
    broker.run()
    client.receive(frame("SEND", {"destination": "/queue/service", "reply-to": "/temp-queue/answers"}, b"question"))
    broker.run()
    (question,) = messages(server)
    server.receive(frame("SEND", {"destination": question["reply-to"]}, b"answer"))
    broker.run()
    (answer,) = messages(client)

    assert answer.body == b"answer"
    assert answer["subscription"] == ("mine" if style == "subscribe" else "/temp-queue/answers")


def test_a_temporary_queue_ends_with_its_owner_and_is_nobody_elses() -> None:
    """What is sent there later is dropped; others get an ERROR when they want to read it."""
    broker = Broker()
    owner, other, third = broker.client(), broker.client(), broker.client()
    name = owner.shared_name("/temp-queue/x")
    owner.do("SUBSCRIBE", destination="/temp-queue/x", id="1", ack="client")
    other.do("SEND", b"0", destination="/reply-queue/s1.x")
    other.do("SEND", b"1", destination=name)
    broker.run()
    third.do("SUBSCRIBE", destination=name, id="1")
    broker.run()
    broker.end(owner)
    other.do("SEND", b"2", destination=name, receipt="r")
    broker.run()

    assert bodies(owner) == [b"1"]
    assert third.inbox[-1]["message"] == "destination of another client"
    assert receipts(other) == ["r"]
    assert broker.router.views() == []


# Flow


def test_a_slow_subscriber_that_catches_up_stays() -> None:
    """Its publishers are held for a moment."""
    broker = Broker(policy=SessionPolicy(max_client_buffer=10_000))
    producer, consumer = broker.client(), broker.client()
    consumer.do("SUBSCRIBE", destination="/topic/a", id="1")
    broker.run()
    consumer.is_reading = False
    producer.do("SEND", b"x" * 6000, destination="/topic/a")
    broker.run()
    consumer.is_reading = True
    broker.run()

    assert broker.flow == [Kind.CONGESTED, Kind.RELIEVED]
    assert not consumer.session.ending.is_over
    assert bodies(consumer) == [b"x" * 6000]


# Jobs


@pytest.mark.row("J01", "R02")
def test_the_receipt_of_a_persistent_message_waits_for_the_commit() -> None:
    """Consumers don't; and the receipts of one client keep their order."""
    broker = Broker()
    producer, other, consumer = broker.client(), broker.client(), broker.client()
    consumer.do("SUBSCRIBE", destination="/queue/a", id="1", ack="client")
    broker.run()
    broker.is_committing = False
    producer.do("SEND", b"x", destination="/queue/a", persistent="true", receipt="x")
    producer.do("SEND", b"y", destination="/queue/a", receipt="y")
    other.do("SEND", b"z", destination="/queue/a", receipt="z")
    broker.run()
    before = receipts(producer)
    broker.is_committing = True
    broker.run()

    assert (before, receipts(other)) == ([], ["z"])
    assert receipts(producer) == ["x", "y"]
    assert sorted(bodies(consumer)) == [b"x", b"y", b"z"]


@pytest.mark.row("J02")
def test_messages_of_higher_priority_come_first() -> None:
    """Among those that wait."""
    broker = Broker()
    producer, consumer = broker.client(), broker.client()
    for priority in (1, 9, 4, 9):
        producer.do("SEND", b"%d" % priority, destination="/queue/a", priority=priority)
    producer.do("SEND", b"4", destination="/queue/a")
    broker.run()
    consumer.do("SUBSCRIBE", destination="/queue/a", id="1", ack="client-individual", prefetch_count=1)
    broker.run()
    for _ in range(4):
        acknowledge(consumer, messages(consumer)[-1])
        broker.run()

    assert bodies(consumer) == [b"9", b"9", b"4", b"4", b"1"]


@pytest.mark.row("J05")
def test_a_delayed_message_comes_when_its_time_has_come() -> None:
    """Not before, and behind what came meanwhile."""
    broker = Broker()
    client = broker.client()
    client.do("SUBSCRIBE", destination="/queue/a", id="1")
    client.do("SEND", b"late", destination="/queue/a", x_delay=5000)
    client.do("SEND", b"soon", destination="/queue/a")
    broker.run()
    broker.now += 4.9
    broker.run()
    early = bodies(client)
    broker.now += 0.2
    broker.run()

    assert early == [b"soon"]
    assert bodies(client) == [b"soon", b"late"]


@pytest.mark.row("J06")
def test_a_repeated_message_comes_again_and_again() -> None:
    """Each time as another message."""
    broker = Broker()
    client = broker.client()
    client.do("SUBSCRIBE", destination="/queue/a", id="1")
    client.receive(
        frame(
            "SEND",
            {"destination": "/queue/a", "AMQ_SCHEDULED_PERIOD": 1000, "AMQ_SCHEDULED_REPEAT": 2},
            b"x",
        )
    )
    counts = []
    for _ in range(5):
        broker.run()
        counts.append(len(bodies(client)))
        broker.now += 1.001

    assert counts == [0, 1, 2, 3, 3]
    assert len({got["message-id"] for got in messages(client)}) == 3


@pytest.mark.row("J08")
def test_what_is_sent_twice_with_one_id_comes_once() -> None:
    """The second one has its receipt like the first."""
    broker = Broker()
    client = broker.client()
    for n in "12":
        client.receive(frame("SEND", {"destination": "/queue/a", "dedup-id": "x", "receipt": n}, b"x"))
    client.do("SEND", b"y", destination="/queue/a", uniqkey="y")
    broker.run()
    client.do("SUBSCRIBE", destination="/queue/a", id="1")
    broker.run()

    assert bodies(client) == [b"x", b"y"]
    assert receipts(client) == ["1", "2"]


@pytest.mark.row("J03", "J04")
def test_expired_messages_are_gone() -> None:
    """The others tell when they will be."""
    broker = Broker()
    client = broker.client()
    client.do("SEND", b"x", destination="/queue/a", ttl=1000)
    client.do("SEND", b"y", destination="/queue/a", ttl=9000)
    broker.run()
    broker.now += 2
    broker.run()
    client.do("SUBSCRIBE", destination="/queue/a", id="1")
    broker.run()

    assert bodies(client) == [b"y"]
    assert messages(client)[0]["expires"] == "1800001009000"


# Durable subscriptions


@pytest.mark.row("D02", "D03", "D06")
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_a_subscriber_who_was_away_misses_nothing(version: str) -> None:
    """And two of one name share what comes."""
    broker = Broker()
    publisher, reader = broker.client(), broker.client(version, **{"client-id": "me"})
    names = {"destination": "/topic/a.*", "id": "1", "activemq.subscriptionName": "news"}
    reader.receive(frame("SUBSCRIBE", names))
    broker.run()
    publisher.do("SEND", b"0", destination="/topic/a.b")
    broker.run()
    reader.do("UNSUBSCRIBE", id="1")
    broker.run()
    publisher.do("SEND", b"1", destination="/topic/a.b", ttl=9000)
    publisher.do("SEND", b"2", destination="/topic/c")
    broker.end(reader)
    publisher.do("SEND", b"3", destination="/topic/a.c")
    broker.run()
    later = [broker.client(version, **{"client-id": "me"}) for _ in range(2)]
    later[0].receive(frame("SUBSCRIBE", names))
    broker.run()
    later[1].receive(frame("SUBSCRIBE", names))
    broker.run()
    for n in range(20):
        publisher.do("SEND", b"m%d" % n, destination="/topic/a.b")
        broker.run()

    assert bodies(reader) == [b"0"]
    assert bodies(later[0])[:2] == [b"1", b"3"]
    assert [got["destination"] for got in messages(later[0])[:2]] == ["/topic/a.b", "/topic/a.c"]
    shared = [body for client in later for body in bodies(client) if body.startswith(b"m")]
    assert sorted(shared) == sorted(b"m%d" % n for n in range(20))


@pytest.mark.row("D04", "D05")
@pytest.mark.parametrize("is_in_two_steps", [False, True])
def test_a_deleted_subscription_gathers_nothing(is_in_two_steps: bool) -> None:
    """Nor does it give what it had."""
    broker = Broker()
    client = broker.client()
    subscribe = frame("SUBSCRIBE", {"destination": "/topic/a", "id": "1", "durable": "true", "auto-delete": "false"})
    client.receive(subscribe)
    if is_in_two_steps:
        client.do("UNSUBSCRIBE", id="1")
        client.do("SEND", b"x", destination="/topic/a")
    client.do("UNSUBSCRIBE", id="1", destination="/topic/a", durable="true", receipt="r")
    client.do("SEND", b"y", destination="/topic/a")
    client.receive(subscribe)
    client.do("SEND", b"z", destination="/topic/a")
    broker.run()

    assert receipts(client) == ["r"]
    assert bodies(client) == [b"z"]


@pytest.mark.row("D01", "E04")
def test_a_name_can_not_be_of_two_topics() -> None:
    """The second SUBSCRIBE is refused, and says why."""
    broker = Broker()
    client = broker.client()
    client.receive(frame("SUBSCRIBE", {"destination": "/topic/a", "id": "1", "activemq.subscriptionName": "news"}))
    broker.run()
    client.do("UNSUBSCRIBE", id="1")
    names = {"destination": "/topic/b", "id": "1", "activemq.subscriptionName": "news", "receipt": "r"}
    client.receive(frame("SUBSCRIBE", names))
    broker.run()
    error = client.inbox[-1]

    assert (error.command, error["receipt-id"]) == ("ERROR", "r")
    assert b"/topic/a" in error.body


@pytest.mark.row("D01", "D02")
@pytest.mark.parametrize("headers", [{"durable": "true", "auto-delete": "false"}, {"persistent": "true"}])
def test_two_programs_with_one_id_have_a_subscription_each(headers: dict[str, str]) -> None:
    """Each gets its own topic's messages, all of them, also those that came while it was away."""
    broker = Broker()
    publisher = broker.client()
    topics = ["/topic/a", "/topic/b"]
    for topic in topics:
        client = broker.client()
        client.receive(frame("SUBSCRIBE", {"destination": topic, "id": "1", **headers}))
        broker.run()
        broker.end(client)
    for topic in topics:
        publisher.do("SEND", topic.encode(), destination=topic)
    broker.run()
    readers = [broker.client() for _ in topics]
    for reader, topic in zip(readers, topics, strict=True):
        reader.receive(frame("SUBSCRIBE", {"destination": topic, "id": "1", **headers}))
    broker.run()

    assert [bodies(reader) for reader in readers] == [[b"/topic/a"], [b"/topic/b"]]


@pytest.mark.row("D07")
def test_reading_by_name_needs_a_subscription() -> None:
    """It is made by its topic."""
    broker = Broker()
    client, reader = broker.client(), broker.client()
    client.do("SUBSCRIBE", destination="/topic/a", id="one", persistent="true", ack="client")
    broker.run()
    broker.end(client)
    reader.do("SUBSCRIBE", destination="/dsub/one@a", id="1")
    reader.do("SEND", b"x", destination="/topic/a")
    broker.run()
    reader.do("SUBSCRIBE", destination="/dsub/two", id="2")
    broker.run()

    assert bodies(reader) == [b"x"]
    assert b"there is no durable subscription /dsub/two" in reader.inbox[-1].body


# Chance


@pytest.mark.parametrize("seed", range(25))
def test_every_message_is_settled_once_whatever_happens(seed: int) -> None:
    """Consumers of all versions come, acknowledge, reject, commit, abort and end; what came twice is marked."""
    chance = random.Random(seed)
    broker = Broker(Policy(queue=QueuePolicy(max_deliveries=0)))
    producer = broker.client()
    consumers: list[Client] = []
    done: dict[bytes, int] = {}
    seen: dict[bytes, int] = {}
    sent_count = 0
    for _ in range(150):
        step = chance.random()
        if step < 0.3:
            count = chance.randint(1, 20)
            producer.receive(
                *(frame("SEND", {"destination": "/queue/a"}, b"%d" % n) for n in range(sent_count, sent_count + count))
            )
            sent_count += count
        elif step < 0.4 or not consumers:
            client = broker.client(chance.choice(["1.1", "1.2"]))
            client.do(
                "SUBSCRIBE",
                destination="/queue/a",
                id="1",
                ack="client-individual",
                prefetch_count=chance.randint(1, 9),
            )
            client.open = []  # type: ignore[attr-defined]
            consumers.append(client)
        elif step < 0.5:
            broker.end(consumers.pop(chance.randrange(len(consumers))))
        else:
            _work(chance.choice(consumers), chance, done)
        broker.run()
        for client in consumers:
            _look(client, seen)
    last = broker.client()
    for client in consumers:
        broker.end(client)
    last.do("SUBSCRIBE", destination="/queue/a", id="1")
    broker.run()
    for got in messages(last):
        done[got.body] = done.get(got.body, 0) + 1

    assert done == {b"%d" % n: 1 for n in range(sent_count)}
    assert broker.router.views()[0].ready == broker.router.views()[0].unsettled == 0


def _look(client: Client, seen: dict[bytes, int]) -> None:
    """Take in what came; whatever was seen before is marked."""
    for got in messages(client):
        assert ("redelivered" in got.headers) == (got.body in seen), got
        seen[got.body] = seen.get(got.body, 0) + 1
        client.open.append(got)  # type: ignore[attr-defined]
    client.inbox.clear()


def _work(client: Client, chance: random.Random, done: dict[bytes, int]) -> None:
    waiting: list[Got] = client.open  # type: ignore[attr-defined]
    chosen = [waiting.pop(chance.randrange(len(waiting))) for _ in range(chance.randint(0, len(waiting)))]
    kind = chance.choice(["ACK", "NACK", "COMMIT", "ABORT"])
    if kind in ("COMMIT", "ABORT"):
        client.do("BEGIN", transaction="t")
    for got in chosen:
        transaction = {"transaction": "t"} if kind in ("COMMIT", "ABORT") else {}
        acknowledge(client, got, "NACK" if kind == "NACK" else "ACK", **transaction)
        if kind in ("ACK", "COMMIT"):
            done[got.body] = done.get(got.body, 0) + 1
    if kind in ("COMMIT", "ABORT"):
        client.do(kind, transaction="t")
    if kind == "ABORT":
        waiting += chosen


@pytest.mark.row("U13")
def test_a_worker_may_ask_for_more_or_less_at_a_time() -> None:
    """Its credit changes while it has messages, and what is taken away is not delivered any more."""
    broker = Broker()
    producer, worker = broker.client(), broker.client()
    counts = []

    def subscribe(prefetch: int) -> None:
        worker.do("SUBSCRIBE", destination="/queue/a", id="1", ack="client-individual", prefetch_count=prefetch)
        broker.run()
        counts.append(len(messages(worker)))

    subscribe(1)
    producer.receive(*(frame("SEND", {"destination": "/queue/a"}, b"%d" % n) for n in range(9)))
    for prefetch in (1, 4, 2):
        subscribe(prefetch)
    for got in messages(worker)[:3]:
        acknowledge(worker, got)
    subscribe(2)

    assert counts == [0, 1, 4, 4, 5]
    assert bodies(worker) == [b"%d" % n for n in range(5)]


@pytest.mark.row("U14")
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_a_worker_may_drain_before_it_leaves(version: str) -> None:
    """It finishes what it has; the rest goes to others at once, and what it leaves behind at its end."""
    broker = Broker()
    producer, leaving, other = broker.client(), broker.client(version), broker.client()
    leaving.do("SUBSCRIBE", destination="/queue/a", id="1", ack="client-individual", prefetch_count=3)
    broker.run()
    producer.receive(*(frame("SEND", {"destination": "/queue/a"}, b"%d" % n) for n in range(5)))
    broker.run()
    leaving.do("UNSUBSCRIBE", id="1", drain="true", receipt="drains")
    broker.run()
    other.do("SUBSCRIBE", destination="/queue/a", id="1", ack="client-individual")
    broker.run()
    before = bodies(other)
    for got in messages(leaving)[:2]:
        acknowledge(leaving, got)
    broker.run()
    broker.end(leaving)
    broker.run()

    assert (bodies(leaving), receipts(leaving)) == ([b"0", b"1", b"2"], ["drains"])
    assert (before, bodies(other)) == ([b"3", b"4"], [b"3", b"4", b"2"])
    assert messages(other)[-1]["redelivered"] == "true"


@pytest.mark.row("U14")
def test_an_exclusive_subscription_is_followed_when_it_is_drained() -> None:
    """Not before: its successor must not get later messages while earlier ones are being worked on."""
    broker = Broker()
    producer, first, second = (broker.client() for _ in range(3))
    for worker in (first, second):
        worker.do("SUBSCRIBE", destination="/queue/a", id="1", ack="client", exclusive="true", prefetch_count=1)
        broker.run()
    producer.receive(*(frame("SEND", {"destination": "/queue/a"}, b"%d" % n) for n in range(2)))
    broker.run()
    first.do("UNSUBSCRIBE", id="1", drain="true")
    broker.run()
    before = bodies(second)
    acknowledge(first, messages(first)[0])
    broker.run()

    assert (bodies(first), before, bodies(second)) == ([b"0"], [], [b"1"])
