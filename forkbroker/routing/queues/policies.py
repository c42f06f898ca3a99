"""Settings of routing, as frozen records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import chain
from operator import itemgetter

from forkbroker.caches import Cache
from forkbroker.hosts import EVERYWHERE, MARK, space_of
from forkbroker.patterns import Patterns

_OF_HOST = f"/{MARK}".encode()
_CACHE_OCTETS = 4_194_304
"""Octets of queues' names whose policy is remembered."""


class Full(Enum):
    """What a queue at its limit does."""

    HOLD = "hold"
    """Its producers wait."""
    REFUSE = "refuse"
    """Its producers get an ERROR."""
    DROP_OLDEST = "drop-oldest"
    DEAD_LETTER = "dead-letter"
    """The oldest messages go to the dead letters."""

    def __init__(self, value: object) -> None:
        self.is_losing = value in ("drop-oldest", "dead-letter")
        """The queue loses messages, and nobody waits or is refused."""


class Expired(Enum):
    """What becomes of a message whose time is over."""

    DROP = "drop"
    DEAD_LETTER = "dead-letter"


class Visible(Enum):
    """When a persistent message is offered to consumers."""

    ACCEPTED = "accepted"
    """At once, while the store is writing it."""
    COMMITTED = "committed"
    """When it survives whatever happens."""


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """What holds for one queue, or one durable subscription. Times in milliseconds; 0: no limit, or never."""

    max_length: int = 0
    """Messages."""
    max_bytes: int = 0
    """Octets of bodies, headers and overhead, in memory and in the store."""
    full: Full = Full.HOLD
    persistent: bool = False
    """All messages are to survive, whatever their senders say."""
    visible: Visible = Visible.ACCEPTED
    ttl: int = 0
    """When messages expire whose senders do not say."""
    expired: Expired = Expired.DROP
    max_deliveries: int = 16
    """Deliveries of one message before it is a dead letter. RabbitMQ's quorum queues: 20, ActiveMQ: 6."""
    dead_letter: bytes = b"/queue/DLQ"
    """Where messages go that no consumer could work on."""
    redelivery_delay: int = 0
    """How long a message waits that comes back for the second time. The first time it does not wait."""
    redelivery_backoff: float = 2.0
    """By how much that grows each further time."""
    redelivery_delay_max: int = 300_000
    poison_after: int = 3
    """Crashes of clients' processes that held a message before it is a dead letter."""
    lease: int = 0
    """How long a consumer may hold a message before it is another one's."""
    dedup_window: int = 300_000
    """How long the `dedup-id` of a message is remembered. Amazon SQS: five minutes."""
    idle_expiry: int = 0
    """When a durable subscription ends that nobody uses."""
    queue_expiry: int = 0
    """When another queue ends to which nobody sends, and from which nobody consumes."""
    is_limited: bool = field(init=False, repr=False, compare=False)
    """The queue has a limit of its own."""

    def __post_init__(self) -> None:
        # asked for each SEND; a frozen record is set in this way
        object.__setattr__(self, "is_limited", bool(self.max_length or self.max_bytes))

    def overflows_to(self, name: bytes) -> bytes:
        """Return where a queue of this name moves its oldest messages when it is full; empty: nowhere."""
        moves = self.full is Full.DEAD_LETTER and (self.max_length or self.max_bytes)
        return self.dead_letter if moves and self.dead_letter != name else b""

    def redelivery_wait(self, deliveries: int) -> int:
        """How long (milliseconds) a message waits after so many deliveries."""
        if deliveries < 2 or not self.redelivery_delay:
            return 0
        # the exponent is bounded, as a float is
        grown = self.redelivery_delay * self.redelivery_backoff ** min(deliveries - 2, 64)
        return int(min(grown, self.redelivery_delay_max))


@dataclass(frozen=True, slots=True)
class QueueRule:
    """What is different for the queues that match a pattern."""

    pattern: bytes
    """A canonical name, `*`, `#` and `>` as in subscriptions to topics."""
    changes: Mapping[str, object]
    """Fields of `QueuePolicy`."""

    def matches(self, name: bytes) -> bool:
        """Tell whether the rule speaks of the queue of this name."""
        patterns: Patterns[bool] = Patterns()
        patterns.add(self.pattern, True)
        return bool(patterns.find(name))


class QueuePolicies:
    """Which policy holds for which queue: all rules that match count, and later ones win."""

    def __init__(self, rest: QueuePolicy, rules: Sequence[QueueRule] = ()) -> None:
        """`rest` holds for what no rule speaks of.

        Raises:
            PatternError: a pattern cannot be used.
            TypeError: a rule changes what `QueuePolicy` doesn't have.
        """
        self._rest = rest
        self._rules: Patterns[list[tuple[int, Mapping[str, object]]]] = Patterns()
        self._cache: Cache[bytes, QueuePolicy] = Cache(_CACHE_OCTETS)
        for place, rule in enumerate(rules):
            replace(rest, **rule.changes)  # type: ignore[arg-type]  # checked by the table of keys
            same = self._rules.get(rule.pattern) or []
            self._rules.add(rule.pattern, [*same, (place, rule.changes)])

    def find(self, name: bytes) -> QueuePolicy:
        """The policy of the queue with this name.

        Each named virtual host has dead letters of its own, if no rule says otherwise; also one that is not configured
        any more: what is left in it is not to come to another one.
        """
        if not self._rules and _OF_HOST not in name:
            return self._rest
        policy = self._cache.get(name)
        return self._work_out(name) if policy is None else policy

    def _work_out(self, name: bytes) -> QueuePolicy:
        policy, space = self._rest, space_of(name)
        if space is not EVERYWHERE:
            policy = replace(policy, dead_letter=space.inward(policy.dead_letter))
        for _, changes in sorted(chain(*self._rules.find(name)), key=itemgetter(0)):
            policy = replace(policy, **changes)  # type: ignore[arg-type]
        return self._cache.remember(name, policy)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the administrator decides about topics and queues."""

    broadcast_all: bool = False
    """Topics go to every child, not only to those that told their interest."""
    offer_candidates: int = 3
    """Children that one message is offered to at most: a few beat one (no waiting for a slow one) and all (copies)."""
    max_queues: int = 10_000
    """Queues at one time, durable subscriptions included."""
    max_durables: int = 1_000
    """Durable subscriptions at one time."""
    queue_memory: int = 134_217_728
    """Octets of memory that the messages of all queues use together; the rest of a deep queue is in the store."""
    max_unsettled: int = 67_108_864
    """Octets that one client may be offered and hold unsettled; a single larger message goes alone."""
    max_delayed_bytes: int = 67_108_864
    """Octets of memory that messages use which wait for their time."""
    min_repeat_period: int = 100
    """Milliseconds between two repetitions of a message, at least."""
    max_repeating: int = 100
    """Messages of one client that come again and again, at one time."""
    queue: QueuePolicy = QueuePolicy()
    """What holds for queues of which no rule speaks."""
    durable: QueuePolicy = QueuePolicy(full=Full.DROP_OLDEST)
    """The same for durable subscriptions. Who is away must not hold back the publishers of a topic."""
    rules: tuple[QueueRule, ...] = ()
    answer_timeout_s: float = 1.0
    """A candidate that has not answered an offer for so long is passed over until it answers."""


def dead_letter_names(policy: Policy) -> set[bytes]:
    """Return the names of all queues to which messages go that no consumer could work on."""
    names = {policy.queue.dead_letter, policy.durable.dead_letter}
    names |= {rule.changes["dead_letter"] for rule in policy.rules if "dead_letter" in rule.changes}  # type: ignore[misc]
    return names


def find_overflow_cycle(policy: Policy) -> list[bytes]:
    """Return queues that would fill each other for ever: each of them, when full, moves messages to the next one.

    They are in their order, the last one moves to the first; empty: there are none. A queue whose dead letters are
    itself is none of them: it drops what is too much. Only names that are somebody's dead letters can be in a circle,
    so these are all that have to be looked at, whatever the patterns match.
    """
    policies = QueuePolicies(policy.queue, policy.rules)
    following: dict[bytes, bytes] = {}
    names = dead_letter_names(policy)
    while names:
        name = names.pop()
        following[name] = policies.find(name).overflows_to(name)
        # that of a virtual host is named by no rule
        names |= {following[name]} - {b"", *following}
    for start in sorted(following):
        path = [start]
        while (name := following[path[-1]]) and name not in path:
            path.append(name)
        if name:
            return path[path.index(name) :]
    return []
