"""The lobby says what the full program would say, and hands over whatever it does not know."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from child.conftest import Play, playing
from hypothesis import given, settings
from hypothesis import strategies as st
from support.deadline import wait_until

from forkbroker.child.answers import Answers
from forkbroker.child.child import Shared
from forkbroker.child.lobby import MOST, Bell, Lobby
from forkbroker.child.spare import Spare
from forkbroker.child.transport import Transport
from forkbroker.child.verifying import Verifier, Ways
from forkbroker.hosts import Host, Hosts
from forkbroker.identity import Identity, Way
from forkbroker.permissions import Permissions
from forkbroker.posix.places import Places
from forkbroker.posix.semaphores import SemaphorePool
from forkbroker.session.connecting import Connecting
from forkbroker.session.downward import Unwritten
from forkbroker.session.ending import HeartBeat
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.session import Session, first_token
from forkbroker.session.setup import Setup
from forkbroker.stomp.limits import Limits
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import Kind

PEER = 77
CONNECT = b"CONNECT\naccept-version:1.2\nhost:/\nlogin:alice\n\n\0"
SUBSCRIBE = b"SUBSCRIBE\nid:0\ndestination:/topic/a\nreceipt:r\n\n\0"


@pytest.fixture(scope="module")
def slots() -> Iterator[SemaphorePool]:
    pool = SemaphorePool(1)
    yield pool
    pool.close()


def shared_of(slots: SemaphorePool, policy: SessionPolicy | None = None, limits: Limits | None = None) -> Shared:
    return Shared(policy or SessionPolicy(), limits or Limits(), slots, 1 << 20)


def ask_fully(shared: Shared, octets: bytes) -> tuple[bytes, list[tuple[Kind, bytes]], float]:
    """What the full program says to the client and to the parent, and when the client that is connected then hears or
    is missed; -1: it is not connected.
    """
    sessions: list[Session] = []
    verifier = shared.verifier
    setup = Setup(
        *(shared.policy, shared.limits, shared.name_session(PEER), bytes(32), shared.slots.try_acquire),
        verify=verifier and (lambda given: verifier.verify(given, cast("Transport", None), "test")),
    )
    connecting = Connecting(setup, sessions.append, 0.0)
    connecting.receive(octets, 0.0)
    told = [Envelope(b"".join(buffers)) for buffers in connecting.upward.take()]
    said = b"".join(connecting.unwritten.gather())
    return said, [(one.kind, one.destination) for one in told], sessions[0].deadline() if sessions else -1.0


def agrees(shared: Shared, octets: bytes) -> bool:
    """Whether the lobby answers this; if so, it is what the full program says."""
    found = Answers(shared).find(octets)
    if found is None:
        return False
    _, login, passcode, beats, before, behind = found
    assert bool(passcode) is bool(shared.verifier)
    connected = b"%b%d%b" % (before, PEER, behind)
    # nothing is written here, and no beat is due then
    deadline = HeartBeat(0, beats[1], Unwritten(), 0.0).deadline()
    assert ask_fully(shared, octets) == (connected, [(Kind.CONNECTED, login)], deadline)
    return True


def subscribe_fully(shared: Shared, versions: bytes, octets: bytes) -> tuple[bytes, bytes, dict[str, str], bool]:
    """What the full program says to a SUBSCRIBE: to the parent, and to the client when the parent has passed it."""
    sessions: list[Session] = []
    permissions = shared.permissions
    setup = Setup(
        shared.policy,
        shared.limits,
        shared.name_session(PEER),
        bytes(32),
        shared.slots.try_acquire,
        rights_of=lambda client: permissions.rights_of(client, is_local=False),
    )
    connecting = Connecting(setup, sessions.append, 0.0)
    connecting.receive(CONNECT.replace(b"1.2", versions), 0.0)
    connecting.upward.take()
    connecting.unwritten.written(connecting.unwritten.pending, 0.0)
    [session] = sessions
    session.receive(octets, 0.0)
    told = b"".join(b"".join(buffers) for buffers in connecting.upward.take())
    session.receive_envelope(Envelope(pack(Kind.FENCED, number=1)[0]), 0.0)
    ids = dict.fromkeys(session.subscribed, "")
    return told, b"".join(connecting.unwritten.gather()), ids, session.is_open and not session.parser.is_within_frame


def agrees_on_subscribe(shared: Shared, versions: bytes, octets: bytes) -> bool:
    """Whether the lobby answers this; if so, it is what the full program says."""
    token = first_token(shared.name_session(PEER).encode())
    found = Answers(shared).find_subscribe(octets, versions, token, 1)
    if found is None:
        return False
    name, told, receipt = found
    assert subscribe_fully(shared, versions, octets) == (told, receipt, {name.decode(): ""}, True)
    return True


VALUES = st.text(st.sampled_from("ab01.,-_/ \\:\té"), max_size=12) | st.sampled_from(
    ["1.2", "1.1", "1.0", "1.0,1.1,1.2", "1.1,1.2", "0,0", "10000,10000", "0,10000", "", "/"]
)
LINES = st.tuples(
    st.sampled_from(["accept-version", "host", "login", "passcode", "heart-beat", "client-id", "receipt"]), VALUES
)


@settings(deadline=None)
@given(
    command=st.sampled_from(["CONNECT", "STOMP", "SEND"]),
    lines=st.lists(LINES, max_size=7),
    end=st.sampled_from(["", "\n", "\n\n\0", "\n\n\0\n", "\n\nx\0", "\n\0", "\r\n\r\n\0", "\n\n", "\n\n\0\n\n"]),
    is_strict=st.booleans(),
)
def test_what_the_lobby_says_is_what_the_full_program_says(slots, command, lines, end, is_strict) -> None:
    """For every frame that it answers."""
    octets = "\n".join([command, *(f"{name}:{value}" for name, value in lines)]) + end
    agrees(shared_of(slots, SessionPolicy(strict=is_strict)), octets.encode())


NAMES = st.text(st.sampled_from("ab01.,-_/ \\:\t*>#$%é"), max_size=12)


@settings(deadline=None)
@given(
    versions=st.sampled_from(["1.0", "1.1", "1.2", "1.0,1.1,1.2", "1.3"]),
    lines=st.lists(
        st.tuples(st.sampled_from(["id", "receipt"]), NAMES)
        | st.tuples(
            st.just("destination"),
            st.tuples(
                st.sampled_from(["/topic/", "/queue/", "/temp-queue/", "/amq/queue/", "/topic/$SYS/", ""]), NAMES
            ).map("".join),
        )
        | st.tuples(st.just("ack"), st.sampled_from(["auto", "client", "client-individual", "", "none"]))
        | st.tuples(st.sampled_from(["prefetch-count", "selector", "durable", "exclusive"]), st.just("1")),
        max_size=5,
    ),
    end=st.sampled_from(["\n\n\0", "\n\n\0\n", "", "\n\n", "\n\nx\0", "\r\n\r\n\0", "\n\n\0\n\n"]),
    is_strict=st.booleans(),
)
def test_what_the_lobby_says_to_a_subscribe_is_what_the_full_program_says(
    slots, versions, lines, end, is_strict
) -> None:
    """To the client, and to the parent, octet for octet."""
    octets = "\n".join(["SUBSCRIBE", *(f"{name}:{value}" for name, value in lines)]) + end
    agrees_on_subscribe(shared_of(slots, SessionPolicy(strict=is_strict)), versions.encode(), octets.encode())


@pytest.mark.parametrize("versions", [b"1.0", b"1.1", b"1.2", b"1.0,1.1,1.2"])
@pytest.mark.parametrize(
    ("octets", "is_plain"),
    [
        (SUBSCRIBE, True),
        (SUBSCRIBE + b"\n", True),
        (SUBSCRIBE.replace(b"/topic/a", b"/queue/a.b-c_d"), True),
        (SUBSCRIBE.replace(b"receipt:r\n", b""), True),
        (SUBSCRIBE.replace(b"receipt", b"ack:client\nreceipt"), True),
        (SUBSCRIBE.replace(b"receipt:r", b"receipt:message-1"), True),
        (SUBSCRIBE.replace(b"id:0\n", b""), False),
        (SUBSCRIBE.replace(b"id:0", b"id:0\nid:1"), False),
        (SUBSCRIBE.replace(b"id:0", b"id:"), False),
        (SUBSCRIBE.replace(b"receipt:r", b"receipt:"), False),
        (SUBSCRIBE.replace(b"/topic/a", b"/topic/"), False),
        (SUBSCRIBE.replace(b"/topic/a", b"/topic/a.*"), False),
        (SUBSCRIBE.replace(b"/topic/a", b"/topic/>"), False),
        (SUBSCRIBE.replace(b"/topic/a", b"/topic/#"), False),
        (SUBSCRIBE.replace(b"/topic/a", b"/topic/$SYS/a"), False),
        (SUBSCRIBE.replace(b"/topic/a", b"/temp-queue/a"), False),
        (SUBSCRIBE.replace(b"/topic/a", b"a"), False),
        (SUBSCRIBE.replace(b"receipt", b"selector:a\nreceipt"), False),
        (SUBSCRIBE.replace(b"receipt", b"prefetch-count:1\nreceipt"), False),
        (SUBSCRIBE.replace(b"receipt", b"ack:none\nreceipt"), False),
        (SUBSCRIBE.replace(b"\0", b"x\0"), False),
        (SUBSCRIBE.replace(b"/topic/a", b"/topic/" + b"a" * 500), False),
        (SUBSCRIBE + SUBSCRIBE, False),
        (SUBSCRIBE[:-1], False),
        (b"\n", False),
        (b"", False),
    ],
)
def test_a_plain_subscribe_is_answered_and_nothing_else(slots, versions: bytes, octets: bytes, is_plain: bool) -> None:
    """In each version, what most clients send."""
    assert agrees_on_subscribe(shared_of(slots), versions, octets) is is_plain


def test_each_ack_mode_is_known_where_its_version_has_it(slots) -> None:
    """STOMP 1.0 has no client-individual."""
    octets = SUBSCRIBE.replace(b"receipt", b"ack:client-individual\nreceipt")

    assert agrees_on_subscribe(shared_of(slots), b"1.1", octets)
    found = Answers(shared_of(slots)).find_subscribe(octets, b"1.0", 1, 1)
    assert found is None or agrees_on_subscribe(shared_of(slots), b"1.0", octets)


@pytest.mark.parametrize(
    "shared",
    [
        {"permissions": Permissions(grants=())},
        {"permissions": Permissions(quotas={"anonymous": {"subscriptions": 1}})},
        {"permissions": Permissions(hosts=Hosts((Host("shop", ("shop.example",)),)))},
        {"policy": SessionPolicy(max_client_memory=65_536)},
        {"policy": SessionPolicy(max_subscriptions=MOST - 1)},
        {"limits": Limits(max_login_frame=10)},
        {"limits": Limits(max_command=8)},
    ],
)
def test_where_a_subscription_may_be_denied_the_full_program_decides(slots, shared: dict) -> None:
    """Rights, quotas, and limits of which few subscriptions need all."""
    assert not agrees_on_subscribe(replace(shared_of(slots), **shared), b"1.2", SUBSCRIBE)


def test_nothing_is_answered_before_all_of_it_is_there(slots) -> None:
    """However a CONNECT is cut: the rest of it comes later, or never."""
    answers = Answers(shared_of(slots))

    assert [at for at in range(len(CONNECT)) if answers.find(CONNECT[:at]) is not None] == []
    assert answers.find(CONNECT) is not None


@pytest.mark.parametrize(
    ("octets", "is_plain"),
    [
        (CONNECT, True),
        (CONNECT + b"\n", True),
        (CONNECT.replace(b"CONNECT", b"STOMP"), True),
        (CONNECT.replace(b"1.2", b"1.0,1.1,1.2"), True),
        (CONNECT.replace(b"1.2", b"1.1"), True),
        (CONNECT.replace(b"1.2", b"1.3"), False),
        (CONNECT.replace(b"accept-version:1.2\n", b""), False),
        (CONNECT.replace(b"alice", b"a\\nb"), False),
        (CONNECT.replace(b"alice", "ä".encode()), False),
        (CONNECT.replace(b"alice", b"alice\nlogin:bob"), False),
        (CONNECT.replace(b"alice", b"alice\nheart-beat:0,0"), True),
        (CONNECT.replace(b"alice", b"alice\nheart-beat:0,10000"), True),
        (CONNECT.replace(b"alice", b"alice\nheart-beat:4000,0"), True),
        (CONNECT.replace(b"alice", b"alice\nheart-beat:10000"), False),
        (CONNECT.replace(b"alice", b"alice\nheart-beat:1e4,0"), False),
        (CONNECT.replace(b"alice", b"alice\nheart-beat:10000000000,0"), False),
        (CONNECT.replace(b"alice", b"alice\nheart-beat:1e4,0").replace(b"1.2", b"1.0"), True),
        (CONNECT.replace(b"alice", b"alice\nclient-id:a"), False),
        (CONNECT.replace(b"alice", b"a" * 255), True),
        (CONNECT.replace(b"alice", b"a" * 256), False),
        (CONNECT.replace(b"alice", b"a" * 600), False),
        (CONNECT + CONNECT, False),
        (CONNECT[:-1], False),
        (b"", False),
        (b"GET / HTTP/1.1\r\n", False),
    ],
)
def test_a_plain_connect_is_answered_and_nothing_else(slots, octets: bytes, is_plain: bool) -> None:
    """What depends on more than the version is for the full program."""
    assert agrees(shared_of(slots), octets) is is_plain


class Users:
    """Of each of them the name is the passcode; notes when one is asked for."""

    def __init__(self, noted: int = -1) -> None:
        self._noted = noted

    def find_problem(self, name: str, passcode: str) -> str:
        if self._noted >= 0:
            os.write(self._noted, b".")
        return "" if passcode == name else "wrong passcode"


class Tokens:
    """One is known, of somebody who has a group."""

    def read(self, token: str) -> Identity | str:
        return Identity("bob", Way.TOKEN, ("workers",)) if token == "eyJ.a.b" else "token: unknown"


@pytest.fixture(scope="module")
def places() -> Iterator[Places]:
    made = Places()
    yield made
    made.close()


LOGIN = CONNECT.replace(b"alice\n", b"alice\npasscode:alice\n")
WRONG = LOGIN.replace(b"passcode:alice", b"passcode:bob")


@pytest.mark.parametrize(
    ("octets", "is_plain"),
    [
        (LOGIN, True),
        (LOGIN.replace(b"1.2", b"1.0,1.1"), True),
        (LOGIN.replace(b"alice\n\n", b"alice\nheart-beat:10000,10000\n\n"), True),
        (CONNECT, False),
        (CONNECT.replace(b"login:alice\n", b""), False),
        (LOGIN.replace(b"login:alice\n", b""), False),
        (LOGIN.replace(b"passcode:alice", b"passcode:"), False),
        (LOGIN.replace(b"alice\n\n", b"alice\nauthorization:Bearer x\n\n"), False),
    ],
)
def test_where_logins_are_verified_a_plain_connect_has_both_parts_of_one(
    slots, places: Places, octets: bytes, is_plain: bool
) -> None:
    """And CONNECTED names the user. How anybody else may be let in is for the full program."""
    shared = replace(shared_of(slots), verifier=Verifier(Users(), places, Ways(allows_anonymous=True)))

    assert agrees(shared, octets) is is_plain


def verifying(
    places: Places,
    users: Users | None = None,
    tokens: Tokens | None = None,
    connect_timeout_s: float = 10.0,
    kept: int = 2,
) -> AbstractContextManager[Play]:
    """A child that verifies logins; `kept`: a descriptor that it needs as well."""
    verifier = Verifier(users or Users(), places, Ways(), tokens)
    policy = SessionPolicy(connect_timeout_s=connect_timeout_s)
    return playing(policy=policy, verifier=verifier, kept=[places.descriptor, kept])


def test_a_client_that_logs_in_stays_in_the_lobby(places: Places) -> None:
    """And has a session of its own behind it."""
    with verifying(places) as play:
        before = descriptors(play)
        play.says(LOGIN[:-1])
        [connected] = play.told(Kind.CONNECTED)
        heard = play.hears(b"\0\n")
        play.says(SUBSCRIBE[:-1])
        play.told(Kind.SUBSCRIBE)
        play.tells(pack(Kind.FENCED, number=1))
        play.hears(b"\0\n")
        within = descriptors(play)
        play.says(b"SEND\ndestination:/topic/a\n\nhello")
        [sent] = play.told(Kind.SEND)
        play.tells([sent.raw])

        assert (connected.destination, connected.token, bytes(connected.block)) == (b"alice", Way.PASSCODE, b"")
        assert b"\nuser-name:alice\n" in heard
        assert before == within
        assert play.hears(b"hello\0").startswith(b"MESSAGE\nsubscription:0\n")


def test_a_login_that_fails_is_for_the_full_program_which_does_not_ask_again(places: Places) -> None:
    """A hash takes 50 ms of a processor."""
    asked, noted = os.pipe()
    with verifying(places, Users(noted), kept=noted) as play:
        os.close(noted)
        play.says(WRONG[:-1])
        assert b"message:login failed\n" in play.hears(b"\0")
        [leaving] = play.told()
        assert (leaving.token, leaving.block) == (1, b"login failed, user 'alice': wrong passcode")
    assert os.read(asked, 9) == b"."
    os.close(asked)


def test_a_client_of_whom_more_is_known_is_for_the_full_program(places: Places) -> None:
    """A token says of which groups a user is, and until when."""
    with verifying(places, tokens=Tokens()) as play:
        before = descriptors(play)
        play.says(LOGIN[:-1].replace(b"login:alice", b"login:bob").replace(b"passcode:alice", b"passcode:eyJ.a.b"))
        [connected] = play.told(Kind.CONNECTED)
        play.hears(b"\nuser-name:bob\n")

        assert (connected.token, bytes(connected.block)) == (Way.TOKEN, b"\nworkers")
        assert descriptors(play) > before


def test_a_client_waits_in_the_lobby_while_others_are_verified() -> None:
    """It is asked again and again; and the parent may speak meanwhile."""
    places = Places(1)
    assert places.try_take()
    with verifying(places) as play, verifying(places) as other:
        before = descriptors(play)
        for one in (play, other):
            one.says(LOGIN[:-1])
        other.tells(pack(Kind.CLOSE, block=b"the end"))
        assert b"message:the end\n" in other.hears(b"\0")
        places.give_back()
        play.told(Kind.CONNECTED)
        play.hears(b"\0\n")

        assert descriptors(play) == before
    places.close()


def test_a_client_that_is_not_verified_in_time_is_told_so() -> None:
    """By the full program."""
    places = Places(1)
    assert places.try_take()
    with verifying(places, connect_timeout_s=0.1) as play:
        play.says(LOGIN[:-1])

        assert b"message:not verified in time\n" in play.hears(b"\0")
    places.close()


def test_no_passcode_stays_in_the_lobby(slots, places: Places) -> None:
    """Once the client has been answered."""
    shared = replace(shared_of(slots), verifier=Verifier(Users(), places, Ways()))
    spare = Spare()
    lobby = Lobby(spare, shared, Answers(shared), Bell())
    lobby.prepare()
    parents, end = socket.socketpair()
    client, served = socket.socketpair()
    with parents, client, spare.end, spare.client:
        for given_, place in ((end, spare.end), (served, spare.client)):
            os.dup2(given_.fileno(), place.fileno())
            given_.close()
        client.sendall(LOGIN.replace(b"alice", b"swordfish"))
        assert lobby.meet("test", PEER)
        kept = [name for name in Lobby.__slots__ if "swordfish" in repr(getattr(lobby, name))]

        assert kept == ["_login"]


@pytest.mark.parametrize(
    "limits", [Limits(max_login_frame=10), Limits(max_header_line=10), Limits(max_headers=2), Limits(max_command=3)]
)
def test_narrow_limits_are_for_the_full_program(slots, limits: Limits) -> None:
    """It has an ERROR that names them."""
    assert not agrees(shared_of(slots, limits=limits), CONNECT)


def test_a_strict_broker_demands_a_host(slots) -> None:
    """As the full program does."""
    shared = shared_of(slots, SessionPolicy(strict=True))

    assert agrees(shared, CONNECT)
    assert not agrees(shared, CONNECT.replace(b"host:/\n", b""))


@pytest.mark.parametrize(
    ("host", "is_strict", "is_plain"),
    [
        (b"/", False, True),
        (b"/", True, True),
        (b"localhost", True, True),
        (b"unknown", False, True),
        (b"unknown", True, False),
        (b"shop.example", False, False),
        (b"SHOP.example", False, False),
    ],
)
def test_a_named_host_is_for_the_full_program(slots, host: bytes, is_strict: bool, is_plain: bool) -> None:
    """And the default one as well, if it is not everybody's."""
    connect = CONNECT.replace(b"host:/", b"host:" + host)
    shop, policy = Host("shop", ("shop.example",)), SessionPolicy(strict=is_strict)
    shared = replace(shared_of(slots, policy), permissions=Permissions(hosts=Hosts((shop,))))
    limited = replace(shared, permissions=Permissions(hosts=Hosts((Host("default", users=("bob",)), shop))))

    assert agrees(shared, connect) is is_plain
    assert not agrees(limited, connect)


def unread(sender: socket.socket) -> int:
    """Octets that the other end of a pair has not read."""
    return int.from_bytes(fcntl.ioctl(sender, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def descriptors(play: Play) -> int:
    """How many the child has: the full program has more than the lobby, as it is woken by signals."""
    if not Path(f"/proc/{play.pid}/fd").exists():
        pytest.skip("needs /proc")
    return len(list(Path(f"/proc/{play.pid}/fd").iterdir()))


def test_a_client_that_only_connects_stays_in_the_lobby(connected: Play) -> None:
    """Its process has its channel and its client, and nothing more: what a signal wakes is the full program's."""
    before = descriptors(connected)
    connected.says(b"SUBSCRIBE\nid:1\ndestination:/topic/>\n\n")
    connected.told(Kind.SUBSCRIBE)

    assert descriptors(connected) > before


def test_a_client_that_only_subscribes_stays_in_the_lobby(connected: Play) -> None:
    """Whatever it has subscribed to, one by one; what it is sent is the full program's."""
    before = descriptors(connected)
    for fence, frame in enumerate((SUBSCRIBE, SUBSCRIBE.replace(b"id:0", b"id:1").replace(b"topic", b"queue")), 1):
        connected.says(frame[:-1])
        assert connected.told(Kind.SUBSCRIBE)[-1].number == fence
        connected.tells(pack(Kind.FENCED, number=fence))
        assert connected.hears(b"\0\n") == b"RECEIPT\nreceipt-id:r\n\n\0\n"
    within = descriptors(connected)
    connected.tells(pack(Kind.QUIESCE))
    connected.told(Kind.QUIESCED)

    assert (before, before < descriptors(connected)) == (within, True)


BEATING = CONNECT.replace(b"alice\n", b"alice\nheart-beat:%b\n")


@contextmanager
def beating(beats: bytes, server: tuple[int, int]) -> Iterator[Play]:
    """A client that has asked for such beats, of a broker that has these."""
    with playing(policy=SessionPolicy(heart_beat_ms=server)) as play:
        play.client.sendall(BEATING % beats)
        play.told(Kind.CONNECTED)
        play.hears(b"\0\n")
        yield play


def test_a_client_that_wants_beats_gets_them_in_the_lobby() -> None:
    """One line feed each time."""
    with beating(b"0,20", (20, 0)) as play:
        before = descriptors(play)
        heard = b"".join(play.hears(b"\n") for _ in range(3))

        assert heard.strip(b"\n") == b""
        assert descriptors(play) == before


def test_a_client_that_beats_stays_in_the_lobby() -> None:
    """Alone, or before a frame; the full program knows how many octets there were."""
    with beating(b"60000,0", (0, 60_000)) as play:
        before = descriptors(play)
        play.client.sendall(b"\n")
        wait_until(lambda: not unread(play.client), "a beat that is read")
        play.client.sendall(b"\n\n" + SUBSCRIBE)
        play.told(Kind.SUBSCRIBE)
        play.tells(pack(Kind.FENCED, number=1))
        heard = play.hears(b"\0\n")
        within = descriptors(play)
        play.says(b"SEND\nno colon\n\n")
        octets = len(BEATING % b"60000,0") + 3 + len(SUBSCRIBE)

        assert (before, heard) == (within, b"RECEIPT\nreceipt-id:r\n\n\0\n")
        assert b"the frame begins at byte %d of" % octets in play.hears(b"\0")


def test_the_longest_interval_is_no_fault() -> None:
    """Systems count the milliseconds of a wait in 31 bits."""
    with beating(b"9999999999,9999999999", (10_000, 10_000)) as play:
        before = descriptors(play)
        play.says(SUBSCRIBE[:-1])
        play.told(Kind.SUBSCRIBE)

        assert descriptors(play) == before


def test_a_client_that_misses_its_beats_is_told_by_the_full_program() -> None:
    """In its own words."""
    with beating(b"20,0", (0, 20)) as play:
        assert b"message:missed heart-beat\n" in play.hears(b"\0\n")
        assert play.told()[-1].block == b"missed heart-beat (nothing was received for 0.04 s)"


def test_a_client_that_takes_no_beat_is_for_the_full_program() -> None:
    """Which waits until there is room; the session goes on with what was agreed on."""
    with beating(b"0,1", (1, 0)) as play:
        before = descriptors(play)
        wait_until(lambda: descriptors(play) > before, "a client to whom nothing can be written")
        play.says(SUBSCRIBE[:-1])
        play.told(Kind.SUBSCRIBE)
        play.tells(pack(Kind.FENCED, number=1))

        assert play.hears(b"RECEIPT\nreceipt-id:r\n\n\0\n").startswith(b"\n\n")


@pytest.mark.parametrize("is_passed", [False, True])
def test_the_full_program_has_the_subscriptions_of_the_lobby(connected: Play, is_passed: bool) -> None:
    """As if it had made them itself: the RECEIPT is said once, before the first message, and the id is in use."""
    connected.says(SUBSCRIBE[:-1])
    [told] = [one for one in connected.told(Kind.SUBSCRIBE) if one.kind is Kind.SUBSCRIBE]
    heard = b""
    if is_passed:
        connected.tells(pack(Kind.FENCED, number=1))
        heard = connected.hears(b"\0\n")
    # unread until the full program has begun, for which there is something to do now
    connected.says(b"SEND\ndestination:/topic/a\n\nhello")
    [sent] = connected.told(Kind.SEND)
    if not is_passed:
        connected.tells(pack(Kind.FENCED, number=1))
    connected.tells([sent.raw])
    heard += connected.hears(b"hello\0")
    connected.says(SUBSCRIBE[:-1])
    heard += connected.hears(b"ERROR")

    assert (told.token >> 24, told.count, told.destination) == (0, 8_192, b"/topic/a")
    assert heard.startswith(b"RECEIPT\nreceipt-id:r\n\n\0\nMESSAGE\nsubscription:0\n")
    assert (heard.count(b"RECEIPT"), heard.count(b"MESSAGE\n")) == (1, 1)


def test_an_id_that_is_in_use_is_for_the_full_program(connected: Play) -> None:
    """Which has the ERROR."""
    connected.says(SUBSCRIBE[:-1])
    connected.told(Kind.SUBSCRIBE)
    connected.tells(pack(Kind.FENCED, number=1))
    connected.hears(b"\0\n")
    connected.says(SUBSCRIBE[:-1])

    assert b"message:subscription exists\n" in connected.hears(b"\0")


def test_a_subscription_that_is_refused_is_for_the_full_program(connected: Play) -> None:
    """The ERROR names the receipt, as ever."""
    connected.says(SUBSCRIBE.replace(b"topic", b"queue")[:-1])
    connected.told(Kind.SUBSCRIBE)
    connected.tells(pack(Kind.REFUSED, number=1, block=b"too many queues"))
    heard = connected.hears(b"\0")

    assert b"receipt-id:r\n" in heard
    assert b"too many queues" in heard


def test_with_many_subscriptions_a_client_has_left_the_lobby(connected: Play) -> None:
    """What it has made there, it has all the same."""
    before = descriptors(connected)
    for number in range(1, MOST + 2):
        connected.says(b"SUBSCRIBE\nid:%d\ndestination:/topic/a\n\n" % number)
        assert connected.told(Kind.SUBSCRIBE)[-1].number == number
        connected.tells(pack(Kind.FENCED, number=number))
    connected.says(b"SEND\ndestination:/topic/a\n\nhello")
    [sent] = connected.told(Kind.SEND)
    connected.tells([sent.raw])

    assert descriptors(connected) > before
    heard = connected.hears(b"subscription:%d\n" % (MOST + 1))
    assert heard.count(b"MESSAGE\n") == MOST + 1


def test_the_session_goes_on_where_the_lobby_has_come_to(connected: Play) -> None:
    """CONNECTED is said once, to the client and to the parent; the session has the name that the client was told."""
    connected.says(b"SEND\ndestination:/temp-queue/a\nreceipt:1\n\nhello")
    [told] = connected.told(Kind.SEND)
    connected.tells(pack(Kind.FENCED, number=1))

    assert told.destination.startswith(b"/")
    assert connected.hears(b"\0").startswith(b"RECEIPT\nreceipt-id:1\n")


def test_the_parent_may_speak_first(connected: Play) -> None:
    """A client that has said nothing but CONNECT is told the end of the broker."""
    connected.tells(pack(Kind.QUIESCE))
    assert [one.kind for one in connected.told(Kind.QUIESCED)] == [Kind.QUIESCED]
    connected.tells(pack(Kind.CLOSE, block=b"the end"))

    assert b"message:the end\n" in connected.hears(b"\0")
    assert connected.told()[-1].block == b"the end"


@pytest.mark.parametrize("close", [socket.socket.close, lambda client: client.shutdown(socket.SHUT_WR)])
def test_a_client_that_leaves_the_lobby_has_left(connected: Play, close: Callable[[socket.socket], None]) -> None:
    """The parent is told, and asked nothing; the process ends."""
    close(connected.client)

    [farewell] = connected.told()
    assert (farewell.kind, farewell.block) == (Kind.LEAVING, b"client closed the connection")
    wait_until(connected.has_ended, "the end of the child")
    assert connected.status == 0


def test_a_client_that_leaves_with_a_subscription_is_for_the_full_program(connected: Play) -> None:
    """The parent has to know first that no message goes to it any more."""
    connected.says("SUBSCRIBE\ndestination:/queue/a\nid:0\nreceipt:r\n\n")
    connected.told(Kind.SUBSCRIBE)
    connected.tells(pack(Kind.FENCED, number=1))
    connected.hears(b"\0")
    connected.client.close()

    assert connected.told(Kind.UNSUBSCRIBE)[-1].number == 2
    connected.tells(pack(Kind.FENCED, number=2))
    assert connected.told()[-1].block == b"client closed the connection"


def test_a_child_in_the_lobby_ends_with_its_parent(connected: Play) -> None:
    """As any other."""
    connected.channel.close()

    wait_until(connected.has_ended, "the end of the child")


def test_a_client_that_sends_nothing_is_told_so_in_time() -> None:
    """The time counts from the connection on, not from the end of the wait in the lobby."""
    with playing(policy=SessionPolicy(connect_timeout_s=0.2)) as play:
        assert b"message:not connected in time\n" in play.hears(b"\0")


def test_sigterm_in_the_lobby_comes_at_any_moment(play: Play) -> None:
    """Hundreds of them, before CONNECT, with it and after it: the client is told once."""
    heard = b""
    for number in range(300):
        os.kill(play.pid, signal.SIGTERM)
        if number == 150:
            play.says(CONNECT[:-1])
    heard = play.hears(b"message:disconnected by the administrator")

    assert heard.count(b"ERROR") == 1


def test_what_is_prepared_has_the_limits_of_its_client_and_no_others(slots) -> None:
    """The process that prepares keeps its own: it forks the children of all clients."""
    shared = Shared(
        SessionPolicy(),
        Limits(),
        slots,
        1 << 20,
        permissions=Permissions(quotas={"user alice": {"nice": 2}, "anonymous": {"nice": 1}}),
    )
    usual = os.nice(0)
    pid = os.fork()
    if not pid:
        try:
            spare = Spare()
            lobby = Lobby(spare, shared, Answers(shared), Bell())
            lobby.prepare()
            niceness = [os.nice(0)]
            _parent, end = socket.socketpair()
            client, served = socket.socketpair()
            os.dup2(end.fileno(), spare.end.fileno())
            os.dup2(served.fileno(), spare.client.fileno())
            client.sendall(CONNECT)
            assert lobby.meet("test", PEER)
            lobby.leave()
            niceness.append(os.nice(0))
            os._exit(niceness == [usual, usual + 2])
        finally:
            os._exit(99)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
