"""The order of replies, the end of a session, and what the parent orders."""

from __future__ import annotations

import math
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkbroker.errors import EnvelopeError
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.session import CLOSING_S, HALF_CLOSED_S
from forkbroker.session.topic_delivery import CATCH_UP_S
from forkbroker.wire.kinds import Flag, Kind

from .play import Client, frame, joined, sent


def connected(version: str = "1.2", policy: SessionPolicy | None = None, **headers: object) -> Client:
    client = Client(version, policy)
    client.connect(**headers)
    return client


# Receipts, errors, order


@pytest.mark.row("R02")
def test_a_receipt_waits_for_its_fence() -> None:
    """Not before the parent has routed the message."""
    client = connected()
    client.do("SEND", destination="/queue/a", receipt="r1")
    early = client.read()
    (envelope,) = client.told()
    client.pass_fence()

    assert early == []
    assert envelope.flags & Flag.FENCE
    assert [got.headers for got in client.read()] == [{"receipt-id": "r1"}]


@pytest.mark.row("R01")
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_every_frame_but_connect_gets_its_receipt_in_order(version: str) -> None:
    """With an empty body, whatever the parent had to do for it."""
    client = connected(version)
    client.do("BEGIN", transaction="t", receipt="r1")
    client.do("SEND", destination="/queue/a", transaction="t", receipt="r2")
    client.do("SEND", destination="/queue/a", receipt="r3")
    client.do("COMMIT", transaction="t", receipt="r4")
    client.do("SUBSCRIBE", destination="/topic/a", id="1", receipt="r5")
    client.do("UNSUBSCRIBE", id="1", receipt="r6")
    client.do("BEGIN", transaction="t", receipt="r7")
    client.do("ABORT", transaction="t", receipt="r8")
    client.do("DISCONNECT", receipt="r9")
    client.told()
    client.pass_fence()
    got = client.read()

    assert [(f.command, f["receipt-id"], f.body) for f in got] == [("RECEIPT", f"r{n}", b"") for n in range(1, 10)]
    assert client.session.ending.is_over


@pytest.mark.row("R01")
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_a_receipt_id_may_have_any_character(version: str) -> None:
    """It is escaped on its way back."""
    client = connected(version)
    client.do("BEGIN", transaction="t", receipt="a\\cb\\n\\\\c é")

    assert client.read()[0]["receipt-id"] == "a:b\n\\c é"


def test_a_10_receipt_id_is_taken_as_it_is() -> None:
    """No escapes in 1.0: colon and backslash are themselves."""
    client = connected("1.0")
    client.do("BEGIN", transaction="t", receipt="a:b\\n")

    assert client.read()[0]["receipt-id"] == "a:b\\n"


@pytest.mark.row("R02", "R04", "E02")
def test_an_error_stands_behind_the_receipts_of_what_came_before() -> None:
    """And what came before is processed, what comes after is not."""
    client = connected()
    client.receive(
        frame("SEND", {"destination": "/queue/a", "receipt": "r1"}, b"1"),
        frame("SEND", {"destination": "/topic/a"}, b"2"),
        frame("BEGIN", {"transaction": "t", "receipt": "r2"}),
        frame("SEND", {"receipt": "r3"}, b"bad"),
        frame("SEND", {"destination": "/queue/a", "receipt": "r4"}, b"3"),
    )
    envelopes = client.told()
    early = client.read()
    client.pass_fence()
    got = client.read()

    assert [e.destination for e in envelopes] == [b"/queue/a", b"/topic/a"]
    assert early == []
    assert [(f.command, f["receipt-id"]) for f in got] == [("RECEIPT", "r1"), ("RECEIPT", "r2"), ("ERROR", "r3")]
    assert client.session.ending.is_over


@pytest.mark.row("R04", "F08", "F10")
def test_a_malformed_frame_ends_what_the_good_ones_began() -> None:
    """The parser's fault becomes the same kind of ERROR."""
    client = connected()
    client.receive(
        frame("SEND", {"destination": "/topic/a"}, b"1"), frame("SEND", {"content-length": "x", "receipt": "r"})
    )
    error = client.error()

    assert error["receipt-id"] == "r"
    assert len(client.told()) == 1


@pytest.mark.row("E01")
def test_an_error_explains_itself() -> None:
    """A short message, a body of plain text, and its length."""
    client = connected()
    client.do("SEND")
    error = client.error()

    assert error["message"] == "missing header destination"
    assert error["content-type"] == "text/plain"
    assert int(error["content-length"]) == len(error.body) > 10
    assert b"Traceback" not in error.body


@pytest.mark.row("E01")
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_what_a_client_wrote_does_no_harm_in_an_error(version: str) -> None:
    """One line of quoted text, no longer than it needs to be; the reason for the log as well."""
    client = connected(version)
    evil = "/nowhere/\\n\\c" + "x" * 5000
    client.do("SUBSCRIBE", destination=evil, id="1", receipt="a\\\\b")
    error = client.error()

    assert error.body.count(b"\n") == 1
    assert len(error.body) < 600
    assert "\n" not in client.session.reason


@pytest.mark.row("E03", "F12")
@pytest.mark.parametrize("command", ["MESSAGE", "RECEIPT", "ERROR", "CONNECTED", "send", "SENDX", "NOPE"])
def test_an_unknown_command_is_an_error(command: str) -> None:
    """The server's own commands and wrong letters as well (F12)."""
    client = connected()
    client.do(command, receipt="r")
    error = client.error()

    assert error["message"] == "unknown command"
    assert error["receipt-id"] == "r"


@pytest.mark.row("E04", "U04")
def test_a_refusal_by_the_parent_is_an_error_that_names_the_frame() -> None:
    """The receipts of earlier frames are out; those of later ones will never be."""
    client = connected()
    client.do("SEND", destination="/queue/a", receipt="r1")
    client.do("SUBSCRIBE", destination="/queue/b", id="1", receipt="r2")
    client.do("SEND", destination="/queue/a", receipt="r3")
    fences = [e.number for e in client.told()]
    client.pass_fence(fences[0])
    client.down(Kind.REFUSED, number=fences[1], block=b"queue /queue/b cannot be made")
    got = client.read()

    assert [(f.command, f["receipt-id"]) for f in got] == [("RECEIPT", "r1"), ("ERROR", "r2")]
    assert got[1].body == b"queue /queue/b cannot be made\n"
    assert client.session.ending.is_over


@pytest.mark.row("E02")
def test_a_second_refusal_says_nothing_more() -> None:
    """ERROR is the last frame of a connection."""
    client = connected()
    client.do("SEND", b"1", destination="/queue/a")
    client.do("SEND", b"2", destination="/queue/b")
    client.down(Kind.REFUSED, block=b"full")
    client.down(Kind.REFUSED, block=b"full, too")
    client.down(Kind.CLOSE, block=b"bye")

    assert client.error().body == b"full\n"


@pytest.mark.row("S02")
@pytest.mark.parametrize("destination", ["", "/queue/", "/nowhere/a", "/topic/a.*", "/queue/a.#"])
def test_a_send_that_can_not_be_processed_is_an_error(destination: str) -> None:
    """And closes."""
    client = connected()
    client.do("SEND", destination=destination, receipt="r")

    assert client.error()["receipt-id"] == "r"


# DISCONNECT and the end


@pytest.mark.row("R05")
def test_disconnect_waits_for_all_that_came_before() -> None:
    """Later frames are ignored, and nothing more is read."""
    client = connected()
    client.receive(
        frame("SEND", {"destination": "/queue/a"}, b"1"),
        frame("DISCONNECT", {"receipt": "bye"}),
        frame("SEND", {"destination": "/queue/a"}, b"2"),
        b"garbage without an end",
    )
    envelopes = client.told()

    assert [e.count for e in envelopes if e.kind is Kind.SEND] == [1]
    assert not client.session.wants_input
    assert client.read() == []
    assert not client.session.ending.is_over

    client.pass_fence()

    assert [f["receipt-id"] for f in client.read()] == ["bye"]
    assert client.session.ending.is_over
    assert client.session.reason == "client sent DISCONNECT"


@pytest.mark.row("R05")
def test_the_end_of_input_behind_disconnect_takes_nothing_away() -> None:
    """A client that closes its side at once gets its receipt as well."""
    client = connected()
    client.do("DISCONNECT", receipt="bye")
    client.session.end_of_input(client.now)
    client.told()
    client.pass_fence()

    assert [f["receipt-id"] for f in client.read()] == ["bye"]


@pytest.mark.row("R05")
def test_a_parent_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    """The session ends by itself."""
    client = connected()
    client.do("DISCONNECT", receipt="bye")
    client.wait(CLOSING_S + 0.1)

    assert client.session.ending.is_over


@pytest.mark.row("R03", "C16")
def test_what_came_before_the_end_of_input_is_processed() -> None:
    """And gets its receipts, if anybody still reads them."""
    client = connected()
    client.receive(
        *(frame("SEND", {"destination": "/queue/a", "receipt": n}, b"x") for n in range(1000)), b"SEND\nhalf"
    )
    client.session.end_of_input(client.now)
    envelopes = client.told()
    client.pass_fence()

    assert sum(e.count for e in envelopes) == 1000
    assert len(client.read()) == 1000
    assert client.session.ending.is_over


@pytest.mark.row("C16")
def test_a_half_closed_client_gets_its_topics_for_a_while() -> None:
    """Nobody can tell it from one that is gone, so not for ever."""
    client = connected()
    client.subscribe("/topic/a")
    client.session.end_of_input(client.now)
    client.forward(sent("/topic/a", b"x"))
    got = client.read()
    client.wait(HALF_CLOSED_S - 0.1)
    before = client.session.ending.is_over
    client.wait(0.2)

    assert [f.body for f in got] == [b"x"]
    assert not before
    assert client.session.ending.is_over
    assert client.session.reason == "client closed the connection"


@pytest.mark.row("C16")
def test_a_half_closed_client_gives_its_queues_up_at_once() -> None:
    """It can't acknowledge any more."""
    client = connected()
    token = client.subscribe("/queue/a", "client")
    client.session.end_of_input(client.now)
    envelopes = client.told()
    client.offer(sent("/queue/a", b"x"), token)

    assert [(e.kind, e.token) for e in envelopes] == [(Kind.UNSUBSCRIBE, token)]
    assert client.claims == []
    assert [e.kind for e in client.told()] == [Kind.PASSED]


def test_a_half_closed_session_does_not_spin() -> None:
    """Beats that are overdue wake nobody in a session that only waits for its end."""
    client = connected(heart_beat="10,10")
    client.subscribe("/topic/a")
    client.now += 9
    client.session.end_of_input(client.now)

    assert client.session.deadline() == client.now + HALF_CLOSED_S


@pytest.mark.row("R03")
def test_a_lost_connection_leaves_what_it_has_sent() -> None:
    """The envelopes go up although the session is over."""
    client = connected()
    client.do("SEND", b"1", destination="/queue/a")
    client.session.connection_lost("connection reset")

    assert [e.kind for e in client.told()] == [Kind.SEND]
    assert client.session.reason == "connection reset"


@pytest.mark.row("R06", "A06")
def test_what_is_written_behind_the_last_word_is_settled() -> None:
    """Messages in front of a DISCONNECT's receipt count as delivered when the kernel takes them, even then."""
    client = connected()
    token = client.subscribe("/queue/a")
    client.offer(sent("/queue/a", b"x"), token, serial=5)
    client.told()
    client.do("DISCONNECT", receipt="bye")
    client.told()
    client.pass_fence()
    finished = client.session.ending.is_over
    client.read()

    assert finished
    assert [list(e.settlements()) for e in client.told()] == [[(5, 1, 1)]]


def test_leaving_tells_figures_and_reason() -> None:
    """Messages in, messages out, why, and whether anybody should look."""
    client = connected()
    client.subscribe("/topic/a")
    client.forward(sent("/topic/a", b"x", b"y"))
    client.receive(*(frame("SEND", {"destination": "/topic/b"}, b"1") for _ in range(3)))
    client.do("DISCONNECT")
    leaving = joined(client.session.take_leaving())

    assert (leaving.number, leaving.serial, leaving.block) == (3, 2, b"client sent DISCONNECT")
    assert not leaving.flags & Flag.WARNING


@pytest.mark.row("F28")
@pytest.mark.parametrize("octets", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"])
def test_strangers_are_worth_a_warning(octets: bytes) -> None:
    """The reason names what knocked."""
    client = Client()
    client.receive(octets)

    assert client.session.ending.is_over
    assert "HTTP" in client.session.reason or "TLS" in client.session.reason
    assert joined(client.session.take_leaving()).flags & Flag.WARNING


@pytest.mark.parametrize("command", ["NONSENSE", "ACK", "SUBSCRIBE", "CONNECT"])
def test_an_error_of_the_client_is_worth_a_warning(command: str) -> None:
    """Somebody should mend that client. What the broker or an administrator ends is none."""
    client, other = connected(), connected()
    client.do(command)
    other.session.end("disconnected by the administrator", client.now)

    assert joined(client.session.take_leaving()).flags & Flag.WARNING
    assert not joined(other.session.take_leaving()).flags & Flag.WARNING


# What the parent orders


def test_hold_and_resume_stop_and_start_reading() -> None:
    """Nothing else changes."""
    client = connected()
    client.down(Kind.HOLD)
    held = client.session.wants_input
    client.down(Kind.RESUME)

    assert not held
    assert client.session.wants_input


def test_who_is_held_for_two_reasons_waits_for_both() -> None:
    """Each HOLD has a token, and RESUME takes back the one that it names."""
    client = connected()
    client.down(Kind.HOLD, token=1)
    client.down(Kind.HOLD, token=2)
    client.down(Kind.RESUME, token=1)
    held = client.session.wants_input
    client.down(Kind.RESUME, token=2)

    assert not held
    assert client.session.wants_input


def test_quiesce_is_answered_behind_all_that_was_read() -> None:
    """Then CLOSE says goodbye with its reason."""
    client = connected()
    client.do("SEND", b"1", destination="/queue/a")
    client.down(Kind.QUIESCE)

    assert [e.kind for e in client.told()] == [Kind.SEND, Kind.QUIESCED]
    assert not client.session.wants_input

    client.down(Kind.CLOSE, block=b"broker is shutting down")

    assert client.error()["message"] == "broker is shutting down"


def test_quiesce_waits_for_what_the_client_has_to_settle() -> None:
    """With token 1 the client is read until it holds nothing, and what it sends meanwhile counts."""
    client = connected()
    token = client.subscribe("/queue/a", ack="client-individual")
    client.offer(sent("/queue/a", b"1", b"2"), token)
    client.told()
    client.down(Kind.QUIESCE, token=1)
    acks = [message["ack"] for message in client.read()]
    client.do("ACK", id=acks[0])
    client.do("SEND", b"result", destination="/queue/b")

    assert [e.kind for e in client.told()] == [Kind.SETTLE, Kind.SEND]
    assert client.session.wants_input

    client.do("ACK", id=acks[1])

    assert [e.kind for e in client.told()] == [Kind.SETTLE, Kind.QUIESCED]
    assert not client.session.wants_input


def test_quiesce_waits_for_the_commit_of_what_is_settled() -> None:
    """An ACK within a transaction is none before COMMIT."""
    client = connected()
    client.offer(sent("/queue/a", b"1"), client.subscribe("/queue/a", ack="client"))
    client.told()
    client.down(Kind.QUIESCE, token=1)
    client.do("BEGIN", transaction="t")
    client.do("ACK", id=client.read()[0]["ack"], transaction="t")
    waits = client.session.wants_input
    client.do("COMMIT", transaction="t")

    assert waits
    assert [e.kind for e in client.told()] == [Kind.TRANSACTION, Kind.QUIESCED]


@pytest.mark.parametrize("token", [0, 1])
def test_quiesce_does_not_wait_for_topics_or_for_who_holds_nothing(token) -> None:
    """What was sent to a topic does not come again; and no answer is given twice."""
    client = connected()
    client.subscribe("/topic/a", ack="client")
    client.subscribe("/queue/a", ack="client", subscription_id="2")
    client.forward(sent("/topic/a", b"1"))
    client.told()
    client.down(Kind.QUIESCE, token=token)
    client.down(Kind.QUIESCE)

    assert [e.kind for e in client.told()] == [Kind.QUIESCED]


def test_half_of_the_time_is_enough_for_settling() -> None:
    """QUIESCE without the token ends the patience of the one that had it."""
    client = connected()
    client.offer(sent("/queue/a", b"1"), client.subscribe("/queue/a", ack="client"))
    client.told()
    client.down(Kind.QUIESCE, token=1)
    waited = client.session.wants_input
    client.down(Kind.QUIESCE)

    assert waited
    assert [e.kind for e in client.told()] == [Kind.QUIESCED]
    assert not client.session.wants_input


def test_an_end_from_outside_is_an_error_with_its_reason() -> None:
    """Behind the receipts that are due; and once only."""
    client = connected()
    client.do("SEND", b"1", destination="/queue/a", receipt="r")
    client.session.end("go away", client.now)
    client.session.end("once more", client.now)
    client.pass_fence()

    receipt, error = client.read()
    assert receipt["receipt-id"] == "r"
    assert error["message"] == "go away"
    assert client.session.ending.is_over


def test_nobody_is_ended_from_outside_while_the_broker_ends() -> None:
    """The same signal may have reached all processes; the parent's word is the better one."""
    client = connected()
    client.down(Kind.QUIESCE)
    client.session.end("go away", client.now)

    assert client.read() == []
    assert not client.session.ending.is_over


def test_a_kind_that_the_parent_never_sends_is_our_bug() -> None:
    """It ends this child, not silently."""
    with pytest.raises(EnvelopeError, match="READY from the parent"):
        connected().down(Kind.READY)


def test_a_topic_message_before_connect_is_nobodys() -> None:
    """With `broadcast all` everybody gets everything."""
    client = Client()
    client.forward(sent("/topic/a", b"x"))

    assert client.raw() == b""


def test_the_session_counts() -> None:
    """For the title and the log."""
    client = Client()
    before = client.session.unwritten.delivered
    client.connect()
    client.subscribe("/topic/a")

    assert (before, client.session.unwritten.delivered, len(client.session.subscribed)) == (0, 0, 1)


# Chance

_VALUES = st.sampled_from(
    ["", "1", "t", "/queue/a", "/topic/a", "/topic/*", "/temp-queue/x", "auto", "client", "x\\c", "9" * 30]
)
_NAMES = st.sampled_from(
    ["destination", "id", "ack", "transaction", "receipt", "message-id", "subscription", "credit", "reply-to"]
)
_COMMANDS = st.sampled_from(
    ["SEND", "SUBSCRIBE", "UNSUBSCRIBE", "ACK", "NACK", "BEGIN", "COMMIT", "ABORT", "DISCONNECT", "STOMP"]
)
_FRAMES = st.lists(st.tuples(_COMMANDS, st.dictionaries(_NAMES, _VALUES, max_size=5)), max_size=12)


@given(st.sampled_from(["1.0", "1.1", "1.2"]), _FRAMES, st.binary(max_size=30), st.data())
def test_whatever_a_client_sends_ends_in_an_error_at_worst(
    version: str, frames: list[tuple[str, dict[str, object]]], garbage: bytes, data: st.DataObject
) -> None:
    """Nothing is raised, what goes out can be read, and ERROR is the last of it."""
    client = connected(version)
    stream = b"".join(frame(command, headers) for command, headers in frames)
    at = data.draw(st.integers(0, len(stream)))
    client.receive(stream[:at] + data.draw(st.sampled_from([b"", garbage])) + stream[at:])
    client.told()
    client.pass_fence()
    got = [f.command for f in client.read()]

    assert "ERROR" not in got[:-1]
    assert client.session.ending.is_over == ((bool(got) and got[-1] == "ERROR") or client.session.reason != "")


@pytest.mark.row("E02")
def test_an_error_waits_five_seconds_for_what_came_before_it() -> None:
    """The parent may not answer: then the session ends without it, and nothing else is due any more."""
    client = connected()
    client.receive(frame("SEND", {"destination": "/queue/a", "receipt": "r"}), frame("SEND"), b"SEND\nhalf")
    start, session = client.now, client.session
    due = (session.deadline(), session.wake_at)
    session.tick(start + 4.999)
    waits = session.ending.is_over
    session.tick(start + 5)

    assert due == (start + 5, start + 5)
    assert (waits, session.ending.is_over, session.deadline()) == (False, True, math.inf)


def test_a_reason_says_nothing_twice() -> None:
    """Message and detail, where they differ."""
    told, failed = connected(), connected()
    told.session.end("ended by an administrator", told.now)
    failed.do("SEND")

    assert told.session.reason == "ended by an administrator"
    assert failed.session.reason == "missing header destination (a SEND needs a destination header)"


def test_leaving_of_one_that_did_nothing_is_empty() -> None:
    """Whether it had logged in or not."""
    stranger, client = Client(), connected()
    for each in (stranger, client):
        each.session.connection_lost("reset")
        leaving = joined(each.session.take_leaving())

        assert (leaving.flags, leaving.count, leaving.number, leaving.serial) == (0, 0, 0, 0)
        assert leaving.block == b"reset"


def test_leaving_tells_what_was_dropped_as_far_as_the_field_goes() -> None:
    """The rest of a long life is not worth an error."""
    client = connected()
    for dropped, told in ((1, 1), (2**32 - 1, 2**32 - 1), (2**32 + 5, 2**32 - 1)):
        client.session._topics.dropped = dropped
        leaving = joined(client.session.take_leaving())

        assert (leaving.count, leaving.flags) == (told, Flag.WARNING)


def test_the_first_token_is_that_of_the_session() -> None:
    """Three octets of a sum over its id, and never 0."""
    client = connected()

    assert client.subscribe("/queue/a") == (crc32(b"s1") >> 8) + 1
    assert client.session.upward.last_fence == 1


def test_a_subscriber_that_falls_behind_wakes_the_loop_for_the_end_of_its_moment() -> None:
    """Nothing else would be due by then."""
    client = Client(policy=SessionPolicy(max_client_buffer=1000))
    client.connect()
    client.subscribe("/topic/a")
    client.session.tick(client.now)
    client.forward(sent("/topic/a", bytes(600)))

    assert client.session.wake_at == client.now + CATCH_UP_S
