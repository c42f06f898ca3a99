"""One client of a listener for HTTP, served in a process of its own; the test is its parent and its client."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from support.deadline import wait_until
from support.tabs import Tab

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
        tab = Tab(client, "ws://test/ws")
        tab.answers_pings = answers_pings
        tab.login()
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
    assert tab.texts == []


def test_who_does_not_answer_is_gone(open_tab: Open) -> None:
    """Although it has promised no heart-beats."""
    tab = open_tab(False)
    while not tab.is_at_end:
        tab.turn()

    assert tab.texts[0].startswith("ERROR\nmessage:missed heart-beat\n")
    assert f"nothing was received for {SILENCE_S:g} s" in tab.texts[0]
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
