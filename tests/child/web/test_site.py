"""One client of a listener for HTTP, served in a process of its own; the test is its parent and its client."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from support.deadline import wait_until
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from forkbroker.child import child
from forkbroker.child.lobby import Bell
from forkbroker.child.spare import Spare
from forkbroker.child.transport import PlainTransport
from forkbroker.child.web import site
from forkbroker.child.web.requests import parse_head
from forkbroker.child.web.site import SitePolicy
from forkbroker.posix.children import fork
from forkbroker.posix.semaphores import SemaphorePool
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.setup import Habits
from forkbroker.stomp.limits import Limits
from forkbroker.wire.channel import Channel, open_pair

MAX_ENVELOPE = 16 << 20
SILENCE_S = 1.5


class Tab:
    """A page of a browser, which answers pings or not."""

    def __init__(self, link: socket.socket, *, answers_pings: bool) -> None:
        self._link = link
        self._link.settimeout(10.0)
        self._protocol = ClientProtocol(parse_uri("ws://test/ws"))
        self._answers_pings = answers_pings
        self.pings = 0
        self.texts: list[str] = []
        self.is_at_end = False
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def say(self, text: str) -> None:
        while self._protocol.state is not OPEN:
            self.turn()
        self._protocol.send_text(text.encode())
        self._flush()

    def turn(self) -> None:
        """Take in what comes next."""
        octets = self._link.recv(65_536)
        if not octets:
            self.is_at_end = True
            return
        self._protocol.receive_data(octets)
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.PING:
                self.pings += 1
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self.texts.append(bytes(event.data).decode())
        if self._answers_pings:
            self._flush()
        else:
            self._protocol.data_to_send()

    def _flush(self) -> None:
        for octets in self._protocol.data_to_send():
            self._link.sendall(octets)


Open = Callable[[bool], Tab]


@pytest.fixture
def open_tab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """A tab of a client that has connected, where pings are sent each 20 ms, and silence for `SILENCE_S` is the end."""
    monkeypatch.setattr(site, "PING_S", 0.02)
    monkeypatch.setattr(site, "HABITS", Habits(patience_s=SILENCE_S))
    ours, theirs = open_pair()
    client, served = socket.socketpair()
    slots = SemaphorePool(1)
    shared = child.Shared(SessionPolicy(heart_beat_ms=(0, 0)), Limits(), slots, MAX_ENVELOPE)

    def serve() -> int:
        spare = Spare()
        for socket_, place in ((theirs, spare.end), (served, spare.client)):
            os.dup2(socket_.fileno(), place.fileno(), inheritable=False)
            socket_.close()
        spare.end.setblocking(False)
        return site.serve(spare, "test", 1, shared, Bell(), policy=SitePolicy(), make=PlainTransport)

    pid = fork(serve, [theirs.fileno(), served.fileno()])
    for end in (theirs, served):
        end.close()
    channel = Channel(ours, max_envelope=MAX_ENVELOPE)

    def run(answers_pings: bool) -> Tab:
        tab = Tab(client, answers_pings=answers_pings)
        tab.say("CONNECT\naccept-version:1.2\nhost:/\n\n\0")
        while not tab.texts:
            tab.turn()
        return tab

    yield run
    client.close()
    channel.close()
    wait_until(lambda: os.waitpid(pid, os.WNOHANG)[0], "the end of the child")
    slots.close()


def test_pongs_are_life(open_tab: Open) -> None:
    """A tab in the background says nothing by itself; with its pongs it outlives its silence."""
    tab = open_tab(True)
    until = time.monotonic() + SILENCE_S * 1.5
    while time.monotonic() < until:
        tab.turn()

    assert not tab.is_at_end
    assert len(tab.texts) == 1


def test_who_does_not_answer_is_gone(open_tab: Open) -> None:
    """Although it has promised no heart-beats."""
    tab = open_tab(False)
    while not tab.is_at_end:
        tab.turn()

    assert tab.texts[1].startswith("ERROR\nmessage:missed heart-beat\n")
    assert f"nothing was received for {SILENCE_S:g} s" in tab.texts[1]
    assert tab.pings > 1


HEAD = b"GET /ws?token=query HTTP/1.1\r\nHost: a\r\nCookie: a=b; s=cookie\r\n"


@pytest.mark.parametrize(
    ("policy", "more", "token"),
    [
        (SitePolicy(), b"", ""),
        (SitePolicy(cookie="s"), b"", "cookie"),
        (SitePolicy(cookie="other"), b"", ""),
        (SitePolicy(takes_query=True), b"", "query"),
        (SitePolicy(cookie="s", takes_query=True), b"", "cookie"),
        (SitePolicy(cookie="s", takes_query=True), b"Authorization: Bearer header\r\n", "header"),
    ],
)
def test_a_token_is_taken_from_where_it_may_be(policy: SitePolicy, more: bytes, token: str) -> None:
    """What only the program of the page can have written comes first."""
    request = parse_head(HEAD + more + b"\r\n")

    assert request is not None
    assert policy.find_bearer(request) == token
    assert "query HTTP" not in repr(request)
