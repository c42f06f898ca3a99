"""Connecting, heart-beats, and limits of time."""

from __future__ import annotations

import pytest

from forkbroker.session.policy import FRAME_PROGRESS, SessionPolicy
from forkbroker.session.session import State
from forkbroker.stomp.limits import Limits
from forkbroker.wire.kinds import Kind

from .play import Client, frame, joined, read_frames, sent

CONNECT_12 = frame("CONNECT", {"accept-version": "1.2", "host": "h"})


def connected(version: str = "1.2", policy: SessionPolicy | None = None, **headers: object) -> Client:
    client = Client(version, policy)
    client.connect(**headers)
    return client


# CONNECT


@pytest.mark.row("C01", "E02")
@pytest.mark.parametrize("command", ["SEND", "SUBSCRIBE", "DISCONNECT", "NONSENSE"])
def test_the_first_frame_must_be_connect(command: str) -> None:
    """Anything else gets an ERROR that names its receipt, and the end."""
    client = Client()
    client.do(command, receipt="r1", destination="/topic/a")
    error = client.error()

    assert error["message"] == "not connected"
    assert error["receipt-id"] == "r1"
    assert command.encode() in error.body


@pytest.mark.row("C02")
def test_stomp_is_another_name_of_connect() -> None:
    """STOMP gets CONNECTED too."""
    client = Client()
    client.receive(frame("STOMP", {"accept-version": "1.2", "host": "h"}))

    assert client.read()[0].command == "CONNECTED"


@pytest.mark.row("C03", "C06")
def test_without_accept_version_it_is_10() -> None:
    """Who doesn't say what it accepts speaks 1.0, and is told so."""
    assert Client("1.0").connect()["version"] == "1.0"


@pytest.mark.row("C04", "C06")
@pytest.mark.parametrize(
    ("accepts", "version"),
    [("1.0,1.1,1.2", "1.2"), ("1.2,1.0", "1.2"), ("1.1", "1.1"), (" 1.0 , 1.1 ", "1.1"), ("2.0,1.0", "1.0")],
)
def test_the_highest_common_version_is_chosen(accepts: str, version: str) -> None:
    """In whatever order they are listed, unknown ones ignored."""
    client = Client()
    client.receive(frame("CONNECT", {"accept-version": accepts, "host": "h"}))

    assert client.read()[0]["version"] == version


@pytest.mark.row("C05")
def test_no_common_version_is_an_error_that_lists_ours() -> None:
    """And nothing of the session is begun."""
    client = Client()
    client.receive(frame("CONNECT", {"accept-version": "3.0", "host": "h"}))
    error = client.error()

    assert error["version"] == "1.0,1.1,1.2"
    assert client.told() == []


@pytest.mark.row("C07", "C08")
def test_connected_names_session_and_server() -> None:
    """The session is the one that message-ids carry."""
    client = Client(policy=SessionPolicy(server="forkbroker/9"), session_id="abc123")
    got = client.connect()

    assert got["session"] == "abc123"
    assert got["server"] == "forkbroker/9"


@pytest.mark.row("C09")
def test_host_may_be_missing() -> None:
    """Unless the server is strict, and the version is one that demands it."""
    no_host = frame("CONNECT", {"accept-version": "1.2"})
    lenient, strict = Client(), Client(policy=SessionPolicy(strict=True))
    lenient.receive(no_host)
    strict.receive(no_host)

    assert lenient.read()[0].command == "CONNECTED"
    assert strict.error()["message"] == "missing header host"


@pytest.mark.row("C09")
def test_host_is_never_demanded_of_10() -> None:
    """STOMP 1.0 knows no host, however the client says that it speaks 1.0."""
    client = Client("1.0", SessionPolicy(strict=True))
    client.receive(frame("CONNECT", {"accept-version": "1.0"}))

    assert client.read()[0]["version"] == "1.0"


@pytest.mark.row("C10")
def test_every_host_is_the_default_one() -> None:
    """There are no virtual hosts to choose from."""
    client = Client()
    client.receive(frame("CONNECT", {"accept-version": "1.2", "host": "no.such.example"}))

    assert client.read()[0].command == "CONNECTED"


@pytest.mark.row("C11")
def test_a_login_is_told_to_the_parent_and_a_passcode_to_nobody() -> None:
    """Any login is accepted; nothing that leaves the session has the secret."""
    client = Client()
    client.receive(frame("CONNECT", {"accept-version": "1.2", "host": "h", "login": "alice", "passcode": "s3cr3t"}))
    client.receive(frame("CONNECT", {"passcode": "s3cr3t"}))
    envelopes = client.told()

    assert envelopes[0].destination == b"alice"
    assert client.session.login == "alice"
    assert b"s3cr3t" not in client.raw() + b"".join(bytes(e.raw) for e in envelopes)
    assert b"s3cr3t" not in joined([*client.session.take_leaving()]).raw


@pytest.mark.row("C11")
def test_the_parents_refusal_reaches_a_client_that_has_not_connected() -> None:
    """CLOSE before CONNECT is an ERROR with its reason, without escapes."""
    client = Client()
    client.down(Kind.CLOSE, block=b"too many clients: 2,000 is the limit")
    error = client.error()

    assert error["message"] == "too many clients  2,000 is the limit".replace("  ", "  ")
    assert b"too many clients: 2,000" in error.body


@pytest.mark.row("C12", "C13")
def test_a_second_connect_is_an_error_without_receipt() -> None:
    """CONNECT is the one frame whose receipt header means nothing."""
    client = connected()
    client.do("CONNECT", accept_version="1.2", receipt="r1")
    error = client.error()

    assert error["message"] == "connected already"
    assert "receipt-id" not in error.headers


@pytest.mark.row("C13", "R01")
def test_connect_gets_no_receipt() -> None:
    """CONNECTED is its answer."""
    client = Client()
    client.receive(frame("CONNECT", {"accept-version": "1.2", "host": "h", "receipt": "r"}))

    assert [got.command for got in client.read()] == ["CONNECTED"]


@pytest.mark.row("C14")
def test_a_client_that_vanishes_before_connect_leaves_nothing() -> None:
    """The session is over at once, with a reason, and no frame for nobody."""
    client = Client()
    client.session.end_of_input(client.now)

    assert client.session.is_finished
    assert client.session.reason == "client left before it connected"
    assert client.raw() == b""


@pytest.mark.row("C15")
@pytest.mark.parametrize("cut", [1, 10, 60, 10_000])
def test_frames_behind_connect_are_kept(cut: int) -> None:
    """They are read by the rules of the version that CONNECT settles."""
    stream = CONNECT_12 + frame("SEND", {"destination": "/topic/a\\cb", "receipt": "r"}, b"x")
    client = Client()
    for at in range(0, len(stream), cut):
        client.receive(stream[at : at + cut])
    envelopes = client.told()

    assert [e.kind for e in envelopes] == [Kind.CONNECTED, Kind.SEND]
    assert envelopes[1].destination == b"/topic/a:b"


@pytest.mark.row("F22")
def test_connect_is_not_unescaped() -> None:
    """A login with a backslash is literal."""
    assert connected(login="a\\nb").session.login == "a\\nb"


@pytest.mark.row("F23")
def test_an_error_before_connect_needs_no_escapes() -> None:
    """Its header values are free of what versions write differently."""
    client = Client()
    client.receive(frame("NO\\P", {"receipt": "a:b"}))
    error = read_frames(client.raw(), "1.0")[0]

    assert not set(error["receipt-id"] + error["message"]) & set(":\\\r\n")


# Heart-beats


@pytest.mark.row("H01")
@pytest.mark.parametrize("value", ["1", "a,b", "-1,0", "1,2,3", "", "1.5,0"])
def test_a_malformed_heart_beat_is_an_error(value: str) -> None:
    """Before anything is connected."""
    client = Client()
    client.receive(frame("CONNECT", {"accept-version": "1.2", "host": "h", "heart-beat": value}))

    assert client.error()["message"] == "malformed heart-beat header"


@pytest.mark.row("H02")
def test_without_the_header_there_are_no_heart_beats() -> None:
    """Silence is legal for ever then."""
    client = connected()
    client.wait(10_000)

    assert client.session.state is State.CONNECTED
    assert client.session.deadline() is None


@pytest.mark.row("H04", "H10")
def test_connected_tells_our_own_numbers() -> None:
    """They are a floor for what the client asks, and no echo of it."""
    assert (
        Client(policy=SessionPolicy(heart_beat_ms=(2000, 3000))).connect(heart_beat="1,1")["heart-beat"] == "2000,3000"
    )


@pytest.mark.row("H09")
def test_10_has_no_heart_beats() -> None:
    """Not even when the client writes the header; and a silent client is left alone."""
    client = Client("1.0")
    got = client.connect(heart_beat="1000,1000")
    client.wait(10_000)

    assert "heart-beat" not in got.headers
    assert client.session.state is State.CONNECTED


@pytest.mark.row("H03", "H05", "H08")
def test_an_idle_server_beats_within_the_interval() -> None:
    """One LF, and only when nothing else was written."""
    client = connected(heart_beat="0,10000")
    client.now += 7.9
    client.session.tick(client.now)
    early = client.raw()
    client.now += 0.2
    client.session.tick(client.now)

    assert early == b""
    assert client.raw() == b"\n"


@pytest.mark.row("H08")
def test_a_message_is_as_good_as_a_beat() -> None:
    """The interval counts from the last octet written."""
    client = connected(heart_beat="0,10000")
    client.subscribe("/topic/a")
    client.now += 7
    client.forward(sent("/topic/a", b"x"))
    client.read()
    client.now += 7
    client.session.tick(client.now)

    assert client.raw() == b""


@pytest.mark.row("H05", "H08")
def test_no_beat_is_put_behind_what_is_not_written() -> None:
    """A client that doesn't read makes no beats pile up, and the session doesn't spin."""
    client = connected(heart_beat="0,10000")
    client.subscribe("/topic/a")
    client.read()
    client.forward(sent("/topic/a", b"x"))
    pending = client.session.outbox.pending
    client.is_reading = False
    client.wait(100)

    assert client.session.outbox.pending == pending


@pytest.mark.row("H06", "H07", "H03")
def test_a_silent_client_is_ended_after_twice_the_interval() -> None:
    """Half a frame counts as life, and the margin is as large as the interval."""
    client = connected(heart_beat="10000,0")
    client.now += 19
    client.receive(b"SEN")
    client.now += 19
    client.session.tick(client.now)
    alive = client.session.state
    client.now += 2
    client.session.tick(client.now)

    assert alive is State.CONNECTED
    assert client.error()["message"] == "missed heart-beat"


@pytest.mark.row("H06", "F06")
def test_a_line_feed_is_life() -> None:
    """A client that only beats stays."""
    client = connected(heart_beat="10000,0")
    for _ in range(10):
        client.now += 15
        client.receive(b"\n")
        client.session.tick(client.now)

    assert client.session.state is State.CONNECTED


@pytest.mark.row("H07")
def test_a_client_that_is_held_misses_no_heart_beat() -> None:
    """While we don't read, its beats lie in the socket; after RESUME it has the whole interval again."""
    client = connected(heart_beat="10000,0")
    client.down(Kind.HOLD)
    client.wait(100)
    client.down(Kind.RESUME)
    client.wait(15)
    alive = client.session.state
    client.wait(10)

    assert alive is State.CONNECTED
    assert client.session.reason.startswith("missed heart-beat")


@pytest.mark.row("H11")
def test_the_beat_needs_no_parent() -> None:
    """A parent that says nothing can't stop it."""
    client = connected(heart_beat="0,10000")
    client.do("SEND", destination="/queue/a", receipt="r")
    client.now += 8.1
    client.session.tick(client.now)

    assert client.raw() == b"\n"


# Time


@pytest.mark.row("F27")
def test_a_client_must_connect_in_time() -> None:
    """The error names the limit."""
    client = Client(policy=SessionPolicy(connect_timeout_s=7))
    client.is_reading = False
    client.receive(b"CONN")
    client.wait(7.1)
    error = client.error()

    assert error["message"] == "not connected in time"
    assert b"connect-timeout is 7 s" in error.body


@pytest.mark.row("F27")
def test_half_a_frame_must_be_completed_in_time() -> None:
    """The error names the limit."""
    client = connected(policy=SessionPolicy(frame_timeout_s=30))
    client.is_reading = False
    client.receive(b"SEND\ndestination:/queue/a\n")
    client.wait(30.1)
    error = client.error()

    assert error["message"] == "half a frame"
    assert b"frame-timeout" in error.body


@pytest.mark.row("F27")
def test_a_large_frame_may_take_its_time_while_it_grows() -> None:
    """The limit is on progress."""
    client = connected(policy=SessionPolicy(frame_timeout_s=30))
    client.receive(b"SEND\ndestination:/queue/a\ncontent-length:10000000\n\n")
    for _ in range(20):
        client.receive(bytes(FRAME_PROGRESS))
        client.wait(29)

    assert client.session.state is State.CONNECTED


@pytest.mark.row("F27")
def test_many_small_frames_that_are_always_cut_are_progress() -> None:
    """Each read ends within a frame, but no frame takes long."""
    client = connected(policy=SessionPolicy(frame_timeout_s=30))
    whole = frame("SEND", {"destination": "/topic/a"}, b"x")
    client.receive(whole[:5])
    for _ in range(50):
        client.receive(whole[5:] + whole[:5])
        client.wait(10)

    assert client.session.state is State.CONNECTED


@pytest.mark.row("F27")
def test_a_client_that_is_held_may_leave_a_frame_half_sent() -> None:
    """We are the ones who don't read."""
    client = connected(policy=SessionPolicy(frame_timeout_s=30))
    client.receive(b"SEND\ndest")
    client.down(Kind.HOLD)
    client.wait(100)

    assert client.session.state is State.CONNECTED


@pytest.mark.row("F25")
@pytest.mark.parametrize(
    ("octets", "limit"),
    [
        (b"X" * 50 + b"\n", b"max-command"),
        (b"SEND\na:" + b"x" * 2000 + b"\n", b"max-header-line"),
        (b"SEND\n" + b"a:b\n" * 200, b"max-headers"),
        (b"SEND\ndestination:/topic/a\ncontent-length:5000\n\n", b"max-body"),
    ],
)
def test_a_limit_that_is_met_is_named(octets: bytes, limit: bytes) -> None:
    """In the body of the ERROR."""
    client = Client(limits=Limits(max_header_line=1000, max_headers=100, max_body=4000))
    client.connect()
    client.receive(octets)

    assert limit in client.error().body


@pytest.mark.row("F26")
def test_a_large_body_is_received_into_place() -> None:
    """The session hands out the memory, and takes notice of what was put there."""
    client = connected()
    client.do("SEND", b"", destination="/topic/a")
    client.receive(b"SEND\ndestination:/topic/a\ncontent-length:2000000\n\n" + bytes(100_000))
    rest = 2_000_001 - 100_000
    while (place := client.session.body_buffer()) is not None:
        octets = min(len(place), rest)
        del place
        client.session.body_received(octets, client.now)
        rest -= octets
    client.receive(bytes(rest))

    assert [len(e.pieces()[0]) for e in client.told()] == [0, 2_000_000]


# Times and counts, exactly at their limits


@pytest.mark.row("F27")
def test_the_time_to_connect_is_over_when_it_is_over() -> None:
    """Until then nothing else is due; a tick that comes early asks for the next one after 10 ms at least."""
    client = Client(policy=SessionPolicy(connect_timeout_s=7))
    session, start = client.session, client.now
    first = (session.wake_at, session.deadline())
    session.tick(start + 6.995)
    early = (session.state, session.wake_at)
    session.tick(start + 7)

    assert first == (start, start + 7)
    assert early == (State.AWAITING_CONNECT, pytest.approx(start + 7.005))
    assert client.error()["message"] == "not connected in time"


@pytest.mark.row("F27")
def test_a_login_ends_the_time_to_connect() -> None:
    """And is looked at in the next turn, for the beats that were agreed."""
    client = Client(policy=SessionPolicy(connect_timeout_s=7))
    login = client.session.login
    client.session.tick(client.now)
    client.connect(login="alice")
    woken = client.session.wake_at
    client.wait(100)

    assert (login, client.session.login, woken) == ("", "alice", 1000.0)
    assert client.session.state is State.CONNECTED


@pytest.mark.row("F27")
@pytest.mark.parametrize("by", ["receive", "body_received"])
@pytest.mark.parametrize(("octets", "is_alive"), [(65_535, False), (65_536, True)])
def test_a_frame_has_to_grow_by_64_kib_in_its_time(by: str, octets: int, is_alive: bool) -> None:
    """What came with its beginning does not count, and what came in one time counts for that one alone."""
    client = connected(policy=SessionPolicy(frame_timeout_s=30))
    session, start = client.session, client.now
    session.tick(start)
    client.receive(b"SEND\ndestination:/queue/a\ncontent-length:9000000\n\n" + bytes(100_000))
    due = session.wake_at
    if by == "receive":
        client.receive(bytes(octets))
    else:
        assert session.body_buffer() is not None
        session.body_received(octets, client.now)
    session.tick(start + 29.999)
    early = session.state
    session.tick(start + 30)
    later = session.state
    session.tick(start + 60)
    error = client.read()[-1]

    assert (due, early, later) == (start + 30, State.CONNECTED, State.CONNECTED if is_alive else State.CLOSED)
    grown = 0 if is_alive else octets
    assert f"a frame was begun and grew by {grown:,} octets in 30 s".encode() in error.body


@pytest.mark.row("H06")
def test_a_body_that_grows_is_life() -> None:
    """Also where it is received into its place."""
    client = connected(heart_beat="10000,0")
    client.receive(b"SEND\ndestination:/queue/a\ncontent-length:9000000\n\n" + bytes(100_000))
    for _ in range(5):
        client.now += 15
        assert client.session.body_buffer() is not None
        client.session.body_received(100_000, client.now)
        client.session.tick(client.now)

    assert client.session.state is State.CONNECTED


@pytest.mark.row("H05")
def test_what_was_written_moves_the_next_beat() -> None:
    """The loop is woken for it once all is written."""
    client = connected(heart_beat="0,10000")
    client.session.tick(client.now)
    client.do("BEGIN", transaction="t", receipt="r")
    client.now += 5
    client.session.tick(client.now)
    before = client.session.wake_at
    client.read()

    assert before == float("inf")
    assert client.session.wake_at == pytest.approx(client.now + 8)
