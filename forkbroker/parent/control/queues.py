"""Queues, topics and subscriptions: to look at, and durable ones to make."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from forkbroker.control.arguments import RequestError
from forkbroker.destinations import Sort
from forkbroker.parent.control.asked import Asked, Row, Steps, matcher
from forkbroker.parent.control.pages import arrange
from forkbroker.parent.roster import Client
from forkbroker.parent.routes import Routes
from forkbroker.patterns import PatternError
from forkbroker.posix.loop import Loop
from forkbroker.routing.peers import Peer
from forkbroker.routing.queues.registry import text
from forkbroker.routing.sights import Matches, QueueSight

_TEMPORARY = Sort.REPLY_QUEUE.value.encode()


def _accept(_: Row) -> bool:
    return True


_FILTERS: dict[str | None, Callable[[Row], bool]] = {
    "waiting": lambda row: row["waiting"] > 0,
    "stuck": lambda row: row["waiting"] > 0 and not row["consumers"],
    "delayed": lambda row: row["delayed"] > 0,
    "held": lambda row: row["held"],
    "blocked": lambda row: row["blocked"] > 0,
    "durable": lambda row: "topic" in row,
}
"""Which rows a filter lets pass. That of dead letters is about names, and asked for before a row is made."""


class Looks:
    """The handlers."""

    def __init__(self, loop: Loop, router: Routes, find: Callable[[Peer], Client | None]) -> None:
        """`find`: the child with this number."""
        self._loop = loop
        self._sights = router.sights
        self._router = router
        self._find = find

    def queues(self, asked: Asked) -> Steps:
        """A row for each queue."""
        args = asked.args
        matches, wanted = matcher(args.get("pattern")), args.get("filter")
        graves = self._sights.dead_letter_names if wanted == "dead-letters" else frozenset()

        def is_meant(name: bytes) -> bool:
            if name.startswith(_TEMPORARY) and not args.get("temporary", True):
                return False
            return matches(name) and (not graves or name in graves)

        accepts = _FILTERS.get(wanted, _accept)
        # a name that is held stays so when its queue is empty, and ends
        rows = self.all_queues(is_meant, frozenset(self._router.holding.names))
        return (yield from arrange(asked, (None if row is None or not accepts(row) else row for row in rows)))

    def all_queues(self, matches: Matches, absent: Collection[bytes] = ()) -> Iterator[Row | None]:
        """A row for each queue that is meant, in steps; for those of `absent` also if they do not exist."""
        for sight in self._sights.queues(matches, absent):
            yield None if sight is None else self._show_queue(sight)

    def queue(self, name: bytes) -> Row | None:
        """The row of this queue, if it exists."""
        sight = self._sights.queue(name)
        return None if sight is None else self._show_queue(sight)

    def _show_queue(self, sight: QueueSight) -> Row:
        view, holding = sight.view, self._router.holding
        left_s = holding.left_s(view.name)
        row: Row = {
            "name": text(view.name),
            "waiting": view.ready,
            "unsettled": view.unsettled,
            "delayed": sight.delayed,
            "consumers": view.consumers,
            "bytes": view.octets,
            "memory": sight.memory,
            "paged": view.paged,
            "blocked": sight.blocked,
            "held": view.name in holding.names,
            "held-for": None if left_s is None else round(left_s, 1),
            "account": sight.account,
            "oldest": None if sight.oldest_s is None else round(sight.oldest_s, 1),
            "oldest-before-start": sight.is_older,
            "entered": sight.entered,
            "left": sight.left,
            "at": round(self._loop.now, 3),
        }
        if sight.topic:
            row |= {"topic": text(sight.topic), "used": sight.used_ms // 1000}
        return row

    def topics(self, asked: Asked) -> Steps:
        """A row for each name or pattern."""
        sights = self._sights.topics(matcher(asked.args.get("pattern")))
        return (
            yield from arrange(
                asked,
                (
                    None
                    if sight is None
                    else {"name": text(sight.name), "subscribers": sight.subscribers, "durables": sight.durables}
                    for sight in sights
                ),
            )
        )

    def durable(self, asked: Asked) -> Steps:
        """Make a durable subscription."""
        name, topic = (asked.args[member].encode(errors="surrogateescape") for member in ("queue", "topic"))
        durables = self._router.durables
        yield None
        found = durables.find(name)
        is_made = found is None or found.topic != topic
        if not asked.is_dry_run or (found is not None and is_made):
            try:
                refusal = durables.open(name, topic)
            except PatternError as error:
                raise RequestError("bad-request", f"durable: 'topic' {error}") from None
            if refusal is not None:
                raise RequestError("conflict", refusal)
        return {"queue": text(name), "topic": text(topic), "changed": is_made}

    def subscriptions(self, asked: Asked) -> Steps:
        """A row for each of them."""
        return (yield from arrange(asked, self._all_subscriptions(asked)))

    def _all_subscriptions(self, asked: Asked) -> Iterator[Row | None]:
        wanted = asked.args.get("client")
        for sight in self._sights.subscriptions(matcher(asked.args.get("pattern"))):
            client = None if sight is None else self._find(sight.peer)
            if sight is None or client is None or wanted not in (None, client.peer):
                yield None
                continue
            yield {
                "client": client.peer,
                "login": client.login,
                "address": client.address,
                "destination": text(sight.destination),
                "ack": "client" if sight.acknowledges else "auto",
                "prefetch": sight.credit,
                "unsettled": sight.unsettled,
                "exclusive": sight.exclusive,
            }
