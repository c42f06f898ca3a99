"""A tab in its lobby, in a process of its own; the test is its parent and its client."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import pytest
from support.deadline import stretched, wait_until
from support.tabs import Tab
from websockets.frames import Frame, Opcode

from forkbroker.child import child
from forkbroker.child.answers import Answers
from forkbroker.child.lobby import Bell
from forkbroker.child.spare import Spare
from forkbroker.child.verifying import Verifier, Ways
from forkbroker.child.web import porch
from forkbroker.child.web.site import SitePolicy
from forkbroker.posix.children import fork
from forkbroker.posix.places import Places
from forkbroker.posix.semaphores import SemaphorePool
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.setup import Habits
from forkbroker.stomp.limits import Limits
from forkbroker.testing.broker import PATIENCE_S
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.envelope import Buffer, Envelope, pack, pack_pieces
from forkbroker.wire.kinds import Kind

MAX_ENVELOPE = 16 << 20
CONNECT = "CONNECT\naccept-version:1.2\nhost:/\n\n\0"
SUBSCRIBE = "SUBSCRIBE\nid:7\ndestination:/topic/a\nreceipt:r\n\n\0"


class Noting(porch.WebLobby):
    """A lobby that says when it is left."""

    noted = -1

    def leave(self) -> child.ClientChild:
        """As it does, after it is said."""
        os.write(self.noted, b".")
        return super().leave()


@dataclass
class Scene:
    """Both sides of a lobby."""

    link: socket.socket
    """The client's end."""
    channel: Channel
    left: int
    """Readable when the lobby is left."""
    pid: int
    told: list[Envelope] = field(default_factory=list)

    @cached_property
    def tab(self) -> Tab:
        """The client is a page, which asks for a WebSocket now."""
        return Tab(self.link, "ws://test/ws", origin="http://test")

    def reads(self, until: bytes) -> bytes:
        """What the client is sent, up to something."""
        self.link.settimeout(stretched(PATIENCE_S))
        octets = b""
        while until not in octets:
            piece = self.link.recv(65_536)
            assert piece, f"{until!r} was expected behind {octets!r}, and the connection has ended"
            octets += piece
        return octets

    def hears(self, kind: Kind) -> Envelope:
        """The next envelope of this kind that the parent is told."""

        def look() -> Envelope | None:
            self.told.extend(self.channel.receive())
            while self.told:
                envelope = self.told.pop(0)
                if envelope.kind is kind:
                    return envelope
            return None

        found = wait_until(look, f"{kind.name} for the parent")
        assert found is not None
        return found

    def tell(self, *envelopes: list[Buffer]) -> None:
        """The parent says these at once."""
        for envelope in envelopes:
            self.channel.send(envelope)
        assert self.channel.flush()

    def pass_fence(self, number: int) -> None:
        """The parent has applied all up to here."""
        self.tell(pack(Kind.FENCED, number=number))

    @property
    def is_left(self) -> bool:
        """Whether the full program has taken over."""
        try:
            return bool(os.read(self.left, 1))
        except BlockingIOError:
            return False

    def await_full(self) -> None:
        """Wait until it has."""
        wait_until(lambda: self.is_left, "the full program")


class Everybody:
    """All users, whatever their passcodes are."""

    def find_problem(self, name: str, passcode: str) -> str:
        return ""


@pytest.fixture
def scene(bare: Scene) -> Scene:
    """A tab that has asked for a WebSocket."""
    assert bare.tab.link is bare.link
    return bare


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A client that has sent nothing; pings come each 50 ms. With a parameter, logins are verified."""
    monkeypatch.setattr(porch, "PING_S", 0.05)
    monkeypatch.setattr(porch, "HABITS", Habits(patience_s=1.5))
    ours, theirs = open_pair()
    client, served = socket.socketpair()
    slots = SemaphorePool(1)
    places = Places()
    verifier = Verifier(Everybody(), places, Ways()) if getattr(request, "param", False) else None
    policy = SessionPolicy(heart_beat_ms=(10, 10_000))
    shared = child.Shared(policy, Limits(), slots, MAX_ENVELOPE, verifier=verifier)
    left, noted = os.pipe()
    os.set_blocking(left, False)

    def serve() -> int:
        bell = Bell()
        bell.hang()
        spare = Spare()
        lobby = Noting(spare, shared, Answers(shared), bell, SitePolicy())
        lobby.noted = noted
        lobby.prepare()
        for socket_, place in ((theirs, spare.end), (served, spare.client)):
            os.dup2(socket_.fileno(), place.fileno(), inheritable=False)
            socket_.close()
        spare.end.setblocking(False)
        return lobby.serve("test", 1)

    pid = fork(serve, [theirs.fileno(), served.fileno(), noted, places.descriptor])
    for end in (theirs, served):
        end.close()
    os.close(noted)
    channel = Channel(ours, max_envelope=MAX_ENVELOPE)
    yield Scene(client, channel, left, pid)
    client.close()
    channel.close()
    os.close(left)
    wait_until(lambda: os.waitpid(pid, os.WNOHANG)[0], "the end of the child")
    slots.close()
    places.close()


def test_a_tab_that_connects_and_subscribes_stays_in_the_lobby(scene: Scene) -> None:
    """With pings and pongs; then the full program goes on as if it had been there from the beginning."""
    scene.tab.say(CONNECT)
    assert scene.tab.take().startswith("CONNECTED\nversion:1.2\n")
    scene.hears(Kind.CONNECTED)
    scene.tab.say(SUBSCRIBE)
    assert scene.hears(Kind.SUBSCRIBE).destination == b"/topic/a"
    scene.pass_fence(1)
    assert scene.tab.take() == "RECEIPT\nreceipt-id:r\n\n\0"
    before = scene.tab.pings
    while scene.tab.pings < before + 3:
        scene.tab.turn()
    assert not scene.is_left

    scene.tab.say("SEND\ndestination:/topic/b\n\nhello\0")
    assert scene.hears(Kind.SEND).destination == b"/topic/b"
    assert scene.is_left
    scene.tab.say("SUBSCRIBE\nid:8\ndestination:/topic/c\nreceipt:s\n\n\0")
    scene.hears(Kind.SUBSCRIBE)
    scene.pass_fence(2)
    assert scene.tab.take() == "RECEIPT\nreceipt-id:s\n\n\0"


@pytest.mark.parametrize(
    "first",
    [
        "CONNECT\naccept-version:1.2\nhost:/\nclient-id:a\n\n\0",
        "CONNECT\naccept-version:1.2\nhost:/\nx:" + "y" * 1000 + "\n\n\0",
        "\n",
    ],
    ids=["client-id", "long", "line feed"],
)
def test_what_is_not_plain_is_for_the_full_program(scene: Scene, first: str) -> None:
    """Although the WebSocket was granted in the lobby."""
    scene.tab.say(first)
    if first == "\n":
        scene.tab.say(CONNECT)

    assert scene.tab.take().startswith("CONNECTED\n")
    scene.await_full()


def test_a_tab_with_heart_beats_stays_in_the_lobby(scene: Scene) -> None:
    """A beat is a message with one line feed, in both directions, and pings go on beside them."""
    scene.tab.say("CONNECT\naccept-version:1.2\nhost:/\nheart-beat:60000,10\n\n\0")
    assert scene.tab.take().startswith("CONNECTED\n")
    while scene.tab.pings < 2 or scene.tab.texts.count("\n") < 3:
        scene.tab.turn()
    scene.tab.say("\n")
    scene.tab.say(SUBSCRIBE)
    scene.hears(Kind.SUBSCRIBE)
    scene.pass_fence(1)
    assert scene.tab.take() == "RECEIPT\nreceipt-id:r\n\n\0"
    assert not scene.is_left

    scene.tab.say("SEND\ndestination:/topic/b\n\nhello\0")
    assert scene.hears(Kind.SEND).destination == b"/topic/b"
    assert scene.is_left
    beats = scene.tab.texts.count("\n")
    while scene.tab.texts.count("\n") < beats + 3:
        scene.tab.turn()


@pytest.mark.parametrize("bare", [True], indirect=True)
def test_a_tab_that_logs_in_stays_in_the_lobby(scene: Scene) -> None:
    """As a client over TCP does."""
    scene.tab.say("CONNECT\naccept-version:1.2\nhost:/\nlogin:alice\npasscode:secret\n\n\0")
    assert "\nuser-name:alice\n" in scene.tab.take()
    assert scene.hears(Kind.CONNECTED).destination == b"alice"
    scene.tab.say(SUBSCRIBE)
    scene.hears(Kind.SUBSCRIBE)
    scene.pass_fence(1)
    assert scene.tab.take() == "RECEIPT\nreceipt-id:r\n\n\0"
    assert not scene.is_left


def test_a_message_in_parts_is_for_the_full_program(scene: Scene) -> None:
    """And two in one; nothing is lost."""
    scene.tab.say("")  # until it is granted
    for number, (opcode, part) in enumerate(((Opcode.TEXT, CONNECT[:9]), (Opcode.CONT, CONNECT[9:] + SUBSCRIBE))):
        scene.tab.link.sendall(Frame(opcode, part.encode(), fin=bool(number)).serialize(mask=True))

    assert scene.tab.take().startswith("CONNECTED\n")
    scene.await_full()
    scene.hears(Kind.SUBSCRIBE)


def test_a_tab_that_does_not_answer_pings_is_left_to_the_full_program(scene: Scene) -> None:
    """Which finds out whether it is still there."""
    scene.tab.answers_pings = False
    scene.tab.login()
    scene.await_full()
    scene.tab.turn()

    assert scene.tab.pings > 1


EVENTS = b"GET /topic/a HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n"
OPENING = b"retry: 3000\n\n"


def make_message(body: bytes) -> list[Buffer]:
    """For the subscription."""
    flags, payload = pack_pieces([body])
    lines = b"-other-1\ndestination:/topic/a\ncontent-length:%d\n\n" % len(body)
    return pack(Kind.SEND, flags=flags, count=1, destination=b"/topic/a", block=lines, payload=payload)


@pytest.fixture
def watcher(bare: Scene) -> Scene:
    """An EventSource, of which the parent has heard."""
    bare.link.sendall(EVENTS)
    assert bare.hears(Kind.CONNECTED).destination == b""
    assert bare.hears(Kind.SUBSCRIBE).destination == b"/topic/a"
    return bare


def test_an_event_source_waits_in_the_lobby(watcher: Scene) -> None:
    """The answer begins when the subscription is made, comments keep it alive, and the full program has the events."""
    watcher.pass_fence(1)
    heard = watcher.reads(OPENING) + watcher.reads(b":\n\n:\n\n")
    assert not watcher.is_left
    watcher.tell(make_message(b"hello"))
    heard += watcher.reads(b"data: hello\n\n")
    watcher.tell(make_message(b"again"))
    heard += watcher.reads(b"data: again\n\n")

    assert watcher.is_left
    assert heard.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n")
    assert (heard.count(b"HTTP/1.1"), heard.count(OPENING)) == (1, 1)
    assert heard.replace(b":\n\n", b"").endswith(
        OPENING + b"id: 0-other-1\ndata: hello\n\nid: 0-other-1\ndata: again\n\n"
    )


def test_an_event_source_that_is_sent_an_event_at_once_is_answered_by_the_full_program(watcher: Scene) -> None:
    """With the same words, once."""
    watcher.tell(pack(Kind.QUIESCE), pack(Kind.FENCED, number=1), make_message(b"hello"))
    heard = watcher.reads(b"data: hello\n\n")

    assert watcher.is_left
    assert (heard.count(b"HTTP/1.1 200 OK\r\n"), heard.count(OPENING)) == (1, 1)


def test_a_subscription_that_is_refused_is_answered_by_the_full_program(watcher: Scene) -> None:
    """Nothing of an answer has been sent then."""
    watcher.tell(pack(Kind.REFUSED, number=1, block=b"too many topics"))

    assert watcher.reads(b"too many topics").startswith(b"HTTP/1.1 503 Service Unavailable\r\n")


def test_an_event_source_that_leaves_has_left(watcher: Scene) -> None:
    """The parent is told."""
    watcher.pass_fence(1)
    watcher.reads(OPENING)
    watcher.link.close()

    assert watcher.hears(Kind.LEAVING).block == b"client closed the connection"


@pytest.mark.parametrize(
    "octets",
    [
        EVENTS.replace(b"/topic/a", b"/topic/a.*"),
        EVENTS.replace(b"/topic/a", b"/any/topic/a"),
        EVENTS.replace(b"Accept", b"Origin: http://test\r\nAccept"),
    ],
    ids=["pattern", "prefix", "origin"],
)
def test_other_requests_for_events_are_for_the_full_program(bare: Scene, octets: bytes) -> None:
    """Which tells the parent of the client."""
    bare.link.sendall(octets)
    bare.hears(Kind.SUBSCRIBE)
    assert bare.is_left
    bare.pass_fence(1)

    assert bare.reads(OPENING).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("bare", [True], indirect=True)
def test_an_event_source_that_has_to_log_in_is_for_the_full_program(bare: Scene) -> None:
    """As no login comes with a plain request."""
    bare.link.sendall(EVENTS)
    bare.await_full()


def test_a_close_and_sigterm_end_it_in_good_order(scene: Scene) -> None:
    """Both are for the full program."""
    scene.tab.login()
    os.kill(scene.pid, signal.SIGTERM)

    assert scene.tab.take().startswith("ERROR\nmessage:disconnected by the administrator\n")
    scene.tab.await_end()
    assert scene.tab.close_code == 1008
    assert scene.hears(Kind.LEAVING).block == b"disconnected by the administrator"
