"""Verifying a login in the process of a client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from forkbroker.child.verifying import Verifier
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


def verifier(places: Counted, *, allows_anonymous: bool = False) -> tuple[Verifier, Asked]:
    users = Asked(places)
    return Verifier(cast(Users, users), cast(Places, places), allows_anonymous=allows_anonymous), users


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
