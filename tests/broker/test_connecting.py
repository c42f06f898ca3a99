"""From the first octet to CONNECTED: crowds, haste, silence, and those who meant another port."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
from support.deadline import wait_until
from support.rawclient import RawClient

VERSIONS = ["1.0", "1.1", "1.2"]


def open_files(pid: int) -> int:
    """How many descriptors a process has; 0 where the system does not show it."""
    directory = Path(f"/proc/{pid}/fd")
    return len(os.listdir(directory)) if directory.exists() else 0  # noqa: PTH208 (names only)


def tls_hello() -> bytes:
    """What a TLS client says first."""
    written = ssl.MemoryBIO()
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), written, server_hostname="broker.example").do_handshake()
    return written.read()


@pytest.mark.row("C14")
def test_three_hundred_clients_come_and_vanish_and_nothing_of_them_stays(broker, join) -> None:
    """Some say nothing, some half a CONNECT, some log in, some reset the connection."""
    bystander = join(broker)
    files = open_files(broker.pid)
    for number in range(300):
        client = RawClient(broker.port)
        client.send_raw([b"", b"CONNECT\nlog", client.encode("CONNECT", host="/")][number % 3])
        client.reset() if number % 2 else client.close()
    left = broker.wait_for_children(1, 30)

    bystander.expect_nothing()
    assert join(broker).connected.command == "CONNECTED"
    assert "<defunct>" not in left[0][1]
    wait_until(lambda: open_files(broker.pid) <= files + 1, "the closing of the descriptors")
    assert not [line for line in broker.log if " error " in line]


@pytest.mark.row("C15")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cut", [1, 7, 100_000])
def test_frames_behind_connect_are_kept_and_processed(shared_broker, knock, version, cut) -> None:
    """A whole conversation without waiting for an answer, in pieces of any size."""
    client = knock(shared_broker)
    connect = client.encode("CONNECT", accept_version=version, host="/")
    client.version = version
    said = (
        connect
        + client.encode("SUBSCRIBE", destination="/topic/a", id="1", receipt="r1")
        + client.encode("SEND", destination="/topic/a", body=b"hasty\0body", receipt="r2")
        + client.encode("DISCONNECT", receipt="r3")
    )
    for start in range(0, len(said), cut):
        client.send_raw(said[start : start + cut])

    client.expect("CONNECTED", version=version)
    client.expect("RECEIPT", receipt_id="r1")
    message, receipt = sorted([client.receive(), client.receive()], key=lambda frame: frame.command)
    assert (message.command, message.body) == ("MESSAGE", b"hasty\0body")
    assert (receipt.command, receipt["receipt-id"]) == ("RECEIPT", "r2")
    client.expect("RECEIPT", receipt_id="r3")
    client.expect_eof()


@pytest.mark.row("C16")
def test_a_client_that_has_closed_its_sending_side_gets_receipts_and_messages(broker, join) -> None:
    """Also messages that others send afterwards."""
    client, other = join(broker), join(broker)
    client.subscribe("/topic/a", 1)
    client.send("SEND", destination="/topic/a", body=b"mine", receipt="r1")
    client.shutdown_write()
    other.publish("/topic/a", "another's")

    frames = [client.receive() for _ in range(3)]
    assert {b"mine", b"another's"} == {frame.body for frame in frames if frame.command == "MESSAGE"}
    assert [frame["receipt-id"] for frame in frames if frame.command == "RECEIPT"] == ["r1"]
    client.expect_eof()


@pytest.mark.row("F27")
def test_whoever_does_not_connect_in_time_is_told_the_option(make_broker, join, knock) -> None:
    """Silence and half a CONNECT are the same; who is connected may be as silent as he likes."""
    broker = make_broker("--connect-timeout", "0.3", "--frame-timeout", "0.3")
    connected, silent, halting = join(broker), knock(broker), knock(broker)
    halting.send_raw(b"CONNECT\naccept-ver")

    silent.expect_error("connect-timeout is 0.3 s")
    halting.expect_error("-timeout")
    connected.expect_nothing()


@pytest.mark.row("F27")
def test_a_frame_that_stands_still_ends_the_connection(make_broker, join) -> None:
    """The limit is named; others are not concerned."""
    broker = make_broker("--frame-timeout", "0.3")
    halting, other = join(broker), join(broker)
    halting.send_raw(b"SEND\ndestination:/queue/a\n\nhalf a bo")
    error = halting.expect_error("frame-timeout")

    assert "0.3 s" in error.body.decode()
    other.expect_nothing()


@pytest.mark.row("F28")
@pytest.mark.parametrize(
    ("octets", "line"),
    [
        (tls_hello(), "TLS"),
        (b"GET / HTTP/1.1\r\nHost: broker\r\nAccept: */*\r\n\r\n", "HTTP"),
        (b"POST /api HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}", "HTTP"),
    ],
    ids=["tls", "get", "post"],
)
def test_those_who_meant_another_port_get_one_useful_log_line(broker, join, knock, octets, line) -> None:
    """A warning that says what came, beside the client's address; others don't notice."""
    bystander, stranger = join(broker), knock(broker)
    stranger.send_raw(octets)
    stranger.shutdown_write()
    broker.wait_for_log(f"{stranger.address}.*{line}")
    broker.wait_for_children(1)

    bystander.expect_nothing()
    lines = [said for said in broker.log if stranger.address in said]
    assert len(lines) == 1
    assert " warning " in lines[0]


def test_the_client_above_the_limit_is_told_and_the_next_is_welcome_when_one_has_left(make_broker, join, knock) -> None:
    """The ERROR names the option and its value."""
    broker = make_broker("--max-clients", "2")
    first, _ = join(broker), join(broker)
    knock(broker).expect_error("too many clients, 2 are connected and max-clients is 2")
    first.close()
    broker.wait_for_children(1)

    assert join(broker).connected.command == "CONNECTED"
    assert [line for line in broker.log if "max-clients is 2" in line]


def test_loopback_is_exempt_from_the_limit_for_one_address(make_broker, join) -> None:
    """Five clients with a limit of two."""
    broker = make_broker("--max-clients-per-address", "2")
    clients = [join(broker) for _ in range(5)]

    for client in clients:
        client.expect_nothing()
    assert len(broker.children()) == 5


def test_a_unix_socket_serves_beside_tcp(make_broker, join, tmp_path) -> None:
    """One broker, two listeners; the path is gone at the end."""
    path = tmp_path / "socket"
    broker = make_broker("--listen", f"unix:{path}")
    inside = join(broker)
    inside.subscribe("/topic/a", 1)
    with RawClient(str(path)) as client:
        client.login()
        client.publish("/topic/a", "hello")

    inside.expect("MESSAGE", "hello")
    inside.close()
    assert broker.stop() == 0
    assert not path.exists()
