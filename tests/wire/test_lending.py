"""What is on its way in files is bounded by what the other side has not read."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from forkbroker.wire import lending
from forkbroker.wire.channel import open_pair
from forkbroker.wire.lending import MOST_FILES, MOST_OCTETS, Lending, find_cost

pytestmark = pytest.mark.skipif(not find_cost(), reason="the system does not say how much is unread")

Ends = tuple[socket.socket, socket.socket, Lending]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Two ends of a channel, and what the near one has lent."""
    near, far = open_pair()
    made = Lending(near.fileno())
    with near, far:
        yield near, far, made
    made.close()


def lend(ends: Ends, octets: int) -> bool:
    near, _, made = ends
    if not made.has_room(octets):
        return False
    near.send(b"head")
    made.lent(octets)
    return True


def test_there_is_room_again_for_what_was_read(ends: Ends) -> None:
    """For as much as that."""
    quarter = MOST_OCTETS // 4
    assert [lend(ends, quarter) for _ in range(6)] == [True] * 4 + [False] * 2
    ends[1].recv(4)
    assert [lend(ends, quarter) for _ in range(2)] == [True, False]
    ends[1].recv(1000)

    assert [lend(ends, quarter) for _ in range(5)] == [True] * 4 + [False]


def test_one_may_be_of_any_size_if_nothing_else_is_unread(ends: Ends) -> None:
    """Otherwise it could never be lent."""
    assert lend(ends, 10 * MOST_OCTETS)
    assert not lend(ends, 1)
    ends[1].recv(1000)

    assert lend(ends, 1)
    assert not lend(ends, MOST_OCTETS)


def test_small_ones_are_bounded_in_number(ends: Ends) -> None:
    """Each is a descriptor."""
    assert [lend(ends, 1) for _ in range(MOST_FILES + 1)] == [True] * MOST_FILES + [False]


def test_what_else_is_unread_makes_it_lend_less_and_never_more(ends: Ends) -> None:
    """The kernel does not say of what it is."""
    assert all(lend(ends, 1) for _ in range(MOST_FILES))
    ends[1].recv(4 * MOST_FILES)
    for _ in range(MOST_FILES):
        ends[0].send(b"another")

    assert not lend(ends, 1)
    ends[1].recv(1000)
    assert lend(ends, 1)


def test_all_channels_together_lend_a_part_of_what_may_be_open(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """And none of them if there are more of them than that."""
    monkeypatch.setattr(lending, "_quarter_of_files", lambda: 4 * Lending._count)
    assert [lend(ends, 1) for _ in range(5)] == [True] * 4 + [False]
    ends[1].recv(1000)
    others = [Lending(ends[0].fileno()) for _ in range(3 * Lending._count)]

    monkeypatch.setattr(lending, "_quarter_of_files", lambda: Lending._count - 1)
    assert not lend(ends, 1)
    for other in others:
        other.close()


def test_where_nobody_says_what_is_unread_nothing_is_lent(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some systems have no such call, on others it means something else."""

    def refuse(_fd: int) -> int:
        raise OSError(25, "Inappropriate ioctl for device")

    for ask in (refuse, lambda _fd: 0, lambda _fd: 1):
        monkeypatch.setattr(lending, "_ask", ask)
        find_cost.cache_clear()
        assert not lend(ends, 1)
    monkeypatch.undo()
    find_cost.cache_clear()

    assert lend(ends, 1)
