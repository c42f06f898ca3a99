"""Numbers that must not be mixed up."""

from __future__ import annotations

from typing import NewType

Peer = NewType("Peer", int)
"""A process on a channel: the parent's number for a child, never used twice."""

Token = NewType("Token", int)
"""A child's own name for one of its subscriptions: never used twice by this child."""

Slot = NewType("Slot", int)
"""One semaphore of the pool."""
