"""Messages of queues over plain HTTP: taken by one request, settled by another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from broker.test_users import configure
from support.deadline import wait_until
from support.rawclient import connect
from support.webclient import LISTEN
from support.webhttp import ask_http, basic, open_http, open_raw, read_answer

from forkbroker.testing.broker import RunningBroker


@pytest.fixture(scope="module")
def broker() -> Iterator[RunningBroker]:
    """One for all tests that want nothing special."""
    with RunningBroker(*LISTEN) as broker:
        yield broker
        assert broker.stop() == 0
        assert broker.survivors == []
        assert not [line for line in broker.log if "Traceback" in line]


def take(broker: RunningBroker, name: str, query: str = "wait=10", **headers: str) -> tuple[int, bytes, str]:
    """Status and body, and the key."""
    status, body, found = ask_http(broker, "GET", f"/queue/{name}?{query}", **headers)
    return status, body, found.get("stomp-ack", "")


def send(broker: RunningBroker, name: str, *bodies: bytes, **headers: str) -> None:
    with closing(open_http(broker)) as client:
        for body in bodies:
            client.request("POST", f"/queue/{name}", body, headers)
            assert read_answer(client.getresponse())[0] == 201


def test_a_message_is_taken_and_settled(broker: RunningBroker) -> None:
    """Each request comes over a connection of its own; the second settlement is one too many."""
    send(broker, "job", b"1", b"2")
    status, body, headers = ask_http(broker, "GET", "/any/prefix/queue/job?wait=10")

    assert (status, body) == (200, b"1")
    assert headers["stomp-destination"] == "/queue/job" and "stomp-redelivered" not in headers
    assert take(broker, "job")[1] == b"2"
    place = "/queue/job" + headers["location"]
    assert ask_http(broker, "DELETE", place)[0] == 204
    status, body, _ = ask_http(broker, "DELETE", place)
    assert status == 410 and b"settled before, or its lease is over" in body


def test_an_empty_queue_has_no_message(broker: RunningBroker) -> None:
    """At once, or when the time is over; nothing waits for a request that has its answer."""
    assert take(broker, "empty", "wait=0") == (204, b"", "")
    assert take(broker, "empty", "wait=0.1") == (204, b"", "")
    send(broker, "empty", b"later")
    assert take(broker, "empty", "wait=0")[:2] == (200, b"later")


def test_a_request_waits_for_a_message(broker: RunningBroker) -> None:
    """As long as it says; it gets one of many, and the others are everybody's."""
    found: list[tuple[int, bytes, str]] = []
    waiting = threading.Thread(target=lambda: found.append(take(broker, "late", "wait=60")))
    waiting.start()
    wait_until(lambda: any("1 subscription" in title for _, title in broker.children()), "a subscription")
    send(broker, "late", b"1", b"2", b"3")
    waiting.join()

    assert found[0][:2] == (200, b"1")
    with connect(broker.port) as worker:
        worker.subscribe("/queue/late")
        worker.expect_messages("2", "3")


def test_a_connection_takes_one_message_after_the_other(broker: RunningBroker) -> None:
    """In order, between other requests."""
    send(broker, "series", b"1", b"2", b"3")
    with closing(open_http(broker)) as client:
        for body in (b"1", b"2", b"3"):
            client.request("GET", "/queue/series?wait=10")
            status, found, headers = read_answer(client.getresponse())
            assert (status, found) == (200, body)
            client.request("DELETE", f"/queue/series?ack={headers['stomp-ack']}")
            assert read_answer(client.getresponse())[0] == 204


def test_what_is_given_back_comes_again(broker: RunningBroker) -> None:
    """At its old place, marked; or it is a dead letter, with the reason."""
    send(broker, "back", b"1", b"2")
    _, _, key = take(broker, "back")
    assert ask_http(broker, "POST", f"/queue/back?nack={key}")[0] == 204
    status, body, headers = ask_http(broker, "GET", "/queue/back?wait=10")
    assert (status, body) == (200, b"1")
    assert (headers["stomp-redelivered"], headers["stomp-delivery-count"]) == ("true", "2")
    path = f"/queue/back?nack={headers['stomp-ack']}&requeue=false&reason=no%20such%20page"
    assert ask_http(broker, "POST", path)[0] == 204
    _, body, headers = ask_http(broker, "GET", "/queue/DLQ?wait=10")
    assert (body, headers["stomp-reject-reason"]) == (b"1", "no such page")


def test_a_lease_ends(broker: RunningBroker) -> None:
    """The message comes again, and whoever had it is too late."""
    send(broker, "lease", b"1")
    _, _, first = take(broker, "lease", "wait=10&lease=0.2")
    status, body, second = take(broker, "lease", "wait=20")

    assert (status, body) == (200, b"1")
    assert ask_http(broker, "DELETE", f"/queue/lease?ack={first}")[0] == 410
    assert ask_http(broker, "DELETE", f"/queue/lease?ack={second}")[0] == 204


def test_a_client_that_goes_while_it_waits_takes_nothing(broker: RunningBroker) -> None:
    """Not even what comes in the same moment."""
    with open_raw(broker) as client:
        client.sendall(b"GET /queue/gone?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: any("1 subscription" in title for _, title in broker.children()), "a subscription")
    send(broker, "gone", b"1")

    status, body, headers = ask_http(broker, "GET", "/queue/gone?wait=10")
    assert (status, body) == (200, b"1")
    assert "stomp-redelivered" not in headers


def test_only_the_same_user_settles(make_broker: Callable[..., RunningBroker], tmp_path: Path) -> None:
    """Bob has no use for alice's key; and who may not read takes nothing."""
    tables = """
[permissions.user.alice]
read = "/queue/jobs"
write = "/queue/jobs"
create = "/queue/jobs"
"""
    broker = make_broker(*LISTEN, "--config", str(configure(tmp_path, ["alice", "bob"], tables)))
    alice, bob = {"Authorization": basic("alice", "alice")}, {"Authorization": basic("bob", "bob")}
    send(broker, "jobs", b"1", **alice)
    _, _, key = take(broker, "jobs", **alice)

    assert take(broker, "jobs", **bob)[0] == 403
    for wrong in (bob, {}):
        assert ask_http(broker, "DELETE", f"/queue/jobs?ack={key}", **wrong)[0] in (401, 410)
    assert ask_http(broker, "DELETE", f"/queue/jobs?ack={key}", **alice)[0] == 204


def test_a_restart_gives_back_what_was_taken(make_broker: Callable[..., RunningBroker], tmp_path: Path) -> None:
    """Marked, also if the broker ended in good order."""
    store = f"sqlite://{tmp_path}/queues.db"
    broker = make_broker(*LISTEN, "--store", store)
    send(broker, "kept", b"1", Persistent="true")
    _, _, key = take(broker, "kept")
    assert broker.stop() == 0

    broker = make_broker(*LISTEN, "--store", store)
    assert ask_http(broker, "DELETE", f"/queue/kept?ack={key}")[0] == 410
    _, body, headers = ask_http(broker, "GET", "/queue/kept?wait=10")
    assert (body, headers["stomp-redelivered"]) == (b"1", "true")
