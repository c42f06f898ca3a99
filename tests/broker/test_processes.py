"""A process for each client, and what `ps` and the log say of it."""

from __future__ import annotations

import os
import re
import signal
import socket

import pytest
from support.deadline import wait_until


def titles(broker) -> list[str]:
    return sorted(title for _, title in broker.children())


def test_each_client_has_a_process_and_it_ends_with_its_client(broker, join) -> None:
    """Three of them, three processes; one leaves, two."""
    clients = [join(broker) for _ in range(3)]
    assert len({pid for pid, _ in broker.wait_for_children(3)} - {broker.pid}) == 3

    clients[1].close()
    broker.wait_for_children(2)
    clients[0].sync()
    clients[2].sync()


def test_titles_say_who_is_served_and_how_many(broker, join) -> None:
    """Address, login and number of subscriptions; the parent's address and number of clients. They are kept true."""
    alice, nobody = join(broker, login="alice"), join(broker)
    alice.subscribe("/queue/a", 1)
    alice.subscribe("/topic/a", 2)
    wanted = sorted(
        [
            f"stomp-broker: client {alice.address} alice 2 subscriptions",
            f"stomp-broker: client {nobody.address} 0 subscriptions",
        ]
    )

    wait_until(lambda: titles(broker) == wanted, f"titles {wanted}")
    parent = f"stomp-broker: parent 127.0.0.1:{broker.port}"
    wait_until(lambda: broker.title == f"{parent} (2 clients)", "the parent's title")
    alice.request("UNSUBSCRIBE", id="1")
    wait_until(lambda: re.search(" alice 1 subscriptions?$", "\n".join(titles(broker)), re.MULTILINE), "one less")
    nobody.close()
    wait_until(lambda: broker.title.startswith(f"{parent} (1 client"), "the parent's title")


def test_the_log_has_a_line_for_each_clients_beginning_and_end(broker, join) -> None:
    """The end with its reason and figures: messages in and out, processor time, memory."""
    client = join(broker, login="alice")
    client.subscribe("/topic/a", 1)
    client.publish("/topic/a", "hello")
    client.expect_messages("hello")
    address = client.address
    client.request("DISCONNECT")
    client.close()

    broker.wait_for_log(rf"info  client \d+ {address} alice: connected$")
    gone = broker.wait_for_log(rf"info  client \d+ {address} alice: disconnected, (.+)$")[1]
    assert re.fullmatch(r"client sent DISCONNECT, \d+ s, 1 in, 1 out, cpu [\d.]+ s, peak \d+ MiB", gone)


@pytest.mark.parametrize("passcode", ["secret", "geheim:\\n"])
def test_no_passcode_and_no_body_is_logged(make_broker, join, passcode) -> None:
    """Not even at the level debug, and not when they stand in a frame that fails."""
    broker = make_broker("--log-level", "debug")
    client = join(broker, login="alice", passcode=passcode)
    client.send_raw(b"SEND\ndestination:/queue/a\nreceipt:1\n\nconfidential\0SEND\ncontent-length:x\n\nconfidential\0")
    client.expect("RECEIPT")
    client.expect("ERROR")
    client.close()
    broker.wait_for_children(0)

    log = "\n".join(broker.log)
    assert passcode not in log
    assert "confidential" not in log


def test_a_health_check_is_logged_as_debug_and_a_mistake_in_the_protocol_as_a_warning(make_broker, join) -> None:
    """Who connects and closes, as a load balancer does every second, fills no log."""
    broker = make_broker("--log-level", "debug")
    with socket.create_connection((broker.host, broker.port)):
        broker.wait_for_children(1)
    broker.wait_for_log(r"debug client 1 .*: disconnected")
    client = join(broker)
    client.send("NONSENSE")
    client.expect("ERROR")
    broker.wait_for_log(r"warn\w* client 2 .*: disconnected, ")

    assert [line for line in broker.log if " client 1 " in line and " debug " not in line] == []


def test_sigterm_to_a_child_ends_its_client_and_is_no_crash(broker, join) -> None:
    """However often: the message goes back each time, and never counts as poison. One line in the log each time."""
    producer = join(broker)
    producer.publish("/queue/a", "job")
    for time in range(4):
        worker = join(broker, login=f"worker{time}")
        worker.subscribe("/queue/a", ack="client-individual")
        assert (worker.expect("MESSAGE", "job").get("redelivered") == "true") is bool(time)
        [pid] = [pid for pid, title in broker.children() if f" {worker.address} " in title]
        os.kill(pid, signal.SIGTERM)
        worker.expect_error("disconnected by the administrator")
        worker.close()
        gone = broker.wait_for_log(rf"info  client \d+ \S+ worker{time}: disconnected, (.+)$")[1]
        assert gone.startswith("disconnected by the administrator, ")
    producer.subscribe("/queue/a")

    producer.expect("MESSAGE", "job")
    assert not [line for line in broker.log if " error " in line or "poison" in line]


def test_sigterm_to_all_processes_is_the_end_of_the_broker(broker, join) -> None:
    """As to the parent alone: what consumers hold may be settled, and clients hear that the broker ends."""
    producer, worker = join(broker), join(broker)
    producer.publish("/queue/a", "job", persistent="true")
    worker.subscribe("/queue/a", ack="client-individual")
    message = worker.expect("MESSAGE", "job")
    os.killpg(broker.pid, signal.SIGTERM)
    broker.wait_for_log("shutdown: started, 2 clients")
    worker.ack(message)

    for client in (producer, worker):
        client.expect_error("shut")
        client.close()
    assert broker.wait() == 0
    assert sum("disconnected, the broker is shutting down" in line for line in broker.log) == 2
