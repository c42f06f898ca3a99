"""The lobby says what the full program would say, and hands over whatever it does not know."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from child.conftest import Play, playing
from hypothesis import given
from hypothesis import strategies as st
from support.deadline import wait_until

from forkbroker.child.child import Shared
from forkbroker.child.lobby import Answers, Bell, Lobby
from forkbroker.child.spare import Spare
from forkbroker.hosts import Host, Hosts
from forkbroker.permissions import Permissions
from forkbroker.posix.semaphores import SemaphorePool
from forkbroker.session.connecting import Connecting
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.session import Session
from forkbroker.session.setup import Setup
from forkbroker.stomp.limits import Limits
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import Kind

PEER = 77
CONNECT = b"CONNECT\naccept-version:1.2\nhost:/\nlogin:alice\n\n\0"


@pytest.fixture(scope="module")
def slots() -> Iterator[SemaphorePool]:
    pool = SemaphorePool(1)
    yield pool
    pool.close()


def shared_of(slots: SemaphorePool, policy: SessionPolicy | None = None, limits: Limits | None = None) -> Shared:
    return Shared(policy or SessionPolicy(), limits or Limits(), slots, 1 << 20)


def ask_fully(shared: Shared, octets: bytes) -> tuple[bytes, list[tuple[Kind, bytes]], bool]:
    """What the full program says to the client and to the parent, and whether the client is connected then."""
    sessions: list[Session] = []
    setup = Setup(shared.policy, shared.limits, shared.name_session(PEER), bytes(32), shared.slots.try_acquire)
    connecting = Connecting(setup, sessions.append, 0.0)
    connecting.receive(octets, 0.0)
    told = [Envelope(b"".join(buffers)) for buffers in connecting.upward.take()]
    said = b"".join(connecting.unwritten.gather())
    return said, [(one.kind, one.destination) for one in told], bool(sessions)


def agrees(shared: Shared, octets: bytes) -> bool:
    """Whether the lobby answers this; if so, it is what the full program says."""
    found = Answers(shared).find(octets)
    if found is None:
        return False
    _, login, before, behind = found
    assert ask_fully(shared, octets) == (b"%b%d%b" % (before, PEER, behind), [(Kind.CONNECTED, login)], True)
    return True


VALUES = st.text(st.sampled_from("ab01.,-_/ \\:\té"), max_size=12) | st.sampled_from(
    ["1.2", "1.1", "1.0", "1.0,1.1,1.2", "1.1,1.2", "0,0", "10000,10000", "0,10000", "", "/"]
)
LINES = st.tuples(
    st.sampled_from(["accept-version", "host", "login", "passcode", "heart-beat", "client-id", "receipt"]), VALUES
)


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
        (CONNECT.replace(b"alice", b"alice\nheart-beat:0,10000"), False),
        (CONNECT.replace(b"alice", b"alice\nclient-id:a"), False),
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


def test_a_client_that_only_connects_stays_in_the_lobby(connected: Play) -> None:
    """Its process has its channel and its client, and nothing more: what a signal wakes is the full program's."""
    if not Path(f"/proc/{connected.pid}/fd").exists():
        pytest.skip("needs /proc")
    before = len(list(Path(f"/proc/{connected.pid}/fd").iterdir()))
    connected.says(b"SUBSCRIBE\nid:1\ndestination:/topic/a\n\n")
    connected.told(Kind.SUBSCRIBE)

    assert len(list(Path(f"/proc/{connected.pid}/fd").iterdir())) > before


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


def test_a_client_that_leaves_the_lobby_has_left(connected: Play) -> None:
    """The parent is told; the process ends."""
    connected.client.close()

    assert connected.told()[-1].block == b"client closed the connection"
    wait_until(connected.has_ended, "the end of the child")
    assert connected.status == 0


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
