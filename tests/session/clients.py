"""Clients that have come so far: connected, subscribed, with deliveries to be settled; and what the parent was told."""

from __future__ import annotations

from forkbroker.session.policy import SessionPolicy
from forkbroker.wire.kinds import Kind, Outcome

from .play import Client, sent


def connected(version: str = "1.2", policy: SessionPolicy | None = None) -> Client:
    client = Client(version, policy)
    client.connect()
    return client


def consuming(
    version: str = "1.2",
    ack: str = "client",
    messages: int = 3,
    policy: SessionPolicy | None = None,
    **headers: object,
) -> tuple[Client, int]:
    """A client with so many unsettled messages of a queue, of serials 11, 12, …"""
    client = connected(version, policy)
    token = client.subscribe("/queue/a", ack, **headers)
    for n in range(messages):
        client.offer(sent("/queue/a", b"%d" % n), token, serial=11 + n)
    client.told()
    client.read()
    return client, token


def unsettled(
    destination: str = "/queue/a",
    ack: str = "client-individual",
    messages: int = 3,
    policy: SessionPolicy | None = None,
) -> tuple[Client, list[str]]:
    """A client with so many unsettled messages, of serials 1, 2, …, and the names that an ACK gives them."""
    client = connected(policy=policy)
    token = client.subscribe(destination, ack)
    batch = sent(destination, *(b"%d" % n for n in range(messages)))
    if destination.startswith("/queue/"):
        client.offer(batch, token)
    else:
        client.forward(batch)
    client.told()
    return client, [got["ack"] for got in client.read()]


def ack_of(client: Client, n: int) -> dict[str, object]:
    """The headers of an ACK of the n-th message that the client got."""
    got = [f for f in client.inbox if f.command == "MESSAGE"][n]
    if client.version == "1.2":
        return {"id": got["ack"]}
    return {"message-id": got["message-id"]} | ({"subscription": "1"} if client.version == "1.1" else {})


def settled(client: Client) -> list[tuple[int, int, Outcome]]:
    """All settlements that the parent was told."""
    return [entry for e in client.told() if e.kind is Kind.SETTLE for entry in e.settlements()]


def subscribed(
    destination: str,
    ack: str = "auto",
    policy: SessionPolicy | None = None,
    *,
    client: Client | None = None,
    **headers: object,
) -> tuple[Client, int]:
    client = client or Client(policy=policy)
    client.connect()
    return client, client.subscribe(destination, ack, **headers)


def kinds(client: Client) -> list[Kind]:
    return [e.kind for e in client.told()]
