"""stomp.py, the reference client, in each of its versions: what a user's program does, as a user would write it."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import stomp
from support.deadline import stretched, wait_until

from forkbroker.testing.broker import PATIENCE_S

CONNECTIONS = {
    "1.0": stomp.StompConnection10,
    "1.1": stomp.StompConnection11,
    "1.2": stomp.StompConnection12,
}
VERSIONS = list(CONNECTIONS)


class Inbox(stomp.ConnectionListener):
    """What stomp.py's thread was told, for the test's own."""

    def __init__(self) -> None:
        self.messages: queue.Queue = queue.Queue()
        self.receipts: queue.Queue = queue.Queue()
        self.errors: queue.Queue = queue.Queue()
        self.beats = self.disconnections = self.timeouts = 0

    def on_message(self, frame) -> None:
        self.messages.put(frame)

    def on_receipt(self, frame) -> None:
        self.receipts.put(frame.headers["receipt-id"])

    def on_error(self, frame) -> None:
        self.errors.put(frame)

    def on_heartbeat(self) -> None:
        self.beats += 1

    def on_disconnected(self) -> None:
        self.disconnections += 1

    def on_heartbeat_timeout(self) -> None:
        self.timeouts += 1

    def message(self):
        """The next message."""
        return self.messages.get(timeout=stretched(PATIENCE_S))

    def bodies(self, count: int) -> list[str]:
        """The bodies of so many messages."""
        return [self.message().body for _ in range(count)]

    def receipt(self) -> str:
        """The next receipt-id that is none of stomp.py's own."""
        return self.receipts.get(timeout=stretched(PATIENCE_S))


@pytest.fixture
def client(make_broker) -> Iterator:
    """Connect stomp.py to a broker: a connection and its inbox."""
    connections = []

    def run(broker, version: str = "1.2", **options):
        connection = CONNECTIONS[version]([(broker.host, broker.port)], **options)
        inbox = Inbox()
        connection.set_listener("inbox", inbox)
        connection.connect("alice", "secret", wait=True)
        connections.append(connection)
        return connection, inbox

    yield run
    for connection in connections:
        if connection.is_connected():
            connection.disconnect(receipt="goodbye")
        connection.transport.disconnect_socket()
        connection.transport.stop()


def settle(connection, version: str, message, verb: str = "ack", **more: str) -> None:
    """ACK or NACK as the version's users write it."""
    do = getattr(connection, verb)
    if version == "1.2":
        do(message.headers["ack"], **more)
    elif version == "1.1":
        do(message.headers["message-id"], message.headers["subscription"], **more)
    else:
        do(message.headers["message-id"], **more)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_topic_reaches_all_subscribers(broker, client, version) -> None:
    """Of every version, with the sender's headers."""
    producer, _ = client(broker, version)
    inboxes = []
    for other in VERSIONS:
        connection, inbox = client(broker, other)
        connection.subscribe("/topic/news.*", id="1", headers={"receipt": "there"})
        assert inbox.receipt() == "there"
        inboxes.append(inbox)
    producer.send("/topic/news.today", "grüße", content_type="text/plain", headers={"colour": "red"})

    for inbox in inboxes:
        message = inbox.message()
        assert message.body == "grüße"
        assert message.headers["destination"] == "/topic/news.today"
        assert message.headers["content-type"] == "text/plain"
        assert message.headers["colour"] == "red"


@pytest.mark.parametrize(
    ("version", "mode"),
    [
        ("1.0", "auto"),
        ("1.0", "client"),
        *[(version, mode) for version in ("1.1", "1.2") for mode in ("auto", "client", "client-individual")],
    ],
)
def test_a_queue_in_every_ack_mode(broker, client, version, mode) -> None:
    """Settled messages are gone, the others come to the next consumer."""
    consumer, inbox = client(broker, version)
    for number in range(5):
        consumer.send("/queue/a", str(number))
    consumer.subscribe("/queue/a", id="1", ack=mode)
    messages = [inbox.message() for _ in range(5)]
    if mode != "auto":
        settle(consumer, version, messages[2], receipt="settled")
        assert inbox.receipt() == "settled"
    consumer.disconnect(receipt="bye")
    broker.wait_for_children(0)
    heir, heritage = client(broker, version)
    heir.send("/queue/a", "last")
    heir.subscribe("/queue/a", id="1", ack="auto")

    left = {"auto": [], "client": ["3", "4"], "client-individual": ["0", "1", "3", "4"]}[mode]
    assert heritage.bodies(len(left) + 1) == [*left, "last"]


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_nack_brings_the_message_again(broker, client, version) -> None:
    """Marked as redelivered, and counted."""
    connection, inbox = client(broker, version)
    connection.subscribe("/queue/a", id="1", ack="client-individual")
    connection.send("/queue/a", "work")
    settle(connection, version, inbox.message(), "nack")
    again = inbox.message()
    settle(connection, version, again)

    assert (again.headers["redelivered"], again.headers["delivery-count"]) == ("true", "2")


@pytest.mark.parametrize("version", VERSIONS)
def test_transactions_are_committed_or_aborted(broker, client, version) -> None:
    """Sends and acknowledgements."""
    connection, inbox = client(broker, version)
    other, results = client(broker)
    other.subscribe("/queue/results", id="1", headers={"receipt": "there"})
    results.receipt()
    connection.subscribe("/queue/work", id="1", ack="client")
    connection.send("/queue/work", "work")
    message = inbox.message()
    for end in (connection.abort, connection.commit):
        transaction = connection.begin()
        settle(connection, version, message, transaction=transaction)
        connection.send("/queue/results", end.__name__, transaction=transaction)
        end(transaction)
    connection.send("/queue/results", "after")

    assert results.bodies(2) == ["commit", "after"]
    connection.disconnect(receipt="bye")
    other.subscribe("/queue/work", id="2", headers={"receipt": "there"})
    results.receipt()
    other.send("/queue/work", "nothing before this")
    assert results.bodies(1) == ["nothing before this"]


@pytest.mark.parametrize("version", VERSIONS)
def test_receipts_come_for_whatever_asks_for_one(broker, client, version) -> None:
    """In order."""
    connection, inbox = client(broker, version)
    connection.subscribe("/queue/a", id="1", headers={"receipt": "subscribed"})
    connection.send("/queue/a", "x", headers={"receipt": "sent"})
    connection.unsubscribe(id="1", receipt="unsubscribed")
    connection.begin("t", headers={"receipt": "begun"})
    connection.abort("t", headers={"receipt": "aborted"})
    connection.disconnect(receipt="bye")

    assert [inbox.receipt() for _ in range(6)] == ["subscribed", "sent", "unsubscribed", "begun", "aborted", "bye"]


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_heart_beats_keep_an_idle_connection_and_tell_of_a_dead_one(make_broker, client, version) -> None:
    """Both sides beat every 200 ms; when the client's process is stopped, stomp.py notices."""
    broker = make_broker("--heart-beat", "200,200")
    connection, inbox = client(broker, version, heartbeats=(200, 200))
    wait_until(lambda: inbox.beats >= 5, "five heart-beats")
    assert connection.is_connected()
    assert inbox.timeouts == 0

    (child, _) = broker.children()[0]
    os.kill(child, signal.SIGSTOP)
    wait_until(lambda: inbox.timeouts, "the end of the heart-beats")
    os.kill(child, signal.SIGCONT)
    wait_until(lambda: inbox.disconnections, "the end of the connection")


def test_a_connection_that_broke_is_made_again(broker, client) -> None:
    """The process of a client is killed; the same object connects, subscribes and gets what it had not settled."""
    connection, inbox = client(broker)
    connection.subscribe("/queue/a", id="1", ack="client")
    connection.send("/queue/a", "work")
    inbox.message()
    os.kill(broker.children()[0][0], signal.SIGKILL)
    wait_until(lambda: inbox.disconnections, "the end of the connection")
    connection.connect("alice", "secret", wait=True)
    connection.subscribe("/queue/a", id="1", ack="client")

    assert inbox.message().headers["redelivered"] == "true"


def test_an_error_is_told_and_ends_the_connection(broker, client) -> None:
    """With the receipt of the frame that failed."""
    connection, inbox = client(broker)
    connection.send("/nowhere/a", "x", headers={"receipt": "r1"})
    error = inbox.errors.get(timeout=stretched(PATIENCE_S))

    assert error.headers["receipt-id"] == "r1"
    assert "/nowhere/a" in error.body
    wait_until(lambda: inbox.disconnections, "the end of the connection")


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_binary_bodies_and_odd_values_pass(broker, client, version) -> None:
    """Every octet, and characters that must be escaped."""
    connection, inbox = client(broker, version, auto_decode=False)
    connection.subscribe("/topic/a", id="1", headers={"receipt": "there"})
    inbox.receipt()
    connection.send("/topic/a", bytes(range(256)) * 400, headers={"odd": "a:b\\c\nd"})
    message = inbox.message()

    assert message.body == bytes(range(256)) * 400
    assert message.headers["odd"] == "a:b\\c\nd"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_command_line_client_listens_and_sends(broker, version) -> None:
    """Two terminals: one listens to a queue, in the other somebody types."""
    command = [sys.executable, "-m", "stomp", "-H", broker.host, "-P", str(broker.port), "-S", version]
    listening = subprocess.Popen(
        [*command, "-L", "/queue/test"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        typed = "send /queue/test hello world\nquit\n"
        typing = subprocess.run(
            command, input=typed, capture_output=True, text=True, timeout=stretched(PATIENCE_S), check=True
        )
        assert listening.stdout is not None
        heard = iter(listening.stdout.readline, "")

        assert any(line == "hello world\n" for line in heard)
        assert "Unknown command" not in typing.stdout
    finally:
        listening.kill()
        listening.communicate()
