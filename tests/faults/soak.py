#!/usr/bin/env python3
"""Kills the processes of a broker under load for as long as told, and sees that it keeps its promises.

Storms (`faults.storm`) follow each other, each with a seed of its own: what was found in one can be tried again alone
with `--seed N --storms 1`. A line a minute says how far it is; the exit status is 1 when something was wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from faults.storm import Storm  # noqa: E402 (found by the line above)

from forkbroker.errors import ForkbrokerError  # noqa: E402

_SAY_EVERY_S = 60.0


def main() -> int:
    """Read the command line, and let it storm."""
    parser = argparse.ArgumentParser(description="kill the processes of a broker under load, and check what it keeps")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default: 600)")
    parser.add_argument("--seed", type=int, default=None, help="of the first storm (default: by the clock)")
    parser.add_argument("--storms", type=int, default=0, help="how many at most (default: no limit)")
    parser.add_argument("--rounds", type=int, default=25, help="of one storm (default: 25)")
    given = parser.parse_args()
    seed = int(time.time()) if given.seed is None else given.seed
    return soak(given.seconds, seed, storms=given.storms, rounds=given.rounds)


def soak(seconds: float, seed: int, *, storms: int, rounds: int) -> int:
    """Storms until the time is over, or there were so many if that is not 0; the exit status."""
    began, said, count, messages = time.monotonic(), time.monotonic(), 0, 0
    print(f"soak: {seconds:,.0f} s from seed {seed} on", flush=True)
    while time.monotonic() < began + seconds and (not storms or count < storms):
        storm, faults = run_storm(seed + count, rounds)
        count += 1
        messages += len(storm.book.sent)
        if faults:
            print(f"soak: WRONG, seed {storm.seed}:", *faults[:50], f"({len(faults)} in all)", sep="\n  ")
            print(storm.describe(), flush=True)
            return 1
        if time.monotonic() >= said + _SAY_EVERY_S:
            said = time.monotonic()
            print(f"soak: {said - began:,.0f} s, {count:,} storms, {messages:,} messages, all well", flush=True)
    print(f"soak: {count:,} storms of {rounds} rounds, {messages:,} messages, all well")
    return 0


def run_storm(seed: int, rounds: int) -> tuple[Storm, list[str]]:
    """One storm of so many rounds, and what was wrong."""
    with tempfile.TemporaryDirectory(prefix="forkbroker-soak-") as directory:
        storm = Storm(Path(directory), seed)
        try:
            with storm:
                storm.rage(rounds)
                storm.finish()
        except (AssertionError, ForkbrokerError, TimeoutError) as error:
            storm.faults.append(str(error))
        return storm, storm.faults


if __name__ == "__main__":
    sys.exit(main())
