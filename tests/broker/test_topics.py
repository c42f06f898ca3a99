"""Topics between real clients; with --broadcast interested and all nobody sees a difference."""

from __future__ import annotations

from collections import defaultdict

import pytest

PATTERNS = {
    "/topic/a.b": {"a.b"},
    "/topic/a.*": {"a.b", "a.c"},
    "/topic/*.b": {"a.b", "d.b"},
    "/topic/a.#": {"a", "a.b", "a.c", "a.b.c"},
    "/topic/a.>": {"a.b", "a.c", "a.b.c"},
    "/topic/#": {"a", "a.b", "a.c", "a.b.c", "d.b", "s/b", "s/b/c"},
    "/topic/s/*": {"s/b"},
    "/topic/s/>": {"s/b", "s/b/c"},
    "/topic/e.*": set(),
}
NAMES = ["a", "a.b", "a.c", "a.b.c", "d.b", "s/b", "s/b/c"]


@pytest.fixture(params=["interested", "all"])
def broker(make_broker, request):
    """A broker of each way to broadcast."""
    return make_broker("--broadcast", request.param)


def test_a_message_goes_to_its_subscribers_and_to_nobody_else(broker, join) -> None:
    """Its sender is one of them, if it subscribed."""
    first, second, other, idle = (join(broker) for _ in range(4))
    first.subscribe("/topic/a", 1)
    second.subscribe("/topic/a", "x y")
    other.subscribe("/topic/b", 1)
    first.publish("/topic/a", "hello", colour="re:d")

    message = first.expect("MESSAGE", "hello", subscription=1, destination="/topic/a", colour="re:d")
    second.expect("MESSAGE", "hello", subscription="x y", destination="/topic/a", colour="re:d")
    assert "ack" not in message
    for client in (first, second, other, idle):
        client.expect_nothing()


def test_many_subscribers_with_the_same_id_get_what_one_would_get(broker, join) -> None:
    """Their frames are made once for all of them; whoever is different, or leaves, changes nothing for the others."""
    crowd = [join(broker) for _ in range(6)]
    other, wide, producer = (join(broker) for _ in range(3))
    for client in crowd:
        client.subscribe("/topic/a.b", 1)
    other.subscribe("/topic/a.b", 2)
    wide.subscribe("/topic/a.*", 1)
    for number in range(3):
        producer.publish("/topic/a.b", f"hello {number}", colour="red")
        for client in [*crowd, other, wide]:
            frame = client.expect("MESSAGE", f"hello {number}", destination="/topic/a.b", colour="red")
            assert frame["subscription"] == ("2" if client is other else "1")
        leaver = crowd.pop()
        leaver.send("UNSUBSCRIBE", id=1, receipt="gone")
        leaver.expect("RECEIPT")

    producer.publish("/topic/a.b", "last")
    for client in [*crowd, other, wide]:
        client.expect("MESSAGE", "last")
    leaver.expect_nothing()


def test_patterns_match_levels(broker, join) -> None:
    """`*` one level, `#` and `>` the rest; the MESSAGE names the concrete destination."""
    subscriber, exact, producer = (join(broker) for _ in range(3))
    for pattern in PATTERNS:
        subscriber.subscribe(pattern, pattern)
    exact.subscribe("/topic/nothing.of.this", 1)
    for name in NAMES:
        producer.publish(f"/topic/{name}", name)

    found = defaultdict(set)
    for _ in range(sum(map(len, PATTERNS.values()))):
        message = subscriber.receive()
        assert message["destination"] == f"/topic/{message.body.decode()}"
        found[message["subscription"]].add(message.body.decode())
    assert {pattern: found[pattern] for pattern in PATTERNS} == PATTERNS
    subscriber.expect_nothing()
    exact.expect_nothing()


@pytest.mark.row("U05", "S10")
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_each_of_a_clients_subscriptions_gets_its_copy(broker, join, version) -> None:
    """Two to the same name, one by a pattern; where they acknowledge, each copy has a name of its own."""
    subscriber, producer = join(broker, version), join(broker)
    subscriber.subscribe("/topic/a.b", 1, ack="client")
    subscriber.subscribe("/topic/a.b", 2, ack="client")
    subscriber.subscribe("/topic/a.*", 3)
    producer.publish("/topic/a.b", "hello")

    copies = [subscriber.expect("MESSAGE", "hello") for _ in range(3)]
    assert sorted(copy["subscription"] for copy in copies) == ["1", "2", "3"]
    names = [copy.get("ack") or copy["message-id"] for copy in copies]
    assert len(set(names)) == 3
    subscriber.expect_nothing()


def test_the_order_of_each_producer_is_kept(broker, join) -> None:
    """Three at once, over two names, to two subscribers who get everything."""
    subscribers, producers = [join(broker) for _ in range(2)], [join(broker) for _ in range(3)]
    for subscriber in subscribers:
        subscriber.subscribe("/topic/a.>", 1)
    for start in range(0, 400, 40):
        for name, producer in enumerate(producers):
            producer.send_raw(
                b"".join(
                    producer.encode("SEND", destination=f"/topic/a.{number % 2}", body=b"%d" % number, producer=name)
                    for number in range(start, start + 40)
                )
            )

    for subscriber in subscribers:
        received = defaultdict(list)
        for _ in range(1200):
            message = subscriber.expect("MESSAGE")
            received[message["producer"]].append(int(message.body))
        assert received == {str(name): list(range(400)) for name in range(3)}
        subscriber.expect_nothing()


def test_a_subscription_to_a_topic_may_acknowledge_and_has_a_window(broker, join) -> None:
    """Two unacknowledged messages at a time, as prefetch-count says; an ACK lets the next ones come."""
    subscriber, producer = join(broker), join(broker)
    subscriber.subscribe("/topic/a", 1, ack="client", prefetch_count=2)
    for number in range(5):
        producer.publish("/topic/a", str(number))

    first = subscriber.expect_messages("0", "1")
    subscriber.expect_nothing()
    subscriber.ack(first[1])
    second = subscriber.expect_messages("2", "3")
    subscriber.ack(second[0])
    subscriber.expect_messages("4")


def test_large_and_odd_messages_arrive_as_they_were_sent(broker, join) -> None:
    """Megabytes, NULs, no octet at all; headers with every character that needs an escape."""
    bodies = [bytes(range(256)) * 16_384, b"", b"\0", b"\n\n\0\n"]
    odd = {"na:me\\": "value:with\\every\nescape\rand ümlaut", "empty": ""}
    subscriber, producer = join(broker), join(broker)
    subscriber.subscribe("/topic/a", 1)
    for body in bodies:
        producer.request("SEND", odd, body, destination="/topic/a")

    for body in bodies:
        message = subscriber.expect("MESSAGE", body, content_length=len(body))
        assert odd == {name: message[name] for name in odd}


def test_whoever_leaves_gets_no_more_and_whoever_returns_misses_what_was_sent_meanwhile(broker, join) -> None:
    """Topics keep nothing."""
    subscriber, producer = join(broker), join(broker)
    producer.publish("/topic/a", "too early")
    subscriber.subscribe("/topic/a", 1)
    producer.publish("/topic/a", "now")
    subscriber.expect_messages("now")
    subscriber.request("UNSUBSCRIBE", id="1")
    producer.publish("/topic/a", "meanwhile")
    subscriber.subscribe("/topic/a", 1)
    producer.publish("/topic/a", "again")

    subscriber.expect_messages("again")
    subscriber.expect_nothing()
