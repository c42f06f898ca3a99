"""That the options reach the process that heeds them: what a client sees of each."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from support.rawclient import RawClient, connect

from forkbroker.posix import merging
from forkbroker.testing.broker import RunningBroker


def address_beyond_loopback() -> str:
    """This machine's address on its network, if it has one; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return str(sock.getsockname()[0])


@pytest.mark.parametrize("options", [("--host-name", "web-1"), ()])
def test_ids_begin_with_the_name_of_the_host(make_broker, knock, options) -> None:
    """Messages of several brokers can be told apart, and be acknowledged by these ids."""
    name = options[1] if options else socket.gethostname().partition(".")[0]
    client = knock(make_broker(*options))
    client.send("CONNECT", accept_version="1.1", host="localhost")
    session = client.expect("CONNECTED")["session"]
    client.send("SUBSCRIBE", id=1, destination="/queue/a", ack="client")
    client.send("SEND", destination="/queue/a", body=b"hello")

    message = client.expect("MESSAGE", "hello")
    client.send("ACK", subscription=1, message_id=message["message-id"], receipt=1)
    client.expect("RECEIPT")
    assert session.startswith(f"{name.replace('-', '_')}.")
    assert message["message-id"].startswith(f"0-{session}-")


@pytest.mark.parametrize("kind", ["topic", "queue"])
def test_bare_destinations_are_what_the_option_says(make_broker, join, kind) -> None:
    """A message to a bare name reaches whoever uses the prefix."""
    broker = make_broker("--bare-destinations", kind)
    client = join(broker)
    client.subscribe(f"/{kind}/news", 1)
    client.publish("news", "hello")

    client.expect("MESSAGE", "hello", destination="news")


def test_bare_destinations_may_be_errors(make_broker, join) -> None:
    """The ERROR names the prefixes."""
    client = join(make_broker("--bare-destinations", "error"))
    client.send("SEND", destination="news")

    client.expect_error("/topic/")


@pytest.mark.row("C09")
def test_strict_refuses_what_is_otherwise_let_pass(make_broker, knock) -> None:
    """CONNECT without a host."""
    for options, command in (((), "CONNECTED"), (("--strict",), "ERROR")):
        client = knock(make_broker(*options))
        client.send("CONNECT", accept_version="1.2")
        client.expect(command)


@pytest.mark.row("S06")
@pytest.mark.parametrize("when", ["always", "as-sent"])
def test_content_length_is_always_there_or_when_its_sender_gave_it(make_broker, join, when) -> None:
    """ActiveMQ's consumers take a message without it for text."""
    client = join(make_broker("--content-length", when))
    client.subscribe("/topic/a", 1)
    client.send_raw(b"SEND\ndestination:/topic/a\n\ntext\0SEND\ndestination:/topic/a\ncontent-length:4\n\ndata\0")

    text, data = client.expect("MESSAGE", "text"), client.expect("MESSAGE", "data")
    assert ("content-length" in text) is (when == "always")
    assert data["content-length"] == "4"


def test_prefetch_is_the_window_of_whoever_does_not_say(make_broker, join) -> None:
    """One more is held back until something is settled."""
    client = join(make_broker("--prefetch", "2"))
    client.subscribe("/queue/a", 1, ack="client")
    for number in range(3):
        client.publish("/queue/a", str(number))

    messages = client.expect_messages("0", "1")
    client.expect_nothing()
    client.ack(messages[0])
    client.expect_messages("2")


@pytest.mark.skipif(not merging.can_merge(), reason="needs Linux 6.4 with KSM")
@pytest.mark.parametrize("options", [("--merge-memory",), ()])
def test_memory_of_clients_is_merged_where_that_is_wanted(make_broker, knock, options) -> None:
    """That of their processes alone; if the kernel does not look for it, the log says so."""
    broker = make_broker(*options)
    knock(broker)
    [(child, _)] = broker.wait_for_children(1)

    found = [_is_mergeable(pid) for pid in (child, broker.wait_for_nursery(), broker.pid)]
    assert found == [*[bool(options)] * 2, False]
    wanted = bool(options) and not merging.is_merging()
    assert any("merge-memory: the kernel does not merge now" in line for line in broker.log) is wanted


def _is_mergeable(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    return any(line.startswith("VmFlags:") and " mg" in line for line in lines)


def test_a_child_that_needs_more_than_child_memory_costs_its_client_only() -> None:
    """The limit is the system's; the log says whose process ended, and how much it had."""
    with RunningBroker("--child-memory", "200 MiB", "--max-body", "1 GiB") as broker:
        with connect(broker.port, login="greedy") as greedy, connect(broker.port) as other:
            greedy.send_raw(b"SEND\ndestination:/queue/a\ncontent-length:900000000\n\n")
            with pytest.raises(OSError):  # which one depends on the moment
                greedy.send_until_held([b"x" * 1_000_000] * 400, 5.0)
            line = broker.wait_for_log("error client .* greedy: .*, cpu .*")
            other.sync()

        assert "MiB" in line[0]
        assert broker.stop() == 0
        assert broker.survivors == []


def test_a_client_from_elsewhere_has_a_limit_for_its_address(make_broker) -> None:
    """The ERROR names address and option; loopback beside it has none."""
    host = address_beyond_loopback()
    if not host:
        pytest.skip("give this machine an address on a network")
    broker = make_broker("--listen", f"{host}:0", "--allow-anonymous", "--max-clients-per-address", "1")
    port = int(broker.addresses[1].rpartition(":")[2])
    with RawClient(port, host) as first, RawClient(port, host) as second, connect(broker.port), connect(broker.port):
        first.login()
        second.expect_error(f"too many clients from {host}, 1 are connected and max-clients-per-address is 1")


def test_options_for_addresses_that_there_are_none_of_are_named(make_broker) -> None:
    """The broker starts. With such an address nothing is said of them."""
    given = ("--web-origin", "null", "--web-admin", "all")
    broker = make_broker(*given, "--tls-client-user", "none")
    broker.wait_for_log("warning web-admin, web-origin: no effect, as no address .* begins with ws:// or wss://")
    broker.wait_for_log("warning tls-client-user: no effect, as no address of --listen begins with tls:// or wss://")
    other = make_broker(*given, "--listen", "ws://127.0.0.1:0")
    other.wait_for_log("listens on")

    assert not [line for line in other.log if "no effect" in line]
