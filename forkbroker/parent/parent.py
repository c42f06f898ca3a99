"""The parent's program: one loop over the listeners, the children's channels, deadlines and signals.

It moves envelopes between channels and the router, and decides nothing about them: what may be sent is in
`forkbroker.wire.kinds`, where it goes in `forkbroker.routing`, who waits for whom in `flow`. It knows no STOMP, and
nothing here blocks: every descriptor is non-blocking, and a child that is slow, stopped, dead or mad costs the others
nothing (`flow`, `supervisor`).

A turn of the loop: read each channel once that has something, route it, queue what follows from it; at the turn's end
let the router have its time, and flush each channel once that something was queued for. So what ten children say
to one in a turn is one system call.

A child that breaks the contract (what it says doesn't decode, is not its to say, or contradicts what the router knows)
is killed. It may be a bug of the child, or a client that has taken it over: either way it must not harm the others.
"""

from __future__ import annotations

import logging
import select
import signal
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from forkbroker.errors import EnvelopeError, Exit, StartError
from forkbroker.parent.admission import Admission, AdmissionPolicy
from forkbroker.parent.flow import Flow, FlowPolicy
from forkbroker.parent.keeper import Keeper, StoreEvents, StoreProgram
from forkbroker.parent.listener import Listeners
from forkbroker.parent.listing import Listing
from forkbroker.parent.refusals import Refusals
from forkbroker.parent.roster import Child, describe_crash, to_text
from forkbroker.parent.shutdown import Phase, Shutdown
from forkbroker.parent.status import Status
from forkbroker.parent.supervisor import ClientProgram, Events, Supervisor
from forkbroker.posix import collector
from forkbroker.posix.addresses import source_of
from forkbroker.posix.crashpoints import reach as crash
from forkbroker.posix.loop import Deadline, Loop
from forkbroker.posix.signals import Signals
from forkbroker.routing.peers import Peer
from forkbroker.wire.budget import Budget
from forkbroker.wire.envelope import KIND_AT, Buffer, Envelope, pack
from forkbroker.wire.fields import OF_CHILD, check
from forkbroker.wire.kinds import FROM_CHILD, HEEDED, Flag, Kind, State

_NO_LOGIN = b"not logged in, and other clients wait: max-pending-logins"
_CRASH_AFTER: dict[int, str] = {Kind.OFFER: "parent.offered", Kind.WRITE: "parent.written"}
"""Fault seams behind the turn in which one of these is sent."""


class Routes(Protocol):
    """What the parent needs of a router: the rules' three verbs, and who is there."""

    def add_peer(self, peer: Peer) -> None:
        """A child runs."""

    def receive(self, peer: Peer, envelope: Envelope, now: float) -> None:
        """A child says something that it is permitted to say. Raises AssertionError or EnvelopeError if it lies."""

    def peer_ended(self, peer: Peer, now: float, crash: str = "") -> None:
        """A child is gone, and nothing more will come from it; `crash`: how its process ended, if it crashed."""

    def receive_stored(self, envelope: Envelope, now: float) -> None:
        """The store says something. Raises AssertionError or EnvelopeError if that can't be."""

    def store_ended(self, reason: str) -> None:
        """The store's process is gone; and why, if it could not do its work."""

    def is_waiting(self, peer: Peer) -> bool:
        """Whether something that this child has sent is still to be applied, as it was too much for one turn."""

    @property
    def waiting(self) -> Sequence[Peer]:
        """All children of which something is to be applied, or whose end is."""

    def go_on(self, peer: Peer, now: float) -> None:
        """Apply a turn's part of that. Raises AssertionError or EnvelopeError as `receive`."""

    @property
    def is_applied(self) -> bool:
        """All that was received is applied, and what of it is the store's was told to it."""

    @property
    def is_committed(self) -> bool:
        """All that was received is applied, and what of it is the store's will survive."""

    @property
    def is_behind(self) -> bool:
        """The store has so much to write that it should not be given more at present."""

    def take_culprits(self) -> Sequence[tuple[Peer, str]]:
        """Children that are to be ended for what they have sent, as has shown later, and why."""

    def take_notes(self) -> Sequence[str]:
        """What an administrator should know."""

    def describe(self) -> Iterable[str]:
        """What there is, for an administrator who asks: each line is made when it is asked for."""

    def tick(self, now: float) -> None:
        """Do what is due."""

    def deadline(self) -> float | None:
        """When something will be due, if anything."""

    def stop_offers(self) -> None:
        """Make no new deliveries to consumers that acknowledge."""

    def find_silent(self, since: float) -> Collection[Peer]:
        """Who has owed an answer since then, and keeps something from others by not giving it."""

    def take(self) -> Sequence[tuple[Peer, Sequence[Buffer]]]:
        """What is to be sent, in order."""


@dataclass(frozen=True, slots=True)
class ParentPolicy:
    """The limits of the parent; its defaults are those of the command's options."""

    admission: AdmissionPolicy = field(default_factory=AdmissionPolicy)
    flow: FlowPolicy = field(default_factory=FlowPolicy)
    max_envelope: int = 268_435_456
    """Octets that one envelope of a child may have: the largest transaction that the other limits permit."""
    max_passed: int = 269_484_032
    """Octets that an envelope of the store may have, as it gives back what a child has sent, with what is known of it:
    what the parent tells the store, or a child, is as large at most, and their ends of the channels take it."""
    receive_memory: int = 268_435_456
    """Octets of the large envelopes that are being received from all children at the same time; one may have more."""
    shutdown_timeout_s: float = 10.0
    """From SIGTERM to the end of all processes. systemd's default is 90 s, Debian's start-stop-daemon is told 30 s."""


def _ignore() -> None:
    """Nobody wants to know."""


def _ignore_text(_text: str) -> None:
    """Nobody wants to read."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the command wants to be told of, for the service manager and the logs."""

    ready: Callable[[], None] = _ignore
    """Connections are accepted."""
    stopping: Callable[[], None] = _ignore
    """The end has begun."""
    status: Callable[[str], None] = _ignore_text
    """A line about the state, once a second at most, when it has changed."""
    beat: Callable[[], None] = _ignore
    """The loop turns: called about once a second."""
    reopen_logs: Callable[[], None] = _ignore
    """SIGUSR1 or SIGHUP came."""
    close_listener: Callable[[socket.socket], None] = socket.socket.close
    """Nobody is accepted any more: close a listener, and remove its path if it has one and made it."""
    log_descriptors: Callable[[], Sequence[int]] = tuple
    """The descriptors that a child needs for its own last words."""


#: Kinds that are the router's alone, for each state of a child: one look-up for an envelope on the hot path. The
#: others go through `Parent._heed`.
_ROUTED = {
    state: frozenset(kind for kind, permission in FROM_CHILD.items() if state in permission.states) - HEEDED
    for state in State
}


class Parent:
    """All that the parent process knows."""

    def __init__(
        self,
        loop: Loop,
        listeners: Sequence[socket.socket],
        router: Routes,
        client: ClientProgram,
        store: StoreProgram,
        policy: ParentPolicy,
        refusal: Callable[[str], bytes],
        logger: logging.Logger,
        hooks: Hooks | None = None,
    ) -> None:
        """Take over `loop` and `listeners` (sockets that listen). Nothing happens before `run`.

        `client` is forked for each client, `store` once, and again when it ends. `refusal` makes of a reason the
        octets that a client is sent who can't have a process.

        A long function, as it is the list of the parent's parts and of who is told what.
        """
        self._loop = loop
        self._router = router
        self._logger = logger
        self._hooks = hooks or Hooks()
        self._interval_s = policy.flow.check_interval_s
        self._silence_s = policy.flow.check_interval_s * policy.flow.stuck_checks
        self._silent: set[Child] = set()
        self._reachable: dict[Peer, Child] = {}
        self._touched: set[Child] = set()
        self._deadline: Deadline | None = None
        self._crash_at = ""
        self._admission = Admission(policy.admission, source_of, loop.now)
        self._keeper = Keeper(
            loop,
            store,
            StoreEvents(
                started=self._store_started,
                said=lambda envelope: router.receive_stored(envelope, loop.now),
                opened=self._open,
                closed=self._store_closed,
                send=self._send,
                failed=self._fail_to_start,
                lost=self._lose_store,
                is_applied=lambda: router.is_applied,
                finished=loop.stop,
            ),
            logger,
            max_envelope=policy.max_passed,
            high=policy.flow.high,
            log_descriptors=self._hooks.log_descriptors,
        )
        self._budget = Budget(policy.receive_memory)
        self._supervisor = Supervisor(
            loop,
            client,
            self._admission,
            Events(self._started, self._drain, self._gone, self._keeper.ended),
            logger,
            max_envelope=policy.max_envelope,
            budget=self._budget,
            high=policy.flow.high,
            log_descriptors=self._hooks.log_descriptors,
        )
        self._listeners = Listeners(
            loop,
            listeners,
            opens_at=self._admission.opens_at,
            accepted=self._accepted,
            close=self._hooks.close_listener,
            logger=logger,
        )
        self._refusals = Refusals(loop, refusal, logger)
        self._flow = Flow(loop, policy.flow, self._budget, self._send)
        self._start_error: StartError | None = None
        self._exit_status = Exit.OK
        self._shutdown = Shutdown(
            loop,
            self._supervisor,
            timeout_s=policy.shutdown_timeout_s,
            begin=self._begin_to_end,
            finish=self._keeper.finish,
            is_committed=lambda: router.is_committed,
            send=self._send,
            logger=logger,
        )
        self._listing = Listing(loop, router.describe, logger)
        self._status = Status(self._listeners.names, self._hooks.status)
        self._heeded: dict[Kind, Callable[[Child, Envelope], None]] = {
            Kind.CONNECTED: self._heed_connected,
            Kind.LEAVING: self._heed_leaving,
            Kind.QUIESCED: self._heed_quiesced,
            Kind.CONGESTED: lambda child, _: self._flow.congested(child),
            Kind.RELIEVED: lambda child, _: self._flow.relieved(child),
        }

    def run(self) -> int:
        """Serve until a signal ends it; the exit status.

        Raises:
            StartError: the store can't be opened.

        Whatever else goes wrong in here ends the broker, not just this turn: a router in an unknown state could lose or
        double messages. The children see the end of their channels, and end too.
        """
        signals = Signals(self._loop, self._callbacks())
        collector.settle()
        try:
            self._loop.at_turn_end(self._end_turn)
            self._keeper.start()
            self._loop.run()
        except Exception:
            self._logger.exception("the parent ends by an exception that nobody expected")
            return Exit.SOFTWARE
        finally:
            self._listeners.close()
            self._refusals.close()
            for child in list(self._reachable.values()):
                child.channel.close()
            signals.close()
        if self._start_error is not None:
            raise self._start_error
        self._log_notes()
        self._logger.info("ended")
        return self._exit_status

    def _callbacks(self) -> dict[signal.Signals, Callable[[], None]]:
        return {
            signal.SIGCHLD: self._supervisor.reap,
            signal.SIGTERM: self._shutdown.ask,
            signal.SIGINT: self._shutdown.ask,
            signal.SIGQUIT: self._shutdown.at_once,
            signal.SIGUSR1: self._hooks.reopen_logs,
            signal.SIGHUP: self._hooks.reopen_logs,
            signal.SIGUSR2: self._listing.start,
        }

    def _open(self) -> None:
        """The store is open, and what it has is known: clients may come."""
        if self._shutdown.phase is Phase.RUNNING:
            self._listeners.open()
            self._housekeep()
            self._hooks.ready()

    def _fail_to_start(self, reason: str, status: Exit) -> None:
        self._start_error = StartError(f"the store can't be opened: {reason}", status)
        self._loop.stop()

    def _lose_store(self, reason: str, status: Exit) -> None:
        self._logger.error("ends at once, the store is lost: %s", reason)
        self._exit_status = status
        self._loop.stop()

    # -- the store

    def _store_started(self, child: Child) -> None:
        self._reachable[child.peer] = child
        self._loop.watch(child.fd, self._read_store, lambda: self._flush(child))

    def _read_store(self) -> None:
        self._keeper.read()
        # Nobody is held for what the store says: it has to be heard by all.
        self._dispatch(None)

    def _store_closed(self, child: Child, reason: str) -> None:
        self._loop.forget(child.fd)
        self._flow.gone(child)
        self._reachable.pop(child.peer, None)
        self._touched.discard(child)
        self._router.store_ended(reason)
        self._dispatch(None)

    # -- connections and children

    def _accepted(self, connection: socket.socket, address: str, host: str) -> None:
        reason = self._admission.refusal(host, self._loop.now)
        if reason:
            self._refusals.refuse(connection, address, reason)
            return
        self._make_place()
        try:
            self._supervisor.start(connection, address, host)
        except OSError as error:
            self._logger.error("cannot fork a child for %s: %s", address, error.strerror)
            self._admission.fork_failed(self._loop.now)
            self._refusals.refuse(connection, address, f"the broker has no room for a process: {error.strerror}")

    def _make_place(self) -> None:
        """Disconnect the client that has not logged in for the longest time, if only so another one can try."""
        oldest = self._admission.take_overdue_login()
        child = None if oldest is None else self._reachable.get(oldest)
        if child is not None:
            self._send(child, pack(Kind.CLOSE, block=_NO_LOGIN))

    def _started(self, child: Child) -> None:
        self._reachable[child.peer] = child
        self._router.add_peer(child.peer)
        self._loop.watch(child.fd, lambda: self._read(child), lambda: self._flush(child))

    def _drain(self, child: Child) -> None:
        """The child's process has ended: apply what it still said.

        Normally that ends with the channel's EOF. If a process of the child's own still holds the other end, there
        is none; then what it says is of no interest.
        """
        poll = select.poll()
        poll.register(child.fd, select.POLLIN)
        child.channel.insist()
        while not child.is_closed and poll.poll(0):
            self._read(child)
        if not child.is_closed:
            self._close(child)

    def _close(self, child: Child) -> None:
        self._flow.gone(child)
        self._reachable.pop(child.peer, None)
        self._touched.discard(child)
        if child.state is State.LEAVING:
            # It has closed its end and only waits for its client to go: what is unsettled need not wait for that.
            self._router.peer_ended(child.peer, self._loop.now)
            self._dispatch(None)
        self._supervisor.close_channel(child)

    def _gone(self, child: Child) -> None:
        if child.state is not State.LEAVING:
            self._router.peer_ended(child.peer, self._loop.now, describe_crash(child))
            self._dispatch(None)
        self._shutdown.gone(child)

    # -- envelopes

    def _read(self, child: Child) -> None:
        """Apply what one read of the child's channel brings, or as much of it as a turn permits."""
        self._blame(child, self._receive)
        if self._router.is_waiting(child.peer) and not child.is_closed:
            self._flow.overtaxed(child)

    def _receive(self, child: Child) -> None:
        envelopes = child.channel.receive()
        if envelopes:
            self._apply(child, envelopes)

    def _go_on(self) -> None:
        """Apply more of what was too much for one turn. What is left of a child that is gone has nobody to blame."""
        for peer in self._router.waiting:
            child = self._reachable.get(peer)
            if child is None:
                self._router.go_on(peer, self._loop.now)
                self._dispatch(None)
            else:
                self._blame(child, self._apply_more)

    def _apply_more(self, child: Child) -> None:
        try:
            self._router.go_on(child.peer, self._loop.now)
        finally:
            self._dispatch(child)
        if not self._router.is_waiting(child.peer):
            self._flow.caught_up(child)

    def _blame(self, child: Child, work: Callable[[Child], None]) -> None:
        """Do something that the child has asked for: what goes wrong is its end, and nobody else's."""
        try:
            work(child)
        except (EnvelopeError, AssertionError) as error:
            self._logger.error("%s: broke the contract between processes, killed: %s", child.name, error)
            self._end(child)
        except MemoryError:
            self._logger.error("%s: killed, there is no memory for what its client sends", child.name)
            self._end(child)
        except Exception:
            # a fault of ours, but it was this child's words that met it: the others need not pay for that
            self._logger.exception("%s: killed, what it sent led to an exception that nobody expected", child.name)
            self._end(child)
        else:
            self._make_room(child)
            if child.channel.closed:
                self._close(child)

    def _make_room(self, child: Child) -> None:
        """If what was received has been applied, let others have its memory; or wait for it."""
        if self._router.is_waiting(child.peer):
            return
        if child.channel.holds_room:
            child.channel.give_back()
        elif child.channel.is_waiting:
            self._flow.starved(child)

    def _end(self, child: Child) -> None:
        """What the child sends is not to be heeded any more."""
        self._supervisor.kill(child)
        self._close(child)

    def _apply(self, child: Child, envelopes: list[Envelope]) -> None:
        """Route what a child says. The hot path: nothing here but look-ups in tables."""
        peer, receive, now = child.peer, self._router.receive, self._loop.now
        routed = _ROUTED[child.state]
        try:
            for envelope in envelopes:
                if envelope.kind in routed:
                    receive(peer, envelope, now)
                else:
                    # What follows from earlier envelopes is queued first: no CLOSE overtakes the last message.
                    self._dispatch(child)
                    self._heed(child, envelope)
                    routed = _ROUTED[child.state]
        finally:
            self._dispatch(child)
            if crash is not None and any(envelope.kind is Kind.SETTLE for envelope in envelopes):
                self._crash_at = "parent.settled"

    def _dispatch(self, cause: Child | None) -> None:
        """Queue what the router wants to be sent, as far as its receivers are still there. The hot path, too."""
        reachable, touch = self._reachable.get, self._touched.add
        for peer, buffers in self._router.take():
            if crash is not None:
                self._crash_at = _CRASH_AFTER.get(buffers[0][KIND_AT], self._crash_at)
            child = reachable(peer)
            if child is not None:
                channel = child.channel
                channel.send(buffers)
                touch(child)
                if channel.pending > child.high:
                    self._flow.exceeded(cause, child, buffers)

    def _send(self, child: Child, buffers: Sequence[Buffer]) -> None:
        child.channel.send(buffers)
        self._touched.add(child)

    def _heed(self, child: Child, envelope: Envelope) -> None:
        """An envelope that is for the parent itself, or not permitted at all."""
        kind = envelope.kind
        permission = FROM_CHILD.get(kind)
        if permission is None or child.state not in permission.states:
            raise EnvelopeError(f"{kind.name} is not permitted to a child that is {child.state.value}")
        check(envelope, OF_CHILD)
        self._heeded[kind](child, envelope)
        if permission.follows is not None:
            child.state = permission.follows

    def _heed_connected(self, child: Child, envelope: Envelope) -> None:
        child.login = to_text(envelope.destination)
        self._admission.connected(child.peer)
        self._logger.info("%s: connected", child.name)

    def _heed_quiesced(self, child: Child, _: Envelope) -> None:
        """The last one lets CLOSE go out: what follows from what the children sent up before is queued by then."""
        self._router.tick(self._loop.now)
        self._dispatch(None)
        self._shutdown.quiesced(child)

    def _heed_leaving(self, child: Child, envelope: Envelope) -> None:
        child.reason = to_text(envelope.block)
        child.received, child.delivered, child.dropped = envelope.number, envelope.serial, envelope.count
        child.wants_attention = bool(envelope.flags & Flag.WARNING)
        self._shutdown.quiesced(child)

    # -- time

    def _end_turn(self) -> None:
        """Once a turn: the router's time, then one gather write for each channel that something was queued for."""
        self._go_on()
        self._router.tick(self._loop.now)
        self._dispatch(None)
        self._end_culprits()
        self._shutdown.go_on()
        # what was received and is not written yet is in memory as well
        self._budget.pause(self._router.is_behind)
        self._flow.feed()
        touched, self._touched = self._touched, set()
        for child in touched:
            self._flush(child)
        if crash is not None and self._crash_at:
            crash(self._crash_at, "")
            self._crash_at = ""
        self._arm_deadline()

    def _end_culprits(self) -> None:
        for peer, reason in self._router.take_culprits():
            child = self._reachable.get(peer)
            if child is not None:
                self._logger.error("%s: broke the contract between processes, killed: %s", child.name, reason)
                self._end(child)

    def _flush(self, child: Child) -> None:
        is_done = child.channel.flush()
        if is_done is child.writing:
            child.writing = not is_done
            self._loop.want_writable(child.fd, child.writing)
        self._flow.flushed(child)

    def _arm_deadline(self) -> None:
        """See to it that there is a turn when the router wants one."""
        when, armed = self._router.deadline(), self._deadline
        if armed is not None and armed.when == when and armed.callback is not None:
            return
        if armed is not None:
            armed.cancel()
        self._deadline = None if when is None else self._loop.call_at(when, _ignore)

    def _housekeep(self) -> None:
        """About once a second: what need not be more exact."""
        for child in self._flow.check(self._supervisor.children):
            self._logger.warning("%s: %s, killed", child.name, self._flow.describe_stuck(child))
            self._supervisor.kill(child)
        self._end_silent()
        self._log_notes()
        phase = self._shutdown.phase
        note = "" if phase is Phase.RUNNING else "shutting down"
        self._status.refresh(self._admission.clients, note)
        self._hooks.beat()
        self._loop.call_at(self._loop.now + self._interval_s, self._housekeep)

    def _log_notes(self) -> None:
        for note in self._router.take_notes():
            self._logger.warning("%s", note)

    def _end_silent(self) -> None:
        """Kill who doesn't answer offers.

        Only whom two checks in a row find silent: after a stop of the parent itself, or a hold, the answers may be
        there already and want to be read.
        """
        found = map(self._reachable.get, self._router.find_silent(self._loop.now - self._silence_s))
        silent = {child for child in found if child and not child.killed and not self._flow.is_held(child)}
        for child in silent & self._silent:
            self._logger.warning("%s: has not answered an offer for %.0f s, killed", child.name, self._silence_s)
            self._supervisor.kill(child)
        self._silent = silent

    def _begin_to_end(self) -> None:
        self._listeners.close()
        self._router.stop_offers()
        self._hooks.stopping()
