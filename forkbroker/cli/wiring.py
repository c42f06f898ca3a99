"""Parent and child, joined: what the settings mean to each of them."""

from __future__ import annotations

import logging
import selectors
import socket
from collections.abc import Sequence

from forkbroker.child import child
from forkbroker.child.rehearsal import rehearse
from forkbroker.config.options import Settings
from forkbroker.parent.admission import AdmissionPolicy
from forkbroker.parent.parent import Hooks, Parent, ParentPolicy
from forkbroker.posix.loop import Loop
from forkbroker.posix.privileges import apply_limits
from forkbroker.posix.semaphores import SemaphorePool
from forkbroker.routing.policies import Policy
from forkbroker.routing.router import Router
from forkbroker.session.policy import SessionPolicy
from forkbroker.stomp.encoder import encode_frame
from forkbroker.stomp.limits import Limits

logger = logging.getLogger("forkbroker")

ENVELOPE_SLACK = 16_777_216
"""Octets that an envelope may have beyond the largest body or transaction: header blocks, and a read's other frames."""


def parent_policy(settings: Settings) -> ParentPolicy:
    """What the parent is to heed."""
    return ParentPolicy(
        admission=AdmissionPolicy(
            max_clients=settings.max_clients,
            max_clients_per_address=settings.max_clients_per_address,
            fork_rate=settings.fork_rate,
            fork_burst=min(AdmissionPolicy().fork_burst, settings.fork_rate),
        ),
        max_envelope=max_envelope(settings),
        shutdown_timeout_s=settings.shutdown_timeout,
    )


def max_envelope(settings: Settings) -> int:
    """The largest envelope that the limits on clients permit."""
    return max(settings.max_body, settings.max_transaction_size) + ENVELOPE_SLACK


def routing_policy(settings: Settings) -> Policy:
    """What the router is to heed."""
    return Policy(
        broadcast_all=settings.broadcast == "all",
        offer_candidates=settings.offer_candidates,
        max_deliveries=settings.max_deliveries,
        max_queue_bytes=settings.max_queue_bytes,
        max_queues=settings.max_queues,
        refuse_when_full=settings.queue_full == "refuse",
    )


def session_policy(settings: Settings) -> SessionPolicy:
    """What a client's session is to heed."""
    return SessionPolicy(
        bare_destinations=settings.bare_destinations,
        strict=settings.strict,
        content_length_always=settings.content_length == "always",
        connect_timeout_s=settings.connect_timeout,
        frame_timeout_s=settings.frame_timeout,
        heart_beat_ms=settings.heart_beat,
        max_subscriptions=settings.max_subscriptions,
        max_transactions=settings.max_transactions,
        max_transaction_frames=settings.max_transaction_frames,
        max_transaction_size=settings.max_transaction_size,
        prefetch=settings.prefetch,
        max_client_buffer=settings.max_client_buffer,
        slow_subscribers=settings.slow_subscribers,
    )


def frame_limits(settings: Settings) -> Limits:
    """How large a client's frames may be."""
    return Limits(
        max_command=settings.max_command,
        max_header_line=settings.max_header_line,
        max_headers=settings.max_headers,
        max_body=settings.max_body,
        max_login_frame=settings.max_login_frame,
    )


def refuse(reason: str) -> bytes:
    """The ERROR for a client that gets no process; its version is not known yet."""
    headers = [("message", reason), ("content-type", "text/plain")]
    return encode_frame(None, "ERROR", headers, f"{reason}\n".encode())


def run_broker(settings: Settings, listeners: Sequence[socket.socket], semaphores: SemaphorePool, hooks: Hooks) -> int:
    """Serve clients on `listeners` until a signal ends it; the exit status."""
    policy, limits, envelope = session_policy(settings), frame_limits(settings), max_envelope(settings)

    def serve(end: socket.socket, client: socket.socket, _peer: int, address: str) -> int:
        apply_limits(
            memory_bytes=settings.child_memory or None,
            cpu_s=settings.child_cpu or None,
            files=settings.child_files or None,
        )
        return child.main(end, client, address, policy=policy, limits=limits, slots=semaphores, max_envelope=envelope)

    rehearse(policy, limits, semaphores, envelope)
    loop = Loop(selectors.DefaultSelector())
    parent = Parent(
        loop,
        listeners,
        Router(routing_policy(settings), semaphores),
        {"client": serve},
        parent_policy(settings),
        refuse,
        logger,
        hooks,
    )
    try:
        return parent.run()
    finally:
        loop.close()
