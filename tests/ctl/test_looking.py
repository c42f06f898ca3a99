"""Listings: how figures are shown, and rates between two looks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from forkbroker.control.verbs import VERBS
from forkbroker.ctl.looking import add_rates
from forkbroker.ctl.main import COMMANDS, main

from .played import CONNECTED, answering, message, played


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


def test_temporary_queues_are_on_no_page_of_others(tmp_path: Path) -> None:
    """The broker leaves them out, as a page would be short without them."""
    asked: list[tuple[str, Any]] = []
    with played(tmp_path / "s", answering({"queues": [queue()]}, asked)) as url:
        for more in (["--limit", "5"], ["--limit", "5", "--all"], ["--offset", "0", "a"]):
            assert main(["queues", *more, "--interval", "0", "--url", url]) == 0

    assert asked == [
        ("queues", {"limit": 5, "temporary": False}),
        ("queues", {"limit": 5}),
        ("queues", {"pattern": "a", "offset": 0}),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--sort", "name"], "1 of 4 rows: --offset and --limit choose others\n"), (["--limit", "1"], "")],
)
def test_a_listing_that_the_broker_cuts_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """On standard error; not if so many were asked for."""

    def answer(command: str, headers: Mapping[str, str], _body: bytes) -> bytes:
        row = {"name": "a", "subscribers": 1, "durables": 0}
        found = {"ok": True, "rows": [row], "more": False, "matched": 4}
        return CONNECTED if command == "CONNECT" else message(headers["correlation-id"], found)

    with played(tmp_path / "s", answer) as url:
        assert main(["topics", *arguments, "--url", url]) == 0

    assert capfd.readouterr().err == said


def test_every_member_of_a_listing_is_an_option_of_its_verb() -> None:
    """With its name; `--all` is the opposite of `temporary`."""
    options = {command.name: {param.name for param in command.params} for command in COMMANDS}
    for verb in (
        "who",
        "processes",
        "queues",
        "topics",
        "schedule",
        "subscriptions",
        "show",
        "rm",
        "move",
        "copy",
        "retry",
    ):
        members = {argument.name for argument in VERBS[verb].arguments}
        members -= {"pattern", "temporary", "queue", "ids", "from", "to", "all"}
        assert {f"--{member}" for member in members} <= options[verb], verb
