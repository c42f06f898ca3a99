"""What is said of a change, also where a broker is rarely so: a store that cannot write, thousands of clients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forkbroker.ctl.main import main

from .played import answering, played

CLIENTS = [{"client": 7, "login": "a\x1bb", "address": "10.0.0.1:1"}, {"client": 8, "login": "", "address": "unix"}]
HELD = {"queue": "/queue/a", "changed": True, "waiting": 1, "stored": True}
UNSTORED = "; the store cannot write at present, and does not know it yet"


@pytest.mark.parametrize(
    ("arguments", "result", "asked", "said", "status"),
    [
        (["hold", "a"], HELD, {"queue": "a"}, "/queue/a is held, 1 message waiting", 0),
        (
            ["hold", "a", "--for", "90 s"],
            HELD | {"stored": False},
            {"queue": "a", "for": 90.0},
            f"/queue/a is held for 1m, 1 message waiting{UNSTORED}",
            0,
        ),
        (
            ["release", "a"],
            HELD | {"waiting": 2, "stored": False},
            {"queue": "a"},
            f"/queue/a is released, 2 messages waiting{UNSTORED}",
            0,
        ),
        (
            ["kick", "ALL", "--reason", "bye", "--dry-run"],
            {"count": 2, "clients": CLIENTS},
            {"who": "ALL", "reason": "bye", "dry-run": True},
            "would disconnect 2 clients: 7 10.0.0.1:1 a\\x1bb, 8 unix",
            0,
        ),
        (
            ["kick", "ALL"],
            {"count": 0, "clients": []},
            {"who": "ALL", "dry-run": False},
            "disconnected 0 clients",
            0,
        ),
        (
            ["drain"],
            {"clients": 1, "leaving": 0},
            {},
            "no client comes any more; 1 client connected, 0 to be disconnected",
            0,
        ),
        (
            ["drain", "--within", "2 min"],
            {"clients": 2000, "leaving": 2000},
            {"within": 120.0},
            "no client comes any more; 2,000 clients connected, 2,000 to be disconnected",
            0,
        ),
        (["undrain"], {}, {}, "clients come again", 0),
        (["check"], {"valid": True, "text": "nothing"}, {}, "a reload would do this: nothing", 0),
        (["check"], {"valid": False, "text": "line 1: no"}, {}, "line 1: no", 1),
        (["log-level", "debug"], {"level": "debug"}, {"level": "debug"}, "log level: debug", 0),
        (
            ["schedule-run", "a", "ALL"],
            {"count": 3, "not-found": []},
            {"queue": "a", "all": True},
            "3 messages let come now",
            0,
        ),
        (
            ["schedule-cancel", "a", "1-x", "2-x", "--dry-run"],
            {"count": 1, "not-found": ["2-x"]},
            {"queue": "a", "ids": ["1-x", "2-x"], "dry-run": True},
            "1 message would be dropped, not found: 2-x",
            66,
        ),
        (
            ["backup", "b.db"],
            {"file": "/v/b.db", "messages": 1, "bytes": 73_728},
            {"file": "b.db"},
            "/v/b.db written: 1 message, 73,728 bytes",
            0,
        ),
    ],
)
def test_a_change_is_asked_for_and_told(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    result: dict[str, Any],
    asked: dict[str, Any],
    said: str,
    status: int,
) -> None:
    """With all that was given, and nothing that was not; and as JSON."""
    verb, heard = arguments[0], list[tuple[str, Any]]()
    with played(tmp_path / "s", answering({verb: result}, heard)) as url:
        assert main([*arguments, "--url", url]) == status
        assert capfd.readouterr().out == f"{said}\n"
        assert main([*arguments, "--url", url, "--json"]) == status

    assert json.loads(capfd.readouterr().out) == result
    assert heard == [(verb, asked)] * 2


@pytest.mark.parametrize("arguments", [["hold", "a", "--for", "0"], ["hold"], ["kick"], ["drain", "--within", "soon"]])
def test_what_cannot_be_meant_is_not_asked(arguments: list[str]) -> None:
    """Status 2; there is no broker here that could be asked."""
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--url", "unix:/nowhere"])
    assert caught.value.code == 2
