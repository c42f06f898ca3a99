"""What is settled about a connection before its first MESSAGE: by the program around it, then by CONNECT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from forkbroker.hosts import DEFAULT_HOST, Host
from forkbroker.identity import Answer, Credentials, Identity
from forkbroker.permissions import Permissions, Rights, unlimited
from forkbroker.session.policy import SessionPolicy
from forkbroker.stomp.limits import Limits
from forkbroker.stomp.versions import Version

FAILED_S = 1.0


@dataclass(frozen=True, slots=True)
class Habits:
    """What clients of a transport do that is no fault of theirs."""

    patience_s: float = 0.0
    """As `forkbroker.session.ending.HeartBeat` has it."""
    failed_s: float = FAILED_S
    """From a failed login to the answer: guessing takes time."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What the program around the rules gives to one connection."""

    policy: SessionPolicy
    limits: Limits
    session_id: str
    """Unique over restarts of the broker, without `-`."""
    secret: bytes
    """What no other process knows: the names of temporary destinations are made of it (`OwnDestinations`)."""
    try_claim: Callable[[int], bool]
    """Try the semaphore of a slot."""
    verify: Callable[[Credentials], Answer] | None = None
    """Find out who a client is. Without this function each client may log in, by any name."""
    crash: Callable[[str], None] | None = None
    """Called at the named fault points, if a test has set one."""
    rights_of: Callable[[Identity], Rights] = unlimited
    """What this client may do."""
    permissions: Permissions = field(default_factory=Permissions)
    """Which virtual hosts there are, and for whom."""
    habits: Habits = field(default_factory=Habits)
    """How long to wait for such clients."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What broker and client have agreed on with CONNECT."""

    policy: SessionPolicy
    version: Version
    """What is written to the client."""
    rules: Version
    """What is accepted from the client: the same, or more lenient."""
    heart_beat: tuple[int, int]
    """How often the broker must send, and how often it may expect something, in ms; 0: never."""
    identity: Identity
    client_id: str
    """Names of durable subscriptions are within it."""
    host: Host = DEFAULT_HOST
    """Whose destinations the client has."""
