"""Clients that want too much: each is bounded, and nobody else notices."""

from __future__ import annotations

import random
import re
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from broker.test_users import line as user_line
from faults.scene import Client, child_at, child_of, elapsed, pour, rss_mib
from support.deadline import stretched, wait_until

from forkbroker.testing.broker import RunningBroker

BOUND_MIB = 150
CONNECT = b"CONNECT\naccept-version:1.2\nhost:/\n\n\0"


@pytest.fixture
def sockets() -> Iterator[ExitStack]:
    """What is entered here is closed after the test."""
    with ExitStack() as stack:
        yield stack


def _open(stack: ExitStack, broker: RunningBroker) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", broker.port), stretched(10)))


def _is_well(broker: RunningBroker) -> None:
    """A new client is served at once."""
    with Client(broker.port) as client:
        client.login(login="witness")
        client.subscribe("/topic/well")
        client.publish("/topic/well", "yes")
        client.expect("MESSAGE", "yes")


def _answer(client: socket.socket) -> bytes:
    """All that the broker says to it until it closes, a reset included."""
    said = b""
    try:
        while octets := client.recv(65_536):
            said += octets
    except ConnectionError:
        pass
    return said


@pytest.mark.row("F27", "R06")
@pytest.mark.parametrize("is_logged_in", [False, True])
def test_garbage_without_end_gets_an_error_and_an_end(start, connect, sockets, is_logged_in) -> None:
    """The broker closes within its linger, however much more comes."""
    broker = start()
    witness = connect(broker, "witness")
    client = _open(sockets, broker)
    if is_logged_in:
        client.sendall(CONNECT)
        assert client.recv(9) == b"CONNECTED"
    garbage = random.Random(1).randbytes(1 << 16)
    give_up = time.monotonic() + stretched(10)
    try:
        while time.monotonic() < give_up:
            client.sendall(garbage)
    except (ConnectionError, TimeoutError):
        pass

    assert time.monotonic() < give_up
    broker.wait_for_children(1)
    assert rss_mib(broker.pid) < BOUND_MIB
    witness.publish("/topic/well")


@pytest.mark.row("F25")
@pytest.mark.parametrize(
    ("endless", "limit"),
    [(b"X" * 65_536, b"max-command"), (b"SEND\n" + b"a:b\n" * 16_384, b"max-headers")],
)
def test_a_frame_without_end_is_not_kept(start, sockets, endless, limit) -> None:
    """A command, a header block: each has a limit, and the ERROR names it."""
    broker = start()
    client = _open(sockets, broker)
    client.sendall(CONNECT)
    assert client.recv(4096).startswith(b"CONNECTED")
    with suppress(ConnectionError):
        for _ in range(16):
            client.sendall(endless)
        client.shutdown(socket.SHUT_WR)
    said = _answer(client)
    broker.wait_for_children(0)

    assert limit in said
    _is_well(broker)


@pytest.mark.row("F06")
@pytest.mark.parametrize("octet", [b"\n", b"\r", b"\0"])
def test_nothing_without_end_between_frames_is_not_kept(start, connect, octet) -> None:
    """What may stand between frames may stand there for ever; the next frame is understood."""
    broker = start()
    client = connect(broker)
    for _ in range(200):
        client.send_raw(octet * 65_536)
    client.send_raw(b"\n")
    client.publish("/topic/news")

    assert rss_mib(child_of(broker, client)) < 40


@pytest.mark.parametrize("destination", ["/queue/work", "/topic/news"])
def test_who_asks_for_receipts_and_never_reads_them_is_not_read_either(start, sockets, destination) -> None:
    """TCP holds it back: neither its process nor the parent grows for it."""
    broker = start("--max-queue-bytes", "1 GiB")
    client = _open(sockets, broker)
    client.sendall(CONNECT)
    host, port = client.getsockname()
    child = child_at(broker, f"{host}:{port}")
    frames = b"".join(
        b"SEND\ndestination:%b\nreceipt:%0240d\n\n\0" % (destination.encode(), number) for number in range(1000)
    )
    client.setblocking(False)
    poured = pour(client, frames, 150_000_000)

    assert poured < 150_000_000
    assert rss_mib(child) < BOUND_MIB
    assert rss_mib(broker.pid) < BOUND_MIB
    _is_well(broker)


class _Reader:
    """Reads numbered messages, and insists on their order; a publisher may be this far ahead of it, and no further."""

    def __init__(self, client: Client, ahead: int) -> None:
        self._client = client
        self._places = threading.Semaphore(ahead)
        self.got = 0

    def publish(self, publisher: Client, destination: str, body: bytes, number: int) -> None:
        """Send so many messages, as fast as they are read."""
        for sent in range(number):
            if not self._places.acquire(timeout=stretched(10)):
                return
            publisher.send("SEND", body=body, destination=destination, number=sent)

    def read_until(self, number: int, quiet_s: float) -> None:
        """Until there were so many, or nothing has come for a while."""
        while self.got < number and select.select([self._client], [], [], stretched(quiet_s))[0]:
            for frame in self._client.take():
                assert frame["number"] == str(self.got)
                self.got += 1
                self._places.release()
            assert not self._client.has_ended


@pytest.mark.parametrize("policy", ["disconnect", "drop-oldest", "hold"])
def test_a_topic_is_not_kept_for_one_who_does_not_read(start, connect, policy) -> None:
    """Whatever the policy, memory is bounded, and the subscriber that reads gets all in order."""
    broker = start("--max-client-buffer", "1 MiB", "--slow-subscribers", policy)
    publisher, sleeper, client = connect(broker, "publisher"), connect(broker, "sleeper"), connect(broker, "reader")
    client.subscribe("/topic/flood")
    sleeper.subscribe("/topic/flood")
    children = [*(child_of(broker, one) for one in (publisher, client)), broker.pid]
    asleep = child_of(broker, sleeper)
    messages = 1500
    reader = _Reader(client, ahead=8)
    flood = threading.Thread(target=reader.publish, args=(publisher, "/topic/flood", bytes(65_536), messages))
    flood.start()
    try:
        if policy == "hold":
            reader.read_until(messages, quiet_s=1)
            assert reader.got < messages
            assert rss_mib(asleep) < BOUND_MIB
            sleeper.close()
        reader.read_until(messages, quiet_s=10)
    finally:
        sleeper.close()
        flood.join()

    assert reader.got == messages
    assert max(map(rss_mib, children)) < BOUND_MIB
    if policy == "disconnect":
        broker.wait_for_log(
            r"warning client \d+ \S+ sleeper: disconnected, slow subscriber, .* max-client-buffer is 1,048,576"
        )
    _is_well(broker)


@pytest.mark.row("C14")
def test_five_hundred_at_once_are_served_or_told_that_there_are_too_many(start, sockets) -> None:
    """Fifty get a process, all others an ERROR that names the limit; in the end the broker is as it was."""
    broker = start("--max-clients", 50)
    clients = [_open(sockets, broker) for _ in range(500)]
    for client in clients:
        client.sendall(CONNECT)
    openings = [client.recv(4096) for client in clients]
    refused = [said for said in openings if said.startswith(b"ERROR")]
    for client in clients:
        client.close()
    broker.wait_for_children(0)

    assert len(refused) == 450
    assert sum(said.startswith(b"CONNECTED") for said in openings) == 50
    assert all(b"message:too many clients, 50 are connected and max-clients is 50\n" in said for said in refused)
    broker.wait_for_log(r"warning client \S+: refused, too many clients, 50 are connected")
    _is_well(broker)


@pytest.mark.row("F27")
def test_who_never_says_connect_is_sent_away(start, connect, sockets) -> None:
    """In time, with an ERROR that says why; others are not touched."""
    broker = start("--connect-timeout", "1 s")
    witness = connect(broker, "witness")
    silent = [_open(sockets, broker) for _ in range(30)]
    slow = [_open(sockets, broker) for _ in range(10)]
    for client in slow:
        client.sendall(b"CONNECT\naccept-ver")
    said = [_answer(client) for client in silent + slow]
    broker.wait_for_children(1)

    assert all(answer.startswith(b"ERROR") for answer in said)
    assert all(b"connect-timeout" in answer for answer in said)
    witness.publish("/topic/well")


@pytest.mark.row("F27")
def test_half_a_proxy_header_and_half_open_connections_keep_nobody_out(start, sockets) -> None:
    """Who has waited for two seconds makes room: so many processes and no more. A client is served meanwhile."""
    most = 10
    broker = start("--proxy-address", "127.0.0.1", "--max-pending-logins", most, "--max-clients", 100)
    line = b"PROXY TCP4 192.0.2.9 198.51.100.7 40112 61613\r\n"
    binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 8, 198, 51, 100, 7, 1, 2, 3, 4])
    halves = [b"", *(whole[:cut] for whole in (line, binary) for cut in (1, 6, 13, len(whole) - 1)), line, binary]
    flood = []
    for _ in range(2):
        for half in halves:
            flood.append(_open(sockets, broker))
            flood[-1].sendall(half)
            if len(flood) % 3 == 0:
                flood[-1].shutdown(socket.SHUT_WR)
        witness = _open(sockets, broker)
        witness.sendall(line + CONNECT)
        _expect_connected(witness)
        witness.sendall(b"SEND\ndestination:/queue/well\nreceipt:1\n\n\0")
        said = b""
        while b"RECEIPT" not in said:
            octets = witness.recv(4096)
            assert octets, said
            said += octets
        witness.close()
        # those that were sent away may still linger
        assert len(broker.children()) <= 2 * most + len(halves)
    wait_until(lambda: len(broker.children()) <= most, f"{most} clients that have not logged in")
    for client in flood:
        client.close()
    broker.wait_for_children(0)

    assert rss_mib(broker.pid) < BOUND_MIB


def _come(sockets: ExitStack, port: int, host: str, words: bytes) -> socket.socket:
    """A connection from this address of this machine, which has sent this."""
    address = ("127.0.0.1", port)
    client = sockets.enter_context(socket.create_connection(address, stretched(10), source_address=(host, 0)))
    client.sendall(words)
    return client


@pytest.mark.row("F27")
@pytest.mark.parametrize("words", [b"", CONNECT[:12]], ids=["nothing", "half a CONNECT"])
def test_a_flood_from_one_address_keeps_nobody_from_others_out(start, connect, sockets, words) -> None:
    """A hundred more than there may be at a time would have to wait for a minute: the flood alone does."""
    broker = start("--max-pending-logins", 4, "--max-clients", 60, "--connect-timeout", "5 min")
    witness = connect(broker, "witness")
    flood = [_come(sockets, broker.port, "127.0.0.2", words) for _ in range(120)]
    for number in range(20):
        witness.publish("/topic/well")
        newcomer = _come(sockets, broker.port, f"127.0.0.{3 + number % 2}", CONNECT)
        _expect_connected(newcomer)
        flood.append(_come(sockets, broker.port, "127.0.0.2", words))
    assert len(broker.children()) <= 60
    for client in flood:
        client.close()
    broker.wait_for_children(21, 30)


@pytest.mark.row("F27")
def test_a_storm_of_wrong_passcodes_keeps_nobody_from_other_addresses_out(start, sockets, tmp_path) -> None:
    """Each costs 50 ms of a processor, and a hundred of them come from ten addresses; alice comes from others."""
    users = tmp_path / "users"
    users.touch(0o600)
    users.write_text(user_line("alice", "a", ln=14))
    broker = start("--users", users, "--connect-timeout", "5 min")
    words = CONNECT.replace(b"\n\n", b"\nlogin:alice\npasscode:%b\n\n")
    storm = [_come(sockets, broker.port, f"127.0.1.{number % 10 + 1}", words % b"wrong") for number in range(100)]
    for number in range(5):
        _expect_connected(_come(sockets, broker.port, f"127.0.2.{number + 1}", words % b"a"))
    for client in storm:
        client.settimeout(stretched(60))
        assert b"login failed" in _answer(client)


@pytest.mark.row("F27")
def test_where_all_places_are_taken_by_those_that_say_nothing_others_have_theirs(start, sockets) -> None:
    """There is a limit of all clients alone."""
    broker = start("--max-pending-logins", 0, "--max-clients", 3, "--connect-timeout", "5 min")
    for _ in range(20):
        _come(sockets, broker.port, "127.0.0.2", b"")
    for number in range(3):
        _expect_connected(_come(sockets, broker.port, f"127.0.0.{3 + number}", CONNECT))
    wait_until(lambda: sum(": connected" in line for line in broker.log) == 3, "three logins in the log")

    assert b"max-clients is 3" in _answer(_come(sockets, broker.port, "127.0.0.9", CONNECT))


def test_who_comes_faster_than_the_fork_rate_waits_and_is_served(start, sockets) -> None:
    """A hundred come at once, as the bucket is full; the others wait for their turn in the backlog."""
    broker = start("--fork-rate", 40)
    clients = [_open(sockets, broker) for _ in range(160)]
    for client in clients:
        client.sendall(CONNECT)

    took = elapsed(lambda: [_expect_connected(client) for client in clients])
    assert took > 0.9
    assert took < stretched(20)


def _expect_connected(client: socket.socket) -> None:
    assert client.recv(9) == b"CONNECTED"


@pytest.mark.row("C14")
def test_thousands_that_come_and_vanish_leave_nothing(start) -> None:
    """Closed, reset, half-said: the broker is idle again afterwards, and complains of nobody."""
    broker = start("--fork-rate", 100_000)
    chance = random.Random(3)
    for _ in range(600):
        with Client(broker.port) as client:
            if chance.random() < 0.5:
                client.send_raw(CONNECT[: chance.randrange(1, len(CONNECT) + 1)])
            if chance.random() < 0.5:
                client.reset()
    broker.wait_for_children(0, 30)

    _is_well(broker)
    assert not [line for line in broker.log if re.search(" error ", line)]
