"""Names of temporary destinations."""

from __future__ import annotations

import re

import pytest

from forkbroker.destinations import Sort
from forkbroker.session.errors import FrameError
from forkbroker.session.own_destinations import OwnDestinations
from forkbroker.session.policy import SessionPolicy
from forkbroker.wire.kinds import Flag

from .play import Client, frame


def connected(policy: SessionPolicy | None = None) -> Client:
    client = Client(policy=policy, session_id="me")
    client.connect()
    return client


def _renamed(own: OwnDestinations) -> list[str]:
    """Names that look like one of ours."""
    name = own.reply_name("/temp-queue/x")
    assert name is not None
    return [name + "y", name.replace("/reply-queue/", "/reply-queue/0"), name.replace(".x", ".y"), name[:-2]]


def test_a_temporary_queue_is_ours_by_name() -> None:
    """`/temp-queue/x` is shared as `/reply-queue/<key>.x`, under which we may subscribe to it as well."""
    client = connected()
    queue, topic = client.shared_name("/temp-queue/x"), client.shared_name("/temp-topic/x")
    client.do("SUBSCRIBE", destination="/temp-queue/x", id="1")
    client.do("SUBSCRIBE", destination=queue, id="2")
    client.do("SUBSCRIBE", destination="/temp-topic/x", id="3")
    client.do("SEND", destination="/temp-queue/x")
    envelopes = client.told()

    assert queue.startswith("/reply-queue/") and queue.endswith(".x")
    assert [e.destination for e in envelopes] == [queue.encode()] * 2 + [topic.encode(), queue.encode()]
    assert [bool(e.flags & Flag.TEMPORARY) for e in envelopes] == [True, True, False, False]


@pytest.mark.row("C07")
def test_what_everybody_sees_tells_no_name_of_a_temporary_queue() -> None:
    """Not the id of the session, which is in every message-id, nor the name of another temporary queue."""
    one, same, other = (OwnDestinations(secret, "error") for secret in (b"1" * 32, b"1" * 32, b"2" * 32))
    names = [own.reply_name("/temp-queue/x") for own in (one, same, other)]
    sibling, dotted = one.reply_name("/temp-queue/y"), one.reply_name("/temp-queue/y.x")
    client = connected()
    client.receive(frame("SEND", {"destination": "/topic/a", "reply-to": "/temp-queue/x"}, b"x"))
    (_, send) = client.told()

    assert names[0] == names[1] != names[2]
    assert len({str(name).split(".")[0] for name in (names[0], names[2], sibling, dotted)}) == 4
    assert bytes(send.block).count(b"me") == 1  # the rest of the message-id


@pytest.mark.parametrize("text", ["/reply-queue/you.x", "/reply-topic/you.x", "/remote-temp-queue/you.x", *range(4)])
def test_another_clients_temporary_destination_can_only_be_sent_to(text: str | int) -> None:
    """Whatever its name looks like."""
    own = OwnDestinations(b"me", "topic")
    if isinstance(text, int):
        text = _renamed(own)[text]

    assert own.for_send(text).sort in (Sort.REPLY_QUEUE, Sort.REPLY_TOPIC)
    with pytest.raises(FrameError, match="destination of another client"):
        own.for_subscribe(text)


def test_the_name_of_a_temporary_destination_is_a_key_of_16_octets_and_its_own_name() -> None:
    """Long enough that nobody can guess it."""
    name = OwnDestinations(b"s" * 32, "topic").reply_name("/temp-queue/r")

    assert name is not None
    assert re.fullmatch("/reply-queue/[0-9a-f]{32}[.]r", name)
