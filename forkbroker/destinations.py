"""Names of destinations: parse, normalise and match them.

A name is a prefix that says what kind of thing it is, and the part behind it:

    /topic/a.b         everybody who is interested          /queue/a       exactly one consumer
    /temp-topic/a      private to the client's connection   /temp-queue/a  private to the client's connection
    /reply-topic/a     another client's temporary topic     /reply-queue/a another client's temporary queue
    /dsub/a            a durable subscription to a topic, read like a queue: for subscriptions only
    /control/a         a request to the broker itself: for SEND only
    /topic/$SYS/a      what the broker says of itself: for subscriptions only

Other brokers have other prefixes for the same things, which are normalised away: `/remote-temp-topic/` and
`/remote-temp-queue/` (ActiveMQ), `/amq/queue/` and `/exchange/amq.topic/` (RabbitMQ), `jms.queue.` and `jms.topic.`
(Artemis). What a bare name (`a.b`) means is a setting.

A subscription to a topic may name a pattern: `forkbroker.patterns` says what its levels mean.

On the wire, and everywhere behind the session, names are bytes: UTF-8, with `surrogateescape` for what STOMP 1.0
clients may have sent otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum

from forkbroker.errors import ForkbrokerError
from forkbroker.patterns import PatternError, check_pattern, has_wildcards

MAX_NAME = 65_000
"""Octets in a name. An envelope has 16 bits for the length; the rest is left for a longer prefix."""

_SHOWN = 80


class DestinationError(ForkbrokerError):
    """A name that is no destination, or not where it was used. The text is meant for the client."""


class Sort(Enum):
    """What a destination is; the value is the prefix of its canonical name."""

    TOPIC = "/topic/"
    QUEUE = "/queue/"
    TEMP_TOPIC = "/temp-topic/"
    TEMP_QUEUE = "/temp-queue/"
    REPLY_TOPIC = "/reply-topic/"
    REPLY_QUEUE = "/reply-queue/"
    DURABLE = "/dsub/"
    CONTROL = "/control/"


_SORTS = {sort.value: sort for sort in Sort} | {
    "/remote-temp-topic/": Sort.REPLY_TOPIC,
    "/remote-temp-queue/": Sort.REPLY_QUEUE,
    "/amq/queue/": Sort.QUEUE,
    "/exchange/amq.topic/": Sort.TOPIC,
    "jms.queue.": Sort.QUEUE,
    "jms.topic.": Sort.TOPIC,
}
_PREFIX = re.compile("|".join(map(re.escape, _SORTS)))
"""No prefix is the beginning of another one, so it is clear which one a text begins with."""
_BARE = {"topic": Sort.TOPIC, "queue": Sort.QUEUE}
_KNOWN = ", ".join(sorted(_SORTS))
_TOPIC_PREFIX = Sort.TOPIC.value.encode()
SYSTEM = "/topic/$SYS/"
"""What the names of topics begin with to which the broker alone sends: events, and figures of itself."""
_SYSTEM = SYSTEM.encode()
QUEUES = tuple(sort.value.encode() for sort in (Sort.QUEUE, Sort.REPLY_QUEUE, Sort.DURABLE))
"""What names of queues begin with: see `is_queue`."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A name that was understood."""

    sort: Sort
    name: bytes
    """Canonical, with its prefix: what stands in envelopes."""
    local: str
    """What stands behind the prefix."""
    is_pattern: bool = False
    """Has wildcard levels: only subscriptions to topics may."""


def parse_destination(text: str, bare: str) -> Destination:
    """Understand the destination of a SEND; `bare` is what a name without prefix means: topic, queue or error.

    Raises:
        DestinationError: not a name that can be sent to.
    """
    destination = _parse(text, bare)
    if destination.is_pattern:
        raise DestinationError(
            f"destination {_quoted(text)} has wildcard levels, which only a subscription to a topic may have: "
            "send to one name"
        )
    if destination.sort is Sort.DURABLE:
        raise DestinationError(
            f"destination {_quoted(text)} is a durable subscription, which gets what is sent to its topic: send to that"
        )
    if is_system(destination.name):
        raise DestinationError(
            f"destination {_quoted(text)} is the broker's own, which alone sends to what is below {SYSTEM}: "
            "subscribe to it, or send to another topic"
        )
    return destination


def durable_name(name: str) -> bytes:
    """The canonical name of a durable subscription that its owner calls `name`; any character but NUL may be in it.

    Raises:
        DestinationError: no name, or too long.
    """
    return _make(Sort.DURABLE.value + name, Sort.DURABLE, name).name


def parse_subscription(text: str, bare: str) -> Destination:
    """Understand the destination of a SUBSCRIBE; `bare` is what a name without prefix means: topic, queue or error.

    Raises:
        DestinationError: not a name that can be subscribed to.
    """
    destination = _parse(text, bare)
    if destination.sort is Sort.CONTROL:
        raise DestinationError(
            f"destination {_quoted(text)} is for requests: SEND to it, and subscribe to what its reply-to names"
        )
    if destination.is_pattern:
        if destination.sort is Sort.DURABLE:
            # whoever made it has chosen the name
            return replace(destination, is_pattern=False)
        if destination.sort is not Sort.TOPIC:
            raise DestinationError(
                f"destination {_quoted(text)} has wildcard levels, which only a name in /topic/ may have: "
                "subscribe to each name"
            )
        try:
            check_pattern(destination.name)
        except PatternError as error:
            raise DestinationError(str(error)) from None
    return destination


def is_bare(text: str) -> bool:
    """Whether a client that wrote this left it to a setting what it means."""
    return _PREFIX.match(text) is None and not text.startswith("/")


def is_queue(name: bytes) -> bool:
    """Whether messages to this canonical name go to one consumer."""
    return name.startswith(QUEUES)


def is_pattern(name: bytes) -> bool:
    """Whether this canonical name has wildcard levels where they mean something: in `/topic/`."""
    return name.startswith(_TOPIC_PREFIX) and has_wildcards(name)


def is_system(name: bytes) -> bool:
    """Whether the broker alone sends to this canonical name, or to what this pattern matches."""
    return name.startswith(_SYSTEM)


def _parse(text: str, bare: str) -> Destination:
    return _make(text, *_split(text, bare))


def _make(text: str, sort: Sort, local: str) -> Destination:
    if not local:
        raise DestinationError(f"destination {_quoted(text)} is empty: a name must follow, as in {sort.value}example")
    if "\0" in local:
        raise DestinationError(f"destination {_quoted(text)} has a NUL byte, which no name may have")
    try:
        name = _encoded(sort.value + local)
    except UnicodeEncodeError:
        raise DestinationError(f"destination {_quoted(text)} is not UTF-8") from None
    if len(name) > MAX_NAME:
        raise DestinationError(f"destination {_quoted(text)} of {len(name):,} bytes exceeds {MAX_NAME:,}")
    return Destination(sort, name, local, has_wildcards(name))


def _split(text: str, bare: str) -> tuple[Sort, str]:
    prefix = _PREFIX.match(text)
    if prefix is not None:
        return _SORTS[prefix[0]], text[prefix.end() :]
    if text.startswith("/"):
        raise DestinationError(f"destination {_quoted(text)} has an unknown prefix: known are {_KNOWN}")
    if bare in _BARE:
        return _BARE[bare], text
    raise DestinationError(f"destination {_quoted(text)} has no prefix: known are {_KNOWN}")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
