"""The verbs: one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from forkbroker.control.arguments import FLAG, PATTERN, TEXT, Argument, RequestError, read, word

CONTROL = "/control/"
"""What the destination of a request begins with."""

LEVELS = ("debug", "info", "warning", "error")
"""Of the log."""


@dataclass(frozen=True, slots=True)
class Verb:
    """What can be asked."""

    name: str
    right: str
    """Which the client must have: `monitor` to look, `browse` to see messages, `manage` to change."""
    help: str
    """For `stomp-brokerctl --help`: at most 70 characters."""
    arguments: tuple[Argument, ...] = ()
    concerns: tuple[str, ...] = ()
    """The arguments with the destinations on which the right is needed; none: on `/control/VERB`."""
    lists: bool = False
    """The answer has `rows`, and may come in portions; else it has `result`."""
    changes: bool = False
    """It is answered when what it has changed will survive."""

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The canonical form of a request. Raises RequestError."""
        return read(self.name, self.arguments, given)

    def needs(self, found: Mapping[str, Any]) -> list[bytes]:
        """The names of destinations for which the right is needed, of a request in its canonical form."""
        names = [str(found[name]) for name in self.concerns if name in found] or [CONTROL + self.name]
        return [name.encode(errors="surrogateescape") for name in names]


_PATTERN = Argument("pattern", PATTERN, "a shell pattern of names")
_DRY_RUN = Argument("dry-run", FLAG, "tell what would be done, and do nothing")

_TABLE = (
    Verb("status", "monitor", "the broker as a whole: clients, queues, store, totals"),
    Verb(
        "who",
        "monitor",
        "the clients",
        (Argument("pattern", PATTERN, "a shell pattern of logins or addresses"),),
        lists=True,
    ),
    Verb("queues", "monitor", "the queues and durable subscriptions", (_PATTERN,), lists=True),
    Verb("topics", "monitor", "the topics and patterns that somebody has subscribed to", (_PATTERN,), lists=True),
    Verb("subscriptions", "monitor", "the subscriptions of all clients", (_PATTERN,), lists=True),
    Verb(
        "kick",
        "manage",
        "disconnect clients",
        (
            Argument("who", TEXT, "number, login or address of a client, or ALL", is_required=True),
            Argument("reason", TEXT, "what the clients are told"),
            _DRY_RUN,
        ),
    ),
    Verb(
        "log-level",
        "manage",
        "log events of this level and above, until a reload or restart",
        (Argument("level", word(*LEVELS), "debug, info, warning or error", is_required=True),),
    ),
    Verb("reload", "manage", "read the configuration again, as SIGHUP does"),
)

VERBS: Mapping[str, Verb] = {verb.name: verb for verb in _TABLE}


def find(name: str) -> Verb:
    """The verb of this name. Raises RequestError, which names the nearest one."""
    verb = VERBS.get(name)
    if verb is not None:
        return verb
    near = get_close_matches(name[:60], VERBS, 1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(VERBS)}"
    raise RequestError("unknown-verb", f"there is no verb {name[:60]!r}: {hint}")
