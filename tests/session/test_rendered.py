"""Frames that the parent has made for many: a client gets what its own process would have made of the envelope."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.files import make_file, needs_memory_files

from forkbroker.session.policy import SessionPolicy
from forkbroker.session.topic_delivery import SlowSubscriberError
from forkbroker.wire.envelope import Buffer, Envelope
from forkbroker.wire.kinds import Kind
from forkbroker.wire.rendering import FILE_OCTETS, FILE_RECEIVERS, LARGE, Frames, render

from .clients import subscribed
from .play import Client, frame, joined, sent

VERSIONS = ["1.0", "1.1", "1.2"]
OPENING = b"MESSAGE\nsubscription:1\n"
FEW = FILE_RECEIVERS - 1


def in_a_file(frames: list[Buffer] | None) -> Envelope:
    """As it comes to a child that gets it with a descriptor."""
    assert isinstance(frames, Frames)
    envelope = Envelope(frames.head)
    envelope.file = make_file(bytes(joined(frames).payload))
    assert envelope.file.size == envelope.number
    return envelope


def rendered(envelope: Envelope, opening: bytes = OPENING) -> Envelope:
    """The frames, which there have to be."""
    buffers = render(envelope, opening, FEW)
    assert buffers is not None
    return joined(buffers)


def published(sender: str, stream: bytes) -> list[Envelope]:
    """The envelopes that this stream of SENDs becomes."""
    publisher = Client(sender)
    publisher.connect()
    publisher.receive(stream)
    return [envelope for envelope in publisher.told() if envelope.kind is Kind.SEND]


_LINES = st.dictionaries(st.sampled_from(["n", "ä", "c\\d"]), st.text("xä\\", max_size=3), max_size=2)


@given(
    st.sampled_from(VERSIONS), st.sampled_from(VERSIONS), st.lists(st.tuples(_LINES, st.binary(max_size=9)), min_size=1)
)
def test_it_is_what_the_child_would_have_made(sender: str, receiver: str, messages) -> None:
    """To the last octet, where there is something; else the envelope goes down as it is."""

    def written(text: str) -> str:
        return text if sender == "1.0" else text.replace("\\", "\\\\")

    stream = b""
    for headers, body in messages:
        lines = {written(name): written(value) for name, value in headers.items()}
        stream += frame("SEND", {"destination": "/topic/a", "content-length": len(body)} | lines, body)
    client = Client(receiver)
    client.connect()
    client.subscribe("/topic/a")
    for envelope in published(sender, stream):
        client.forward(envelope)
        plain = client.raw()
        buffers = render(envelope, OPENING, FEW)
        if buffers is not None:
            client.forward(joined(buffers))
            assert client.raw() == plain


@pytest.mark.parametrize("bodies", [(b"one",), (b"one", b"two"), (b"one", b"three")])
def test_plain_messages_are_rendered(bodies: tuple[bytes, ...]) -> None:
    """Alone, of one length, and of several."""
    client, _ = subscribed("/topic/a")
    client.forward(rendered(sent("/topic/a", *bodies)))

    assert [got.body for got in client.read()] == list(bodies)
    assert client.session.unwritten.delivered == len(bodies)


@pytest.mark.parametrize(
    "headers",
    [{"name": "a\\cb"}, {"expires": "99999999999999"}, {"name": "ä"}],
)
def test_what_each_receiver_has_to_look_at_is_not(headers: dict[str, object]) -> None:
    """Escapes, a time to live, and header lines that are not ASCII."""
    assert render(sent("/topic/a", b"x", headers=headers), OPENING, FEW) is None


def test_large_bodies_are_not_for_a_few() -> None:
    """They would be copied for it."""
    assert render(sent("/topic/a", bytes(LARGE)), OPENING, FEW) is None
    assert render(sent("/topic/a", bytes(LARGE - 1000)), OPENING, FEW) is not None


@pytest.mark.parametrize("headers", [{}, {"name": "mixed"}])
@pytest.mark.parametrize("octets", [FILE_OCTETS // 20, FILE_OCTETS])
def test_what_is_much_goes_to_many_in_a_file(octets: int, headers: dict[str, object]) -> None:
    """A batch, and large bodies, with the same header lines or with others: what the client gets is the same."""
    bodies = [b"%d" % number * octets for number in range(10, 30)]
    envelopes = published(
        "1.2",
        b"".join(
            frame("SEND", {"destination": "/topic/a", "content-length": len(body)} | headers, body) for body in bodies
        )
        + frame("SEND", {"destination": "/topic/a"}, b"another"),
    )
    client, _ = subscribed("/topic/a")
    for envelope in envelopes:
        client.forward(envelope)
    plain = client.raw()
    made = [render(envelope, OPENING, FILE_RECEIVERS) for envelope in envelopes]
    for buffers in made:
        client.forward(joined(buffers))
        assert client.session.unwritten.files == 0
    assert client.raw() == plain
    for buffers in made:
        client.forward(in_a_file(buffers) if isinstance(buffers, Frames) else joined(buffers))
    assert client.session.unwritten.files == sum(isinstance(buffers, Frames) for buffers in made) > 0
    assert client.raw() == plain


@pytest.mark.parametrize(("octets", "receivers"), [(FILE_OCTETS - 1000, 100), (FILE_OCTETS, FILE_RECEIVERS - 1)])
def test_little_and_few_need_no_file(octets: int, receivers: int) -> None:
    """Handing it over would cost more than the copies."""
    buffers = render(sent("/topic/a", *[bytes(octets // 4)] * 4), OPENING, receivers)

    assert type(buffers) is list


@needs_memory_files
def test_nothing_of_a_file_is_read_or_made_before_it_is_wanted() -> None:
    """All receivers get the same one."""
    frames = render(sent("/topic/a", bytes(FILE_OCTETS)), OPENING, FILE_RECEIVERS)
    assert isinstance(frames, Frames)

    assert frames.file() is frames.file()
    assert frames.file() is not None


def test_a_file_is_closed_when_nobody_wants_it() -> None:
    """The subscription has ended; the descriptor that came goes with the envelope."""
    client, _ = subscribed("/topic/a")
    client.do("UNSUBSCRIBE", id="1")
    envelope = in_a_file(render(sent("/topic/a", bytes(FILE_OCTETS)), OPENING, FILE_RECEIVERS))
    fd = envelope.file.fd
    client.forward(envelope)
    del envelope

    assert client.read() == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_no_more_files_wait_than_may_be_open() -> None:
    """What is in others is read; the client gets all of it in order."""
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_files=2))
    bodies = [b"%d" % number * FILE_OCTETS for number in range(5)]
    for body in bodies:
        client.forward(in_a_file(render(sent("/topic/a", body), OPENING, FILE_RECEIVERS)))

    assert client.session.unwritten.files == 2
    assert [got.body for got in client.read()] == bodies
    assert client.session.unwritten.files == 0


@pytest.mark.parametrize("policy", ["disconnect", "drop-oldest", "hold"])
@pytest.mark.parametrize("is_in_a_file", [True, False])
def test_who_is_slow_is_so_whether_it_is_in_a_file_or_not(policy: str, is_in_a_file: bool) -> None:
    """What waits is counted in the octets of the frames."""
    limit = 6 * FILE_OCTETS
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=limit, slow_subscribers=policy))
    received = 0
    with suppress(SlowSubscriberError):
        for number in range(9):
            frames = render(sent("/topic/a", b"%d" % number * FILE_OCTETS), OPENING, FILE_RECEIVERS)
            topics = client.session._topics
            topics.receive(in_a_file(frames) if is_in_a_file else joined(frames), 0.0)
            received += 1

    assert (received, topics.dropped) == {"disconnect": (5, 0), "drop-oldest": (9, 4), "hold": (9, 0)}[policy]
    assert [envelope.kind for envelope in client.told()] == [Kind.CONGESTED] * (policy != "drop-oldest")
    if policy == "drop-oldest":
        assert client.session.unwritten.files == 5 * is_in_a_file


def test_a_subscription_that_has_ended_gets_nothing() -> None:
    """The parent did not know yet: nor does another one get it that the client has made since."""
    client, _ = subscribed("/topic/a")
    message = rendered(sent("/topic/a", b"x"))
    client.do("UNSUBSCRIBE", id="1")
    client.do("SUBSCRIBE", id="1", destination="/topic/a")
    client.forward(message)
    assert client.read() == []

    client.pass_fence()
    client.forward(message)
    assert [got.body for got in client.read()] == [b"x"]


def test_another_subscription_of_the_client_gets_nothing_of_it() -> None:
    """It begins its frames otherwise; if the parent knew of it, it would not have sent this."""
    client, _ = subscribed("/topic/a")
    client.subscribe("/topic/a", subscription_id="2")
    client.forward(rendered(sent("/topic/a", b"x")))

    assert [got["subscription"] for got in client.read()] == ["1"]


@pytest.mark.parametrize(
    ("destination", "ack", "headers", "opening"),
    [
        ("/topic/a", "auto", {}, OPENING),
        ("/topic/*", "auto", {}, b""),
        ("/topic/a", "client", {}, b""),
        ("/queue/a", "auto", {}, b""),
        ("/topic/a", "auto", {"id": "x" * 300}, b""),
    ],
)
def test_the_parent_is_told_how_frames_begin_where_others_may_have_the_same(
    destination: str, ack: str, headers: dict[str, object], opening: bytes
) -> None:
    """Not of patterns, of what is acknowledged, of queues, and of long ids."""
    client = Client()
    client.connect()
    client.do("SUBSCRIBE", **{"id": "1", "destination": destination, "ack": ack, **headers})

    (envelope,) = client.told()
    assert envelope.block == opening


def test_a_slow_subscriber_is_one_by_these_as_well() -> None:
    """They count as what waits, and may be dropped."""
    client, _ = subscribed("/topic/a", policy=SessionPolicy(max_client_buffer=1000, slow_subscribers="drop-oldest"))
    for number in range(10):
        client.forward(rendered(sent("/topic/a", b"%d" % number * 200)))

    assert client.session._topics.dropped > 0
    assert client.read()[-1].body == b"9" * 200


@pytest.mark.parametrize(
    ("destination", "headers", "expected"),
    [("/queue/q", {}, False), ("/topic/t", {"durable-subscription-name": "d"}, False), ("/topic/t", {}, True)],
)
def test_only_who_has_subscribed_to_a_topic_may_get_frames(destination, headers, expected) -> None:
    """The process is told before its SUBSCRIBE goes up; a worker's reads stay as cheap as they are."""
    client = Client()
    client.connect(client_id="c")
    client.do("SUBSCRIBE", id="1", destination=destination, **headers)

    assert client.session.upward.asks_for_frames is expected
