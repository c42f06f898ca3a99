"""Durable subscriptions between real clients: who was away misses nothing."""

from __future__ import annotations

import signal

import pytest
from support.rawclient import RawClient, connect

from forkbroker.testing.broker import RunningBroker

#: How each dialect says it: headers of CONNECT, SUBSCRIBE, and the UNSUBSCRIBE that deletes.
SPELLINGS = {
    "RabbitMQ": (
        {},
        {"durable": "true", "auto-delete": "false", "id": "mine"},
        {"durable": "true", "auto-delete": "false", "id": "mine", "destination": "/topic/news"},
    ),
    "Apollo": (
        {},
        {"persistent": "true", "id": "mine"},
        {"persistent": "true", "id": "mine", "destination": "/topic/news"},
    ),
    "ActiveMQ": (
        {"client-id": "c"},
        {"activemq.subscriptionName": "mine", "id": "1"},
        {"activemq.subscriptionName": "mine", "id": "1"},
    ),
    "Artemis": (
        {"client-id": "c"},
        {"durable-subscription-name": "mine", "id": "1"},
        {"durable-subscription-name": "mine", "id": "1"},
    ),
}
NAMES = {"RabbitMQ": "mine@news", "Apollo": "mine@news", "ActiveMQ": "c.mine", "Artemis": "c.mine"}
RABBIT = SPELLINGS["RabbitMQ"][1]

each_spelling = pytest.mark.parametrize("dialect", SPELLINGS)


def subscribe(client: RawClient, dialect: str = "RabbitMQ", topic: str = "/topic/news", **more: object) -> None:
    """In the words of this dialect."""
    client.request("SUBSCRIBE", SPELLINGS[dialect][1], destination=topic, ack="client-individual", **more)


@each_spelling
@pytest.mark.row("D01", "D02", "D06")
def test_messages_wait_for_who_is_away(make_broker, join, dialect) -> None:
    """In order, from the first SUBSCRIBE on; what was not acknowledged comes again, what was does not."""
    broker = make_broker()
    publisher, reader = join(broker), join(broker, headers=SPELLINGS[dialect][0])
    publisher.publish("/topic/news", "too early")
    subscribe(reader, dialect)
    publisher.publish("/topic/news", "m0")
    publisher.publish("/topic/news", "m1", persistent="true")
    first, _ = reader.expect_messages("m0", "m1")
    reader.ack(first)
    reader.close()
    broker.wait_for_children(1)
    publisher.publish("/topic/news", "m2")
    publisher.publish("/topic/news", "m3", persistent="true")
    reader = join(broker, headers=SPELLINGS[dialect][0])
    subscribe(reader, dialect)

    again, *_ = reader.expect_messages("m1", "m2", "m3")
    assert again["redelivered"] == "true"
    assert again["destination"] == "/topic/news"


@each_spelling
@pytest.mark.row("D02", "J01")
def test_they_outlive_the_broker_with_their_persistent_messages(tmp_path, dialect) -> None:
    """Killed with all its processes."""
    login, _, _ = SPELLINGS[dialect]
    with RunningBroker(store_directory=tmp_path) as broker, connect(broker.port, headers=login) as reader:
        subscribe(reader, dialect)
        reader.close()
        broker.wait_for_children(0)
        with connect(broker.port) as publisher:
            publisher.publish("/topic/news", "lost", persistent="false")
            publisher.publish("/topic/news", "kept", persistent="true")
            broker.kill()
            broker.wait()
    with RunningBroker(store_directory=tmp_path) as broker, connect(broker.port, headers=login) as reader:
        with connect(broker.port) as publisher:
            publisher.publish("/topic/news", "new")
        subscribe(reader, dialect)

        reader.expect_messages("kept", "new")
        reader.expect_nothing()


@each_spelling
@pytest.mark.row("D04", "D05", "D07")
def test_unsubscribe_in_the_dialects_words_deletes_it(make_broker, join, dialect) -> None:
    """And what waits; by the id alone it ends the reading only. Then its name is nobody's."""
    broker = make_broker()
    login, _, delete = SPELLINGS[dialect]
    publisher, reader = join(broker), join(broker, headers=login)
    subscribe(reader, dialect)
    reader.request("UNSUBSCRIBE", id=delete["id"])
    publisher.publish("/topic/news", "waits")
    other = join(broker)
    other.subscribe(f"/dsub/{NAMES[dialect]}", "look", ack="client-individual")
    other.expect("MESSAGE", "waits")
    other.request("UNSUBSCRIBE", id="look")
    reader.request("UNSUBSCRIBE", delete)
    subscribe(reader, dialect)

    reader.expect_nothing()
    publisher.publish("/topic/news", "new")
    reader.expect_messages("new")


@pytest.mark.row("D03")
def test_clients_of_one_name_share_it(make_broker, join) -> None:
    """Each message goes to one of them; another name gets all of them too."""
    broker = make_broker()
    publisher, one, two, alone = (join(broker) for _ in range(4))
    subscribe(one, prefetch_count=1)
    subscribe(two, prefetch_count=1)
    alone.request("SUBSCRIBE", {**RABBIT, "id": "other"}, destination="/topic/news")
    for body in ("m0", "m1"):
        publisher.publish("/topic/news", body)

    assert sorted([one.expect("MESSAGE").body, two.expect("MESSAGE").body]) == [b"m0", b"m1"]
    alone.expect_messages("m0", "m1")
    one.expect_nothing()


@pytest.mark.row("D01", "D02")
def test_a_pattern_can_be_subscribed_to(make_broker, join) -> None:
    """Messages say where they were sent; other topics are not its own."""
    broker = make_broker()
    publisher, reader = join(broker), join(broker)
    subscribe(reader, topic="/topic/news.*")
    reader.close()
    broker.wait_for_children(1)
    broker.wait_for_children(1)
    for topic in ("news.de", "weather.de", "news.fr"):
        publisher.publish(f"/topic/{topic}", topic)
    reader = join(broker)
    subscribe(reader, topic="/topic/news.*")

    frames = reader.expect_messages("news.de", "news.fr")
    assert [frame["destination"] for frame in frames] == ["/topic/news.de", "/topic/news.fr"]


@pytest.mark.row("D01")
def test_one_name_is_for_one_topic(make_broker, join) -> None:
    """An ERROR says what it is for."""
    broker = make_broker()
    login, headers, _ = SPELLINGS["ActiveMQ"]
    first, second = (join(broker, headers=login) for _ in range(2))
    subscribe(first, "ActiveMQ")
    second.send("SUBSCRIBE", headers, destination="/topic/weather")

    second.expect_error("/topic/news")


@pytest.mark.row("D04")
def test_what_another_client_reads_from_is_not_deleted(make_broker, join) -> None:
    """An ERROR says so, and the other one goes on."""
    broker = make_broker()
    reader, other = join(broker), join(broker)
    subscribe(reader)
    other.send("UNSUBSCRIBE", RABBIT, destination="/topic/news")
    other.expect_error("in use")
    join(broker).publish("/topic/news", "m0")

    reader.expect_messages("m0")


@pytest.mark.row("D07")
def test_nobody_sends_to_a_durable_subscription(shared_broker, join_shared) -> None:
    """Only its topic does; and what does not exist can't be read."""
    sender, reader = join_shared(), join_shared()
    sender.send("SEND", body=b"x", destination="/dsub/mine")
    sender.expect_error("/dsub/")
    reader.send("SUBSCRIBE", destination="/dsub/nobody", id="0")

    reader.expect_error("/dsub/nobody")


def test_what_nobody_uses_ends_after_its_time(make_broker, join) -> None:
    """With --durable-expiry, counted from the last use, whatever waits; who reads from it uses it."""
    broker = make_broker("--durable-expiry", "500ms")
    reader, publisher = join(broker), join(broker)
    subscribe(reader)
    publisher.publish("/topic/news", "m0")
    reader.ack(reader.expect("MESSAGE", "m0"))
    reader.request("UNSUBSCRIBE", id="mine")
    publisher.publish("/topic/news", "m1")
    broker.wait_for_log("durable subscription /dsub/mine@news to /topic/news: expired")
    subscribe(reader)

    reader.expect_nothing()
    broker.wait_for_log("durable subscription /dsub/mine@news to /topic/news: created")


def test_who_is_away_too_long_loses_the_oldest_messages(make_broker, join) -> None:
    """A limit holds no publisher back: a policy for /dsub/."""
    broker = make_broker("--policy", "/dsub/# max-length=3")
    reader, publisher = join(broker), join(broker)
    subscribe(reader)
    reader.request("UNSUBSCRIBE", id="mine")
    for place in range(6):
        publisher.publish("/topic/news", f"m{place}")
    subscribe(reader)

    reader.expect_messages("m3", "m4", "m5")
    reader.expect_nothing()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_acknowledgement_with_a_receipt_is_for_good(tmp_path, number) -> None:
    """Also of a durable subscription."""
    with RunningBroker(store_directory=tmp_path) as broker:
        with connect(broker.port) as client:
            subscribe(client)
            for place in range(3):
                client.publish("/topic/news", f"m{place}", persistent="true")
            client.ack(client.expect_messages("m0", "m1", "m2")[1])
        broker.kill(number)
        broker.wait()
    with RunningBroker(store_directory=tmp_path) as broker, connect(broker.port) as client:
        subscribe(client)

        client.expect_messages("m0", "m2")
        client.expect_nothing()


# -- what an administrator sees


def test_a_signal_lists_what_there_is(make_broker, join) -> None:
    """SIGUSR2: durable subscriptions, queues and the schedule, a line for each in the log."""
    broker = make_broker()
    broker.kill(signal.SIGUSR2)
    broker.wait_for_log("no queues$")
    reader, sender = join(broker), join(broker)
    subscribe(reader)
    reader.close()
    broker.wait_for_children(1)
    for destination in ("/topic/news", "/queue/jobs", "/queue/jobs"):
        sender.send("SEND", body=b"news", destination=destination)
    sender.send("SEND", {"AMQ_SCHEDULED_DELAY": "60000"}, body=b"later", destination="/queue/jobs")
    sender.sync()

    broker.kill(signal.SIGUSR2)
    broker.wait_for_log(
        r"durable subscription /dsub/mine@news to /topic/news, last used [\d-]{10} [\d:]{8}: "
        r"1 ready, 0 unsettled, [\d,]+ bytes, 0 consumers$"
    )
    broker.wait_for_log(r"queue /queue/jobs: 2 ready, 0 unsettled, [\d,]+ bytes, 0 consumers$")
    broker.wait_for_log(r"schedule: 1 messages, [\d,]+ bytes$")
