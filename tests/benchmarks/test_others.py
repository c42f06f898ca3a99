"""The comparison with other servers: what it counts, what it notices, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import memory
import processes
import pytest
from compare import Comparison, markdown, table
from others import generator
from others.beanstalk import Beanstalk
from others.clients import AT_HAND, NOTHING, Storage, Topics, Work
from others.generator import Connection, Producer, Subscriber, Worker, body, flow, last_body
from others.nats import Nats
from others.redis import Redis
from others.rows import ROWS, Effort
from others.servers import SERVERS, Server
from others.stomp import Stomp
from processes import HERE, MeasurementError

_SECONDS = 0.02
_BY_NAME = {server.name: server for server in SERVERS}


def _installed(name: str) -> object:
    server = _BY_NAME[name]
    marks = [pytest.mark.skipif(bool(server.missing), reason=f"install {server.package}")]
    # its start takes most of the time
    marks += [pytest.mark.slow] if name == "RabbitMQ" else []
    return pytest.param(server, id=name, marks=marks)


@pytest.mark.parametrize("server", [_installed(name) for name in _BY_NAME])
def test_each_row_that_a_server_has_is_measured(server: Server, tmp_path: Path) -> None:
    """With the real server, each row for a moment."""
    file = tmp_path / "figures.json"
    command = [sys.executable, str(HERE / "compare.py"), "--quick", "--server", server.name, "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    found = json.loads(file.read_text())

    assert found["failures"] == []
    assert done.returncode == 0
    assert found["versions"] == {server.name: server.version}
    assert server.version
    # twenty connections can be less than a page
    figures = {row["name"]: row["figures"][server.name] for row in found["rows"] if row["figures"]}
    measured = {name for name, (figure,) in figures.items() if figure > 0 or name == "idle"}
    assert measured == {row.name for row in ROWS if isinstance(server.client, row.needs)}


@pytest.mark.parametrize("server", [_installed(name) for name in _BY_NAME if name != "RabbitMQ"])
def test_a_server_ends_with_its_context_and_its_data_goes(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the measurement fails."""
    monkeypatch.setattr(processes, "BUILD", tmp_path)
    with pytest.raises(ZeroDivisionError), server.start(stored=True) as broker:
        Connection((broker.host, broker.port), server.client).close()

        assert list(tmp_path.iterdir())
        raise ZeroDivisionError

    assert list(tmp_path.iterdir()) == []
    assert broker.pid not in memory.parents()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((broker.host, broker.port))


@pytest.mark.skipif(not memory.parents(), reason="needs Linux's /proc")
def test_nothing_stays_of_a_comparison_that_is_told_to_end() -> None:
    """By SIGTERM, in the middle of a row."""
    command = [sys.executable, str(HERE / "compare.py"), "--server", "forkbroker", "--only", "work", "--seconds", "60"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as comparison:
        deadline = time.monotonic() + 60
        family: set[int] = set()
        while sum(memory.has_title(process, memory.CLIENT) for process in family) < 2:
            assert time.monotonic() < deadline, "producer and worker are not connected"
            time.sleep(0.05)
            family = memory.family_of(comparison.pid)
        comparison.terminate()

        assert comparison.wait(30) == 128 + signal.SIGTERM
    assert not family & set(memory.parents())


def test_a_server_that_is_not_installed_is_left_out_with_the_reason() -> None:
    """And the package that has it."""
    absent = replace(_BY_NAME["NATS"], program="no-such-server")

    assert absent.missing == "no-such-server is not installed (Debian: nats-server)"


@pytest.mark.skipif(bool(_BY_NAME["Redis"].missing), reason=f"install {_BY_NAME['Redis'].package}")
def test_a_server_that_cannot_start_fails_with_its_last_words(tmp_path: Path) -> None:
    """It is not waited for."""
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\necho 'no room' >&2\nexit 3\n")
    program.chmod(0o755)
    broken = replace(_BY_NAME["Redis"], program=str(program))

    comparison = Comparison([broken], [row for row in ROWS if row.name == "work"], Effort(_SECONDS, 1))
    comparison.measure_round()

    assert "no room" in comparison.failures["work", "Redis"]
    assert "| failed |" in markdown(table(comparison))


def test_what_a_protocol_does_not_have_is_a_dash() -> None:
    """beanstalkd has no topics, Mosquitto no work."""
    comparison = Comparison(
        [_BY_NAME["beanstalkd"]], [row for row in ROWS if row.name == "ping-pong"], Effort(_SECONDS, 1)
    )
    comparison.figures["work", "beanstalkd"] = [1.0, 3.0, 2.0]

    assert table(comparison)[1][-1] == "–"  # noqa: RUF001 - as in the table
    assert [comparison.median(row, _BY_NAME["beanstalkd"]) for row in ROWS if row.name == "work"] == [2.0]
    assert [isinstance(_BY_NAME["Mosquitto"].client, part) for part in (Topics, Work, Storage)] == [True, False, False]


_STREAMS: dict[str, tuple[Work, bytes, bytes]] = {
    "STOMP": (
        Stomp(),
        b"MESSAGE\nack:7-1\nmessage-id:0-a\n\nxx\0\nMESSAGE\nack:7-2\nmessage-id:1-a\n\nyy\0\n",
        b"ACK\nid:7-1\n\n\0ACK\nid:7-2\n\n\0",
    ),
    "NATS": (
        Nats(),
        b"MSG q.out 1 $JS.ACK.q.1 2\r\nxx\r\nPING\r\nMSG q.out 1 $JS.ACK.q.2 2\r\nyy\r\n",
        b"PUB $JS.ACK.q.1 4\r\n+ACK\r\nPUB $JS.ACK.q.2 4\r\n+ACK\r\n",
    ),
    "Redis": (
        Redis(),
        b":1\r\n*1\r\n*2\r\n$1\r\nq\r\n*2\r\n"
        b"*2\r\n$3\r\n9-0\r\n*2\r\n$1\r\nb\r\n$2\r\nxx\r\n*2\r\n$3\r\n9-1\r\n*2\r\n$1\r\nb\r\n$2\r\nyy\r\n",
        b"*4\r\n$4\r\nXACK\r\n$1\r\nq\r\n$7\r\nworkers\r\n$3\r\n9-0\r\n"
        b"*4\r\n$4\r\nXACK\r\n$1\r\nq\r\n$7\r\nworkers\r\n$3\r\n9-1\r\n" + Redis().ask(b"q"),
    ),
    "beanstalkd": (
        Beanstalk(),
        b"DELETED\r\nRESERVED 1 2\r\nxx\r\nRESERVED 2 2\r\nyy\r\n",
        b"delete 1\r\nreserve\r\ndelete 2\r\nreserve\r\n",
    ),
}


@pytest.mark.parametrize("name", _STREAMS)
@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_each_message_is_acknowledged_once_however_it_comes(name: str, piece: int) -> None:
    """Octet by octet, in pieces, at once."""
    client, stream, expected = _STREAMS[name]
    rest, messages, replies = b"", 0, b""
    for place in range(0, len(stream), piece):
        rest += stream[place : place + piece]
        settled = client.settle(b"q", rest)
        rest = rest[settled.used :]
        messages += settled.messages
        replies += settled.reply

    assert (messages, replies) == (2, expected)


def test_a_worker_that_asks_for_each_job_asks_for_as_many_as_it_can_have() -> None:
    """beanstalkd gives one for each question."""
    assert Beanstalk().ask(b"q").count(b"reserve") == AT_HAND


class _Bare:
    """A protocol without a login: octets go through."""

    login = NOTHING


@contextlib.contextmanager
def _passing_on(change: Callable[[int, bytes], bytes]) -> Iterator[tuple[Connection, Connection]]:
    """Producer and subscriber of a server that passes on what `change` makes of the octets that come at a place."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as source, listener.accept()[0] as target:
            place = 0
            while octets := source.recv(65536):
                target.sendall(change(place, octets))
                place += len(octets)

    server = threading.Thread(target=serve)
    server.start()
    address = listener.getsockname()[:2]
    with contextlib.ExitStack() as stack:
        near, far = (stack.enter_context(contextlib.closing(Connection(address, _Bare()))) for _ in range(2))
        yield near, far
    server.join(10)


def _flow(near: Connection, far: Connection) -> float:
    producer = Producer(near, body(100) * 10, 10, last_body(100), 1000)
    return flow(producer, [Subscriber(far, 100)], _SECONDS)


def test_all_that_is_sent_is_counted() -> None:
    """The last message included."""
    with _passing_on(lambda _place, octets: octets) as (near, far):
        assert _flow(near, far) > 0


def test_a_message_that_is_lost_is_noticed() -> None:
    """One of many."""
    with (
        _passing_on(lambda place, octets: octets if place else octets[100:]) as (near, far),
        pytest.raises(MeasurementError, match="lost: "),
    ):
        _flow(near, far)


def test_a_server_that_stops_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the deadline."""
    monkeypatch.setattr(generator, "DEADLINE_S", 0.2)
    with (
        _passing_on(lambda _place, octets: b"") as (near, far),
        pytest.raises(MeasurementError, match="came to a stop: 0 of "),
    ):
        _flow(near, far)


def test_no_more_is_under_way_than_the_window() -> None:
    """Whatever a server would take."""
    most = []

    def watch(place: int, octets: bytes) -> bytes:
        most.append(len(octets))
        return octets

    with _passing_on(watch) as (near, far):
        flow(Producer(near, body(100) * 10, 10, last_body(100), 20), [Subscriber(far, 100)], _SECONDS)

    # and the last message
    assert max(most) <= 2100


def test_a_worker_that_misses_a_message_is_noticed() -> None:
    """They are counted one by one."""
    message, last = (b"RESERVED 1 100\r\n%b\r\n" % text for text in (body(100), last_body(100)))
    with (
        _passing_on(lambda place, octets: octets if place else octets[len(message) :]) as (near, far),
        pytest.raises(MeasurementError, match="lost: "),
    ):
        flow(Producer(near, message * 10, 10, last, 100), [Worker(far, Beanstalk(), b"q")], _SECONDS)


def test_the_documents_have_the_rows_and_the_servers() -> None:
    """As they are measured now."""
    text = (HERE.parent / "docs" / "benchmarks.md").read_text()

    assert [row.title for row in ROWS if f"| {row.title} | {row.unit.value} |" not in text] == []
    assert [server.name for server in SERVERS if f"\n| {server.name} |" not in text] == []
