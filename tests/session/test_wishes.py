"""What SEND asks for, in all dialects, up to the envelope."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.session import wishes as module
from forkbroker.session.dialects import MAX_NUMBER, HeaderError
from forkbroker.session.wishes import read_wishes
from forkbroker.wire.details import MAX_CRON, MAX_DEDUP_ID, MAX_MOMENT, MAX_REPEAT, MAX_SPAN, NO_WISHES, Wishes
from forkbroker.wire.envelope import Envelope
from forkbroker.wire.kinds import Flag, Kind

from .play import Client, frame

QUEUES = ["/queue/a", "/temp-queue/a", "/reply-queue/other.a"]


def connected() -> Client:
    client = Client()
    client.connect()
    return client


def send(destination: str = "/queue/a", **headers: object) -> Envelope:
    """The envelope of one SEND; `_` stands for itself in names."""
    client = connected()
    client.receive(frame("SEND", {"destination": destination, **headers}, b"x"))
    envelopes = client.told()
    assert envelopes, client.error().body
    return envelopes[-1]


def refusal(destination: str = "/queue/a", **headers: object) -> str:
    """The text of the ERROR that this SEND gets."""
    client = connected()
    client.receive(frame("SEND", {"destination": destination, **headers}, b"x"))
    assert client.told() == []
    got = client.error()
    return f"{got['message']}: {got.body.decode()}"


# Each header


@pytest.mark.row("J01")
@pytest.mark.parametrize(
    ("value", "is_asked_for"), [("true", True), ("True", True), ("false", False), ("FALSE", False)]
)
@pytest.mark.parametrize("destination", [*QUEUES, "/topic/a"])
def test_persistent_is_a_flag_of_the_envelope(destination: str, value: str, is_asked_for: bool) -> None:
    """No section: most persistent messages ask for nothing else."""
    envelope = send(destination, persistent=value)

    assert bool(envelope.flags & Flag.PERSISTENT) == is_asked_for
    assert not envelope.flags & Flag.SECTION
    assert f"persistent:{value}\n".encode() in envelope.block


@pytest.mark.row("J02")
@pytest.mark.parametrize(("value", "priority"), [("0", 0), ("4", 4), ("9", 9), ("10", 9), ("255", 9)])
def test_priority_is_0_to_9(value: str, priority: int) -> None:
    """What is above is as high as may be; the header itself passes."""
    envelope = send(priority=value)

    assert envelope.wishes == Wishes(priority=priority)
    assert bool(envelope.flags & Flag.SECTION) == (priority != 4)
    assert f"priority:{value}\n".encode() in envelope.block


@pytest.mark.row("J03")
@pytest.mark.parametrize(
    ("headers", "expires", "ttl"),
    [
        ({"expires": 1_800_000_000_000}, 1_800_000_000_000, 0),
        ({"expires": 0}, 0, 0),
        ({"expiration": 500}, 0, 500),
        ({"ttl": 501}, 0, 501),
        ({"expire-after": 2}, 0, 2000),
        ({"expire-after": 2, "ttl": 501, "expiration": 500}, 0, 500),
        ({"expire-after": 2, "ttl": 501}, 0, 501),
        ({"ttl": 501, "expires": 77}, 77, 501),
    ],
)
def test_expiry_in_each_dialect(headers: dict[str, object], expires: int, ttl: int) -> None:
    """A moment, a span, or both: the earlier one will hold."""
    assert send(**headers).wishes == Wishes(expires=expires, ttl=ttl)


@pytest.mark.row("J05")
@pytest.mark.parametrize(
    ("headers", "delay", "deliver_at"),
    [
        ({"AMQ_SCHEDULED_DELAY": 500}, 500, 0),
        ({"x-delay": 501}, 501, 0),
        ({"deliver-after": 2}, 2000, 0),
        ({"deliver-after": 2, "x-delay": 501, "AMQ_SCHEDULED_DELAY": 500}, 500, 0),
        ({"AMQ_SCHEDULED_TIME": 1_800_000_000_000}, 0, 1_800_000_000_000),
        ({"deliver-at": 1_800_000_000_001}, 0, 1_800_000_000_001),
        ({"run_after": 1_800_000_000}, 0, 1_800_000_000_000),
        ({"run_after": 3, "deliver-at": 2, "AMQ_SCHEDULED_TIME": 1}, 0, 1),
        ({"run_after": 3, "deliver-at": 2}, 0, 2),
        ({"deliver-at": 2, "x-delay": 7}, 7, 2),
        ({"x-delay": 0}, 0, 0),
    ],
)
@pytest.mark.parametrize("destination", QUEUES)
def test_delay_in_each_dialect(destination: str, headers: dict[str, object], delay: int, deliver_at: int) -> None:
    """Milliseconds, but for `deliver-after` and `run_after`, which were always seconds."""
    assert send(destination, **headers).wishes == Wishes(delay=delay, deliver_at=deliver_at)


@pytest.mark.row("J06")
@pytest.mark.parametrize(
    ("headers", "wishes"),
    [
        ({"AMQ_SCHEDULED_PERIOD": 50, "AMQ_SCHEDULED_REPEAT": 9}, Wishes(delay=50, period=50, repeat=9)),
        (
            {"AMQ_SCHEDULED_PERIOD": 50, "AMQ_SCHEDULED_REPEAT": 9, "AMQ_SCHEDULED_DELAY": 7},
            Wishes(delay=7, period=50, repeat=9),
        ),
        (
            {"AMQ_SCHEDULED_PERIOD": 50, "AMQ_SCHEDULED_REPEAT": 9, "AMQ_SCHEDULED_TIME": 7},
            Wishes(deliver_at=7, period=50, repeat=9),
        ),
        ({"AMQ_SCHEDULED_PERIOD": 50, "AMQ_SCHEDULED_REPEAT": " -1"}, Wishes(delay=50, period=50, repeat=-1)),
        ({"AMQ_SCHEDULED_PERIOD": 50}, Wishes(delay=50)),
        ({"AMQ_SCHEDULED_PERIOD": 50, "AMQ_SCHEDULED_REPEAT": 0}, Wishes(delay=50)),
        ({"AMQ_SCHEDULED_REPEAT": 0}, NO_WISHES),
    ],
)
def test_repetition_is_as_in_activemq(headers: dict[str, object], wishes: Wishes) -> None:
    """The first one comes after the delay, or else after a period; a period alone does not repeat."""
    assert send(**headers).wishes == wishes


@pytest.mark.row("J07")
def test_a_cron_line_is_passed_on() -> None:
    """With a delay, if there is one."""
    envelope = send(AMQ_SCHEDULED_CRON=" 0 4 * * MON ", AMQ_SCHEDULED_DELAY=5)

    assert envelope.wishes == Wishes(cron=b"0 4 * * MON", delay=5)
    assert send(AMQ_SCHEDULED_CRON="").wishes == NO_WISHES


@pytest.mark.row("J08")
@pytest.mark.parametrize("name", ["dedup-id", "uniqkey", "_AMQ_DUPL_ID", "MessageDeduplicationId"])
def test_deduplication_in_each_dialect(name: str) -> None:
    """The id; the header itself passes."""
    envelope = send(**{name: "żółw"})

    assert envelope.wishes == Wishes(dedup_id="żółw".encode())
    assert f"{name}:żółw\n".encode() in envelope.block
    assert send(**{name: ""}).wishes == NO_WISHES


@pytest.mark.row("J08")
def test_of_several_ids_the_first_in_the_documented_order_counts() -> None:
    """Our own one, then TheSchwartz, Artemis, SQS."""
    names = ["MessageDeduplicationId", "_AMQ_DUPL_ID", "uniqkey", "dedup-id"]
    headers = {name: name for name in names}
    found = []
    while headers:
        found.append(read_wishes(headers).dedup_id.decode())
        del headers[found[-1]]

    assert found == list(reversed(names))


# What is refused


@pytest.mark.row("S02")
@pytest.mark.parametrize(
    "name",
    [
        "priority",
        "expires",
        "expiration",
        "ttl",
        "expire-after",
        "AMQ_SCHEDULED_DELAY",
        "x-delay",
        "deliver-after",
        "AMQ_SCHEDULED_TIME",
        "deliver-at",
        "run_after",
        "AMQ_SCHEDULED_PERIOD",
        "AMQ_SCHEDULED_REPEAT",
    ],
)
@pytest.mark.parametrize("value", ["", "soon", "-2", "1.5", "+3"])
def test_what_is_no_number_is_refused(name: str, value: str) -> None:
    """The ERROR names the header."""
    assert refusal(**{name: value}).startswith(f"bad SEND: {name} is {value!r}")


LIMITS = [
    ("priority", MAX_NUMBER),
    ("expires", MAX_MOMENT),
    ("expiration", MAX_SPAN),
    ("ttl", MAX_SPAN),
    ("expire-after", MAX_SPAN // 1000),
    ("AMQ_SCHEDULED_DELAY", MAX_SPAN),
    ("x-delay", MAX_SPAN),
    ("deliver-after", MAX_SPAN // 1000),
    ("AMQ_SCHEDULED_TIME", MAX_MOMENT),
    ("deliver-at", MAX_MOMENT),
    ("run_after", MAX_MOMENT // 1000),
    ("AMQ_SCHEDULED_PERIOD", MAX_SPAN),
    ("AMQ_SCHEDULED_REPEAT", MAX_REPEAT),
]


@pytest.mark.row("S02")
@pytest.mark.parametrize(("name", "limit"), LIMITS)
def test_a_number_above_its_limit_is_refused_with_the_limit(name: str, limit: int) -> None:
    """By one, or by thousands of digits."""
    assert refusal(**{name: limit + 1}) == f"bad SEND: {name} is {limit + 1}, at most {limit:,} is permitted\n"
    assert f"(5,000 digits), at most {limit:,} is permitted" in refusal(**{name: "9" * 5_000})


@pytest.mark.row("S02")
@pytest.mark.parametrize(("name", "limit"), LIMITS)
def test_a_number_equal_to_its_limit_travels(name: str, limit: int) -> None:
    """Each has room in the envelope, and so has the sum of all that a router adds."""
    more = {"AMQ_SCHEDULED_PERIOD": 1} if name == "AMQ_SCHEDULED_REPEAT" else {}
    wishes = send(**{name: limit}, **more).wishes

    assert wishes.expires + wishes.ttl + wishes.delay + wishes.deliver_at + wishes.period < 2**62


@pytest.mark.row("J08")
@pytest.mark.parametrize("name", ["dedup-id", "uniqkey"])
def test_a_dedup_id_of_the_largest_size_is_permitted(name: str) -> None:
    """The limit counts octets, not characters."""
    whole = "é" * (MAX_DEDUP_ID // 2) + "x"

    assert send(**{name: whole}).wishes.dedup_id == whole.encode()
    assert f"{MAX_DEDUP_ID + 1} bytes, at most {MAX_DEDUP_ID}" in refusal(**{name: whole + "x"})


@pytest.mark.row("J07")
def test_a_cron_line_of_the_largest_size_is_permitted() -> None:
    """An octet more is not."""
    line = ",".join(["0"] * 124) + " * * * *"
    assert len(line) == MAX_CRON

    assert send(AMQ_SCHEDULED_CRON=line).wishes.cron == line.encode()
    assert f"more than {MAX_CRON} bytes" in refusal(AMQ_SCHEDULED_CRON="0" + line)


@pytest.mark.row("J06", "J07")
@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"AMQ_SCHEDULED_REPEAT": 3}, "AMQ_SCHEDULED_PERIOD (milliseconds) is missing or 0"),
        ({"AMQ_SCHEDULED_REPEAT": 3, "AMQ_SCHEDULED_PERIOD": 0}, "AMQ_SCHEDULED_PERIOD (milliseconds) is missing or 0"),
        ({"AMQ_SCHEDULED_REPEAT": -1}, "AMQ_SCHEDULED_PERIOD (milliseconds) is missing or 0"),
        ({"AMQ_SCHEDULED_REPEAT": MAX_REPEAT + 1, "AMQ_SCHEDULED_PERIOD": 1}, f"at most {MAX_REPEAT:,}"),
        ({"AMQ_SCHEDULED_CRON": "often"}, "AMQ_SCHEDULED_CRON: 'often' has 1 fields"),
        ({"AMQ_SCHEDULED_CRON": "61 * * * *"}, "Bad minute"),
        ({"AMQ_SCHEDULED_CRON": "* * * * *" + " " * MAX_CRON + "x"}, f"more than {MAX_CRON} bytes"),
        ({"AMQ_SCHEDULED_CRON": "* * * * *", "AMQ_SCHEDULED_PERIOD": 1}, "cannot be combined with a delivery time"),
        ({"AMQ_SCHEDULED_CRON": "* * * * *", "AMQ_SCHEDULED_TIME": 1}, "cannot be combined with a delivery time"),
        ({"dedup-id": "x" * (MAX_DEDUP_ID + 1)}, f"at most {MAX_DEDUP_ID}"),
    ],
)
def test_what_makes_no_sense_is_refused(headers: dict[str, object], text: str) -> None:
    """Rather than guessed at."""
    assert text in refusal(**headers)


@pytest.mark.row("J07")
def test_without_the_library_a_cron_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else needs it."""
    monkeypatch.setattr("forkbroker.cron.HAS_CRON", False)

    assert r"pip install forkbroker[cron]" in refusal(AMQ_SCHEDULED_CRON="* * * * *")
    assert send(AMQ_SCHEDULED_DELAY=5).wishes.delay == 5


@pytest.mark.row("J05")
@pytest.mark.parametrize(
    "headers",
    [
        {"x-delay": 1},
        {"deliver-at": 1},
        {"AMQ_SCHEDULED_PERIOD": 1},
        {"AMQ_SCHEDULED_CRON": "* * * * *"},
    ],
)
@pytest.mark.parametrize("destination", ["/topic/a", "a", "/temp-topic/a", "/reply-topic/other.a"])
def test_messages_to_topics_can_not_wait(destination: str, headers: dict[str, object]) -> None:
    """Nobody would know who is to get them."""
    text = refusal(destination, **headers)

    assert text.startswith(f"only messages to queues can be delayed: '{destination}' is not a queue")


@pytest.mark.row("J03")
def test_messages_to_topics_carry_all_else() -> None:
    """For durable subscriptions."""
    envelope = send("/topic/a", **{"ttl": 5, "priority": 7, "dedup-id": "x", "x-delay": 0})

    assert envelope.wishes == Wishes(ttl=5, priority=7, dedup_id=b"x")


# In numbers


def test_messages_that_ask_for_different_things_travel_apart() -> None:
    """All messages of an envelope share what they ask for."""
    client = connected()
    for headers in ({}, {"n": 1}, {"ttl": 5}, {"ttl": 5, "n": 1}, {"ttl": 5, "persistent": "true"}, {"ttl": 6}):
        client.receive(frame("SEND", {"destination": "/queue/a", **headers}, b"x"))
    envelopes = client.told()

    assert [(e.count, e.wishes.ttl, bool(e.flags & Flag.PERSISTENT)) for e in envelopes] == [
        (2, 0, False),
        (2, 5, False),
        (1, 5, True),
        (1, 6, False),
    ]


@pytest.mark.row("J08")
def test_a_message_with_an_id_travels_alone() -> None:
    """Its id concerns one message. A receipt on each is told behind the last of them."""
    client = connected()
    client.receive(
        *[frame("SEND", {"destination": "/queue/a", "dedup-id": "x", "receipt": n}, b"%d" % n) for n in range(3)],
        *[frame("SEND", {"destination": "/queue/a"}, b"y")] * 2,
    )
    envelopes = client.told()

    assert [(e.kind, e.count, e.wishes.dedup_id) for e in envelopes] == [(Kind.SEND, 1, b"x")] * 3 + [
        (Kind.SEND, 2, b"")
    ]
    assert [bytes(piece) for e in envelopes for piece in e.pieces()] == [b"0", b"1", b"2", b"y", b"y"]
    client.pass_fence()
    assert [got["receipt-id"] for got in client.read()] == ["0", "1", "2"]


def test_transactions_keep_what_their_messages_ask_for() -> None:
    """Each part as if it had been sent without."""
    client = connected()
    client.do("BEGIN", transaction="t")
    for headers in ({}, {"persistent": "true"}, {"dedup-id": "x"}, {"dedup-id": "x"}):
        client.receive(frame("SEND", {"destination": "/queue/a", "transaction": "t", **headers}, b"x"))
    client.do("COMMIT", transaction="t")
    (transaction,) = client.told()
    parts = transaction.nested()

    assert [(e.count, bool(e.flags & Flag.PERSISTENT), e.wishes.dedup_id) for e in parts] == [
        (1, False, b""),
        (1, True, b""),
        (1, False, b"x"),
        (1, False, b"x"),
    ]
    assert transaction.count == 4


def test_headers_are_read_once_for_each_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once for each message."""
    reads = []

    def count(headers: object, *args: object) -> Wishes:
        reads.append(headers)
        return Wishes(ttl=5)

    monkeypatch.setattr("forkbroker.session.publishing.read_wishes", count)
    client = connected()
    client.receive(*[frame("SEND", {"destination": "/queue/a", "ttl": 5}, b"x")] * 100)

    assert [e.count for e in client.told()] == [100]
    assert len(reads) == 1


@given(st.dictionaries(st.sampled_from(sorted(module._NAMES)), st.text(max_size=20)))
def test_any_values_are_understood_or_refused(headers: dict[str, str]) -> None:
    """With the one error; what is understood fits into an envelope."""
    try:
        wishes = read_wishes(headers)
    except HeaderError:
        return
    assert wishes.pack()
    assert wishes.is_delayed == bool(wishes.delay or wishes.deliver_at or wishes.cron)
