"""Saying no so that it arrives, and so that it costs little; the test sets the loop's clock."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from parts import logger_of

from forkbroker.parent.refusals import LINGER_S, LINGERING_MAX, Refusals
from forkbroker.posix.loop import Loop


class Desk:
    """Refusals, and the clients' ends."""

    def __init__(self) -> None:
        self.loop, self.lines = Loop(), list[str]()
        self.refusals = Refusals(self.loop, self._say, logger_of(self.lines))
        self.clients: list[socket.socket] = []

    def _say(self, reason: str, is_web: bool, heard: bytes) -> bytes:
        return f"503 {reason} ".encode() + heard if is_web else f"ERROR {reason}".encode()

    def refuse(
        self, reason: str = "no room", client: str = "unix", *, is_web: bool = False
    ) -> tuple[socket.socket, socket.socket]:
        """The parent's end of a connection that is refused, and the client's."""
        ours, theirs = socket.socketpair()
        theirs.settimeout(10.0)
        self.clients.append(theirs)
        self.refusals.refuse(ours, client, reason, is_web=is_web)
        return ours, theirs

    def pass_time(self, seconds: float) -> None:
        """What was done is so many seconds older, and what is due by that is done."""
        self.loop._deadlines = [(when - seconds, order, deadline) for when, order, deadline in self.loop._deadlines]
        self.refusals._complaint_ends -= seconds
        self.loop.call_at(self.loop.now, lambda: None)
        self.loop.turn()

    def close(self) -> None:
        self.refusals.close()
        for client in self.clients:
            client.close()
        self.loop.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def test_bounds_are_small() -> None:
    """Refusing must not cost what accepting would."""
    assert (LINGER_S, LINGERING_MAX) == (1.0, 64)


def test_the_words_arrive_before_the_end(desk: Desk) -> None:
    """Whatever the client sends meanwhile: what is unread would make the kernel discard them."""
    ours, theirs = desk.refuse("too many clients")
    theirs.sendall(bytes(10_000))
    desk.loop.turn()
    assert ours.fileno() != -1
    assert not ours.getblocking()

    assert theirs.recv(100) == b"ERROR too many clients"
    assert theirs.recv(100) == b""


def test_a_client_that_speaks_tls_is_told_nothing(desk: Desk) -> None:
    """It could not read it. The log has the reason all the same."""
    ours, theirs = socket.socketpair()
    desk.clients.append(theirs)
    desk.refusals.refuse(ours, "127.0.0.1:1", "too many clients", is_tls=True)

    assert theirs.recv(1) == b""
    assert desk.lines == ["client 127.0.0.1:1: refused, too many clients"]


def test_a_client_of_http_is_told_once_its_request_has_come(desk: Desk) -> None:
    """As the answer may depend on it; what comes later changes nothing."""
    ours, theirs = desk.refuse("full", is_web=True)
    desk.loop.call_at(desk.loop.now, lambda: None)
    desk.loop.turn()
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(100)
    theirs.settimeout(10.0)
    theirs.sendall(b"GET /")
    desk.loop.turn()
    assert theirs.recv(100) == b"503 full GET /"
    theirs.sendall(b"more")
    desk.loop.turn()

    assert theirs.recv(100) == b""
    assert ours.fileno() != -1


def test_a_client_of_http_that_sends_nothing_is_told_at_the_end(desk: Desk) -> None:
    """After a second, when another one takes its place, or at the broker's end."""
    _, silent = desk.refuse("silent", is_web=True)
    desk.pass_time(1.1)
    _, displaced = desk.refuse("displaced", is_web=True)
    for _ in range(LINGERING_MAX):
        desk.refuse()
    _, last = desk.refuse("last", is_web=True)
    desk.refusals.close()

    assert [end.recv(100) for end in (silent, displaced, last)] == [b"503 silent ", b"503 displaced ", b"503 last "]
    assert not desk.refusals._untold


def test_a_client_of_http_that_leaves_is_forgotten(desk: Desk) -> None:
    """The words find nobody."""
    ours, theirs = desk.refuse(is_web=True)
    theirs.close()
    desk.loop.turn()

    assert ours.fileno() == -1
    assert not desk.refusals._untold


def test_a_client_that_leaves_is_forgotten_at_once(desk: Desk) -> None:
    """Its connection is closed with its own end."""
    ours, theirs = desk.refuse()
    theirs.close()
    desk.loop.turn()

    assert ours.fileno() == -1
    assert not desk.loop._watched


def test_a_connection_that_was_reset_is_an_end_too() -> None:
    """TCP: the client has closed without reading."""
    desk = Desk()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    desk.refusals.refuse(ours, "127.0.0.1:1", "no room")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    desk.loop.turn()

    assert ours.fileno() == -1
    desk.close()


def test_a_client_that_is_gone_already_is_not_waited_for(desk: Desk) -> None:
    """Nothing of it stays."""
    ours, theirs = socket.socketpair()
    theirs.close()
    desk.refusals.refuse(ours, "unix", "no room")

    assert ours.fileno() == -1
    assert not desk.loop._watched


def test_a_client_that_stays_is_closed_after_a_second(desk: Desk) -> None:
    """Not before, and it alone."""
    ours, _ = desk.refuse()
    desk.pass_time(0.5)
    later, _ = desk.refuse()
    assert ours.fileno() != -1
    desk.pass_time(0.6)

    assert ours.fileno() == -1
    assert later.fileno() != -1


def test_a_second_does_not_end_another_ones_connection(desk: Desk) -> None:
    """The number of a descriptor is given out again: it is the connection that counts."""
    ours, theirs = desk.refuse()
    fd = ours.fileno()
    theirs.close()
    desk.clients.clear()
    desk.loop.turn()
    desk.pass_time(0.5)
    held = []
    while True:
        later, client = socket.socketpair()
        held += [later, client]
        if fd in (later.fileno(), client.fileno()):
            break
    mine, other = (later, client) if later.fileno() == fd else (client, later)
    desk.refusals.refuse(mine, "unix", "no room")
    desk.pass_time(0.6)

    assert mine.fileno() == fd
    other.close()
    for end in held[:-2]:
        end.close()


def test_no_more_than_64_are_kept_the_oldest_goes(desk: Desk) -> None:
    """The 64th is kept as well."""
    ours = [desk.refuse()[0] for _ in range(LINGERING_MAX)]
    assert all(end.fileno() != -1 for end in ours)
    ours.append(desk.refuse()[0])

    assert [end.fileno() == -1 for end in ours] == [True] + [False] * LINGERING_MAX


def test_refusals_are_logged_once_and_then_counted_each_ten_seconds(desk: Desk) -> None:
    """As long as there are some; after a quiet time the next one has a line again."""
    desk.refuse("full", "a")
    for _ in range(2):
        desk.refuse("full", "b")
    assert desk.lines == ["client a: refused, full"]
    desk.pass_time(9.0)
    assert len(desk.lines) == 1
    desk.pass_time(1.5)
    assert desk.lines[1:] == ["2 more clients refused within 10 s"]
    for _ in range(1_200):
        desk.refuse("full", "c")
    desk.pass_time(10.5)
    assert desk.lines[2:] == ["1,200 more clients refused within 10 s"]
    desk.pass_time(10.5)
    desk.refuse("full", "d")

    assert desk.lines[3:] == ["client d: refused, full"]


def test_at_the_end_of_ten_seconds_a_line_is_due_again(desk: Desk) -> None:
    """Not only after it."""
    desk.refuse("full", "a")
    desk.refusals._complaint_ends = desk.loop.now
    desk.refuse("full", "b")

    assert desk.lines == ["client a: refused, full", "client b: refused, full"]


def test_closing_closes_all(desk: Desk) -> None:
    """At the broker's end."""
    ours = [desk.refuse()[0] for _ in range(3)]
    desk.refusals.close()

    assert [end.fileno() for end in ours] == [-1] * 3
    assert not desk.loop._watched
