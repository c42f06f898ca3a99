"""The clients' children: given their clients, heard, watched, and told of when they are gone.

What a child says is applied in `hearing`; whether there may be one more is asked before, in `reception`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from forkbroker.identity import Identity
from forkbroker.parent.admission import Admission
from forkbroker.parent.channels import Channels
from forkbroker.parent.entitling import Entitling
from forkbroker.parent.hearing import NO_USER, Hearing
from forkbroker.parent.listener import Connection
from forkbroker.parent.processes import Life, Processes
from forkbroker.parent.roster import Client, describe_crash, describe_end, has_crashed, show_end
from forkbroker.parent.tails import Tails
from forkbroker.permissions import Permissions
from forkbroker.posix.children import Ended
from forkbroker.routing.peers import Peer
from forkbroker.wire.channel import Channel
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Cause, ChildState, Kind


class Source(Protocol):
    """Where children come from."""

    def give(self, client: Connection, peer: Peer) -> tuple[int, Channel]:
        """Give a client to a child, with its socket: the process, and the channel to it. Raises OSError."""

    def closed(self, pid: int) -> None:
        """The channel of this child has ended."""

    def kill(self, pid: int) -> None:
        """End this child at once. It is not known to have been reaped."""


class Clients:
    """All clients' children."""

    def __init__(
        self,
        channels: Channels,
        admission: Admission,
        source: Source,
        entitling: Entitling,
        quiet: Callable[[Client], None],
        logger: logging.Logger,
    ) -> None:
        """`quiet`: nothing more will come from a child, or it has said so."""
        self._channels = channels
        self._loop = channels.loop
        self._router = channels.router
        self._admission = admission
        self._source = source
        self._entitling = entitling
        self._quiet = quiet
        self._logger = logger
        self.tails = Tails(channels)
        """Who looks at which client's frames."""
        self._hearing = Hearing(
            channels, admission, entitling, self.tails, quiet, self._login_failed, self.kick, logger
        )
        life = Life(self._hearing.receive, self._closed, self._gone, source.kill, blamed_for=(Exception,))
        self._processes = Processes(channels, life, logger)
        self._last_peer = 0
        self._silent: set[Client] = set()
        self._kicked: dict[Client, int] = {}
        """Those that were told to end and have not, and in how many checks."""
        self._octets = [0, 0]
        """Of channels that have ended: received, sent."""
        self.ended = 0
        """Processes that have ended."""
        self.cpu_s = 0.0
        """Processor time of these."""

    @property
    def all(self) -> list[Client]:
        """All children that are not gone."""
        return self._processes.all

    def find(self, peer: Peer) -> Client | None:
        """The child with this number, if its channel is open."""
        return self._processes.find(peer)

    # -- birth and death

    def start(self, client: Connection) -> None:
        """Give a client to a child, and close the parent's copy of its socket.

        Raises:
            OSError: no descriptors, no memory or no process to be had; the socket is still the caller's.
        """
        self._last_peer += 1
        peer = Peer(self._last_peer)
        pid, channel = self._source.give(client, peer)
        client.socket.close()
        now = self._loop.now
        # a proxy's client counts when it is known where it is; until then it has had a turn of the proxy
        origin = self._admission.origin_of(client.host)
        host = "" if client.is_proxied or client.is_forwarded else client.host
        self._admission.add(peer, host, now, origin=origin)
        child = Client(
            peer=peer,
            pid=pid,
            channel=channel,
            address=client.address,
            host=client.host,
            started=now,
            edition=self._entitling.edition,
            is_proxied=client.is_proxied or client.is_forwarded,
            is_web=client.is_web,
        )
        self._router.add_peer(peer)
        self._processes.add(child)

    def reaped(self, ended: Ended) -> None:
        """A process has ended: it may be one of these."""
        self._processes.reaped(ended)

    def orphaned(self, pids: Iterable[int]) -> None:
        """Nobody will tell how these processes end: some of them may be clients' children."""
        self._processes.orphaned(pids)

    @property
    def octets(self) -> tuple[int, int]:
        """That came from all children since the start, and went to them."""
        channels = [child.channel for child in self.all if not child.is_closed]
        return (
            self._octets[0] + sum(channel.taken for channel in channels),
            self._octets[1] + sum(channel.flushed for channel in channels),
        )

    def _closed(self, child: Client) -> None:
        self._octets[0] += child.channel.taken
        self._octets[1] += child.channel.flushed
        self._source.closed(child.pid)
        self._kicked.pop(child, None)
        self.tails.gone(child)
        child.checks_without_progress = 0
        if child.state is ChildState.LEAVING:
            # It has closed its end and only waits for its client to go: what is unsettled need not wait for that.
            self._router.peer_ended(child.peer, self._loop.now)
            self._channels.dispatch(None)

    def _gone(self, child: Client, ended: Ended | None) -> None:
        self.ended += 1
        self.cpu_s += ended.cpu_s if ended is not None else 0.0
        if has_crashed(child) and not child.killed and child.state is ChildState.STARTING:
            self._admission.crashed(child.peer, self._loop.now)
        self._admission.remove(child.peer)
        if child.has_connected:
            self._entitling.leave(child)
        self._log_end(child)
        if child.state is not ChildState.LEAVING:
            self._router.peer_ended(child.peer, self._loop.now, describe_crash(child))
            self._channels.dispatch(None)
        self._quiet(child)

    def _log_end(self, child: Client) -> None:
        level = logging.INFO
        if has_crashed(child):
            level = logging.INFO if child.killed else logging.ERROR
        elif child.wants_attention:
            level = logging.WARNING
        elif not child.has_connected:
            level = logging.DEBUG  # a health check connects every few seconds, and says nothing
        self._logger.log(level, "%s", describe_end(child, self._loop.now))
        if self._router.news.listeners and child.has_connected:
            self._router.news.tell("disconnect", **show_end(child, self._loop.now))

    def kill_all(self) -> None:
        """End all children at once."""
        for child in self.all:
            self._processes.kill(child)

    def kick(self, child: Client, reason: str, cause: Cause = Cause.DENIED) -> None:
        """Disconnect a client; its process is killed if it does not end soon: it may be stopped, and read nothing."""
        self._channels.send(child, pack(Kind.CLOSE, token=cause, block=reason.encode(errors="surrogateescape")))
        self._kicked.setdefault(child, 0)

    def _login_failed(self, child: Client) -> None:
        """A login has failed: too many from one address end the others that are on their way there."""
        self._admission.login_failed(child.peer, self._loop.now)
        reason, fellows = self._admission.find_fellows(child.peer, self._loop.now)
        for fellow in filter(None, map(self.find, fellows)):
            if fellow is not child:
                self.kick(fellow, reason, Cause.FULL)

    def expel(self, *, were_proven: bool) -> None:
        """Disconnect those that may not be here any more, as the users have changed.

        `were_proven`: there were users before. Without, a login was only a name, and so is one that is still to come.
        """
        is_user = self._admission.is_user
        for child in self.all:
            is_lost = not is_user(child.identity) if child.has_connected else not were_proven
            is_claimed = bool(child.login) and not were_proven
            if (is_lost or is_claimed) and self.find(child.peer) is not None:
                self.kick(child, NO_USER)

    def allot(self) -> None:
        """Tell the router what users may have that have something there, whether they are connected or not."""
        for user in self._router.allotted():
            self._router.allot(user, *self._entitling.find_allotment(Identity(user)))

    def entitle(self, permissions: Permissions) -> None:
        """Tell the processes of clients what these may do, where that is something else from now on.

        Who may not be connected to its virtual host any more is disconnected.
        """
        find_changed, find_allotment = self._entitling.adopt(permissions), self._entitling.find_allotment
        self.allot()
        for child in self.all:
            if child.state is ChildState.CONNECTED and self.find(child.peer) is not None:
                self._router.allot(child.login, *find_allotment(child.identity), child.peer)
                rights, refusal = find_changed(child), self._entitling.find_refusal(child)
                if refusal:
                    self.kick(child, refusal)
                elif rights:
                    self._channels.send(child, pack(Kind.RIGHTS, block=rights))

    # -- in each turn

    def go_on(self) -> None:
        """Apply more of what was too much for one turn. What is left of a child that is gone has nobody to blame."""
        for peer in list(self._router.waiting):
            child = self.find(peer)
            if child is None:
                self._router.go_on(peer, self._loop.now)
                self._channels.dispatch(None)
            else:
                self._processes.blame(child, self._hearing.go_on)

    def end_culprits(self) -> None:
        """End those that have sent what they may not, as has shown only now."""
        culprits = self._router.culprits
        while culprits:
            peer, reason = culprits.popitem()
            child = self.find(peer)
            if child is not None:
                self._processes.convict(child, reason)

    def log_rejected(self) -> None:
        """Say whose NACKs have made dead letters."""
        for peer, told in self._router.rejected:
            # its channel may have ended in the same turn
            child = self.find(peer) or next((child for child in self.all if child.peer == peer), None)
            self._logger.info("%s: %s", f"client {peer}" if child is None else child.name, told)
        self._router.rejected.clear()

    # -- about once a second

    def check(self) -> None:
        """Kill those that keep others waiting."""
        flow = self._channels.flow
        for child in flow.check(self.all):
            self._kill(child, flow.describe_stuck(child))
        self._check_kicked()
        self._check_silent()

    def _check_kicked(self) -> None:
        """Kill those that were told to end and don't. What one of them says while it is held has not been heard."""
        flow = self._channels.flow
        for child, checks in list(self._kicked.items()):
            if flow.is_held(child) or child.killed:
                continue
            self._kicked[child] = checks + 1
            if checks >= flow.stuck_checks:
                self._kill(child, f"did not end within {flow.patience_s:.0f} s")

    def _check_silent(self) -> None:
        """Kill those that don't answer offers.

        Only those that two checks in a row find silent: after a stop of the parent itself, or a hold, the answers may
        be there already and want to be read.
        """
        flow = self._channels.flow
        found = map(self.find, self._router.find_silent(self._loop.now - flow.patience_s))
        silent = {child for child in found if child and not child.killed and not flow.is_held(child)}
        for child in silent & self._silent:
            self._kill(child, f"has not answered an offer for {flow.patience_s:.0f} s")
        self._silent = silent

    def _kill(self, child: Client, reason: str) -> None:
        self._logger.warning("%s: killed, %s", child.name, reason)
        self._processes.kill(child)
