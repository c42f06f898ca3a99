"""Requests to the parent process, and the answers: any thread may ask, one thread hears."""

from __future__ import annotations

import json
import time
from itertools import count
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any, Protocol

from forkbroker.wire.envelope import Buffer, Envelope, pack
from forkbroker.wire.kinds import Flag, Kind

_FINAL = int(Flag.FINAL)
_WRITES_AGAIN_S = 0.02

Answer = dict[str, Any]


class UnansweredError(Exception):
    """The parent has not answered in time, or has not done what it was asked. The text is for people."""


class Line(Protocol):
    """The way to the parent."""

    def send(self, buffers: list[Buffer]) -> None:
        """Queue an envelope."""

    def flush(self) -> bool:
        """Write what the kernel takes; True when nothing is left."""


class Asking:
    """What is asked and not answered."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._lock = Lock()
        self._tokens = count(1)
        self._open: dict[int, SimpleQueue[tuple[Answer, bool]]] = {}

    def ask(self, verb: str, until: float) -> Answer:
        """The `result` of a verb, or its `rows`, as one answer. `until`: a moment of the monotonic clock.

        Raises:
            UnansweredError: there is none.
        """
        token, parts = next(self._tokens), SimpleQueue[tuple[Answer, bool]]()
        self._open[token] = parts
        try:
            self._send(pack(Kind.ASK, token=token, destination=verb.encode(), block=b"{}"), until)
            return self._collect(verb, parts, until)
        finally:
            del self._open[token]

    def _send(self, buffers: list[Buffer], until: float) -> None:
        with self._lock:
            self._line.send(buffers)
            while not self._line.flush():
                if time.monotonic() > until:
                    raise UnansweredError("the broker does not read its channel")
                time.sleep(_WRITES_AGAIN_S)

    def _collect(self, verb: str, parts: SimpleQueue[tuple[Answer, bool]], until: float) -> Answer:
        rows: list[Any] = []
        while True:
            try:
                part, is_last = parts.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                raise UnansweredError(f"the broker has not answered {verb!r} in time") from None
            if not part["ok"]:
                raise UnansweredError(f"{verb}: {part['text']}")
            rows += part.get("rows", ())
            if is_last:
                return {"rows": rows} if "rows" in part else dict(part["result"])

    def receive(self, envelope: Envelope) -> None:
        """ANSWER: the whole answer, or a part; nobody may wait for it any more."""
        parts = self._open.get(envelope.token)
        if envelope.kind is Kind.ANSWER and parts is not None:
            parts.put((json.loads(envelope.block), bool(envelope.flags & _FINAL)))
