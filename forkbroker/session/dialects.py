"""What the headers and destinations of other brokers' dialects mean in our terms, in one place.

Each broker that speaks STOMP has given its own name to the same things; clients that were written for one of them
are to work unchanged. Where two dialects give one name two meanings, docs/stomp.md says which one holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from forkbroker.errors import ForkbrokerError
from forkbroker.wire.details import MAX_REJECT_REASON
from forkbroker.wire.fields import MAX_KEY, MAX_LEASE_MS, MIN_KEY

UNLIMITED = 1_000_000_000
"""Credit of a subscription that asks for no limit."""

MAX_NUMBER = 999_999_999_999_999
"""The largest number in a header that has no smaller limit of its own: sums of a few of them fit into 63 bits."""

PARK_LEASE_MS = 60_000
_KEY = re.compile(rb"[A-Za-z0-9_-]{%d,%d}" % (MIN_KEY, MAX_KEY))
_SHOWN = 40
_BOOLEANS = {"true": True, "false": False}
_QUOTED = str.maketrans({"%": "%25", ".": "%2E", "@": "%40"})

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
        "reject-reason",
        "subscription",
        "transaction",
    }
)


class HeaderError(ForkbrokerError):
    """A header's value makes no sense: the text says which, what was met and what would be right."""


@dataclass(frozen=True, slots=True)
class Prefetch:
    """How much may wait for its ACK at a subscription."""

    messages: int
    octets: int = 0
    """0: any number."""


def read_prefetch(headers: Mapping[str, str], default: int) -> Prefetch:
    """The prefetch that SUBSCRIBE asks for, under the names of RabbitMQ, ActiveMQ, Artemis and Apollo.

    `prefetch-count` and `activemq.prefetchSize` count messages, `consumer-window-size` octets (0: one message at a
    time, -1: no limit), `credit` both: `messages[,octets]`. A count of 0 means no limit.

    Raises:
        HeaderError: not a number, or too large a one.
    """
    # Which of them wins is the order here: a client of several brokers sends several.
    for name in ("prefetch-count", "activemq.prefetchSize"):
        if name in headers:
            return Prefetch(_at_most_all(read_number(headers, name)))
    if "credit" in headers:
        messages, _, octets = headers["credit"].partition(",")
        return Prefetch(
            _at_most_all(read_number({"credit": messages}, "credit")),
            read_number({"credit": octets or "0"}, "credit"),
        )
    if "consumer-window-size" in headers:
        if headers["consumer-window-size"].strip() == "-1":
            return Prefetch(UNLIMITED)
        octets_wanted = read_number(headers, "consumer-window-size")
        return Prefetch(default, octets_wanted) if octets_wanted else Prefetch(1)
    return Prefetch(default)


def names_prefetch(headers: Mapping[str, str]) -> bool:
    """SUBSCRIBE says how many messages it wants, and does not leave that to the settings."""
    return any(name in headers for name in ("prefetch-count", "activemq.prefetchSize", "credit"))


def _at_most_all(messages: int) -> int:
    return min(messages, UNLIMITED) or UNLIMITED


def read_number(headers: Mapping[str, str], name: str, most: int = MAX_NUMBER) -> int:
    """The header's value, a whole number from 0 to `most`.

    Raises:
        HeaderError: it is none, or a larger one.
    """
    value = headers[name].strip()
    if not (value.isascii() and value.isdigit()):
        raise HeaderError(f"{name} is {value[:40]!r}; it must be a whole number, 0 or more")
    # int() raises an exception of its own for thousands of digits: zeros in front are no digits that count.
    digits = value.lstrip("0") or "0"
    if len(digits) > len(str(most)) or int(digits) > most:
        raise HeaderError(f"{name} is {_shortened(value)}, at most {most:,} is permitted")
    return int(digits)


def _shortened(digits: str) -> str:
    return digits if len(digits) <= _SHOWN else f"{digits[:_SHOWN]}… ({len(digits):,} digits)"


def read_boolean(headers: Mapping[str, str], name: str, default: bool = False) -> bool:
    """The header's value, `true` or `false` in any case; `default` where the header is missing.

    Raises:
        HeaderError: another value. To take it for one of the two would silently do the opposite of what was meant.
    """
    if name not in headers:
        return default
    value = headers[name].strip()
    found = _BOOLEANS.get(value.lower())
    if found is None:
        raise HeaderError(f"{name} is {value[:40]!r}; it must be true or false")
    return found


# ActiveMQ, its old misspelling, Artemis: which of them wins is the order here.
_DURABLE_NAMES = (
    "activemq.subscriptionName",
    "activemq.subcriptionName",
    "durable-subscription-name",
    "durable-subscriber-name",
)


def read_durable(headers: Mapping[str, str], client_id: str, topic: str) -> str | None:
    """The name of the subscription that outlives its client, if SUBSCRIBE to `topic` wants one.

    ActiveMQ and Artemis name it in a header, within the `client-id` of CONNECT if there was one. For RabbitMQ
    (`durable:true` and `auto-delete:false`; before that `persistent:true`) and Apollo (`persistent:true`) it is its
    `id` and its topic or pattern together that name it: two programs may both call theirs `1`. A name that is written
    out counts first.

    Raises:
        HeaderError: the id is to be part of the name, and is missing; or a value is neither true nor false.
    """
    name = read_explicit_name(headers, client_id)
    if name is not None:
        return name
    is_kept = read_boolean(headers, "durable") and not read_boolean(headers, "auto-delete", default=True)
    if read_boolean(headers, "persistent") or is_kept:
        if "id" not in headers:
            raise HeaderError("the id of a durable subscription is part of its name, and is missing")
        return pair_name(headers["id"], topic)
    return None


def wants_deletion(headers: Mapping[str, str]) -> bool:
    """UNSUBSCRIBE by `id` is to delete a durable subscription, not only to end reading from it (RabbitMQ, Apollo).

    Raises:
        HeaderError: a value is neither true nor false.
    """
    return read_boolean(headers, "persistent") or read_boolean(headers, "durable")


def wants_drain(headers: Mapping[str, str]) -> bool:
    """UNSUBSCRIBE is to end deliveries alone: what the client has it may settle yet.

    Raises:
        HeaderError: the value is neither true nor false.
    """
    return read_boolean(headers, "drain")


def read_explicit_name(headers: Mapping[str, str], client_id: str) -> str | None:
    """The name of a durable subscription that stands in a header of its own (ActiveMQ, Artemis).

    One name of two never means the same subscription: what precedes the first `.` is a `client-id`, what precedes an
    `@` before any `.` is an id (`pair_name`), and without either it is a name of a client that has no `client-id`. So
    these three characters are written `%25`, `%2E`, `%40` where they are not the mark itself.
    """
    for header in _DURABLE_NAMES:
        if header in headers:
            name = headers[header]
            return f"{client_id.translate(_QUOTED)}.{name}" if client_id else name.translate(_QUOTED)
    return None


def pair_name(subscription_id: str, topic: str) -> str:
    """The name of a durable subscription that is known by its id and its topic or pattern; see `read_explicit_name`."""
    return f"{subscription_id.translate(_QUOTED)}@{topic}"


def wants_persistence(headers: Mapping[str, str]) -> bool:
    """A SEND's messages are to survive (all brokers). Raises HeaderError."""
    return read_boolean(headers, "persistent")


def wants_exclusive(headers: Mapping[str, str]) -> bool:
    """One active consumer with fail-over, as Apollo and ActiveMQ mean it (RabbitMQ: a private queue).

    Raises:
        HeaderError: a value is neither true nor false.
    """
    return read_boolean(headers, "exclusive") or read_boolean(headers, "activemq.exclusive")


def wants_requeue(headers: Mapping[str, str]) -> bool:
    """Whether a NACK returns the message to its queue; `requeue:false` (RabbitMQ) makes it a dead letter.

    Raises:
        HeaderError: the value is neither true nor false.
    """
    return read_boolean(headers, "requeue", default=True)


def read_reject_reason(headers: Mapping[str, str]) -> bytes:
    """Why a NACK rejects a message, in its sender's words; what is longer than `MAX_REJECT_REASON` is cut.

    A worker puts there what its job has raised: to refuse that for its length would end the connection.
    """
    if "reason" not in headers:
        return b""
    reason = headers["reason"].encode(errors="surrogateescape")
    if len(reason) <= MAX_REJECT_REASON:
        return reason
    return reason[:MAX_REJECT_REASON].decode(errors="ignore").encode()


def read_park_key(headers: Mapping[str, str], name: str) -> bytes:
    """The key of a parked delivery, which one of our own headers has.

    Raises:
        HeaderError: it is too short to be a secret, or no word.
    """
    key = headers[name].encode(errors="replace")
    if _KEY.fullmatch(key) is None:
        raise HeaderError(f"{name} has {MIN_KEY} to {MAX_KEY} letters and digits")
    return key


def read_park_lease(headers: Mapping[str, str]) -> int:
    """How long a parked delivery may wait to be settled, in milliseconds. Raises HeaderError."""
    return read_number(headers, "lease", MAX_LEASE_MS) if "lease" in headers else PARK_LEASE_MS
