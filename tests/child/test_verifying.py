"""Verifying a login in the process of a client."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Iterator
from typing import cast

import pytest

from forkbroker.child import verifying
from forkbroker.child.transport import PlainTransport
from forkbroker.child.verifying import Verifier, Ways
from forkbroker.identity import Credentials, Identity, Way
from forkbroker.passwords import Users
from forkbroker.posix.places import Places


class Counted:
    """Places, of which so many are free."""

    def __init__(self, free: int) -> None:
        self.free = free

    def try_take(self) -> bool:
        self.free -= 1
        return self.free >= 0

    def give_back(self) -> None:
        self.free += 1


class Asked:
    """Users of whom the name is the passcode; notes how many places are free meanwhile."""

    def __init__(self, places: Counted) -> None:
        self._places = places
        self.free: list[int] = []

    def find_problem(self, name: str, passcode: str) -> str:
        self.free.append(self._places.free)
        if passcode == "breaks":
            raise MemoryError
        return "" if passcode == name else "wrong passcode"


@pytest.fixture
def places() -> Iterator[Counted]:
    """One; it must be free again in the end."""
    made = Counted(1)
    yield made
    assert made.free == 1


class Judge:
    """A verifier, asked for a client of a plain connection."""

    def __init__(self, made: Verifier, connection: socket.socket) -> None:
        self._made, self._transport = made, PlainTransport(connection)

    def find_problem(self, login: str, passcode: str) -> str | None:
        """Nothing if the client is let in with this login."""
        answer = self._made.verify(Credentials(login, passcode), self._transport, "unix")
        if isinstance(answer, Identity):
            assert answer == Identity(login)
            return ""
        return answer


def verifier(places: Counted, *, allows_anonymous: bool = False) -> tuple[Judge, Asked]:
    users = Asked(places)
    with socket.socket() as connection:
        made = Verifier(cast(Users, users), cast(Places, places), Ways(allows_anonymous=allows_anonymous))
        return Judge(made, connection), users


def test_a_login_is_verified_in_a_place(places: Counted) -> None:
    """Which is given back, whatever the answer is."""
    one, users = verifier(places)

    assert [one.find_problem("a", "a"), one.find_problem("a", "b")] == ["", "wrong passcode"]
    with pytest.raises(MemoryError):
        one.find_problem("a", "breaks")
    assert users.free == [0, 0, 0]


def test_without_a_place_there_is_no_answer() -> None:
    """Nothing is computed."""
    one, users = verifier(Counted(0))

    assert one.find_problem("a", "a") is None
    assert users.free == []


@pytest.mark.parametrize(("allows_anonymous", "problem"), [(True, ""), (False, "no login")])
def test_no_login_is_right_if_it_is_permitted(places: Counted, allows_anonymous: bool, problem: str) -> None:
    """That needs no place; an empty login is none."""
    one, users = verifier(places, allows_anonymous=allows_anonymous)

    assert one.find_problem("", "anything") == problem
    assert one.find_problem("a", "") == "wrong passcode"
    assert users.free == [0]


def ask(ways: Ways, login: str = "", passcode: str = "") -> object:
    """What is said of a client of this very user, who comes by a Unix socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        made = Verifier(None, cast(Places, Counted(1)), ways)
        return made.verify(Credentials(login, passcode), PlainTransport(ours), "unix")


def test_the_kernel_says_who_the_brokers_own_user_is() -> None:
    """An administrator, who needs no passcode, and may give the own name."""
    name = pwd.getpwuid(os.geteuid()).pw_name
    expected = Identity(name, Way.SYSTEM, is_administrator=True)

    assert ask(Ways()) == ask(Ways(), name) == expected
    assert ask(Ways(), "eve") == "no way to verify a passcode"
    assert ask(Ways(), name, "x") == "no way to verify a passcode"


def test_other_users_of_the_system_are_nobody_unless_the_configuration_takes_them(monkeypatch) -> None:
    """A group of the system can be administrators."""
    name = pwd.getpwuid(os.geteuid()).pw_name
    monkeypatch.setattr(verifying, "uid_of", lambda _socket: pwd.getpwnam("nobody").pw_uid)

    assert ask(Ways()) == "no login"
    assert ask(Ways(allows_anonymous=True)) == Identity("")
    assert ask(Ways(takes_system_users=True)) == Identity("nobody", Way.SYSTEM)
    assert ask(Ways(takes_system_users=True), name) == "no way to verify a passcode"
    assert ask(Ways(administrators="nogroup")) == Identity("nobody", Way.SYSTEM, is_administrator=True)
    assert ask(Ways(administrators="no such group")) == "no login"
