"""When messages come: queues that are held, and the schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from forkbroker.control.arguments import RequestError
from forkbroker.parent.control.asked import Asked, Row, Steps, matcher
from forkbroker.parent.control.pages import arrange
from forkbroker.parent.routes import Routes
from forkbroker.routing.holding import MOST
from forkbroker.routing.queues.registry import text
from forkbroker.routing.queues.runs import Run


class Times:
    """The handlers."""

    def __init__(self, router: Routes) -> None:
        self._router = router

    def hold(self, asked: Asked) -> Steps:
        """Let a queue deliver nothing."""
        name = _name(asked)
        span = asked.args.get("for")
        holding = self._router.holding
        yield None
        if name not in holding.names and len(holding.names) >= MOST:
            raise RequestError("conflict", f"{MOST:,} queues are held, no more can be")
        is_new = holding.hold(name, None if span is None else span * 1000)
        return self._report(asked, name, changed=is_new)

    def release(self, asked: Asked) -> Steps:
        """Let it go on."""
        name = _name(asked)
        yield None
        if not self._router.holding.release(name):
            raise RequestError("conflict", f"queue {text(name)} is not held")
        return self._report(asked, name, changed=True)

    def _report(self, asked: Asked, name: bytes, *, changed: bool) -> Row:
        """What was done holds from now on, also where the disk is full: consumers may be what makes room there."""
        asked.is_unstored = not self._router.holding.is_stored
        waiting = self._waiting(name)
        return {"queue": text(name), "changed": changed, "waiting": waiting, "stored": not asked.is_unstored}

    def _waiting(self, name: bytes) -> int:
        """Messages that wait in this queue."""
        sight = self._router.sights.queue(name)
        return 0 if sight is None else sight.view.ready

    def schedule(self, asked: Asked) -> Steps:
        """A row for each batch of messages that wait for their time."""
        return (yield from arrange(asked, self._all_batches(asked)))

    def _all_batches(self, asked: Asked) -> Iterator[Row | None]:
        matches = matcher(asked.args.get("pattern"))
        now_ms = self._router.sights.wall_ms()
        for name, run in self._router.delays.all():
            details = run.details
            yield (
                {
                    "queue": text(name),
                    "id": text(run.message_id(0)),
                    "messages": run.count,
                    "due": details.due // 1000,
                    "due-in": max(0.0, (details.due - now_ms) / 1000),
                    "period": details.period / 1000 or None,
                    "repeat": details.repeat or None,
                    "cron": text(details.cron) or None,
                    "persistent": details.persistent,
                }
                if matches(name)
                else None
            )

    def run_now(self, asked: Asked) -> Steps:
        """Let messages come."""
        return self._change(asked, self._router.delays.run_now)

    def cancel(self, asked: Asked) -> Steps:
        """Let them never come."""
        return self._change(asked, self._router.delays.cancel)

    def _change(self, asked: Asked, act: Callable[[bytes, Run], None]) -> Steps:
        wanted, name = asked.args.get("ids"), _name(asked)
        if not wanted and not asked.args.get("all"):
            raise RequestError("bad-request", f"{asked.verb} needs to know which messages: 'ids', or 'all': true")
        ids = None if wanted is None else {one.encode(errors="surrogateescape") for one in wanted}
        found, count = set[bytes](), 0
        for queue, run in self._router.delays.all():
            ident = run.message_id(0)
            if queue == name and (ids is None or ident in ids):
                found.add(ident)
                count += run.count
                if not asked.is_dry_run:
                    act(queue, run)
            yield None
        return {"count": count, "not-found": sorted(text(one) for one in (ids or set()) - found)}


def _name(asked: Asked) -> bytes:
    name: str = asked.args["queue"]
    return name.encode(errors="surrogateescape")
