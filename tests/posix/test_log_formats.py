"""Lines of a log: text, JSON, the journal's."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import datetime

import pytest

from forkbroker.posix.log_formats import BARE, STAMPED, bare_text, for_journal, severity


def record(text: str, *arguments: object, level: int = logging.INFO, fault: str = "") -> logging.LogRecord:
    """Make an event; with `fault`, one of an exception."""
    caught = None
    if fault:
        try:
            raise LookupError(fault)
        except LookupError:
            caught = sys.exc_info()
    return logging.LogRecord("forkbroker", level, __file__, 1, text, arguments, caught)


def test_text_has_time_level_and_event() -> None:
    """Local time, in columns."""
    line = STAMPED["text"](record("client %d: connected", 7))

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} info  client 7: connected", line)


def test_json_has_the_same_members_for_each_event() -> None:
    """The time with its distance from UTC; other alphabets as they are."""
    members = json.loads(line := STAMPED["json"](record("login %s", "café", level=logging.WARNING)))

    assert list(members) == ["time", "level", "pid", "event"]
    assert (members["level"], members["pid"], members["event"]) == ("warning", os.getpid(), "login café")
    assert datetime.fromisoformat(members["time"]).tzinfo is not None
    assert "café" in line


@pytest.mark.parametrize("form", [*STAMPED.values(), *BARE.values()])
def test_an_event_is_one_line_whatever_a_client_or_a_fault_put_into_it(form) -> None:
    """Marks of direction and separators of lines do not show; a traceback stands behind the text."""
    line = form(record("login %s", "eve\n\x1b[2J\u202e\u2028", fault="why\nnot"))

    assert line.isprintable()
    assert "LookupError: why" in line


def test_a_log_that_keeps_time_gets_none() -> None:
    """Neither of text nor of JSON."""
    assert BARE["text"](record("ended")) == "ended"
    assert list(json.loads(BARE["json"](record("ended")))) == ["level", "pid", "event"]


def test_the_traceback_is_a_list_in_json() -> None:
    """Line for line, as the interpreter has it."""
    lines = json.loads(BARE["json"](record("router: ends", fault="why")))["traceback"]

    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "LookupError: why"


@pytest.mark.parametrize(
    ("level", "number"), [(logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7)]
)
def test_the_journal_gets_the_level_before_the_line(level: int, number: int) -> None:
    """As syslog counts."""
    assert for_journal(bare_text)(record("ended", level=level)) == f"<{number}>ended"
    assert severity(record("ended", level=level)) == number


def test_a_format_that_does_not_fit_costs_neither_event_nor_process() -> None:
    """It is written as it is."""
    assert bare_text(record("%d clients", "many")) == "%d clients ('many',)"
