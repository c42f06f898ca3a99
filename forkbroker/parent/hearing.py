"""What clients' children say: most of it is the router's, some of it the parent's own.

The hot path: what is done here for each envelope is one look-up in a table (`forkbroker.wire.kinds` says which kinds a
child may send in which state) and one call of the router.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from forkbroker.errors import EnvelopeError
from forkbroker.hosts import DEFAULT
from forkbroker.identity import Identity, Way
from forkbroker.parent.admission import Admission
from forkbroker.parent.channels import Channels
from forkbroker.parent.entitling import Entitling
from forkbroker.parent.roster import Client, show_client, to_text
from forkbroker.parent.tails import Tails
from forkbroker.posix.addresses import name_client
from forkbroker.posix.crashpoints import reach as crash
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.fields import OF_CHILD, check
from forkbroker.wire.kinds import FROM_CHILD, HEEDED, Cause, ChildState, Flag, Kind

NO_USER = "the user may not log in any more"
"""The reason of an end."""
_STALE = "the configuration has changed since you connected, log in again"

#: Kinds that are the router's alone, for each state of a child: one look-up for an envelope on the hot path. The
#: others go through `Hearing._heed`.
_ROUTED = {
    state: frozenset(kind for kind, permission in FROM_CHILD.items() if state in permission.states) - HEEDED
    for state in ChildState
}


class Kick(Protocol):
    """Disconnects a client, for this reason."""

    def __call__(self, child: Client, reason: str, cause: Cause = ...) -> None:
        """As `forkbroker.parent.clients.Clients.kick`."""


class Hearing:
    """Applies what children say."""

    def __init__(
        self,
        channels: Channels,
        admission: Admission,
        entitling: Entitling,
        tails: Tails,
        quiet: Callable[[Client], None],
        login_failed: Callable[[Client], None],
        kick: Kick,
        logger: logging.Logger,
    ) -> None:
        """`quiet`: a child has sent up all that it is going to send. `login_failed`: its client is not let in."""
        self._channels = channels
        self._loop = channels.loop
        self._router = channels.router
        self._dispatch = channels.dispatch
        self._flow = channels.flow
        self._admission = admission
        self._entitling = entitling
        self._quiet = quiet
        self._login_failed = login_failed
        self._kick = kick
        self._logger = logger
        self._heeded: dict[Kind, Callable[[Client, Envelope], None]] = {
            Kind.ADDRESS: self._addressed,
            Kind.CONNECTED: self._connected,
            Kind.LEAVING: self._leaving,
            Kind.QUIESCED: self._quiesced,
            Kind.CONGESTED: lambda child, _: self._flow.congested(child),
            Kind.RELIEVED: lambda child, _: self._flow.relieved(child),
            Kind.TRACED: tails.heard,
        }

    def receive(self, child: Client) -> None:
        """Apply what one read of the child's channel brings, or as much of it as a turn permits.

        Raises AssertionError or EnvelopeError if the child says what it may not, or what can't be.
        """
        envelopes = child.channel.receive()
        if envelopes:
            self._apply(child, envelopes)
        channel = child.channel
        if child.peer in self._router.waiting:
            self._flow.overtaxed(child)
        elif channel.holds_room or channel.is_waiting:
            self._make_room(child)

    def go_on(self, child: Client) -> None:
        """Apply more of what was too much for one turn. Raises AssertionError or EnvelopeError as `receive`."""
        try:
            self._router.go_on(child.peer, self._loop.now)
        finally:
            self._dispatch(child)
        if child.peer not in self._router.waiting:
            self._flow.caught_up(child)
            self._make_room(child)

    def _apply(self, child: Client, envelopes: list[Envelope]) -> None:
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
            if self._router.out:
                self._dispatch(child)
            if crash is not None and any(envelope.kind is Kind.SETTLE for envelope in envelopes):
                self._channels.crash_at_turn_end("parent.settled")

    def _make_room(self, child: Client) -> None:
        """What was received has been applied: let others have its memory; or wait for it."""
        if child.channel.holds_room:
            child.channel.give_back()
        elif child.channel.is_waiting:
            self._flow.starved(child)

    def _heed(self, child: Client, envelope: Envelope) -> None:
        """An envelope that is for the parent itself, or not permitted at all."""
        kind = envelope.kind
        permission = FROM_CHILD.get(kind)
        if permission is None or child.state not in permission.states:
            raise EnvelopeError(f"{kind.name} is not permitted to a child that is {child.state.value}")
        check(envelope, OF_CHILD)
        self._heeded[kind](child, envelope)
        if permission.follows is not None:
            child.state = permission.follows

    def _connected(self, child: Client, envelope: Envelope) -> None:
        child.login = to_text(envelope.destination)
        host, *groups = bytes(envelope.block).decode(errors="replace").split("\n")
        child.virtual_host = to_text(host.encode()) or DEFAULT
        is_administrator = bool(envelope.count)
        child.identity = Identity(child.login, Way(envelope.token), tuple(groups), is_administrator=is_administrator)
        child.has_connected = True
        self._admission.connected(child.peer)
        where = "" if child.virtual_host == DEFAULT else f", host {child.virtual_host}"
        self._logger.info("%s: connected%s", child.name, where)
        if self._router.news.listeners:
            self._router.news.tell("connect", **show_client(child))
        self._router.allot(child.login, *self._entitling.find_allotment(child.identity), child.peer)
        excess = self._entitling.arrive(child)
        if not self._admission.is_user(child.identity):
            # its process has verified the login with the users of before
            self._kick(child, NO_USER)
        elif self._admission.is_stale(child.peer, child.identity):
            self._kick(child, _STALE)
        elif refusal := self._entitling.find_refusal(child):
            # it is a process from before a reload
            self._kick(child, refusal)
        elif excess:
            self._kick(child, excess, Cause.FULL)
        elif rights := self._entitling.find_news(child):
            self._channels.send(child, pack(Kind.RIGHTS, block=rights))

    def _addressed(self, child: Client, envelope: Envelope) -> None:
        if not child.is_proxied:
            raise EnvelopeError("ADDRESS of a client that no proxy has brought")
        child.is_proxied = False
        child.host = to_text(envelope.destination)
        child.address = name_client(child.host, envelope.number)
        reason = self._admission.move(child.peer, child.host, self._loop.now)
        if reason:
            self._kick(child, reason, Cause.FULL)

    def _quiesced(self, child: Client, _: Envelope) -> None:
        """The last one lets CLOSE go out: what follows from what the children sent up before is queued by then."""
        self._router.tick(self._loop.now)
        self._dispatch(None)
        self._quiet(child)

    def _leaving(self, child: Client, envelope: Envelope) -> None:
        child.reason = to_text(envelope.block)
        child.received, child.delivered, child.dropped = envelope.number, envelope.serial, envelope.count
        child.wants_attention = bool(envelope.flags & Flag.WARNING)
        if child.wants_attention and not child.has_connected:
            self._admission.suspect(child.peer, self._loop.now)
        if envelope.token and not child.has_connected:
            self._login_failed(child)
        self._quiet(child)
