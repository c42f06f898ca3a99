"""For how long the publishers of a topic may be held for subscribers whose clients do not read.

One slow subscriber may hold its publishers for a moment, so that a burst costs it nothing. If each had a moment of its
own, deaf clients that connect one after the other could stop a topic for most of the time. So the time belongs to the
topic: so many seconds in each window, whoever uses them up; what is not used is not saved.

A rule: no descriptor, no clock, no log. Time comes in as `now`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_TOPICS_MAX = 1_000
"""Topics that are remembered. Above that, a topic that is not gets no time: publishers are not held for it."""


@dataclass(slots=True)
class _Account:
    """What a topic has used of its time."""

    began: float
    spent: float = 0.0
    since: float | None = None
    """When the present hold began."""


class Patience:
    """The accounts of all topics."""

    def __init__(self, budget_s: float, window_s: float) -> None:
        """`budget_s` (may be infinite) in each `window_s` seconds for each topic."""
        self._budget_s = budget_s
        self._window_s = window_s
        self._accounts: dict[bytes, _Account] = {}

    def begin(self, topic: bytes, now: float) -> float:
        """Begin a hold, or go on with it; return when it must end. `now` or earlier: there is none."""
        account = self._open(topic, now)
        if account is None:
            return now
        left = self._budget_s - account.spent
        if account.since is None:
            if left <= 0:
                return now
            account.since = now
        return account.since + left

    def end(self, topic: bytes, now: float) -> None:
        """The hold is over, earlier or because it must be."""
        account = self._accounts[topic]
        if account.since is not None:
            account.spent += now - account.since
            account.since = None

    def ends_at(self, topic: bytes) -> float:
        """When the present hold of a topic must end; infinity if there is none."""
        account = self._accounts.get(topic)
        if account is None or account.since is None:
            return math.inf
        return account.since + self._budget_s - account.spent

    def _open(self, topic: bytes, now: float) -> _Account | None:
        account = self._accounts.get(topic)
        if account is not None:
            if account.since is None and now - account.began >= self._window_s:
                account.began, account.spent = now, 0.0
            return account
        if len(self._accounts) >= _TOPICS_MAX:
            self._forget(now)
            if len(self._accounts) >= _TOPICS_MAX:
                return None
        account = self._accounts[topic] = _Account(now)
        return account

    def _forget(self, now: float) -> None:
        """Forget the topics whose window is over."""
        self._accounts = {
            topic: account
            for topic, account in self._accounts.items()
            if account.since is not None or now - account.began < self._window_s
        }
