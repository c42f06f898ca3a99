"""Names of deliveries: what they mean, and what was never one."""

from __future__ import annotations

import pytest

from forkbroker.session.session import State

from .play import Client, frame, sent


def holding(version: str = "1.2", session_id: str = "s1") -> Client:
    """A client with one unsettled message."""
    client = Client(version, session_id=session_id)
    client.connect()
    token = client.subscribe("/queue/a", "client")
    client.offer(sent("/queue/a", b"x"), token)
    client.told()
    client.read()
    return client


@pytest.mark.row("A11")
@pytest.mark.parametrize(
    "name", ["", "1", "-", "a-b", "1-1", "0-0", "9" * 5000 + "-1", "1-" + "9" * 5000, "\u0661-\u0661", "-1-1"]
)
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_a_name_that_was_never_given_out_is_an_error(version: str, name: str) -> None:
    """However long or odd it is."""
    client = holding(version)
    header = "id" if version == "1.2" else "message-id"
    client.receive(frame("ACK", {header: name, "subscription": "1"}))

    assert client.error()["message"] in ("unknown delivery", f"missing header {header}")


@pytest.mark.row("A11")
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_a_name_of_another_connection_settles_nothing(version: str) -> None:
    """A client that acknowledges late, on its next connection, must not settle what it got there."""
    old, new = holding(version, "s1"), holding(version, "s2")
    header = "id" if version == "1.2" else "message-id"
    name = old.inbox[-1]["ack" if version == "1.2" else "message-id"]
    new.receive(frame("ACK", {header: name, "subscription": "1"}))

    assert new.error()["message"] == "unknown delivery"


@pytest.mark.row("A11")
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
@pytest.mark.parametrize("beyond", ["token", "delivery"])
def test_a_name_that_comes_later_is_an_error(version: str, beyond: str) -> None:
    """It has the right form, but was not given out yet."""
    client = holding(version)
    got = client.inbox[-1]
    *rest, token, delivery = (got["ack"] if version == "1.2" else got["message-id"]).split("-")
    name = [*rest, str(int(token) + (beyond == "token")), str(int(delivery) + (beyond == "delivery"))]
    client.receive(frame("ACK", {"id" if version == "1.2" else "message-id": "-".join(name), "subscription": "1"}))

    assert client.error()["message"] == "unknown delivery"


def test_the_name_in_force_is_taken() -> None:
    """The control of the tests above."""
    client = holding()
    client.do("ACK", id=client.inbox[-1]["ack"])

    assert client.session.state is State.CONNECTED
    assert len(client.told()) == 1


def test_many_cumulative_acks_cost_no_more_than_what_they_settle() -> None:
    """The deliveries are in order: the walk ends at the one that is named."""
    client = Client()
    client.connect()
    token = client.subscribe("/queue/a", "client")
    for _ in range(10):
        client.offer(sent("/queue/a", *[b"x"] * 100), token)
    names = [got["ack"] for got in client.read()]
    for name in names:
        client.do("ACK", id=name)

    assert len(next(iter(client.session._subscriptions)).unsettled) == 0
