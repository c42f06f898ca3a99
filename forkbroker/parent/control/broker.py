"""The broker as a whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass

import forkbroker
from forkbroker.control.arguments import RequestError
from forkbroker.parent.control.asked import Asked, Row, Steps
from forkbroker.parent.control.use import arrange_with_use
from forkbroker.parent.reloading import Reloading
from forkbroker.parent.routes import Routes
from forkbroker.parent.saving import Saved, Saving
from forkbroker.posix.loop import Loop


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentStatus:
    """What the parent knows of itself."""

    phase: Callable[[], str]
    """`running`, or how far its end has come."""
    listening: Callable[[], list[str]]
    clients: Callable[[], int]
    max_clients: Callable[[], int]
    started: float
    """When the broker was started (seconds since the epoch)."""
    processes: Callable[[], dict[str, float]]
    """How many there are of each kind; how many of clients have ended, and the processor time of these in seconds."""
    latencies: Callable[[], Row | None]
    """Histograms; None: nobody wants them."""
    octets: Callable[[], tuple[int, int]]
    """That came from the processes of clients, and went to them, since the start."""
    list_processes: Callable[[], Iterator[Row]]
    """A row for each process."""
    set_log_level: Callable[[str], None]
    """For this process and all that are started from now on."""
    reloading: Reloading | None
    saving: Saving | None = None


class Whole:
    """The handlers."""

    def __init__(self, loop: Loop, router: Routes, status: ParentStatus) -> None:
        self._loop = loop
        self._sights = router.sights
        self._status = status
        self._began = loop.now

    def status(self, asked: Asked) -> Steps:
        """One object."""
        return (yield from self.look())

    def look(self) -> Generator[None, None, Row]:
        """What there is, in steps."""
        sights = self._sights
        waiting = unsettled = octets = 0
        for sight in sights.queues(lambda _: True):
            if sight is not None:
                waiting += sight.view.ready
                unsettled += sight.view.unsettled
                octets += sight.view.octets
            yield None
        delayed, _ = sights.scheduled
        used, limit = sights.memory
        is_open, refusal, behind = sights.store
        return {
            "version": forkbroker.__version__,
            "pid": os.getpid(),
            "seconds": round(self._loop.now - self._began, 1),
            "started": round(self._status.started, 3),
            "phase": self._status.phase(),
            "listening": self._status.listening(),
            "clients": self._status.clients(),
            "max-clients": self._status.max_clients(),
            "processes": self._status.processes(),
            "queues": sights.queue_count - sights.durable_count,
            "durables": sights.durable_count,
            "messages": {"waiting": waiting, "unsettled": unsettled, "delayed": delayed, "bytes": octets},
            "memory": {"used": used, "limit": limit},
            "store": {"open": is_open, "refuses": refusal, "uncommitted": behind},
            "octets": dict(zip(("received", "sent"), self._status.octets(), strict=True)),
            "latencies": self._status.latencies(),
            "totals": {name.replace("_", "-"): value for name, value in asdict(sights.counters).items()},
        }

    def processes(self, asked: Asked) -> Steps:
        """A row for each process."""
        return (yield from arrange_with_use(asked, self._status.list_processes()))

    def log_level(self, asked: Asked) -> Steps:
        """Change it."""
        yield None
        self._status.set_log_level(asked.args["level"])
        return {"level": asked.args["level"]}

    def reload(self, asked: Asked) -> Steps:
        """Read the configuration, and tell what has changed or what is wrong."""
        is_done, text = yield from self._ask_checker(asked, is_trial=False)
        if not is_done:
            raise RequestError("conflict", f"nothing has changed, {text}")
        return {"summary": text}

    def check(self, asked: Asked) -> Steps:
        """Read the configuration, and tell what would change or what is wrong."""
        is_good, text = yield from self._ask_checker(asked, is_trial=True)
        return {"valid": is_good, "text": text}

    def _ask_checker(self, asked: Asked, *, is_trial: bool) -> Generator[None, None, tuple[bool, str]]:
        reloading = self._status.reloading
        if reloading is None or self._status.phase() not in ("running", "draining"):
            raise RequestError("conflict", "this broker does not read its configuration now")
        outcome: list[tuple[bool, str]] = []

        def tell(is_done: bool, text: str) -> None:
            outcome.append((is_done, text))
            asked.wake(asked)

        if is_trial:
            reloading.try_out(tell)
        else:
            reloading.ask(tell)
        while not outcome:
            asked.is_waiting = True
            yield None
        return outcome[0]

    def backup(self, asked: Asked) -> Steps:
        """Have a helper copy the store."""
        saving, outcome = self._status.saving, list[Saved | str]()
        if saving is None or self._status.phase() not in ("running", "draining"):
            raise RequestError("conflict", "this broker makes no backup now")

        def tell(what: Saved | str) -> None:
            outcome.append(what)
            asked.wake(asked)

        if not saving.begin(asked.args["file"], tell):
            raise RequestError("conflict", "another backup is being made: wait for its end")
        while not outcome:
            asked.is_waiting = True
            yield None
        (saved,) = outcome
        if isinstance(saved, str):
            raise RequestError("conflict", saved)
        return {"file": saved.where, "messages": saved.messages, "bytes": saved.octets}
