"""Power cuts: what a broker has promised is on the disk at every moment. `make cuts` does the same for longer."""

from __future__ import annotations

import ctypes.util
import os
from pathlib import Path

import pytest
from faults.disk import Disk, find_obstacle
from faults.power import UNSYNCED, Power

CUTS = 6
_OBSTACLE = find_obstacle()

pytestmark = pytest.mark.skipif(bool(_OBSTACLE), reason=_OBSTACLE or "possible")


@pytest.mark.row("R02", "J01", "T04")
@pytest.mark.parametrize("seed", [1, 2])
def test_a_power_cut_takes_nothing_that_was_promised(tmp_path: Path, seed: int) -> None:
    """What has a receipt is there, what was acknowledged with one is not, and transactions are whole."""
    power = Power(tmp_path, seed)

    assert power.cut(CUTS) == []
    assert power.cuts == CUTS
    assert power.receipts > 50 * CUTS


@pytest.mark.skipif(ctypes.util.find_library("eatmydata") is None, reason="needs libeatmydata (Debian: libeatmydata1)")
def test_without_syncs_a_power_cut_does_harm(tmp_path: Path) -> None:
    """The rig sees it when a broker promises what is not on the disk.

    A broker that had no time to promise anything passes the first cut. The disk may even be damaged after a later one.
    """
    power = Power(tmp_path, 3, env=UNSYNCED)

    assert power.cut(CUTS) != []
    assert power.receipts > 0


def test_a_photograph_has_what_was_synced_and_not_what_was_not(tmp_path: Path) -> None:
    """The rig itself, with two files of eleven octets."""
    copy = tmp_path / "copy.img"
    with Disk(tmp_path / "disk.img", tmp_path / "disk") as disk:
        for name in ("synced", "unsynced"):
            with (disk.mountpoint / name).open("wb") as file:
                file.write(b"some bytes")
                file.flush()
                if name == "synced":
                    os.fsync(file.fileno())
        disk.photograph(copy)

    with Disk(copy, tmp_path / "copy") as left:
        assert (left.mountpoint / "synced").read_bytes() == b"some bytes"
        assert not (left.mountpoint / "unsynced").exists() or not (left.mountpoint / "unsynced").read_bytes()
