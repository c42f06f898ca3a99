"""Listings: how figures are shown, and rates between two looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forkbroker.ctl.looking import add_rates
from forkbroker.ctl.main import main

from .played import answering, played


def queue(**more: Any) -> dict[str, Any]:
    """A row of a queue."""
    return {
        "name": "/queue/a",
        "waiting": 1,
        "unsettled": 0,
        "delayed": 0,
        "consumers": 2,
        "bytes": 1536,
        "oldest": 61.0,
        "oldest-before-start": False,
        "held": False,
        "held-for": None,
        "entered": 10,
        "left": 9,
        "at": 100.0,
        **more,
    }


@pytest.mark.parametrize(
    ("before", "rates"),
    [
        (None, (None, None)),
        (queue(at=98.0, entered=4, left=5), (3.0, 2.0)),
        (queue(at=98.0, entered=11, left=0), (None, None)),  # another queue of this name
        (queue(at=100.0), (None, None)),  # no time has passed
        (queue(at=98.0, left=11), (0.0, 0.0)),  # some came back
    ],
)
def test_rates_are_those_between_two_looks(before: dict[str, Any] | None, rates: tuple[float | None, ...]) -> None:
    """None if there was no queue, or another one of this name."""
    row = queue()
    add_rates(row, before)

    assert (row["in-rate"], row["out-rate"]) == rates


@pytest.mark.parametrize(
    ("more", "cells"),
    [
        ({}, ["1.5K", "1m", "-", "-", "no"]),
        ({"held": True}, ["1.5K", "1m", "-", "-", "yes"]),
        ({"held": True, "held-for": 7500.0}, ["1.5K", "1m", "-", "-", "2h05m"]),
        ({"oldest-before-start": True, "bytes": 0}, ["0", ">1m", "-", "-", "no"]),
        ({"oldest": None, "bytes": 20_971_520}, ["20M", "-", "-", "-", "no"]),
    ],
)
def test_a_queue_is_shown_in_columns(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], more: dict[str, Any], cells: list[str]
) -> None:
    """A hold with what is left of it, an age that is longer than it seems, and dashes for what is not known."""
    with played(tmp_path / "s", answering({"queues": [queue(**more)]}, [])) as url:
        assert main(["queues", "--interval", "0", "--url", url]) == 0
    title, line = capfd.readouterr().out.splitlines()

    assert title.split()[-5:] == ["BYTES", "OLDEST", "IN/S", "OUT/S", "HELD"]
    assert line.split()[-5:] == cells


def test_a_row_of_an_older_broker_is_shown_as_well(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It does not know for how long a queue is held."""
    row = queue(held=True)
    del row["held-for"]
    with played(tmp_path / "s", answering({"queues": [row]}, [])) as url:
        assert main(["queues", "--interval", "0", "--url", url]) == 0

    assert capfd.readouterr().out.splitlines()[1].split()[-1] == "yes"


def test_temporary_queues_are_left_out_unless_they_are_asked_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By an option, or by a pattern."""
    rows = [queue(), queue(name="/reply-queue/x")]
    asked: list[tuple[str, Any]] = []
    with played(tmp_path / "s", answering({"queues": rows}, asked)) as url:
        for more, lines in (([], 2), (["--all"], 3), (["x*"], 3)):
            assert main(["queues", *more, "--interval", "0", "--url", url]) == 0
            assert len(capfd.readouterr().out.splitlines()) == lines

    assert asked == [("queues", {}), ("queues", {}), ("queues", {"pattern": "x*"})]
