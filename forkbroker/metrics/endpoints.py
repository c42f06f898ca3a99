"""What HTTP requests are answered with: the metrics, and whether the broker is alive and ready.

All that come within a second get the same answer, and the parent is asked for one at a time: so a flood of scrapes is
no more work for it than one of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

from forkbroker.control.readiness import find_faults
from forkbroker.metrics.asking import Asking, UnansweredError
from forkbroker.metrics.exposition import Exposition
from forkbroker.metrics.figures import measure

KEPT_S = 1.0
"""An answer is given again for so long."""
DEADLINE_S = 5.0
"""In which the parent has to answer all that one scrape asks; Prometheus itself waits for 10 s."""
_LOOKS_S = 2.0
"""In which processes are looked at."""

Reply = tuple[int, bytes]
"""HTTP status and body."""


class _Kept:
    """An answer that is made at most once in `KEPT_S`, by one thread."""

    def __init__(self, make: Callable[[float], bytes]) -> None:
        self._make = make
        self._lock = Lock()
        self._made_at = -KEPT_S
        self._reply: Reply = (503, b"")

    def get(self) -> Reply:
        with self._lock:
            if time.monotonic() - self._made_at >= KEPT_S:
                try:
                    self._reply = (200, self._make(time.monotonic() + DEADLINE_S))
                except UnansweredError as error:
                    self._reply = (503, f"{error}\n".encode())
                self._made_at = time.monotonic()
            return self._reply


class Endpoints:
    """The three answers."""

    def __init__(self, asking: Asking, exposition: Exposition) -> None:
        self._asking = asking
        self._exposition = exposition
        self._pages = {
            "/metrics": _Kept(self._make_metrics),
            "/healthz": _Kept(self._look_for_life),
            "/readyz": _Kept(self._look_for_readiness),
        }

    def get(self, path: str) -> Reply:
        """The answer to a GET."""
        page = self._pages.get(path)
        return (404, b"known are /metrics, /healthz and /readyz\n") if page is None else page.get()

    def _make_metrics(self, until: float) -> bytes:
        status = self._asking.ask("status", until)
        queues = self._asking.ask("queues", until)["rows"]
        processes = self._asking.ask("processes", until)["rows"]
        return self._exposition.make(status, queues, measure(processes, time.monotonic() + _LOOKS_S))

    def _look_for_life(self, until: float) -> bytes:
        """The parent process answers."""
        self._asking.ask("status", until)
        return b"ok\n"

    def _look_for_readiness(self, until: float) -> bytes:
        """It takes work: clients, and persistent messages."""
        faults = find_faults(self._asking.ask("status", until))
        if faults:
            raise UnansweredError("; ".join(fault.text for fault in faults))
        return b"ready\n"
