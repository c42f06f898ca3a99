"""Logging in: CONNECT waits for its answer."""

from __future__ import annotations

import pytest

from forkbroker.identity import Answer, Credentials, Identity, Unclear
from forkbroker.session.connecting import Connecting
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.session import Session
from forkbroker.session.setup import FAILED_S, Setup
from forkbroker.stomp.limits import Limits
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import Flag, Kind

from .play import frame, joined, read_frames

CONNECT = frame("CONNECT", {"accept-version": "1.2", "host": "h", "login": "alice", "passcode": "p\\q"})


class Door:
    """A connection before its session, and who decides on its login."""

    def __init__(self, *answers: str | None) -> None:
        """`answers` are given one after the other, the last one for ever."""
        self.asked: list[tuple[str, str]] = []
        self.answers = list(answers)
        self.now = 1000.0
        self.session: Session | None = None
        setup = Setup(SessionPolicy(), Limits(), "s1", b"secret", lambda _slot: True, self._verify)
        self.connecting = Connecting(setup, self._begin, self.now)

    def _begin(self, session: Session) -> None:
        self.session = session

    def _verify(self, credentials: Credentials) -> Answer:
        self.asked.append((credentials.login, credentials.passcode))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return Identity(credentials.login) if answer == "" else answer

    def receive(self, data: bytes) -> None:
        self.connecting.receive(data, self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass, with all turns that are wanted, up to the session."""
        end = self.now + seconds
        while self.session is None and self.connecting.wake_at <= end:
            self.now = max(self.now, self.connecting.wake_at)
            self.connecting.tick(self.now)
        self.now = end

    def read(self) -> list[str]:
        """The frames that were written: command and message."""
        data = b"".join(bytes(part) for part in self.connecting.unwritten.gather())
        self.connecting.unwritten.written(len(data), self.now)
        return [f"{got.command} {got.headers.get('message', '')}".rstrip() for got in read_frames(data, "1.2")]

    def tell(self, kind: Kind, block: bytes = b"") -> None:
        self.connecting.receive_envelope(joined(pack(kind, block=block)), self.now)

    def leaving(self) -> Envelope:
        return joined(self.connecting.take_leaving())


def test_a_right_login_gets_connected_at_once_and_what_is_behind_it_counts() -> None:
    """The function that verifies gets what was sent, unescaped."""
    door = Door("")
    door.receive(CONNECT + frame("SEND", {"destination": "/topic/a"}))

    assert door.asked == [("alice", "p\\q")]
    assert door.read() == ["CONNECTED"]
    assert door.session is not None and (door.session.login, door.session.received) == ("alice", 1)


def test_while_others_are_verified_the_client_is_not_read_and_the_broker_asks_again() -> None:
    """Until it is this one's turn."""
    door = Door(None, None, None, "")
    door.receive(CONNECT + frame("SEND", {"destination": "/topic/a"}))
    assert (door.connecting.wants_input, bool(door.connecting.holds), door.read()) == (False, True, [])
    door.wait(0.04)
    assert len(door.asked) == 1
    door.wait(0.2)

    assert len(door.asked) == 4
    assert door.read() == ["CONNECTED"]
    assert door.session is not None and door.session.received == 1
    assert not door.connecting.holds
    assert door.connecting.wake_at <= door.now


def test_a_client_waits_for_its_verification_no_longer_than_for_connect() -> None:
    """The time begins anew with CONNECT."""
    door = Door(None)
    door.wait(9.0)
    door.receive(CONNECT)
    door.wait(9.9)
    assert door.read() == []
    door.wait(0.2)

    assert door.read() == ["ERROR not verified in time"]
    assert not door.leaving().token


@pytest.mark.row("C11")
@pytest.mark.parametrize("problem", ["wrong passcode", "unknown user", "no login"])
def test_a_failure_is_told_after_a_second_in_the_same_words(problem: str) -> None:
    """Client and address pay; the log has the reason, and the passcode is nowhere."""
    door = Door(problem)
    door.receive(CONNECT)
    door.wait(FAILED_S - 0.01)
    assert (door.read(), door.connecting.is_open) == ([], True)
    door.wait(0.02)

    assert door.read() == ["ERROR login failed"]
    assert door.asked == [("alice", "p\\q")]
    leaving = door.leaving()
    assert leaving.block.decode() == f"login failed, user 'alice': {problem}"
    assert (leaving.flags, leaving.token) == (Flag.WARNING, 1)
    assert door.session is None and door.connecting.upward.take() == []


def test_a_client_that_sends_more_after_a_failure_is_not_heard() -> None:
    """A second CONNECT is no second chance."""
    door = Door("wrong passcode", "")
    door.receive(CONNECT + CONNECT)
    door.wait(5)

    assert (door.read(), len(door.asked)) == (["ERROR login failed"], 1)


def test_what_could_not_be_found_out_does_not_count_against_the_client() -> None:
    """It is told the same after the same time; the log has the reason."""
    door = Door(Unclear("the program failed"))
    door.receive(CONNECT)
    door.wait(FAILED_S + 0.01)

    assert door.read() == ["ERROR login failed"]
    leaving = door.leaving()
    assert leaving.block.decode() == "login failed, user 'alice': the program failed"
    assert (leaving.flags, leaving.token) == (Flag.WARNING, 0)


def test_a_failure_counts_also_if_the_client_leaves_before_it_is_told() -> None:
    """Guessing is not quicker without waiting for the answer."""
    door = Door("wrong passcode")
    door.receive(CONNECT)
    door.connecting.connection_lost("connection lost")

    assert door.leaving().token


@pytest.mark.parametrize("answer", [None, "wrong passcode", ""])
def test_the_end_of_the_broker_ends_a_login(answer: str | None) -> None:
    """QUIESCED is the last word: nobody is connected behind it."""
    door = Door(None, answer)
    door.receive(CONNECT)
    door.tell(Kind.QUIESCE)
    door.wait(5)
    assert [joined(said).kind for said in door.connecting.upward.take()] == [Kind.QUIESCED]
    assert (door.read(), len(door.asked)) == ([], 1)
    door.tell(Kind.CLOSE, b"shutting down")

    assert door.read() == ["ERROR shutting down"]


def test_the_administrator_can_end_a_client_that_waits() -> None:
    """As every other one."""
    door = Door(None)
    door.receive(CONNECT)
    door.connecting.end("disconnected", door.now)

    assert door.read() == ["ERROR disconnected"]


@pytest.mark.parametrize(
    "data", [frame("SEND", {"destination": "/topic/a"}), frame("CONNECT", {"accept-version": "9.9", "login": "alice"})]
)
def test_a_frame_that_is_not_connect_asks_nobody(data: bytes) -> None:
    """Nor does a CONNECT with a mistake."""
    door = Door("")
    door.receive(data)

    assert door.asked == []
    assert not door.leaving().token
