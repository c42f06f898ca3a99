"""What the headers and destinations of other brokers' dialects mean in our terms, in one place.

Each broker that speaks STOMP has given its own name to the same things; clients that were written for one of them
are to work unchanged. Where two dialects give one name two meanings, docs/protocol.md says which one holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forkbroker.errors import ForkbrokerError

UNLIMITED = 1_000_000_000
"""Credit of a subscription that asks for no limit."""

#: Headers of a SEND that never reach a MESSAGE: they are the server's to set, or concern the SEND alone.
NOT_FORWARDED = frozenset(
    {
        "ack",
        "content-length",
        "dead-letter-reason",
        "delivery-count",
        "destination",
        "expires",
        "JMSXDeliveryCount",
        "JMSXUserID",
        "message-id",
        "original-destination",
        "receipt",
        "redelivered",
        "subscription",
        "transaction",
    }
)


class HeaderError(ForkbrokerError):
    """A header's value makes no sense: the text says which, what was met and what would be right."""


@dataclass(frozen=True, slots=True)
class Window:
    """How much may be unsettled at a subscription."""

    messages: int
    octets: int = 0
    """0: any number."""


def read_window(headers: Mapping[str, str], default: int) -> Window:
    """The window that SUBSCRIBE asks for, under the names of RabbitMQ, ActiveMQ, Artemis and Apollo.

    `prefetch-count` and `activemq.prefetchSize` count messages, `consumer-window-size` octets (0: one message at a
    time, -1: no limit), `credit` both: `messages[,octets]`. A count of 0 means no limit.

    Raises:
        HeaderError: not a number.
    """
    # Which of them wins is the order here: a client of several brokers sends several.
    for name in ("prefetch-count", "activemq.prefetchSize"):
        if name in headers:
            return Window(_at_most_all(read_number(headers, name)))
    if "credit" in headers:
        messages, _, octets = headers["credit"].partition(",")
        return Window(
            _at_most_all(read_number({"credit": messages}, "credit")),
            read_number({"credit": octets or "0"}, "credit"),
        )
    if "consumer-window-size" in headers:
        if headers["consumer-window-size"].strip() == "-1":
            return Window(UNLIMITED)
        octets_wanted = read_number(headers, "consumer-window-size")
        return Window(default, octets_wanted) if octets_wanted else Window(1)
    return Window(default)


def _at_most_all(messages: int) -> int:
    return min(messages, UNLIMITED) or UNLIMITED


def read_number(headers: Mapping[str, str], name: str) -> int:
    """The header's value, a whole number of at least 0.

    Raises:
        HeaderError: it is none.
    """
    value = headers[name].strip()
    if not (value.isascii() and value.isdigit() and len(value) < 16):
        raise HeaderError(f"{name} is {value[:40]!r}, a whole number of at least 0 would be right")
    return int(value)


@dataclass(frozen=True, slots=True)
class DurableName:
    """What a durable subscription to a topic is called, and how the client said so."""

    name: str
    """The same for all clients of the broker."""
    is_explicit: bool
    """The name stands in a header of its own; else it is the subscription's id."""


# ActiveMQ, its old misspelling, Artemis: which of them wins is the order here.
_DURABLE_NAMES = (
    "activemq.subscriptionName",
    "activemq.subcriptionName",
    "durable-subscription-name",
    "durable-subscriber-name",
)


def read_durable(headers: Mapping[str, str], client_id: str) -> DurableName | None:
    """Whether SUBSCRIBE wants a subscription that outlives its client; None: it does not.

    ActiveMQ and Artemis name it in a header, within the `client-id` of CONNECT if there was one. For RabbitMQ
    (`durable:true` and `auto-delete:false`; before that `persistent:true`) and Apollo (`persistent:true`) its `id` is
    its name. A name that is written out counts first.

    Raises:
        HeaderError: the id is to be the name, and is missing.
    """
    name = _read_explicit_name(headers, client_id)
    if name is not None:
        return DurableName(name, is_explicit=True)
    if _is_true(headers, "persistent") or (_is_true(headers, "durable") and headers.get("auto-delete") == "false"):
        if "id" not in headers:
            raise HeaderError("the id of a durable subscription is its name, and is missing")
        return DurableName(headers["id"], is_explicit=False)
    return None


def read_durable_deletion(headers: Mapping[str, str], client_id: str) -> DurableName | None:
    """Whether UNSUBSCRIBE is to delete a durable subscription, not only to end reading from it; see `read_durable`."""
    name = _read_explicit_name(headers, client_id)
    if name is not None:
        return DurableName(name, is_explicit=True)
    if "id" in headers and (_is_true(headers, "persistent") or _is_true(headers, "durable")):
        return DurableName(headers["id"], is_explicit=False)
    return None


def _read_explicit_name(headers: Mapping[str, str], client_id: str) -> str | None:
    for header in _DURABLE_NAMES:
        if header in headers:
            return f"{client_id}.{headers[header]}" if client_id else headers[header]
    return None


def _is_true(headers: Mapping[str, str], name: str) -> bool:
    return headers.get(name, "").lower() == "true"


def wants_persistence(headers: Mapping[str, str]) -> bool:
    """A SEND's messages are to survive (all brokers)."""
    return _is_true(headers, "persistent")


def wants_exclusive(headers: Mapping[str, str]) -> bool:
    """One active consumer with fail-over, as Apollo and ActiveMQ mean it (RabbitMQ: a private queue)."""
    return headers.get("exclusive") == "true" or headers.get("activemq.exclusive") == "true"


def wants_requeue(headers: Mapping[str, str]) -> bool:
    """Whether a NACK returns the message to its queue; `requeue:false` (RabbitMQ) makes it a dead letter."""
    return headers.get("requeue", "true") != "false"
