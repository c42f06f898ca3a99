"""Listings that are asked for in pages, sorted: `sort`, `reverse`, `offset` and `limit` of a request.

The rows of a listing come one by one, and each of them is looked at once. Without an order those of the page go out as
they come. With one, as many of the first as the page may need are kept: so what is used is bounded by the page, and not
by the ten thousand queues that there may be. Either way all are counted.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator
from typing import Any

from forkbroker.control.verbs import MAX_PAGE
from forkbroker.parent.control.asked import Asked, Row, Steps


def _keep(row: Row) -> Row:
    return row


def arrange(asked: Asked, rows: Iterator[Row | None], complete: Callable[[Row], Row] = _keep) -> Steps:
    """The rows of the page that was asked for; all of them, if none was.

    `complete` adds to a row what takes long to find out, and is called for those alone that go out.
    """
    args = asked.args
    if not args.keys() & {"sort", "reverse", "offset", "limit"}:
        for row in rows:
            yield None if row is None else complete(row)
        return None
    asked.matched = 0
    first, limit = args.get("offset", 0), args.get("limit", MAX_PAGE)
    if "sort" not in args and not args.get("reverse"):
        for row in rows:
            is_meant = row is not None and first <= asked.matched < first + limit
            asked.matched += row is not None
            yield complete(row) if row is not None and is_meant else None
        return None
    best = yield from _find_first(asked, rows, first + limit)
    for row in best[first:]:
        yield complete(row)
    return None


def _find_first(asked: Asked, rows: Iterator[Row | None], most: int) -> Any:
    """So many rows that come first in the order that was asked for."""
    key, is_reverse = asked.args.get("sort"), asked.args.get("reverse", False)
    sign = -1 if is_reverse else 1
    kept: list[tuple[bool, Any, int, Row]] = []
    matched = 0
    for row in rows:
        if row is not None:
            matched += 1
            value = matched if key is None else row[key]
            # what has no value is less than all others; among equals those that came first are first
            insort(kept, (value is not None, 0 if value is None else value, sign * matched, row))
            if len(kept) > most:
                kept.pop(0 if is_reverse else -1)
        yield None
    asked.matched = matched
    return [entry[3] for entry in (reversed(kept) if is_reverse else kept)]
