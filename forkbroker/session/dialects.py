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
        "delivery-count",
        "destination",
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


def wants_exclusive(headers: Mapping[str, str]) -> bool:
    """One active consumer with fail-over, as Apollo and ActiveMQ mean it (RabbitMQ: a private queue)."""
    return headers.get("exclusive") == "true" or headers.get("activemq.exclusive") == "true"


def wants_requeue(headers: Mapping[str, str]) -> bool:
    """Whether a NACK returns the message to its queue; `requeue:false` (RabbitMQ) makes it a dead letter."""
    return headers.get("requeue", "true") != "false"
