"""A request as its handler sees it, and what a handler is."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Any

from forkbroker.parent.roster import Process
from forkbroker.routing.queues.registry import text

Row = dict[str, Any]
"""JSON."""

Steps = Generator[Row | None, None, Row | None]
"""Each `next` is a step that takes some 50 µs at most, and gives a row of the answer, or None. What it returns is the
`result` of the answer; verbs that list return None. Raises RequestError: that is the whole answer."""

Handler = Callable[["Asked"], Steps]
"""Begins to carry out a request."""


@dataclass(slots=True, eq=False)
class Asked:
    """A request that is being carried out."""

    client: Process
    """Who has asked."""
    token: int
    verb: str
    args: dict[str, Any]
    """Canonical, and checked."""
    wake: Callable[[Asked], None]
    """What the handler waits for has come; may be called at any time."""
    is_waiting: bool = False
    """The handler has set it, and is not called before `wake`."""
    rows: list[Row] = field(default_factory=list)
    """For the next part of the answer."""
    matched: int | None = None
    """Rows that there would be without `offset` and `limit`; None: nobody has asked for a page."""
    spent: int = 0
    """The handler's last step has taken as long as so many more: it sets it."""

    is_unstored: bool = False
    """The store can't note what was changed, perhaps for long: the answer says so, and does not wait. The handler sets
    it."""

    @property
    def is_dry_run(self) -> bool:
        """Tell what would be done, and do nothing."""
        return bool(self.args.get("dry-run"))


def matcher(pattern: str | None) -> Callable[[bytes], bool]:
    """Whether a name is meant by a shell pattern.

    It is compared with the whole name if it begins with `/`, else with what follows the prefix.
    """
    if pattern is None:
        return lambda _: True
    match = re.compile(translate(pattern), re.DOTALL).match
    if pattern.startswith("/"):
        return lambda name: match(text(name)) is not None
    return lambda name: match(text(name).partition("/")[2].partition("/")[2]) is not None


def matches_any(pattern: str | None, *texts: str) -> bool:
    """Whether one of these is meant by a shell pattern."""
    return pattern is None or any(re.compile(translate(pattern), re.DOTALL).match(text) for text in texts)
