"""The messages of a queue: to look at, to move, to remove."""

from __future__ import annotations

import base64
from collections.abc import Generator
from contextlib import closing
from typing import Any

from forkbroker.control.arguments import RequestError
from forkbroker.parent.control.asked import Asked, Row, Steps
from forkbroker.parent.routes import Routes
from forkbroker.posix.loop import Loop
from forkbroker.routing import moving
from forkbroker.routing.moving import WAIT, Choice, Scan, Tally
from forkbroker.routing.queues.queue import Queue
from forkbroker.routing.queues.registry import text
from forkbroker.routing.queues.runs import Run
from forkbroker.wire.details import Reason
from forkbroker.wire.lines import pack_line, unpack_lines

SHOWN = 50
"""Messages that are shown if nobody says how many."""
_LOOK_AGAIN_S = 0.01
_PATIENCE = 3_000
"""Looks in a row at a store that does not answer."""
_BODY = 65_536
"""Octets of a body that are shown."""


class Messages:
    """The handlers."""

    def __init__(self, loop: Loop, router: Routes) -> None:
        self._loop = loop
        self._router = router

    def show(self, asked: Asked) -> Steps:
        """A row for each message that waits, the oldest first."""
        args = asked.args
        queue, tally, found = self._find(args["queue"]), Tally(), list[Row]()
        first = args.get("offset", 0)
        choice = _choice(args, most=first + args.get("limit", SHOWN))
        passed = 0

        def see(run: Run) -> None:
            nonlocal passed
            places = range(min(run.count, max(0, first - passed)), run.count)
            passed += run.count
            found.extend(_show(run, place, has_body=args.get("body", False)) for place in places)

        for _ in self._carry_out(asked, self._router.moving.look(queue, choice, tally, see), tally):
            yield None
            while found:
                yield found.pop(0)
        return None

    def purge(self, asked: Asked) -> Steps:
        """Drop all that wait."""
        queue, tally, moving = self._find(asked.args["queue"]), Tally(), self._router.moving
        scan = moving.count(queue, Choice(), tally) if asked.is_dry_run else moving.purge(queue, tally)
        yield from self._carry_out(asked, scan, tally)
        return _report(tally, Choice())

    def remove(self, asked: Asked) -> Steps:
        """Drop those that are meant."""
        return self._change(asked, "queue", self._router.moving.remove)

    def move(self, asked: Asked) -> Steps:
        """Move those that are meant to another queue."""
        target = self._target(asked)
        room = self._router.moving
        return self._change(asked, "from", lambda queue, choice, tally: room.move(queue, target, choice, tally))

    def copy(self, asked: Asked) -> Steps:
        """Copy those that are meant to another queue."""
        target = self._target(asked)
        room = self._router.moving
        return self._change(asked, "from", lambda queue, choice, tally: room.copy(queue, target, choice, tally))

    def retry(self, asked: Asked) -> Steps:
        """Move dead letters that are meant back to where they came from."""
        to = asked.args.get("to")
        target = None if to is None else to.encode(errors="surrogateescape")
        room = self._router.moving
        return self._change(asked, "queue", lambda queue, choice, tally: room.retry(queue, choice, tally, target))

    # -- what they have in common

    def _find(self, name: str) -> Queue:
        return self._router.moving.find(name.encode(errors="surrogateescape"))

    def _target(self, asked: Asked) -> bytes:
        target: str = asked.args["to"]
        return target.encode(errors="surrogateescape")

    def _change(self, asked: Asked, source: str, begin: Any) -> Steps:
        args = asked.args
        if source == "from" and args["from"] == args["to"]:
            raise RequestError("bad-request", f"{asked.verb}: 'from' and 'to' are the same queue, {args['to']}")
        choice = _choice(args, most=args.get("limit"))
        if not args.get("all") and choice == Choice(most=choice.most):
            raise RequestError(
                "bad-request",
                f"{asked.verb} needs to know which messages: 'ids', 'reason', 'origin', 'header', or 'all': true",
            )
        queue, tally = self._find(args[source]), Tally()
        scan = self._router.moving.count(queue, choice, tally) if asked.is_dry_run else begin(queue, choice, tally)
        yield from self._carry_out(asked, scan, tally)
        return _report(tally, choice)

    def _carry_out(self, asked: Asked, scan: Scan, tally: Tally) -> Generator[None, None, None]:
        """Step by step, and wait for the store where that is necessary."""
        waits = 0
        with closing(scan):
            try:
                for step in scan:
                    if step == WAIT:
                        waits += 1
                        if waits > _PATIENCE:
                            raise RequestError("unavailable", "the store does not answer")
                        asked.is_waiting = True
                        self._loop.call_at(self._loop.now + _LOOK_AGAIN_S, lambda: asked.wake(asked))
                    else:
                        waits = 0
                        asked.spent = step
                    yield None
            except RequestError as error:
                if tally.chosen and not asked.is_dry_run and asked.verb != "show":
                    done = f"{tally.chosen:,} messages were dealt with before"
                    raise RequestError(error.word, f"{error}; {done}") from None
                raise


def _choice(args: dict[str, Any], *, most: int | None) -> Choice:
    headers = args.get("header", {})
    own = headers.keys() & moving.MARKS.keys()
    return Choice(
        ids=frozenset(one.encode(errors="surrogateescape") for one in args["ids"]) if "ids" in args else None,
        reason=Reason[args["reason"].upper()] if "reason" in args else None,
        origin=args["origin"].encode(errors="surrogateescape") if "origin" in args else None,
        lines=frozenset(pack_line(name, value) for name, value in headers.items() if name not in own),
        marks=frozenset((name, headers[name].encode(errors="surrogateescape")) for name in own),
        most=most,
    )


def _report(tally: Tally, choice: Choice) -> Row:
    result: Row = {"count": tally.chosen, "left-out": tally.left_out, "seen": tally.seen}
    if tally.reason:
        result["left-out-reason"] = tally.reason
    if choice.ids is not None:
        result["not-found"] = sorted(text(one) for one in choice.ids - tally.found)
    return result


def _show(run: Run, place: int, *, has_body: bool) -> Row:
    details = run.details
    body = moving.body_of(run, place)
    row: Row = {
        "id": text(run.message_id(place)),
        "priority": details.priority,
        "persistent": details.persistent,
        "deliveries": run.deliveries,
        "expires": details.expires // 1000 or None,
        "reason": details.reason.name.lower() if details.reason else None,
        "reject-reason": text(details.reject_reason) or None,
        "origin": text(details.origin) or None,
        "bytes": len(body),
        "headers": unpack_lines(moving.lines_of(run, place)),
    }
    if has_body:
        try:
            row["body"] = body[:_BODY].decode()
        except UnicodeDecodeError:
            row["body-base64"] = base64.b64encode(body[:_BODY]).decode()
        row["is-cut"] = len(body) > _BODY
    return row
