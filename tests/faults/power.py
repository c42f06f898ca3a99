#!/usr/bin/env python3
"""Cuts the power of a broker's disk at random moments under load, and starts another broker on what each cut leaves.

Nothing is really switched off: the disk is photographed (`faults.disk`) while the broker works on, and the book of what
clients have seen until then (`faults.book`) is copied before. What the copy of the book promises, the copy of the disk
has to keep: persistent sends, acknowledgements, transactions, delayed messages, a durable subscription, and more
messages than memory has room for.

With `--unsynced` the broker's syncs do nothing (libeatmydata): then it has to go wrong, or this rig would show nothing.
"""

from __future__ import annotations

import argparse
import copy
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from faults.book import Book  # noqa: E402 (found by the line above)
from faults.disk import Disk, find_obstacle  # noqa: E402
from faults.storm import OPTIONS, SHALLOW, Storm, drain  # noqa: E402
from faults.traffic import NEWS, WORK, Postponer, Trader  # noqa: E402

from forkbroker.testing.broker import BrokerNotRunningError, RunningBroker  # noqa: E402

UNSYNCED = {"LD_PRELOAD": "libeatmydata.so"}
"""Environment of a broker whose syncs do nothing."""

_OPTIONS = (*SHALLOW, "--disk-free", "8MiB")
CUTS_A_DISK = 20
"""Then a new one: the book grows, and so does the time that it takes to check it."""
_LOAD_S = (0.05, 0.6)


class PowerStorm(Storm):
    """Load for a disk whose power is cut: a storm that does no other harm."""

    def __init__(self, directory: Path, seed: int, *, env: Mapping[str, str] | None = None) -> None:
        super().__init__(directory, seed, env=env, options=_OPTIONS)
        self.producers += [
            Postponer(self.book, self.chance, "postponer", window=10),
            Trader(self.book, self.chance, "broadcaster", (NEWS, WORK, NEWS), window=5),
        ]


class Power:
    """A disk, a broker under load on it, and the cuts."""

    def __init__(self, directory: Path, seed: int, *, env: Mapping[str, str] | None = None) -> None:
        """`directory` has room for some images; `env` is added to the broker's environment."""
        self._directory = directory
        self._seed = seed
        self._env = env
        self.cuts = 0
        self.receipts = 0
        """Persistent messages whose RECEIPT had been seen at the last cut."""

    def cut(self, times: int) -> list[str]:
        """Cut the power so many times; what was wrong."""
        faults: list[str] = []
        with (
            Disk(self._directory / "disk.img", self._directory / "disk") as disk,
            PowerStorm(disk.mountpoint / "store", self._seed, env=self._env) as storm,
        ):
            for _ in range(times):
                storm.load(storm.chance.uniform(*_LOAD_S))
                book = copy.deepcopy(storm.book)
                with self._photograph(disk) as left:
                    self.cuts += 1
                    self.receipts = sum(sent.is_confirmed for sent in book.sent.values())
                    found = self._start_on(left, book)
                faults += [f"seed {self._seed}, cut {self.cuts}: {fault}" for fault in found]
                if faults:
                    break
            faults += storm.faults
        return faults

    @contextmanager
    def _photograph(self, disk: Disk) -> Iterator[Path]:
        """What is on the disk now, mounted."""
        image = self._directory / "photograph.img"
        disk.photograph(image)
        try:
            with Disk(image, self._directory / "photograph") as left:
                yield left.mountpoint / "store"
        finally:
            image.unlink()

    def _start_on(self, store: Path, book: Book) -> list[str]:
        """What is missing there, or is there against the promises."""
        book.begin_life()
        try:
            with RunningBroker(*OPTIONS, *_OPTIONS, store_directory=store) as broker:
                drain(broker, book, random.Random(self._seed), "drain")
        except (BrokerNotRunningError, AssertionError) as error:
            return [str(error)]
        return book.find_faults()


def cut_for(seconds: float, seed: int, *, most: int = 0, env: Mapping[str, str] | None = None) -> int:
    """Cuts until the time is over, or there were so many if that is not 0; the exit status."""
    began, cuts, disks, receipts = time.monotonic(), 0, 0, 0
    print(f"power: {seconds:,.0f} s from seed {seed} on", flush=True)
    while time.monotonic() < began + seconds and (not most or cuts < most):
        with tempfile.TemporaryDirectory(prefix="forkbroker-power-") as directory:
            power = Power(Path(directory), seed + disks, env=env)
            faults = power.cut(min(CUTS_A_DISK, most - cuts) if most else CUTS_A_DISK)
        disks, cuts, receipts = disks + 1, cuts + power.cuts, receipts + power.receipts
        if faults:
            print("power: WRONG:", *faults[:50], f"({len(faults)} in all)", sep="\n  ", flush=True)
            return 1
        print(f"power: {time.monotonic() - began:,.0f} s, {cuts:,} cuts, {receipts:,} receipts, all well", flush=True)
    return 0


def main() -> int:
    """Read the command line, and cut."""
    parser = argparse.ArgumentParser(description="cut the power of a broker's disk under load, and check what it keeps")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default: 600)")
    parser.add_argument("--cuts", type=int, default=0, help="how many at most (default: no limit)")
    parser.add_argument("--seed", type=int, default=None, help="of the first disk (default: by the clock)")
    parser.add_argument("--unsynced", action="store_true", help="let syncs do nothing: this has to go wrong")
    given = parser.parse_args()
    obstacle = find_obstacle()
    if obstacle:
        print(f"power: not possible here: {obstacle}")
        return 2
    seed = int(time.time()) if given.seed is None else given.seed
    return cut_for(given.seconds, seed, most=given.cuts, env=UNSYNCED if given.unsynced else None)


if __name__ == "__main__":
    sys.exit(main())
