"""The verbs: one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from forkbroker.control.arguments import (
    DURABLE,
    FILE,
    FLAG,
    IDS,
    NAMES,
    PAIRS,
    PATTERN,
    QUEUE,
    SPAN,
    TEXT,
    TOPIC,
    Argument,
    RequestError,
    number,
    read,
    word,
)

CONTROL = "/control/"
"""What the destination of a request begins with."""
MAX_OPEN = 100
"""Requests of one client that are not answered, at most. Its child sends no more, and the parent takes no more."""

LEVELS = ("debug", "info", "warning", "error")
"""Of the log."""


REASONS = ("rejected", "deliveries", "expired", "limit", "poison")
"""Of dead letters."""

MAX_PAGE = 1000
"""Rows of a listing that is sorted, or asked for in pages."""
MAX_OFFSET = 10_000
"""Rows that are left out before: so many, and those of a page, are in memory while a listing is sorted."""
QUEUE_FILTERS = ("waiting", "stuck", "delayed", "held", "blocked", "dead-letters", "durable")
"""Which queues are listed."""
QUEUE_KEYS = ("name", "waiting", "unsettled", "delayed", "consumers", "bytes", "memory", "oldest", "entered", "left")
CLIENT_KEYS = ("client", "login", "address", "seconds", "queues", "unsettled", "pending", "cpu", "memory")
USE_KEYS = ("cpu", "memory")
"""What a process uses: members of rows that are asked for by `use`, or by sorting by them."""
PROCESS_KEYS = ("role", "pid", "cpu", "memory")
TOPIC_KEYS = ("name", "subscribers", "durables")
SUBSCRIPTION_KEYS = ("client", "destination", "prefetch", "unsettled")
SCHEDULE_KEYS = ("queue", "due", "messages")
"""By which rows are sorted."""


@dataclass(frozen=True, slots=True)
class Verb:
    """What can be asked."""

    name: str
    right: str
    """Which the client must have: `monitor` to look, `browse` to see messages, `manage` to change; or `none`."""
    help: str
    """For `stomp-brokerctl --help`: at most 70 characters."""
    arguments: tuple[Argument, ...] = ()
    concerns: tuple[str, ...] = ()
    """The arguments with the destinations on which the right is needed; none: on `/control/VERB`."""
    lists: bool = False
    """The answer has `rows`, and may come in portions; else it has `result`."""
    changes: bool = False
    """It is answered when what it has changed will survive."""
    more: tuple[tuple[str, str], ...] = ()
    """Arguments that need another right as well, with that right."""
    is_own: bool = False
    """It is about the client alone, and its own process answers."""

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The canonical form of a request. Raises RequestError."""
        return read(self.name, self.arguments, given)

    def rights(self, found: Mapping[str, Any]) -> list[str]:
        """The rights that are needed, of a request in its canonical form."""
        return [self.right, *(right for name, right in self.more if found.get(name))]

    def needs(self, found: Mapping[str, Any]) -> list[bytes]:
        """The names of destinations for which they are needed, of a request in its canonical form."""
        names = [str(found[name]) for name in self.concerns if name in found] or [CONTROL + self.name]
        return [name.encode(errors="surrogateescape") for name in names]


_PATTERN = Argument("pattern", PATTERN, "a shell pattern of names")
_DRY_RUN = Argument("dry-run", FLAG, "tell what would be done, and do nothing")
_QUEUE = Argument("queue", QUEUE, "the name of a queue", is_required=True)
_FROM = Argument("from", QUEUE, "the queue that they are in", is_required=True)
_TO = Argument("to", QUEUE, "the queue that they come to", is_required=True)
_IDS = Argument("ids", IDS, "those with these message-ids")
_ALL = Argument("all", FLAG, "all that wait")
_CLIENT = Argument("client", number(1, 1 << 62), "the number of a client")
_USE = Argument("use", FLAG, "with processor time and memory, where the system tells them")
_WHICH = (
    _IDS,
    Argument("reason", word(*REASONS), "dead letters for this reason"),
    Argument("origin", QUEUE, "dead letters from this queue"),
    Argument("header", PAIRS, "those with these headers"),
)
_CHOSEN = (
    *_WHICH,
    _ALL,
    Argument("limit", number(1, 1_000_000_000), "how many at most, the oldest ones"),
    _DRY_RUN,
)
"""Which messages a change is for: something has to be said."""


def _in_pages(*keys: str) -> tuple[Argument, ...]:
    """What all listings understand."""
    return (
        Argument("sort", word(*keys), "by what the rows are sorted"),
        Argument("reverse", FLAG, "the largest first"),
        Argument("offset", number(0, MAX_OFFSET), "so many rows are left out first"),
        Argument("limit", number(1, MAX_PAGE), "so many rows at most"),
    )


_TABLE = (
    Verb(
        "rights",
        "none",
        "what the client itself may do",
        (Argument("destinations", NAMES, "names for which its rights are told"),),
        is_own=True,
    ),
    Verb("status", "monitor", "the broker as a whole: clients, queues, store, totals"),
    Verb(
        "who",
        "monitor",
        "the clients",
        (Argument("pattern", PATTERN, "a shell pattern of logins or addresses"), _USE, *_in_pages(*CLIENT_KEYS)),
        lists=True,
    ),
    Verb("processes", "monitor", "the processes of the broker", (_USE, *_in_pages(*PROCESS_KEYS)), lists=True),
    Verb(
        "queues",
        "monitor",
        "the queues and durable subscriptions",
        (
            _PATTERN,
            Argument("filter", word(*QUEUE_FILTERS), "only those of this sort"),
            Argument("temporary", FLAG, "false: without temporary queues"),
            *_in_pages(*QUEUE_KEYS),
        ),
        lists=True,
    ),
    Verb(
        "topics",
        "monitor",
        "the topics and patterns that somebody has subscribed to",
        (_PATTERN, *_in_pages(*TOPIC_KEYS)),
        lists=True,
    ),
    Verb(
        "subscriptions",
        "monitor",
        "the subscriptions of all clients",
        (_PATTERN, _CLIENT, *_in_pages(*SUBSCRIPTION_KEYS)),
        lists=True,
    ),
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
        "tail",
        "monitor",
        "the frames of a client, as they come",
        (
            Argument("who", TEXT, "number, login or address of a client", is_required=True),
            Argument("body", FLAG, "with the beginnings of their bodies"),
        ),
        lists=True,
        more=(("body", "manage"),),
    ),
    Verb(
        "log-level",
        "manage",
        "log events of this level and above, until a reload or restart",
        (Argument("level", word(*LEVELS), "debug, info, warning or error", is_required=True),),
    ),
    Verb(
        "drain",
        "manage",
        "let no client come, and let all leave",
        (Argument("within", SPAN, "seconds in which clients are disconnected; without it they may stay"),),
    ),
    Verb("undrain", "manage", "let clients come again"),
    Verb("reload", "manage", "read the configuration again, as SIGHUP does"),
    Verb("check", "manage", "tell what a reload would change, or what is wrong"),
    Verb(
        "backup",
        "manage",
        "copy the store, as it is now, to a new file beside it",
        (Argument("file", FILE, "the name of the file", is_required=True),),
    ),
    Verb(
        "show",
        "browse",
        "the messages that wait in a queue, which stay there",
        (
            _QUEUE,
            *_WHICH,
            Argument("offset", number(0, MAX_OFFSET), "so many are left out first"),
            Argument("limit", number(1, MAX_PAGE), "how many at most; 50 if it is not said"),
            Argument("body", FLAG, "with their bodies"),
        ),
        concerns=("queue",),
        lists=True,
    ),
    Verb(
        "hold",
        "manage",
        "let a queue take messages, and deliver none",
        (_QUEUE, Argument("for", SPAN, "seconds after which it is released")),
        concerns=("queue",),
        changes=True,
    ),
    Verb("release", "manage", "let a queue that is held deliver again", (_QUEUE,), ("queue",), changes=True),
    Verb(
        "durable",
        "manage",
        "make a durable subscription, if it is not there",
        (
            Argument("queue", DURABLE, "its name, /dsub/NAME", is_required=True),
            Argument("topic", TOPIC, "the topic, or a pattern", is_required=True),
            _DRY_RUN,
        ),
        concerns=("queue",),
        changes=True,
    ),
    Verb(
        "schedule",
        "monitor",
        "the messages that wait for their time",
        (_PATTERN, *_in_pages(*SCHEDULE_KEYS)),
        lists=True,
    ),
    Verb(
        "schedule-run",
        "manage",
        "let the time of such messages come at once",
        (_QUEUE, _IDS, _ALL, _DRY_RUN),
        concerns=("queue",),
        changes=True,
    ),
    Verb(
        "schedule-cancel",
        "manage",
        "drop messages that wait for their time",
        (_QUEUE, _IDS, _ALL, _DRY_RUN),
        concerns=("queue",),
        changes=True,
    ),
    Verb("purge", "manage", "drop all messages that wait in a queue", (_QUEUE, _DRY_RUN), ("queue",), changes=True),
    Verb("rm", "manage", "drop messages of a queue", (_QUEUE, *_CHOSEN), concerns=("queue",), changes=True),
    Verb("move", "manage", "move messages to another queue", (_FROM, _TO, *_CHOSEN), ("from", "to"), changes=True),
    Verb("copy", "manage", "copy messages to another queue", (_FROM, _TO, *_CHOSEN), ("from", "to"), changes=True),
    Verb(
        "retry",
        "manage",
        "move dead letters back to where they came from",
        (_QUEUE, Argument("to", QUEUE, "where to, instead"), *_CHOSEN),
        concerns=("queue", "to"),
        changes=True,
    ),
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
