"""Requests of the helper for metrics, from any thread, to a parent that the test plays."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Any

import pytest

pytest.importorskip("prometheus_client")

from forkbroker.metrics.asking import Asking, UnansweredError
from forkbroker.metrics.endpoints import Endpoints
from forkbroker.metrics.exposition import Exposition
from forkbroker.wire.envelope import Buffer, Envelope, pack
from forkbroker.wire.kinds import Flag, Kind


class Played:
    """A parent that answers each verb with what the test says, in a thread as the real one's channel is read."""

    def __init__(self, answers: dict[str, list[dict[str, Any]]]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.is_full = False
        self.asking = Asking(self)

    def send(self, buffers: list[Buffer]) -> None:
        envelope = Envelope(b"".join(buffers))
        assert envelope.kind is Kind.ASK
        verb = envelope.destination.decode()
        self.asked.append(verb)
        Thread(target=self._answer, args=(verb, envelope.token)).start()

    def flush(self) -> bool:
        return not self.is_full

    def _answer(self, verb: str, token: int) -> None:
        parts = self.answers.get(verb, [])
        for number, part in enumerate(parts, 1):
            flags = int(Flag.FINAL) if number == len(parts) else 0
            block = json.dumps(part).encode()
            self.asking.receive(Envelope(b"".join(pack(Kind.ANSWER, flags=flags, token=token, block=block))))


def in_a_second() -> float:
    return time.monotonic() + 1.0


def test_parts_are_joined_and_a_result_is_given_as_it_is() -> None:
    """The last part has `more` false, and FINAL."""
    played = Played(
        {
            "queues": [{"ok": True, "rows": [1, 2], "more": True}, {"ok": True, "rows": [3], "more": False}],
            "status": [{"ok": True, "result": {"pid": 1}}],
        }
    )

    assert played.asking.ask("queues", in_a_second()) == {"rows": [1, 2, 3]}
    assert played.asking.ask("status", in_a_second()) == {"pid": 1}


def test_who_is_not_answered_is_told_so() -> None:
    """In time: the parent is silent, does not read, or refuses; a late answer is nobody's."""
    played = Played({"status": [{"ok": False, "error": "unavailable", "text": "no"}]})
    with pytest.raises(UnansweredError, match="status: no"):
        played.asking.ask("status", in_a_second())
    with pytest.raises(UnansweredError, match="has not answered 'queues' in time"):
        played.asking.ask("queues", time.monotonic())
    played.is_full = True
    with pytest.raises(UnansweredError, match="does not read"):
        played.asking.ask("status", time.monotonic())

    assert played.asking._open == {}
    late = json.dumps({"ok": True, "result": {}}).encode()
    played.asking.receive(Envelope(b"".join(pack(Kind.ANSWER, token=2, block=late))))


def test_a_flood_of_scrapes_asks_once() -> None:
    """A hundred at the same time get the same answer; also if it is that there is none."""
    played = Played({"status": [{"ok": False, "error": "unavailable", "text": "no"}]})
    endpoints = Endpoints(played.asking, Exposition(1))
    with ThreadPoolExecutor(20) as pool:
        replies = set(pool.map(endpoints.get, ["/metrics"] * 100))

    assert replies == {(503, b"status: no\n")}
    assert played.asked == ["status"]
    assert endpoints.get("/")[0] == 404


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({}, ""),
        ({"phase": "draining"}, "the broker is being drained"),
        (
            {"phase": "draining", "store": {"open": True, "refuses": "disk full"}},
            "the store takes nothing: disk full; the broker is being drained",
        ),
    ],
)
def test_readiness_has_its_reasons(more: dict[str, Any], fault: str) -> None:
    """All of them."""
    status = {"phase": "running", "listening": ["a"], "clients": 1, "store": {"open": True, "refuses": ""}, **more}
    endpoints = Endpoints(Played({"status": [{"ok": True, "result": status}]}).asking, Exposition(1))

    assert endpoints.get("/readyz") == ((503, f"{fault}\n".encode()) if fault else (200, b"ready\n"))
