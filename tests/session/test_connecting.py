"""From the first octet to CONNECTED."""

from __future__ import annotations

import math

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.session.connecting import Connecting
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.session import Session
from forkbroker.session.setup import Setup
from forkbroker.stomp.limits import Limits
from forkbroker.wire.kinds import Kind

from .play import Client, frame, joined, read_frames

CONNECT_12 = frame("CONNECT", {"accept-version": "1.2", "host": "h"})


def connected(version: str = "1.2", policy: SessionPolicy | None = None, **headers: object) -> Client:
    client = Client(version, policy)
    client.connect(**headers)
    return client


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

    assert client.session.ending.is_over
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


@pytest.mark.row("H01")
@pytest.mark.parametrize("value", ["1", "a,b", "-1,0", "1,2,3", "", "1.5,0"])
def test_a_malformed_heart_beat_is_an_error(value: str) -> None:
    """Before anything is connected."""
    client = Client()
    client.receive(frame("CONNECT", {"accept-version": "1.2", "host": "h", "heart-beat": value}))

    assert client.error()["message"] == "malformed heart-beat header"


@pytest.mark.row("H04", "H10")
def test_connected_tells_our_own_numbers() -> None:
    """They are a floor for what the client asks, and no echo of it."""
    assert (
        Client(policy=SessionPolicy(heart_beat_ms=(2000, 3000))).connect(heart_beat="1,1")["heart-beat"] == "2000,3000"
    )


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
    while (place := client.session.parser.body_buffer()) is not None:
        octets = min(len(place), rest)
        del place
        client.session.body_received(octets, client.now)
        rest -= octets
    client.receive(bytes(rest))

    assert [len(e.pieces()[0]) for e in client.told()] == [0, 2_000_000]


@pytest.mark.row("F27")
def test_the_time_to_connect_is_over_when_it_is_over() -> None:
    """Until then nothing else is due; a tick that comes early asks for the next one after 10 ms at least."""
    client = Client(policy=SessionPolicy(connect_timeout_s=7))
    session, start = client.session, client.now
    first = (session.wake_at, session.deadline())
    session.tick(start + 6.995)
    early = (session.is_open, session.wake_at)
    session.tick(start + 7)

    assert first == (start, start + 7)
    assert early == (True, pytest.approx(start + 7.005))
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
    assert client.session.is_open


# The seam between the two phases


def test_the_session_begins_before_what_is_behind_connect_is_read() -> None:
    """Whoever is told of it has all that the session does from its first frame on."""
    begun: list[tuple[Session, int]] = []
    unwritten: list[int] = []

    def begin(session: Session) -> None:
        begun.append((session, session.received))
        unwritten.append(session.unwritten.pending)

    setup = Setup(SessionPolicy(), Limits(), "s1", b"secret", lambda _slot: True)
    connecting = Connecting(setup, begin, 1000.0)
    connecting.receive(CONNECT_12 + frame("SEND", {"destination": "/topic/a"}), 1000.0)
    ((session, received),) = begun

    assert (received, session.received) == (0, 1)
    assert unwritten == [connecting.unwritten.pending] != [0]
    assert session.unwritten is connecting.unwritten


@pytest.mark.parametrize("accepts", ["3.0", "1.2"])
def test_a_session_begins_with_connected_alone(accepts: str) -> None:
    """A refused client never has one, and what it sent behind CONNECT is nothing."""
    client = Client()
    client.receive(frame("CONNECT", {"accept-version": accepts, "host": "h"}), frame("BEGIN", {"transaction": "t"}))

    assert isinstance(client.session, Session) == (accepts == "1.2")
    assert client.session.ending.is_over == (accepts == "3.0")


def test_a_large_first_frame_is_received_in_its_place() -> None:
    """As far as max-login-frame permits; it is no CONNECT, but the error has to wait for its end."""
    client = Client(limits=Limits(max_login_frame=500_000))
    client.receive(b"SEND\nreceipt:r\ncontent-length:300000\n\n" + bytes(1000))
    left = 300_001 - 1000
    while (place := client.session.parser.body_buffer()) is not None:
        octets = min(len(place), left)
        del place
        client.session.body_received(octets, client.now)
        left -= octets
    if left:
        client.receive(bytes(left))
    error = client.error()

    assert (error["message"], error["receipt-id"]) == ("not connected", "r")


def test_quiesce_before_connected_is_answered_once() -> None:
    """Nothing is to be settled. The client is read no more, and only the parent ends it."""
    client = Client()
    client.down(Kind.QUIESCE, token=1)
    client.down(Kind.QUIESCE)
    client.session.end("the administrator's wish", client.now)

    assert [e.kind for e in client.told()] == [Kind.QUIESCED]
    assert client.session.is_open and not client.session.wants_input
    client.down(Kind.CLOSE, block=b"the end")
    client.down(Kind.CLOSE, block=b"once more")
    assert client.error()["message"] == "the end"


@pytest.mark.parametrize("kind", [Kind.OFFER, Kind.FENCED, Kind.REFUSED, Kind.HOLD, Kind.RESUME, Kind.READY])
def test_what_answers_a_session_is_our_bug_before_there_is_one(kind: Kind) -> None:
    """It ends this child, not silently."""
    with pytest.raises(EnvelopeError, match=f"{kind.name} from the parent before CONNECTED"):
        Client().down(kind)


@pytest.mark.row("F27")
def test_a_first_frame_has_to_grow_as_others_do() -> None:
    """Where the time to connect is longer; not while the client is not read."""
    late, paused = (Client(policy=SessionPolicy(connect_timeout_s=100, frame_timeout_s=30)) for _ in range(2))
    for client in (late, paused):
        client.is_reading = False
        client.receive(b"CONN")
        client.now += 29
    paused.session.input_paused(paused.now)
    for client in (late, paused):
        client.now += 2
        client.session.tick(client.now)

    assert late.error()["message"] == "incomplete frame"
    assert paused.session.is_open
    assert paused.session.deadline() == 1059


def test_a_connection_that_is_over_waits_for_nothing() -> None:
    """And whatever ends it later, the reason is the first."""
    client = Client()
    client.session.end("go away", client.now)
    client.session.tick(client.now)
    client.session.end("again", client.now)
    client.session.connection_lost("reset")

    assert client.session.wake_at == client.session.deadline() == math.inf
    assert client.session.reason == "go away"


def test_a_connection_that_is_over_hears_nothing() -> None:
    """Whatever the parent has sent meanwhile is for nobody; but it may wait for QUIESCED."""
    client = Client()
    client.do("NONSENSE")
    client.error()
    for kind in (Kind.QUIESCE, Kind.CLOSE, Kind.FENCED):
        client.down(kind)

    assert [e.kind for e in client.told()] == [Kind.QUIESCED]
    assert client.raw() == b""


def test_what_the_parent_must_know_is_urgent() -> None:
    """Nothing is until CONNECTED, or QUIESCED, is to be told."""
    connects, quiesces = Client(), Client()
    upward = connects.session.upward
    before = (upward.is_urgent, upward.has_claimed, upward.last_fence)
    connects.receive(CONNECT_12)
    quiesces.down(Kind.QUIESCE)

    assert before == (False, False, 0)
    assert [client.session.upward.is_urgent for client in (connects, quiesces)] == [True, True]
    assert len(quiesces.told()) == 1
    assert not quiesces.session.upward.is_urgent
