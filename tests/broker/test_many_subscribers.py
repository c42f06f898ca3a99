"""Much for many: subscribers of a topic that share one copy of their messages, and others beside them."""

from __future__ import annotations

import os
import select
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from support.certificates import HAS_OPENSSL, make_certificate
from support.deadline import wait_until
from support.rawclient import RawClient

from forkbroker.session.policy import MAX_FILES
from forkbroker.testing.broker import STRETCH, RunningBroker
from forkbroker.wire.lending import find_cost
from forkbroker.wire.memory_file import VARIABLE, MemoryFile
from forkbroker.wire.rendering import FILE_RECEIVERS

MANY = FILE_RECEIVERS + 1
TOPIC = "/topic/many"
SIZES = [10, 1_000, 40_000, 300_000]

Gather = Callable[..., list[RawClient]]

HELD_S = 2.0 * STRETCH
"""How long nothing comes if publishers are held."""

needs_files = pytest.mark.skipif(
    not Path("/proc/self/fd").exists() or MemoryFile.make([b"x"]) is None or not find_cost(),
    reason="needs a mounted /proc with descriptors, and files in memory",
)


@pytest.fixture(params=["on", "off"])
def broker(make_broker, request: pytest.FixtureRequest) -> RunningBroker:
    """With files in memory, where the system has them, and without."""
    return make_broker(env={VARIABLE: request.param})


@pytest.fixture
def gather() -> Iterator[Gather]:
    """Many subscribers of the topic with one id; those with little memory in their system for what they don't read."""
    with ExitStack() as stack:

        def run(broker: RunningBroker, count: int = MANY, *, receive_buffer: int = 0, version: str = "1.2"):
            clients = []
            for _ in range(count):
                client = stack.enter_context(RawClient(broker.port, receive_buffer=receive_buffer))
                client.login(version)
                client.subscribe(TOPIC, 1)
                clients.append(client)
            return clients

        yield run


def body_of(number: int, size: int) -> bytes:
    return b"%06d" % number * (size // 6 + 1)


def publish(producer: RawClient, numbers: range, size: int) -> None:
    """As one piece, so that it goes in batches; all of it is with the parent on return."""
    producer.send_raw(
        b"".join(producer.encode("SEND", destination=TOPIC, body=body_of(number, size)) for number in numbers)
    )


def read_all(clients: list[RawClient], numbers: range, size: int) -> None:
    """All in order, to the last octet, by all of them."""
    for client in clients:
        for number in numbers:
            client.expect("MESSAGE", body_of(number, size))


def child_of(broker: RunningBroker, client: RawClient) -> int:
    """The process that serves it."""
    return next(pid for pid, title in broker.children() if client.address in title)


def files_of(pid: int) -> list[str]:
    """What files in memory a process has open; none if it has ended."""
    found = []
    with suppress(FileNotFoundError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                found.append(str(link.readlink()))
    return [target for target in found if "memfd:frames" in target]


def all_files(broker: RunningBroker) -> list[str]:
    """Of parent and children."""
    return [file for pid in (broker.pid, *(pid for pid, _ in broker.children())) for file in files_of(pid)]


@pytest.mark.parametrize("size", SIZES)
def test_all_get_all_in_order(broker: RunningBroker, join, gather: Gather, size: int) -> None:
    """Small messages in batches, and large ones; then a small one again."""
    clients, producer = gather(broker), join(broker)
    count = min(2_000, 3_000_000 // size)
    publish(producer, range(count), size)
    read_all(clients, range(count), size)
    producer.publish(TOPIC, b"last")

    for client in clients:
        client.expect("MESSAGE", b"last")
    wait_until(lambda: all_files(broker) == [], "no file is left")


def test_others_get_the_same_in_their_own_way(broker: RunningBroker, join, gather: Gather) -> None:
    """Other ids, two subscriptions, a pattern, an older version, an acknowledgement."""
    clients, producer = [*gather(broker), *gather(broker, version="1.0")], join(broker)
    other, twice, pattern, acknowledging = (join(broker) for _ in range(4))
    other.subscribe(TOPIC, 2)
    twice.subscribe(TOPIC, 1)
    twice.subscribe(TOPIC, 2)
    pattern.subscribe("/topic/*", 1)
    acknowledging.subscribe(TOPIC, 1, ack="client")
    publish(producer, range(50), 1_000)
    publish(producer, range(50, 52), 100_000)

    for client in (*clients, other, pattern, acknowledging):
        read_all([client], range(50), 1_000)
        read_all([client], range(50, 52), 100_000)
    got = [twice.expect("MESSAGE") for _ in range(104)]
    for name in ("1", "2"):
        assert [frame.body for frame in got if frame["subscription"] == name] == [
            *(body_of(number, 1_000) for number in range(50)),
            *(body_of(number, 100_000) for number in range(50, 52)),
        ]


def test_what_a_client_cannot_take_at_once_it_gets_in_parts(broker: RunningBroker, join, gather: Gather) -> None:
    """Its system has little room; others do not wait for it."""
    slow, fast, producer = gather(broker, 2, receive_buffer=4096), gather(broker), join(broker)
    publish(producer, range(3_000), 1_000)
    read_all(fast, range(3_000), 1_000)
    read_all(slow, range(3_000), 1_000)
    wait_until(lambda: all_files(broker) == [], "no file is left")


@needs_files
@pytest.mark.parametrize("policy", ["disconnect", "drop-oldest", "hold"])
def test_who_does_not_read_keeps_a_bounded_number_of_files(make_broker, join, gather: Gather, policy: str) -> None:
    """Whatever becomes of it; and all are closed when it has gone."""
    broker = make_broker("--slow-subscribers", policy, "--max-client-buffer", "6 MiB")
    clients, producer = gather(broker), join(broker)
    (deaf,) = gather(broker, 1, receive_buffer=4096)
    pid = child_of(broker, deaf)
    most = sent = 0
    while sent < 80:
        block = producer.encode("SEND", destination=TOPIC, body=body_of(sent, 200_000))
        if producer.send_until_held([block]) < len(block) or not select.select([clients[0]], [], [], HELD_S)[0]:
            break
        read_all(clients, range(sent, sent + 1), 200_000)
        most = max(most, len(files_of(pid)))
        sent += 1

    assert (sent < 80) is (policy == "hold")
    assert 1 <= most <= MAX_FILES + 1, "those that wait, and one that is being read into memory"
    deaf.close()
    if policy == "disconnect":
        broker.wait_for_log("slow subscriber")
    wait_until(lambda: all_files(broker) == [], "no file is left")


@needs_files
def test_a_subscriber_that_is_stopped_has_little_on_its_way(broker: RunningBroker, join, gather: Gather) -> None:
    """Its process reads nothing: the parent keeps no file for it, and the others go on. Killed, it leaves none."""
    clients, producer = gather(broker, MANY + 1), join(broker)
    victim, others = clients[0], clients[1:]
    pid = child_of(broker, victim)
    os.kill(pid, signal.SIGSTOP)
    for start in range(0, 30, 10):
        publish(producer, range(start, start + 10), 50_000)
        read_all(others, range(start, start + 10), 50_000)
    os.kill(pid, signal.SIGKILL)

    wait_until(lambda: pid not in {pid for pid, _ in broker.children()}, "its end")
    wait_until(lambda: all_files(broker) == [], "no file is left")
    publish(producer, range(10), 50_000)
    read_all(others, range(10), 50_000)


def test_children_that_are_killed_among_many_messages_harm_nobody(broker: RunningBroker, join, gather: Gather) -> None:
    """Whatever they had got; what was on its way to them goes with them."""
    clients, producer = gather(broker, 2 * MANY), join(broker)
    victims, others = clients[:MANY], clients[MANY:]
    pids = [child_of(broker, victim) for victim in victims]
    for number, pid in enumerate(pids):
        publish(producer, range(10 * number, 10 * number + 10), 30_000)
        os.kill(pid, signal.SIGKILL)
    read_all(others, range(10 * MANY), 30_000)

    wait_until(lambda: len(broker.children()) == MANY + 1, "the end of the victims")
    wait_until(lambda: all_files(broker) == [], "no file is left")


def test_a_parent_that_is_killed_among_many_messages_leaves_nothing(make_broker, join, gather: Gather) -> None:
    """Its children end; what they had of a message is never followed by something else."""
    broker = make_broker()
    clients, producer = gather(broker), join(broker)
    publish(producer, range(20), 30_000)
    clients[0].expect("MESSAGE", body_of(0, 30_000))
    os.kill(broker.pid, signal.SIGKILL)

    for client in clients[1:]:
        with ExitStack() as stack:
            stack.enter_context(pytest.raises(AssertionError))
            for number in range(21):
                assert client.expect("MESSAGE").body == body_of(number, 30_000)
    wait_until(lambda: broker.children() == [], "the end of the children")


@pytest.mark.skipif(not HAS_OPENSSL, reason="openssl is not installed: no certificates")
def test_a_subscriber_with_tls_gets_the_same(make_broker, join, gather: Gather, tmp_path: Path) -> None:
    """It is read for it, as it has to be encrypted."""
    certificate, key = make_certificate(tmp_path, "broker")
    broker = make_broker(
        "--listen", "tls://127.0.0.1:0", "--tls-certificate", str(certificate), "--tls-key", str(key)
    )  # fmt: skip
    clients, producer = gather(broker), join(broker)
    port = next(int(address.rpartition(":")[2]) for address in broker.addresses if address.startswith("tls://"))
    context = ssl.create_default_context(cafile=str(certificate))
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port), 20.0), server_hostname="broker") as tls:
        tls.sendall(b"CONNECT\naccept-version:1.2\nhost:/\n\n\0")
        tls.sendall(b"SUBSCRIBE\nid:1\ndestination:%b\nreceipt:1\n\n\0" % TOPIC.encode())
        heard = b""
        while b"RECEIPT" not in heard or not heard.rstrip(b"\n").endswith(b"\0"):
            heard += tls.recv(65_536)
        publish(producer, range(30), 60_000)
        read_all(clients, range(30), 60_000)
        heard = b""
        while heard.count(b"\0") < 30:
            octets = tls.recv(65_536)
            assert octets
            heard += octets

    assert [frame.partition(b"\n\n")[2] for frame in heard.split(b"\0")[:30]] == [
        body_of(number, 60_000) for number in range(30)
    ]


def test_a_client_over_a_unix_socket_gets_the_same(make_broker, join, gather: Gather, tmp_path: Path) -> None:
    """sendfile(2) knows these as well."""
    path = tmp_path / "socket"
    broker = make_broker("--listen", f"unix:{path}")
    clients, producer = gather(broker), join(broker)
    with RawClient(str(path)) as client:
        client.login()
        client.subscribe(TOPIC, 1)
        publish(producer, range(200), 20_000)
        read_all([client, *clients], range(200), 20_000)


def test_few_descriptors_are_enough(make_broker, join, gather: Gather) -> None:
    """The child reads what it may not keep open."""
    broker = make_broker("--child-files", "17")
    clients, producer = [*gather(broker), *gather(broker, 1, receive_buffer=4096)], join(broker)
    publish(producer, range(100), 40_000)

    read_all(clients, range(100), 40_000)


@needs_files
def test_files_are_used_at_all(make_broker, join, gather: Gather) -> None:
    """The other tests would pass without."""
    broker = make_broker()
    clients, producer = gather(broker), join(broker)
    gather(broker, 1, receive_buffer=4096)
    publish(producer, range(100), 50_000)
    select.select([clients[0]], [], [], 10.0)

    wait_until(lambda: all_files(broker) != [], "a file for the one that does not read")
