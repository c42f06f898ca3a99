"""The table of verbs: what each of them needs, and how it is found."""

from __future__ import annotations

import re
from typing import Any

import pytest

from forkbroker.control.arguments import RequestError
from forkbroker.control.verbs import VERBS, find
from forkbroker.permissions import RIGHTS


@pytest.mark.parametrize(
    ("name", "args", "rights", "destinations"),
    [
        ("status", {}, ["monitor"], [b"/control/status"]),
        ("rights", {}, ["none"], [b"/control/rights"]),
        ("show", {"queue": "/queue/a"}, ["browse"], [b"/queue/a"]),
        ("purge", {"queue": "/queue/\udcff"}, ["manage"], [b"/queue/\xff"]),
        ("move", {"from": "/queue/a", "to": "/queue/b", "all": True}, ["manage"], [b"/queue/a", b"/queue/b"]),
        ("retry", {"queue": "/queue/DLQ", "all": True}, ["manage"], [b"/queue/DLQ"]),
        ("retry", {"queue": "/queue/DLQ", "to": "/queue/b"}, ["manage"], [b"/queue/DLQ", b"/queue/b"]),
        ("tail", {"who": "7"}, ["monitor"], [b"/control/tail"]),
        ("tail", {"who": "7", "body": False}, ["monitor"], [b"/control/tail"]),
        ("tail", {"who": "7", "body": True}, ["monitor", "manage"], [b"/control/tail"]),
    ],
)
def test_a_request_needs_rights_on_what_it_concerns(
    name: str, args: dict[str, Any], rights: list[str], destinations: list[bytes]
) -> None:
    """Or on the verb itself, where it concerns no destination."""
    verb = find(name)
    found = verb.read(args)

    assert (verb.rights(found), verb.needs(found)) == (rights, destinations)


@pytest.mark.parametrize(
    ("name", "hint"), [("purg", "did you mean purge?"), ("xyzzy", "known are rights, status, "), ("", "known are ")]
)
def test_a_verb_that_there_is_not_has_a_hint(name: str, hint: str) -> None:
    """The nearest one, or all."""
    with pytest.raises(RequestError, match=rf"there is no verb .*{re.escape(hint)}") as caught:
        find(name)
    assert caught.value.word == "unknown-verb"


def test_a_long_name_is_cut() -> None:
    """It may be anything."""
    with pytest.raises(RequestError) as caught:
        find("x" * 10_000)
    assert len(str(caught.value)) < 1_000


def test_the_table_holds_together() -> None:
    """What changes something needs the right to manage, what concerns something names its arguments."""
    for name, verb in VERBS.items():
        known = {argument.name for argument in verb.arguments}
        assert name == verb.name and len(verb.help) <= 70
        assert verb.right in {*RIGHTS, "none"} and {right for _, right in verb.more} <= set(RIGHTS)
        assert {*verb.concerns, *(argument for argument, _ in verb.more)} <= known
        assert not verb.changes or verb.right == "manage"
        assert not (verb.lists and verb.changes)
        assert verb.right != "none" or verb.is_own


def test_an_argument_that_is_missing_or_unknown_is_told() -> None:
    """With what would be right."""
    with pytest.raises(RequestError, match="hold needs 'queue'"):
        find("hold").read({})
    with pytest.raises(RequestError, match="fore"):
        find("hold").read({"queue": "/queue/a", "fore": 1})
