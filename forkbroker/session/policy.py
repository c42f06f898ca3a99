"""The settings that the session's rules need, and nothing else of the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MAX_FILES = 16
"""Default of `max_files`, and the most that makes sense: what is in files is what waits for a client that is slow."""


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """Limits and choices for one client's session. Sizes in octets, times as the names say."""

    server: str = "forkbroker"
    """The `server` header of CONNECTED."""
    host_name: str = ""
    """Session ids begin with it, and so what is made of them: ids are unique among the brokers of several hosts."""
    bare_destinations: Literal["topic", "queue", "error"] = "topic"
    """What a destination without `/topic/`, `/queue/` … means."""
    strict: bool = False
    """Demand `host`, keep CR in STOMP 1.0 and 1.1, and treat what other brokers tolerate (late ACKs, …) as an error."""
    content_length_always: bool = True
    """Put `content-length` on each MESSAGE, not only where the sender's frame had one."""
    connect_timeout_s: float = 10.0
    frame_timeout_s: float = 60.0
    """A half-sent frame must grow by `FRAME_PROGRESS` octets in this time, or end."""
    heart_beat_ms: tuple[int, int] = (10_000, 10_000)
    """What the server can send, and wants to get; 0: not at all."""
    max_client_memory: int = 134_217_728
    """Octets for all that the client makes its process keep (`budget`): this is the limit, the counts below are only
    against clients that have gone mad."""
    max_subscriptions: int = 10_000
    """vertx-stomp has 1,000."""
    max_transactions: int = 1_000
    """Open at once; RabbitMQ has 16."""
    max_transaction_frames: int = 100_000
    """vertx-stomp has 1,000, RabbitMQ 1,024."""
    max_transaction_size: int = 104_857_600
    """Octets of one transaction: it travels as one envelope."""
    prefetch: int = 100
    """Unsettled messages of a subscription with `client` or `client-individual`, when the client doesn't say."""
    prefetch_auto: int = 8_192
    """The same with `auto`, where a message is settled once it is written to the client."""
    max_client_buffer: int = 16_777_216
    """Octets of topic messages that wait for a client that doesn't read."""
    slow_subscribers: Literal["disconnect", "drop-oldest", "hold"] = "disconnect"
    max_files: int = MAX_FILES
    """Files with messages of topics that may wait open for the client: what is in others is read into memory."""


FRAME_PROGRESS = 65_536
