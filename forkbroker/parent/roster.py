"""What the parent knows of each process, and the lines that it logs about it.

`Process` is what every process of the broker has: a channel, a number, an end. `Client` is what a client's child has
besides: an address, a login, figures.

A process's word is a hint, this table the truth. A peer's number is never used again while the parent lives, so it
serves as the generation too: a report that names an earlier peer can't be taken for a later one, although the kernel
gives process numbers out again. (A helper's number is its role's: nobody names it but the router.)
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from forkbroker.hosts import DEFAULT
from forkbroker.identity import NOBODY, Identity
from forkbroker.posix import exits
from forkbroker.posix.children import Ended
from forkbroker.posix.printable import printable
from forkbroker.routing.peers import Peer
from forkbroker.wire.channel import Channel
from forkbroker.wire.kinds import ChildState, Role


@dataclass(slots=True, eq=False, kw_only=True)
class Process:
    """One process, from its fork until both it and its channel have ended."""

    role: Role
    peer: Peer
    pid: int
    channel: Channel
    fd: int = field(init=False)
    """The channel's descriptor: still known when the channel is closed."""
    started: float
    high: int = 0
    """Octets pending in the channel above which whoever causes more is held back; negative when a client's child said
    that its client does not read. `flow` sets it."""
    writing: bool = False
    """The selector watches for room in the channel."""
    killed: bool = False
    """Killed by the parent, who has logged why: its end is no news."""
    is_orphan: bool = False
    """Whoever had forked it is gone before it: nobody will tell how it ends."""
    is_closed: bool = False
    """The channel has ended, and all it said was applied."""
    ended: Ended | None = None
    """How the process ended, once it was reaped."""
    reason: str = ""
    """Why it ends, in its own words."""

    def __post_init__(self) -> None:
        self.fd = self.channel.fileno()

    @property
    def name(self) -> str:
        """What every log line about this process starts with."""
        return self.role.value


@dataclass(slots=True, eq=False, kw_only=True)
class Client(Process):
    """One client's child."""

    role: Role = Role.CLIENT
    address: str
    """The client's address, for log lines: `127.0.0.1:40112`."""
    host: str
    """The client's address without its port; empty for a Unix socket."""
    is_proxied: bool = False
    """A proxy is to say whose client this is; `address` and `host` are the proxy's until then."""
    is_web: bool = False
    """It speaks HTTP, or WebSocket: likely a browser, which comes back by itself."""
    state: ChildState = ChildState.STARTING
    login: str = ""
    identity: Identity = NOBODY
    """Of a client that has logged in."""
    virtual_host: str = DEFAULT
    """The key of the one that it has connected to (`forkbroker.hosts`)."""
    edition: int = 0
    """Of the permissions that its process has had from its beginning."""
    has_connected: bool = False
    """The client has got CONNECTED: it is more than a look whether the port is open."""
    received: int = 0
    delivered: int = 0
    dropped: int = 0
    wants_attention: bool = False
    """LEAVING came with `Flag.WARNING`."""
    checks_without_progress: int = 0
    received_of_large: int | None = None
    """Octets of a large envelope that had come at the last check."""
    checks_without_octets: int = 0
    """Checks in which no more of them came, and others waited."""
    flushed: int = 0
    """What the channel had flushed at the last check."""

    @property
    def name(self) -> str:
        """What every log line about this client starts with: `client 7 127.0.0.1:40112 alice`."""
        return f"client {self.peer} {self.address} {self.login}".rstrip()


def has_crashed(child: Client) -> bool:
    """Whether this child, which has ended, did so otherwise than by telling why and exiting with status 0."""
    return child.state is not ChildState.LEAVING or (child.ended is not None and child.ended.status != 0)


def describe_crash(child: Client) -> str:
    """How the process of this child ended, if it crashed of itself; else nothing."""
    return _describe_crash(child.ended) if has_crashed(child) and not child.killed else ""


def show_client(child: Client) -> dict[str, Any]:
    """Who it is, for JSON."""
    return {
        "client": child.peer,
        "login": child.login,
        "address": child.address,
        "host": child.virtual_host,
        "pid": child.pid,
    }


def show_end(child: Client, now: float) -> dict[str, Any]:
    """What `describe_end` says, for JSON."""
    is_crash = has_crashed(child)
    return {
        **show_client(child),
        "reason": _describe_crash(child.ended) if is_crash else child.reason,
        "crashed": is_crash,
        "killed": child.killed,
        "seconds": round(now - child.started, 1),
        "received": child.received,
        "delivered": child.delivered,
        "dropped": child.dropped,
    }


def describe_end(child: Client, now: float) -> str:
    """The one line about the end of a child."""
    spent = f"{now - child.started:.0f} s"
    if has_crashed(child):
        return f"{child.name}: {_describe_crash(child.ended)}, {spent}, {_describe_use(child.ended)}"
    counts = f"{child.received:,} in, {child.delivered:,} out"
    if child.dropped:
        counts += f", {child.dropped:,} dropped"
    return f"{child.name}: disconnected, {child.reason}, {spent}, {counts}, {_describe_use(child.ended)}"


def _describe_crash(ended: Ended | None) -> str:
    if ended is None:
        return "lost"
    if ended.status == 0:
        return "exited without reporting a reason"
    return f"ended {'by' if os.WIFSIGNALED(ended.status) else 'with'} {exits.describe(ended.status)}"


def _describe_use(ended: Ended | None) -> str:
    if ended is None:
        return "use unknown"
    return f"cpu {ended.cpu_s:.1f} s, peak {ended.peak_kib // 1024} MiB"


def count_clients(number: int) -> str:
    """`1 client`, `2 clients`."""
    return f"{number:,} client{'' if number == 1 else 's'}"


def to_text(octets: bytes) -> str:
    """What a process says about itself or its client, made fit for one line of a log."""
    return printable(octets.decode("utf-8", "replace"))
