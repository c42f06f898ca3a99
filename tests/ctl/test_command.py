"""What all verbs of the command share: parameters, ids, and the sentence that says how many."""

from __future__ import annotations

import argparse
import io
import json

import pytest

from forkbroker.config.values import number
from forkbroker.ctl.command import Context, Param, read_ids, tell
from forkbroker.ctl.connection import Target


def parse(params: list[Param], *arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser("x", exit_on_error=False)
    for param in params:
        param.add_to(parser)
    return parser.parse_args(arguments)


def test_a_parameter_is_an_option_by_its_name() -> None:
    """With a value, several, or none; a percent sign in a help is one."""
    params = [
        Param("--some-limit", "100 % of it", "N", number(1), 7),
        Param("--header", "repeatable", "X", is_many=True),
        Param("--dry-run", "nothing happens"),
        Param("--for", "a word of Python", "TIME", dest="span"),
    ]
    found = parse(params, "--header", "a", "--header", "b", "--for", "x")

    assert (found.some_limit, found.header, found.dry_run, found.span) == (7, ["a", "b"], False, "x")
    assert parse(params, "--some-limit", "9", "--dry-run").some_limit == 9
    with pytest.raises(argparse.ArgumentError, match=r"some-limit.*0"):
        parse(params, "--some-limit", "0")


@pytest.mark.parametrize(
    ("more", "arguments", "value"),
    [
        ({}, ["a"], "a"),
        ({"is_optional": True}, [], None),
        ({"is_many": True}, ["a", "b"], ["a", "b"]),
        ({"is_optional": True, "is_many": True}, [], []),
    ],
)
def test_an_argument_may_be_left_out_or_given_several_times(
    more: dict[str, bool], arguments: list[str], value: object
) -> None:
    """As it says."""
    assert (parse([Param("SOME-ID", "x", **more)], *arguments).some_id or value) == value  # type: ignore[arg-type]


def test_ids_come_from_the_command_line_and_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in a line, empty lines are none; in the place of the dash."""
    monkeypatch.setattr("sys.stdin", io.StringIO(" 2 \n\n3\n"))

    assert read_ids(["1", "-", "4"]) == ["1", "2", "3", "4"]
    assert read_ids(None) is None and read_ids([]) is None
    assert read_ids(["-"]) == []


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        ({"count": 1}, "1 message moved"),
        ({"count": 1234, "left-out": 0, "not-found": []}, "1,234 messages moved"),
        ({"count": 0, "left-out": 2, "left-out-reason": "full"}, "0 messages moved, 2 left where they are: full"),
        ({"count": 2, "not-found": ["a", "b\x1b"]}, "2 messages moved, not found: a, b\\x1b"),
    ],
)
def test_the_sentence_says_how_many_and_what_is_left(
    capfd: pytest.CaptureFixture[str], result: dict[str, object], sentence: str
) -> None:
    """Or the whole result as JSON."""
    tell(Context(argparse.Namespace(json=False), lambda: Target("x")), result, "moved")
    assert capfd.readouterr().out == f"{sentence}\n"
    tell(Context(argparse.Namespace(json=True), lambda: Target("x")), result, "moved")
    assert json.loads(capfd.readouterr().out) == result
