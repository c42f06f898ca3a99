"""MESSAGE frames: what a client of each version makes of what a client of each version has sent."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.session.messages import Messages, message_opening
from forkbroker.session.policy import SessionPolicy
from forkbroker.stomp.versions import V10, V11, V12
from forkbroker.wire.details import Details, Reason
from forkbroker.wire.envelope import Buffer, Envelope, pack
from forkbroker.wire.kinds import Flag, Kind

from .play import Client, Got, frame, joined, read_frames, sent

VERSIONS = ["1.0", "1.1", "1.2"]


def through(
    sender: str, receiver: str, *frames: bytes, ack: str = "auto", policy: SessionPolicy | None = None
) -> list[Got]:
    """What a topic's subscriber gets of these frames."""
    publisher, subscriber = Client(sender, policy, session_id="pub"), Client(receiver, session_id="sub")
    publisher.connect()
    subscriber.connect()
    subscriber.subscribe("/topic/a", ack)
    publisher.receive(*frames)
    assert not publisher.session.ending.is_over, publisher.session.reason
    for envelope in publisher.told():
        subscriber.forward(envelope)
    return subscriber.read()


@pytest.mark.row("S03", "F18", "F19", "F20", "F21")
@pytest.mark.parametrize(
    ("sender", "written", "meant"),
    [
        ("1.0", ("a\\n", "b\\c:c\\"), ("a\\n", "b\\c:c\\")),
        ("1.1", ("a\\cb", "c\\nd\\\\e\\cf"), ("a:b", "c\nd\\e:f")),
        ("1.2", ("a\\c\\\\b", "\\r\\n\\c\\\\"), ("a:\\b", "\r\n:\\")),
        ("1.2", ("plain", "with : colon"), ("plain", "with : colon")),
        ("1.2", ("ключ", "значение"), ("ключ", "значение")),
    ],
)
@pytest.mark.parametrize("receiver", VERSIONS)
def test_user_headers_reach_the_message_in_each_version(
    sender: str, receiver: str, written: tuple[str, str], meant: tuple[str, str]
) -> None:
    """Names and values; 1.0 gets a space for what it can't write."""
    (got,) = through(sender, receiver, frame("SEND", {"destination": "/topic/a", written[0]: written[1]}, b"x"))
    name, value = meant
    if receiver == "1.0":
        name, value = name.replace("\n", " ").replace(":", " "), value.replace("\n", " ")

    assert got.headers[name] == value
    assert got.body == b"x"
    assert got.repeated == []


@pytest.mark.row("S03")
@pytest.mark.parametrize("receiver", VERSIONS)
def test_batches_of_different_headers_are_translated_too(receiver: str) -> None:
    """Each message of a mixed batch has lines of its own, and a body that may look like lines."""
    frames = [
        frame("SEND", {"destination": "/topic/a", "n": f"{n}\\c{n}"}, b"\n\na:b\\n\n\n" + b"%d" % n) for n in range(5)
    ]
    got = through("1.2", receiver, *frames)

    assert [f["n"] for f in got] == [f"{n}:{n}" for n in range(5)]
    assert [f.body for f in got] == [b"\n\na:b\\n\n\n%d" % n for n in range(5)]


@pytest.mark.row("S04")
@pytest.mark.parametrize(
    "name",
    [
        "receipt",
        "message-id",
        "subscription",
        "ack",
        "redelivered",
        "delivery-count",
        "JMSXUserID",
        "original-destination",
        "dead-letter-reason",
        "reject-reason",
    ],
)
def test_what_is_the_servers_is_not_forwarded(name: str) -> None:
    """A client can't fake it."""
    (got,) = through("1.2", "1.2", frame("SEND", {"destination": "/topic/a", name: "fake", "mine": "1"}, b"x"))

    assert "fake" not in got.headers.values()
    assert got.repeated == []
    assert got["mine"] == "1"


@pytest.mark.row("S04")
def test_the_name_of_a_transaction_is_not_forwarded() -> None:
    """It concerns the sender alone."""
    publisher = Client()
    publisher.connect()
    publisher.do("BEGIN", transaction="t")
    publisher.do("SEND", b"x", destination="/topic/a", transaction="t")
    publisher.do("COMMIT", transaction="t")
    (envelope,) = publisher.told()

    assert b"transaction" not in bytes(envelope.payload)


@pytest.mark.row("S05")
def test_content_type_is_forwarded_and_not_invented() -> None:
    """Its absence means opaque bytes."""
    typed, untyped = through(
        "1.2",
        "1.2",
        frame("SEND", {"destination": "/topic/a", "content-type": "text/x;charset=utf-8"}, b"x"),
        frame("SEND", {"destination": "/topic/a"}, b"x"),
    )

    assert typed["content-type"] == "text/x;charset=utf-8"
    assert "content-type" not in untyped.headers


@pytest.mark.row("S05", "S06")
@pytest.mark.parametrize("is_always", [True, False])
@pytest.mark.parametrize("bodies", [[b"x"], [b"x", b"yy"], [b"aa", b"bb"]])
def test_content_length_is_there_always_or_as_the_sender_had_it(is_always: bool, bodies: list[bytes]) -> None:
    """A setting decides for frames that came without."""
    policy = SessionPolicy(content_length_always=is_always)
    without = through(
        "1.2", "1.2", *(frame("SEND", {"destination": "/topic/a"}, body) for body in bodies), policy=policy
    )
    (with_it,) = through(
        "1.2", "1.2", frame("SEND", {"destination": "/topic/a", "content-length": 3}, b"a\0b"), policy=policy
    )

    assert [f.headers.get("content-length") for f in without] == [str(len(b)) if is_always else None for b in bodies]
    assert with_it["content-length"] == "3"
    assert with_it.body == b"a\0b"


@pytest.mark.row("S07", "S09")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("subscription_id", ["1", "a:b\\c", None])
def test_a_message_names_destination_id_and_subscription(version: str, subscription_id: str | None) -> None:
    """The subscription by the client's id, if it gave one."""
    if subscription_id is None and version != "1.0":
        return
    client = Client(version)
    client.connect()
    written = subscription_id if version == "1.0" or subscription_id is None else "a\\cb\\\\c"
    client.subscribe("a.*", subscription_id=written)
    client.forward(sent("/topic/a.b", b"x"))
    (got,) = client.read()

    assert got["destination"] == "/topic/a.b"
    assert got["message-id"] == "0-pub-1"
    expected = {None: None, "1": "a:b\\c", "a:b\\c": "a:b\\c"}[subscription_id] if version != "1.0" else subscription_id
    assert got.headers.get("subscription") == expected


@pytest.mark.row("S09")
def test_the_destination_is_the_text_that_was_sent_to() -> None:
    """Not the name that we understood by it."""
    (got,) = through("1.2", "1.2", frame("SEND", {"destination": "a"}, b"x"))

    assert got["destination"] == "a"


@pytest.mark.row("S08")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ack", ["auto", "client", "client-individual"])
def test_the_ack_header_is_there_in_12_when_the_client_acknowledges(version: str, ack: str) -> None:
    """And only then."""
    if version == "1.0" and ack == "client-individual":
        return
    (got,) = through("1.2", version, frame("SEND", {"destination": "/topic/a"}, b"x"), ack=ack)

    assert ("ack" in got.headers) == (version == "1.2" and ack != "auto")


@pytest.mark.row("S10")
@pytest.mark.parametrize("version", VERSIONS)
def test_two_subscriptions_get_one_message_under_two_names(version: str) -> None:
    """In 1.0 and 1.1 the message-id ends in the delivery's name, in 1.2 that is the ack header."""
    client = Client(version)
    client.connect()
    for n in "12":
        client.subscribe("/topic/a", "client", n)
    client.forward(sent("/topic/a", b"x"))
    first, second = client.read()
    names = [got["ack"] if version == "1.2" else got["message-id"] for got in (first, second)]

    assert names[0] != names[1]
    if version == "1.2":
        assert first["message-id"] == second["message-id"] == "0-pub-1"
    else:
        assert all(name.startswith("0-pub-1-") for name in names)


@pytest.mark.row("S11")
def test_message_ids_are_unique_over_messages_batches_and_sessions() -> None:
    """A session's id is unguessable, so they are over restarts, too."""
    ids = set()
    for session in ("one", "two"):
        publisher, subscriber = Client(session_id=session), Client(session_id="sub")
        publisher.connect()
        subscriber.connect()
        subscriber.subscribe("/topic/a")
        for _ in range(3):
            publisher.receive(*(frame("SEND", {"destination": "/topic/a"}, b"x" * n) for n in range(1, 1500)))
            for envelope in publisher.told():
                subscriber.forward(envelope)
        ids |= {got["message-id"] for got in subscriber.read()}

    assert len(ids) == 2 * 3 * 1499


@pytest.mark.row("A07")
def test_redelivery_is_told_from_the_second_time_on() -> None:
    """With the number of this delivery."""
    client = Client()
    client.connect()
    token = client.subscribe("/queue/a", "client")
    message = sent("/queue/a", b"x")
    client.offer(message, token, deliveries=0)
    client.offer(message, token, deliveries=2)
    first, third = client.read()

    assert "redelivered" not in first.headers
    assert "delivery-count" not in first.headers
    assert (third["redelivered"], third["delivery-count"]) == ("true", "3")


@pytest.mark.row("A07", "J10")
@pytest.mark.parametrize("deliveries", [0, 2])
def test_what_was_in_the_store_when_the_broker_crashed_may_be_a_second_time(deliveries: int) -> None:
    """How often it was delivered is said only as far as it is known."""
    client = Client()
    client.connect()
    token = client.subscribe("/queue/a", "client")
    message = joined(pack_recovered(sent("/queue/a", b"x")))
    client.offer(message, token, deliveries=deliveries)
    (got,) = client.read()

    assert got["redelivered"] == "true"
    assert got.headers.get("delivery-count") == ("3" if deliveries else None)


def pack_recovered(message: Envelope) -> list[Buffer]:
    """As the store gives it back."""
    return pack(
        Kind.PAGE,
        flags=message.flags | Flag.RECOVERED,
        count=message.count,
        destination=message.destination,
        block=message.block,
        payload=[message.payload],
    )


@pytest.mark.row("J04")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ack", ["auto", "client"])
def test_a_message_tells_when_it_expires(version: str, ack: str) -> None:
    """In milliseconds since the epoch, whichever header its sender used; never the sender's own `expires`."""
    client = Client(version)
    client.connect()
    token = client.subscribe("/queue/a", ack)
    client.offer(sent("/queue/a", b"x", headers={"ttl": 5}), token, details=Details(expires=1_800_000_000_000))
    client.offer(sent("/queue/a", b"x", headers={"expires": 7}), token, details=Details(priority=7))
    expiring, other = client.read()

    assert expiring["expires"] == "1800000000000"
    assert expiring["ttl"] == "5"
    assert "expires" not in other.headers


@pytest.mark.row("J04")
def test_messages_of_topics_tell_it_as_well() -> None:
    """What their sender said; a span would have to be counted from their arrival at the broker."""
    told, untold = through(
        "1.2",
        "1.2",
        frame("SEND", {"destination": "/topic/a", "expires": 1_800_000_000_000}, b"x"),
        frame("SEND", {"destination": "/topic/a", "ttl": 5, "expires": 0}, b"x"),
    )

    assert told["expires"] == "1800000000000"
    assert "expires" not in untold.headers


@pytest.mark.row("S03", "J10")
def test_what_a_sender_asked_for_reaches_the_message_as_it_was_written() -> None:
    """Headers of its own, but for those that the broker sets."""
    asked = {"persistent": "true", "priority": "7", "AMQ_SCHEDULED_DELAY": "5", "dedup-id": "x", "ttl": "500"}
    client = Client()
    client.connect()
    token = client.subscribe("/queue/a")
    client.offer(sent("/queue/a", b"x", headers=dict(asked)), token)
    (got,) = client.read()

    assert {name: got.headers.get(name) for name in asked} == asked


@pytest.mark.row("J09")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("is_mixed", [False, True])
def test_a_dead_letter_tells_where_it_comes_from_and_why(version: str, is_mixed: bool) -> None:
    """Its destination is the dead letter queue, once; the rest is as it was sent."""
    publisher = Client()
    publisher.connect()
    for n in range(2):
        publisher.do("SEND", b"%d" % n, destination="/queue/a\\\\b", n=n if is_mixed else 0, e="1\\c2")
    (message,) = publisher.told()
    client = Client(version)
    client.connect()
    token = client.subscribe("/queue/DLQ", "client")
    details = Details(reason=Reason.DELIVERIES, origin=b"/queue/a\\b", reject_reason="Ä:\\n".encode())
    client.offer(message, token, first=1, count=1, queue=b"/queue/DLQ", details=details, deliveries=3)
    (got,) = client.read()

    assert bool(message.flags & Flag.MIXED) == is_mixed
    assert got["destination"] == "/queue/DLQ"
    assert got["original-destination"] == "/queue/a\\b"
    assert got["dead-letter-reason"] == "deliveries"
    assert got["reject-reason"] == "Ä:\\n"
    assert got["n"] == ("1" if is_mixed else "0")
    assert got["e"] == "1:2"
    assert got.body == b"1"
    assert got.repeated == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ack", ["auto", "client"])
def test_a_part_of_a_large_batch_keeps_its_numbers(version: str, ack: str) -> None:
    """An offer may begin anywhere in a batch of 1,024."""
    publisher, client = Client(session_id="pub"), Client(version)
    publisher.connect()
    client.connect()
    token = client.subscribe("/queue/a", ack)
    publisher.receive(*(frame("SEND", {"destination": "/queue/a"}, b"%04d" % n) for n in range(1024)))
    (message,) = [e for e in publisher.told() if e.count > 1][-1:]
    last = message.count - 1
    client.offer(message, token, first=last - 5, count=6)
    got = client.read()

    assert [f["message-id"].split("-")[0] for f in got] == [str(n) for n in range(last - 5, last + 1)]
    assert [f.body for f in got] == [bytes(piece) for piece in message.pieces()[-6:]]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("headers", [{}, {"n": "a\\cb"}])
def test_a_very_large_body_arrives(version: str, headers: dict[str, object]) -> None:
    """Alone, and between small ones."""
    large = random.Random(1).randbytes(1_000_000)
    names = {"destination": "/topic/a", **headers}
    stream = b"".join(frame("SEND", {**names, "content-length": len(b)}, b) for b in (b"a", large, b"b"))

    assert [f.body for f in through("1.2", version, stream)] == [b"a", large, b"b"]


@pytest.mark.parametrize("version", VERSIONS)
def test_large_bodies_without_content_length_arrive(version: str) -> None:
    """Runs of one header block and different sizes are put together."""
    stream = b"".join(
        frame("SEND", {"destination": "/topic/a", "h": "\\\\"}, b"x" * n) for n in (10, 200_000, 20, 50_000)
    )

    assert [len(f.body) for f in through("1.2", version, stream)] == [10, 200_000, 20, 50_000]


def test_an_opening_without_id_has_no_subscription() -> None:
    """And one with an id is escaped for its version."""
    assert message_opening(None, V10) == b"MESSAGE\n"
    assert message_opening("a:b", V12) == message_opening("a:b", V11) == b"MESSAGE\nsubscription:a\\cb\n"
    assert message_opening("a:b", V10) == b"MESSAGE\nsubscription:a:b\n"


def test_numbers_beyond_the_largest_batch_are_numbers_all_the_same() -> None:
    """The index is the parent's, and only the table of numbers ends."""
    message = sent("/topic/a", b"x")
    message.index = 5000

    assert b"message-id:5000-" in b"".join(Messages(message, V12).frames(b"MESSAGE\n", 0, 1))


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@given(
    st.dictionaries(_TEXT.filter(bool).map("h{}".format), _TEXT, max_size=4),
    st.sampled_from(["1.1", "1.2"]),
    st.sampled_from(["1.1", "1.2"]),
)
def test_any_headers_survive_between_versions_that_escape(headers: dict[str, str], sender: str, receiver: str) -> None:
    """CR is the exception in what 1.1 can write, and stands raw there."""

    def written(text: str) -> str:
        text = text.replace("\\", "\\\\").replace("\n", "\\n").replace(":", "\\c")
        return text.replace("\r", "\\r" if sender == "1.2" else "")

    def meant(text: str) -> str:
        return text if sender == "1.2" else text.replace("\r", "")

    expected = {}
    for name, value in headers.items():
        expected.setdefault(meant(name), meant(value))
    lines = {"destination": "/topic/a", **{written(name): written(value) for name, value in headers.items()}}
    (got,) = through(sender, receiver, frame("SEND", lines, b"body"))

    assert {name: value for name, value in got.headers.items() if name in expected} == expected


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=30), st.booleans(), st.sampled_from(VERSIONS))
def test_any_bodies_arrive_in_order(bodies: list[bytes], are_mixed: bool, receiver: str) -> None:
    """Whatever octets they have, in one batch or several."""
    stream = b"".join(
        frame("SEND", {"destination": "/topic/a", "content-length": len(body), "n": n if are_mixed else 0}, body)
        for n, body in enumerate(bodies)
    )

    assert [got.body for got in through("1.2", receiver, stream)] == bodies


def test_frames_of_an_envelope_are_read_back() -> None:
    """The columns interleave to frames that a strict reader takes."""
    client = Client()
    client.connect()
    client.subscribe("/topic/a")
    message = Envelope(sent("/topic/a", b"x", b"y").raw)
    subscription = next(iter(client.session._subscriptions))
    got = read_frames(b"".join(Messages(message, V12).frames(subscription.opening, 1, 1)), "1.2")

    assert [(f["message-id"], f.body) for f in got] == [("1-pub-1", b"y")]


# Octets of 1.0


ODD = "\udcff\udce4:\udc80"
"""Header text of a 1.0 client that is not UTF-8, as this file writes frames."""


def received(receiver: str, *envelopes: Envelope, ack: str = "auto", queue: bytes = b"", **offer: object) -> bytes:
    """What a client is written when these are forwarded, or offered from a queue."""
    client = Client(receiver)
    client.connect()
    token = client.subscribe("/queue/a" if queue else "/topic/#", ack)
    for envelope in envelopes:
        if queue:
            client.offer(envelope, token, queue=queue, **offer)  # type: ignore[arg-type]
        else:
            client.forward(envelope)
    return client.raw()


@pytest.mark.row("F13")
@pytest.mark.parametrize("receiver", ["1.1", "1.2"])
@pytest.mark.parametrize("ack", ["auto", "client"])
@pytest.mark.parametrize("headers", [{"h": ODD}, {ODD: "v"}, {"h": "\udc9f", "e": "a\\\udcff"}])
@pytest.mark.parametrize("destination", ["/topic/a", "/topic/\udcff"])
def test_what_a_1_0_client_writes_beyond_utf_8_is_utf_8_for_others(
    receiver: str, ack: str, headers: dict[str, object], destination: str
) -> None:
    """Names, values and destinations; bodies are not touched."""
    publisher = Client("1.0")
    publisher.connect()
    publisher.receive(frame("SEND", {"destination": destination, **headers}, b"\xff"))
    raw = received(receiver, *publisher.told(), ack=ack)

    head, _, body = raw.partition(b"\n\n")
    text = head.decode()  # strict
    assert body.startswith(b"\xff\0")
    assert ("destination:/topic/ÿ" in text) == (destination != "/topic/a")
    assert "\udcff" not in text and ("ÿ" in text or "\x9f" in text)


@pytest.mark.row("F13")
@pytest.mark.parametrize("receiver", VERSIONS)
def test_single_messages_of_a_batch_are_readable_too(receiver: str) -> None:
    """Where each has header lines of its own; a 1.0 client gets the octets."""
    publisher = Client("1.0")
    publisher.connect()
    publisher.receive(*[frame("SEND", {"destination": "/topic/a", "h": h}, b"\xe4") for h in ("\udcff", "x", "ä")])
    (envelope,) = publisher.told()
    raw = received(receiver, envelope)

    expected = [b"h:\xff\n" if receiver == "1.0" else "h:ÿ\n".encode(), b"h:x\n", "h:ä\n".encode()]
    assert envelope.flags & Flag.MIXED
    assert all(line in raw for line in expected)
    assert raw.count(b"\n\n\xe4\0") == 3


@pytest.mark.row("F13")
@pytest.mark.parametrize("receiver", ["1.1", "1.2"])
def test_where_a_dead_letter_failed_is_utf_8(receiver: str) -> None:
    """The broker writes the name of the queue itself."""
    details = Details(reason=Reason.REJECTED, origin=b"/queue/\xff")
    raw = received(receiver, sent("/queue/\udcff", b"x", version="1.0"), queue=b"/queue/DLQ", details=details)

    assert "original-destination:/queue/ÿ\n".encode() in raw
    raw.decode()


@pytest.mark.row("F13")
def test_between_1_0_clients_octets_pass() -> None:
    """As they were written."""
    raw = received("1.0", sent("/topic/\udcff", b"x", version="1.0", headers={"\udcfe": "\udcfd"}))

    assert b"destination:/topic/\xff\n" in raw
    assert b"\xfe:\xfd\n" in raw


@given(st.binary(min_size=1, max_size=20), st.sampled_from(["1.1", "1.2"]))
def test_a_client_that_requires_utf_8_never_gets_anything_else(octets: bytes, receiver: str) -> None:
    """Whatever octets a 1.0 client puts into a header."""
    value = octets.translate(None, b"\n\r\0 \t").decode("utf-8", "surrogateescape")
    raw = received(receiver, sent("/topic/a", b"x", version="1.0", headers={"h": value}))

    raw.decode()


def test_a_plain_message_to_the_last_octet() -> None:
    """Nothing is put in that it does not need."""
    client = Client()
    client.connect()
    token = client.subscribe("/queue/a")
    client.offer(sent("/queue/a", b"x"), token)

    assert client.raw() == (
        b"MESSAGE\nsubscription:1\nmessage-id:0-pub-1\ndestination:/queue/a\ncontent-length:1\n\nx\0\n"
    )


@pytest.mark.parametrize(("size", "is_joined"), [(16_383, True), (16_384, False)])
def test_large_bodies_are_not_copied(size: int, is_joined: bool) -> None:
    """Small ones are, as that saves more than it costs."""
    client = Client()
    client.connect()
    token = client.subscribe("/queue/a")
    client.offer(sent("/queue/a", bytes(size)), token)

    assert (len(client.session.unwritten.gather()) == 1) is is_joined
