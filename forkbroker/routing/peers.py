"""Numbers that must not be mixed up."""

from __future__ import annotations

from typing import NewType

from forkbroker.wire.envelope import Buffer

Peer = NewType("Peer", int)
"""A process on a channel: the parent's number for a child, never used twice."""

STORE = Peer(0)
"""The store, in whichever process it is just now."""

CHECKER = Peer(-1)
"""The process that reads the configuration; the router has nothing for it."""

NURSERY = Peer(-2)
"""The process that forks clients' children, likewise."""

BACKUP = Peer(-3)
"""The process that makes a backup, likewise."""

METRICS = Peer(-4)
"""The process that answers Prometheus: it asks as a client does."""

Token = NewType("Token", int)
"""A child's own name for one of its subscriptions: never used twice by this child."""

Slot = NewType("Slot", int)
"""One semaphore of the pool."""

Outbox = list[tuple[Peer, list[Buffer]]]
"""Envelopes for peers, in the order in which each peer shall get its own."""
