"""The file that can be given up."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.disks import mounted

from forkbroker.store.reserve import RESERVE_OCTETS, Reserve


@pytest.fixture
def small(tmp_path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    with mounted(tmp_path / "small", 4) as directory:
        yield directory


def test_it_is_made_once_and_given_up_once(tmp_path) -> None:
    """With real blocks, and for the broker's user alone."""
    path = tmp_path / "reserve"
    reserve = Reserve(path)
    assert reserve.keep()
    found = path.stat()
    assert reserve.keep()

    assert (found.st_size, found.st_mode & 0o777) == (RESERVE_OCTETS, 0o600)
    assert found.st_blocks * 512 >= RESERVE_OCTETS
    assert path.stat().st_ino == found.st_ino
    assert reserve.give_up()
    assert not path.exists()
    assert not reserve.give_up()


def test_it_is_not_what_fills_the_disk(small) -> None:
    """On a small file system it is small, and where little more than it is free it is not made."""
    reserve = Reserve(small / "reserve")
    assert reserve.octets == 0
    assert reserve.keep()
    assert reserve.octets == 4 << 20 >> 4
    reserve.give_up()
    ballast = small / "ballast"
    ballast.write_bytes(bytes((4 << 20) - (2 * 4 << 20 >> 4) + 4096))

    assert not reserve.keep()
    assert list(small.iterdir()) == [ballast]


def test_half_a_reserve_is_made_a_whole_one(tmp_path) -> None:
    """Its maker was killed."""
    path = tmp_path / "reserve"
    path.write_bytes(b"x")

    assert Reserve(path).keep()
    assert path.stat().st_size == RESERVE_OCTETS


def test_a_directory_that_is_gone_has_no_reserve(tmp_path) -> None:
    """Nor is that an error."""
    reserve = Reserve(tmp_path / "gone" / "reserve")

    assert not reserve.keep()
    assert not reserve.give_up()


def test_what_the_system_refuses_is_not_half_made(tmp_path) -> None:
    """A file may not be so large, or its place is taken: there is no reserve, and nothing that looks like one."""
    reserve = Reserve(tmp_path / "reserve")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (RESERVE_OCTETS - 1, limits[1]))
    try:
        assert not reserve.keep()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "reserve").mkdir()
    assert not reserve.keep()
