"""Back-pressure between children: nobody can make the parent hold more than a bound for somebody who reads slowly.

When what a child caused leaves more than `high` octets waiting for another, the parent stops reading the cause's
channel until the other's has fallen below `low`. The cause's socketpair fills, the child stops reading from its
client, and TCP slows the client down: the policy needs no messages and no co-operation.

Why children that publish to each other cannot block each other: a child never waits for room in its own channel
before it reads what comes down (it stops reading its *client*), so a channel that is full drains as soon as its child
gets the processor, whatever the parent does with that child's own channel; and the parent never waits for anyone.
Every hold therefore ends: by draining, by the end of the child, or by `stuck_checks` below. That the cause and the
target may be one child changes nothing.

A child whose client doesn't read may say CONGESTED: its channel is empty, yet its publishers are to be held. That word
comes over the child's own channel, and so does RELIEVED; were the parent to stop reading there, two such children that
publish to each other would wait for ever. So here the publishers are told HOLD, and go on being read. They are held for
as long as the topic's time lasts (`forkbroker.parent.patience`), which has no end if `slow-subscribers` is `hold`;
after that the slow client is disconnected by its own child, or reads.

A HOLD of the router (a queue at its limit) has token 0, this one has `HOLD_TOKEN`: a child that got both is free when
both were resumed.

A large envelope needs room in a `ReceiveMemory` that all children share before it is received. While a child waits for
it its channel is not read either, and the kill after `stuck_checks` holds for the one that has the room, and sends
nothing of its envelope although others wait.

A stopped child (SIGSTOP, a debugger) reads nothing. It is killed after `stuck_checks` checks in which nothing of what
waits for it moved, as others wait with it. Checks are counted rather than seconds, as the parent itself may have been
stopped, and must not blame that on its children. (A stopped child with room in its socket holds up nobody but the
messages that it is offered; the router knows of those, and `Clients._check_silent` asks it.)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from forkbroker.parent.patience import Patience
from forkbroker.parent.roster import Client, Process
from forkbroker.posix.loop import Loop
from forkbroker.wire.envelope import KIND_AT, Buffer, pack, read_destination
from forkbroker.wire.kinds import Kind
from forkbroker.wire.receive_memory import ReceiveMemory

_TOPICS = (Kind.SEND, Kind.RENDERED)
"""What goes down to the subscribers of a topic."""

HOLD_TOKEN = 1
"""Token of the HOLD and RESUME of this module; the router's have 0."""


@dataclass(frozen=True, slots=True)
class FlowPolicy:
    """Bounds of the channels from the parent to its children, in octets, and of the parent's patience."""

    high: int = 1_048_576
    """Hold whoever makes more than this wait. Four reads of a child: enough to keep both sides busy."""
    low: int = 262_144
    """Read from them again when less than this waits."""
    max_pending: int = 67_108_864
    """More than this means that holding does not help: from here on the child has a tenth of `stuck_checks`."""
    hold_s: float = 1.0
    """For how long publishers are held in each `hold_window_s` because of clients that do not read, for each topic.
    Infinite where such clients are to be waited for."""
    hold_window_s: float = 60.0
    check_interval_s: float = 1.0
    stuck_checks: int = 10
    """A child that has read nothing during so many checks, although something waits, is stuck."""


class Flow:
    """Who waits for whom."""

    def __init__(
        self, loop: Loop, policy: FlowPolicy, budget: ReceiveMemory, send: Callable[[Process, Sequence[Buffer]], None]
    ) -> None:
        """Hold channels of `loop`; `send` queues an envelope for a child, to be flushed at the turn's end.

        `budget`: what those channels share for the large envelopes that they receive.
        """
        self._loop = loop
        self._policy = policy
        self._budget = budget
        self._send = send
        self._starved: dict[Hashable, Process] = {}
        self._overtaxed: set[Process] = set()
        """Those that have sent more than the router applies in one turn."""
        self.held_by: dict[Process, set[Process]] = {}
        """For each process those that are not read because too much waits for it; to read."""
        self._targets_of: dict[Process, set[Process]] = {}
        self._told: dict[Process, dict[Process, bytes]] = {}
        """For each congested child its publishers that were told to HOLD, and to which topic they had published."""
        self._topics: Counter[bytes] = Counter()
        """How many of these there are for each topic."""
        self._patience = Patience(policy.hold_s, policy.hold_window_s)

    @property
    def stuck_checks(self) -> int:
        """In how many checks a child may do nothing of what it has to do."""
        return self._policy.stuck_checks

    @property
    def patience_s(self) -> float:
        """How long a child may be stuck."""
        return self._policy.check_interval_s * self._policy.stuck_checks

    def joined(self, process: Process) -> None:
        """A process runs: from now on something may wait for it."""
        process.high = self._policy.high

    def exceeded(self, cause: Process | None, target: Process, buffers: Sequence[Buffer]) -> None:
        """What `cause` sent made more than `target.high` wait: flush first, hold the cause if that doesn't help.

        Called instead of comparing twice on the hot path: a congested child's `high` is negative.
        """
        if target.high < 0:
            self._tell_to_hold(cause, target, buffers)
            return
        channel = target.channel
        if channel.pending > self._policy.high:
            channel.flush()
        if cause is not None and channel.pending > self._policy.high and not cause.is_closed:
            self._hold(cause, target)

    def _hold(self, cause: Process, target: Process) -> None:
        targets = self._targets_of.setdefault(cause, set())
        targets.add(target)
        self._choose(cause)
        self.held_by.setdefault(target, set()).add(cause)

    def _tell_to_hold(self, cause: Process | None, target: Process, buffers: Sequence[Buffer]) -> None:
        """A congested target holds those who publish to it, not those whose settlement brought it an offer."""
        if cause is None or cause is target or buffers[0][KIND_AT] not in _TOPICS:
            return
        if cause in self._told.get(target, ()):
            return
        topic = read_destination(buffers[0])
        if topic in self._topics or self._begin_hold(topic):
            self._told.setdefault(target, {})[cause] = topic
            self._topics[topic] += 1
            self._send(cause, pack(Kind.HOLD, token=HOLD_TOKEN))

    def _begin_hold(self, topic: bytes) -> bool:
        """Begin to hold the publishers of a topic, if it has time left for that."""
        now = self._loop.now
        ends_at = self._patience.begin(topic, now)
        if now < ends_at < math.inf:
            self._loop.call_at(ends_at, lambda: self._end_hold(topic))
        return ends_at > now

    def _end_hold(self, topic: bytes) -> None:
        """Let the publishers of a topic go on, if its time is over: a hold before this one may have ended earlier."""
        if self._loop.now < self._patience.ends_at(topic):
            return
        for target, told in list(self._told.items()):
            for cause in [cause for cause, held_for in told.items() if held_for == topic]:
                self._let_go(target, cause)

    def _let_go(self, target: Process, cause: Process) -> None:
        """The publisher need not wait for this child any more."""
        told = self._told[target]
        self._forget_topic(told.pop(cause))
        if not told:
            del self._told[target]
        if not any(cause in others for others in self._told.values()):
            self._send(cause, pack(Kind.RESUME, token=HOLD_TOKEN))

    def _forget_topic(self, topic: bytes) -> None:
        self._topics[topic] -= 1
        if not self._topics[topic]:
            del self._topics[topic]
            self._patience.end(topic, self._loop.now)

    def flushed(self, target: Process) -> None:
        """The channel of `target` was flushed: read again from those that it held, if it has room."""
        if target in self.held_by and target.channel.pending < self._policy.low:
            self._release(target)

    def _release(self, target: Process) -> None:
        for cause in self.held_by.pop(target, ()):
            targets = self._targets_of[cause]
            targets.discard(target)
            if not targets:
                del self._targets_of[cause]
                self._choose(cause)

    def _choose(self, child: Process) -> None:
        """Read the child's channel, or not."""
        if not child.is_closed:
            self._loop.want_readable(child.fd, not self.is_held(child))

    def starved(self, child: Process) -> None:
        """The budget has no room for what the child has begun to send: do not read on before it has."""
        self._starved[child.channel] = child
        self._choose(child)

    def overtaxed(self, child: Process) -> None:
        """What the child has sent is not all applied: do not read on before it is."""
        self._overtaxed.add(child)
        self._choose(child)

    def caught_up(self, child: Process) -> None:
        """All that the child has sent is applied."""
        if child in self._overtaxed:
            self._overtaxed.remove(child)
            self._choose(child)

    def feed(self) -> None:
        """Read on from those for which there is room by now."""
        for channel in self._budget.take_granted():
            child = self._starved.pop(channel, None)
            if child is not None:
                child.channel.go_on()
                self._choose(child)

    def congested(self, child: Process) -> None:
        """The child says that its client does not read."""
        child.high = -1

    def relieved(self, child: Process) -> None:
        """The child says that its client reads again: those that were held for it may go on."""
        child.high = self._policy.high
        for cause in list(self._told.get(child, ())):
            self._let_go(child, cause)

    def gone(self, child: Process) -> None:
        """The child is gone: nobody waits for it, and it waits for nobody."""
        self._release(child)
        self._starved.pop(child.channel, None)
        self._overtaxed.discard(child)
        self.relieved(child)
        for target in self._targets_of.pop(child, ()):
            self.held_by[target].discard(child)
            if not self.held_by[target]:
                del self.held_by[target]
        for target, told in list(self._told.items()):
            if child in told:
                self._forget_topic(told.pop(child))
                if not told:
                    del self._told[target]

    def is_held(self, child: Process) -> bool:
        """Whether the parent does not read this child's channel at present."""
        return child in self._targets_of or child.channel in self._starved or child in self._overtaxed

    def check(self, children: Iterable[Client]) -> list[Client]:
        """One check of all children, to be made every `check_interval_s`: those that are stuck."""
        return [child for child in children if not child.killed and self._is_stuck(child)]

    def _is_stuck(self, child: Client) -> bool:
        patience = self._policy.stuck_checks
        if child.is_closed:
            # Its channel is closed, so it is about to end; and that takes it no time.
            child.checks_without_progress += 1
            return child.checks_without_progress > patience
        if child.channel.pending > self._policy.max_pending:
            patience //= 10
        return self._keeps_others_waiting(child) or _checks_without_progress(child) > patience

    def _keeps_others_waiting(self, child: Client) -> bool:
        """Whether it has room that others wait for, and has sent nothing for it for too long."""
        received = child.channel.received
        if received is None or received != child.received_of_large or self.is_held(child):
            child.checks_without_octets = 0
        elif self._budget.is_waited_for:
            child.checks_without_octets += 1
        child.received_of_large = received
        return child.checks_without_octets > self._policy.stuck_checks

    def describe_stuck(self, child: Client) -> str:
        """In which way this child is stuck, for the log."""
        if child.checks_without_octets > self._policy.stuck_checks:
            stuck_s = child.checks_without_octets * self._policy.check_interval_s
            return (
                f"has sent nothing of an unfinished message for {stuck_s:.0f} s, and other clients wait for its memory"
            )
        stuck_s = child.checks_without_progress * self._policy.check_interval_s
        if child.is_closed:
            return f"still running {stuck_s:.0f} s after it closed its channel"
        return f"has read nothing for {stuck_s:.0f} s, {child.channel.pending:,} bytes wait for it"


def _checks_without_progress(child: Client) -> int:
    """For how many checks something has waited for this child, of which the kernel could take nothing."""
    channel = child.channel
    if not channel.pending or channel.flushed != child.flushed:
        child.flushed = channel.flushed
        child.checks_without_progress = 0
    else:
        child.checks_without_progress += 1
    return child.checks_without_progress
