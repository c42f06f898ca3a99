"""Settings as the limits and policies of each part: in the part's own terms and units."""

from __future__ import annotations

import math
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from forkbroker.child.verifying import Ways
from forkbroker.config.settings import Settings
from forkbroker.errors import ConfigurationError
from forkbroker.identity import Way
from forkbroker.parent.admission import AdmissionPolicy
from forkbroker.parent.flow import FlowPolicy
from forkbroker.parent.setup import ParentPolicy
from forkbroker.permissions import Permissions
from forkbroker.posix.loop import may_spin
from forkbroker.routing.queues.policies import (
    Expired,
    Full,
    Policy,
    QueuePolicy,
    QueueRule,
    Visible,
    find_overflow_cycle,
)
from forkbroker.session.policy import MAX_FILES, SessionPolicy
from forkbroker.stomp.limits import Limits

Hashes = Mapping[str, str] | None
"""The hash of each user's passcode; None: there is no password file."""


@dataclass(frozen=True, slots=True)
class Known:
    """Who is known, and what they may do."""

    users: Hashes = None
    permissions: Permissions = field(default_factory=Permissions)


ENVELOPE_SLACK = 16_777_216
"""Octets that an envelope may have beyond the largest body or transaction: header blocks, and a read's other frames."""
PASSED_SLACK = 1_048_576
"""Octets that a message may have more when the parent passes it on: names of queues, and what is known of it."""
OWN_FILES = 16
"""Descriptors that a child needs beside files with messages: some ten, and one that has just come."""


def parent_policy(settings: Settings, known: Known | None = None) -> ParentPolicy:
    """What the parent is to heed."""
    known = known or Known()
    nobody = {"": ""} if settings.allow_anonymous else {}
    ways = {
        Way.CERTIFICATE: settings.tls_client_user != "none",
        Way.SYSTEM: settings.socket_login == "all",
        Way.TOKEN: bool(settings.token_key),
        Way.PROGRAM: settings.authenticator is not None,
    }
    return ParentPolicy(
        admission=AdmissionPolicy(
            max_clients=settings.max_clients,
            max_clients_per_address=settings.max_clients_per_address,
            max_pending_logins=settings.max_pending_logins,
            fork_rate=settings.fork_rate,
            fork_burst=min(AdmissionPolicy().fork_burst, settings.fork_rate),
            users={**(known.users or {}), **nobody} if settings.needs_login else None,
            proxies=settings.proxy_address,
            forwarders=settings.web_proxy,
            ways=frozenset(way for way, is_open in ways.items() if is_open),
        ),
        flow=FlowPolicy(hold_s=math.inf) if settings.slow_subscribers == "hold" else FlowPolicy(),
        max_envelope=max_envelope(settings),
        max_passed=max_passed(settings),
        receive_memory=settings.receive_memory,
        shutdown_timeout_s=settings.shutdown_timeout,
        permissions=known.permissions,
    )


def login_ways(settings: Settings) -> Ways:
    """How clients may show who they are."""
    return Ways(
        allows_anonymous=settings.allow_anonymous,
        certificate_user=settings.tls_client_user,
        takes_system_users=settings.socket_login == "all",
        administrators=settings.administrators,
    )


def max_envelope(settings: Settings) -> int:
    """The largest envelope that the limits on clients permit."""
    return max(settings.max_body, settings.max_transaction_size) + ENVELOPE_SLACK


def max_passed(settings: Settings) -> int:
    """The largest envelope that the parent makes of one: for the store, which sends it back, or for another child."""
    return max_envelope(settings) + PASSED_SLACK


def routing_policy(settings: Settings) -> Policy:
    """What the router is to heed.

    Raises:
        ConfigurationError: full queues would move their messages round for ever.
    """
    rest = QueuePolicy(
        max_length=settings.max_queue_length,
        max_bytes=settings.max_queue_bytes,
        full=Full(settings.queue_full),
        visible=Visible(settings.visible),
        max_deliveries=settings.max_deliveries,
        redelivery_delay=_milliseconds(settings.redelivery_delay),
        dedup_window=_milliseconds(settings.dedup_window),
    )
    policy = Policy(
        broadcast_all=settings.broadcast == "all",
        offer_candidates=settings.offer_candidates,
        max_queues=settings.max_queues,
        max_durables=settings.max_durables,
        queue_memory=settings.queue_memory,
        max_unsettled=settings.max_unsettled,
        max_delayed_bytes=settings.max_delayed_bytes,
        min_repeat_period=_milliseconds(settings.min_repeat_period),
        max_repeating=settings.max_repeating,
        queue=replace(rest, persistent=settings.persistent == "queues"),
        durable=replace(rest, full=Full.DROP_OLDEST, idle_expiry=_milliseconds(settings.durable_expiry)),
        rules=tuple(QueueRule(line.pattern, _in_terms_of_routing(line.changes)) for line in settings.policy),
    )
    _check_overflow(policy)
    return policy


def _check_overflow(policy: Policy) -> None:
    """Refuse rules by which full queues would move their messages round for ever; say which ones these are."""
    cycle = find_overflow_cycle(policy)
    if not cycle:
        return
    rules = [rule.pattern for rule in policy.rules if any(rule.matches(name) for name in cycle)]
    way = " -> ".join(name.decode("utf-8", "backslashreplace") for name in [*cycle, cycle[0]])
    raise ConfigurationError(
        " and ".join(f"--policy '{pattern.decode('utf-8', 'backslashreplace')}'" for pattern in rules)
        or "--queue-full",
        f"full queues would move their dead letters in a circle, {way}",
        "give one of these queues another dead-letter, or full=drop-oldest",
    )


def _in_terms_of_routing(changes: Mapping[str, object]) -> dict[str, object]:
    """A policy's words, as members of the enumerations that routing has for them."""
    words: dict[str, Callable[[object], object]] = {"full": Full, "expired": Expired, "visible": Visible}
    return {key: words[key](value) if key in words else value for key, value in changes.items()}


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _short_host_name() -> str:
    """This host's name without its domain, as far as an id can have it."""
    return re.sub(r"[^A-Za-z0-9_-]", "", socket.gethostname().partition(".")[0])[:63]


def session_policy(settings: Settings) -> SessionPolicy:
    """What a client's session is to heed."""
    return SessionPolicy(
        # within ids the parts are divided by "-"
        host_name=(settings.host_name or _short_host_name()).replace("-", "_"),
        bare_destinations=settings.bare_destinations,
        strict=settings.strict,
        content_length_always=settings.content_length == "always",
        connect_timeout_s=settings.connect_timeout,
        frame_timeout_s=settings.frame_timeout,
        heart_beat_ms=settings.heart_beat,
        max_client_memory=settings.max_client_memory,
        max_subscriptions=settings.max_subscriptions,
        max_transactions=settings.max_transactions,
        max_transaction_frames=settings.max_transaction_frames,
        max_transaction_size=settings.max_transaction_size,
        prefetch=settings.prefetch,
        max_client_buffer=settings.max_client_buffer,
        max_files=max_files(settings),
        slow_subscribers=settings.slow_subscribers,
    )


def max_files(settings: Settings) -> int:
    """How many files with messages a child may keep open for its client."""
    return max(0, min(MAX_FILES, settings.child_files - OWN_FILES)) if settings.child_files else MAX_FILES


def frame_limits(settings: Settings) -> Limits:
    """How large a client's frames may be."""
    return Limits(
        max_command=settings.max_command,
        max_header_line=settings.max_header_line,
        max_headers=settings.max_headers,
        max_body=settings.max_body,
        max_login_frame=settings.max_login_frame,
    )


def spin_s(settings: Settings) -> float:
    """Seconds that a loop polls before it sleeps; 0: none, as on a machine where that can't pay."""
    return settings.spin / 1_000_000 if may_spin() else 0.0
