"""What the lobby may say: the answers to plain frames, made before the fork by the full program itself.

A *plain* frame has the headers that most clients send, once each, and values that mean the same in all versions of
STOMP. So what it is answered with depends on its version and on nothing else, but for the texts and numbers that are
put into their places. A frame that is not found here is the full program's.

- CONNECT: `Connecting` is asked with each list of versions, and the client's number takes the place of a sample's, as
  does the login where logins are verified. What CONNECTED says of heart-beats is what the broker can do.
- SUBSCRIBE: `Session` is asked for each prefix and `ack`, and the names take the places of samples. Where something is
  said of what users may do or have, the full program looks at it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from forkbroker.child.child import Shared
from forkbroker.identity import Identity
from forkbroker.session.connecting import Connecting
from forkbroker.session.session import Session
from forkbroker.session.setup import Setup
from forkbroker.stomp.errors import ProtocolError
from forkbroker.stomp.negotiation import agree_heart_beat, choose_version
from forkbroker.stomp.versions import Version
from forkbroker.wire.envelope import HEADER, Envelope, pack
from forkbroker.wire.fields import MAX_LOGIN
from forkbroker.wire.kinds import Kind

_MOST = 448
"""Octets of a plain frame. What is longer than the interpreter's own blocks comes from another part of the heap."""
_COMMANDS = (b"CONNECT", b"STOMP")
_SUBSCRIBE = (b"SUBSCRIBE",)
_NAMES = frozenset((b"accept-version", b"host", b"login", b"passcode", b"heart-beat"))
_SUBSCRIBE_NAMES = frozenset((b"id", b"destination", b"ack", b"receipt"))
_PLAIN = bytes(octet for octet in range(0x21, 0x7F) if octet not in b":\\")
"""Of values that mean the same in all versions: no colon, no backslash, no blank, no control octet."""
_PLAIN_NAME = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
"""Of a destination behind its prefix: what is no wildcard, and not the broker's own."""
_VERSIONS = ("1.0", "1.1", "1.2", "1.1,1.2", "1.2,1.1", "1.0,1.1", "1.1,1.0", "1.0,1.1,1.2", "1.2,1.1,1.0")
_PREFIXES = (b"/topic/", b"/queue/")
_PREFIX = 7
_MODES = (b"auto", b"client", b"client-individual")
MOST = 16
"""Subscriptions that may be made here. With more than that, a client has other plans than to wait."""
_MEMORY = 1_048_576
"""Of a client, at least, so that the subscriptions that are made here have room in it."""
_NO_BEATS = b"0,0"
NEVER = (0, 0)
"""The heart-beats of a client that has none."""
_SESSION, _LOGIN = "0123456789abcdef", "the-login"
_ID, _LOCAL, _RECEIPT = b"the-id", b"the-name", b"the-receipt"
_PACK, _HEADER = HEADER.pack, HEADER.size


Connected = tuple[bytes, bytes, bytes, tuple[int, int], bytes, bytes]
"""What a plain CONNECT means.

`accept-version`, the login, the passcode with which it has to be verified, or nothing; the heart-beats that are agreed
on (`Terms.heart_beat`); and CONNECTED before and behind the client's number.
"""
Subscribed = tuple[int, int, int, int, int, bytes, bytes, bytes, bytes]
"""What the full program says to a SUBSCRIBE, as far as it is the same for all of a kind.

Of the envelope for the parent: version, kind, flags, index, count, and its block before and behind the client's id, or
twice nothing if it has none. Then RECEIPT before and behind its id.
"""


class Answers:
    """What plain frames are answered with. Made before the fork."""

    def __init__(self, shared: Shared) -> None:
        limits, self._is_strict = shared.limits, shared.policy.strict
        permissions = shared.permissions
        self._hosts = permissions.hosts
        self._has_hosts = bool(permissions.hosts.all)
        self._heart_beat_ms = shared.policy.heart_beat_ms
        self._verifies = shared.verifier is not None
        self._of_version: dict[bytes, tuple[Version, bytes, bytes, bytes]] = {}
        self._of_subscribe: dict[bytes, Subscribed] = {}
        self.most = min(_MOST, limits.max_login_frame, limits.max_header_line)
        """Octets of what may be answered here."""
        if limits.max_command < len("SUBSCRIBE") or limits.max_headers < len(_NAMES):
            return
        is_free = permissions.grants is None and not permissions.quotas and not permissions.hosts.all
        has_room = shared.policy.max_client_memory >= _MEMORY and shared.policy.max_subscriptions >= MOST
        for versions in _VERSIONS:
            self._of_version[versions.encode()] = _ask(shared, versions)
            if not (is_free and has_room):
                continue
            for prefix in _PREFIXES:
                for mode in _MODES:
                    found = _ask_subscribe(shared, versions, prefix, mode)
                    if found is not None:
                        self._of_subscribe[b"%b%b%b" % (versions.encode(), prefix, mode)] = found

    @property
    def versions(self) -> Iterable[bytes]:
        """All that plain CONNECTs may give as `accept-version`; none, where the full program answers them all."""
        return self._of_version

    def find(self, octets: bytes) -> Connected | None:
        """What this CONNECT means; None: the full program has to answer."""
        headers = self._read(octets, _COMMANDS, _NAMES)
        if headers is None:
            return None
        versions = headers.get(b"accept-version", b"")
        found = self._of_version.get(versions)
        if found is None:
            return None
        if self._is_strict and b"host" not in headers:
            return None
        login, passcode = headers.get(b"login", b""), b""
        if len(login) > MAX_LOGIN:
            return None
        if self._has_hosts and not self._is_for_all(headers.get(b"host")):
            return None
        version, before, behind, end = found
        if self._verifies:
            passcode = headers.get(b"passcode", b"")
            if not login or not passcode:
                return None
            behind = b"%b%b%b" % (behind, login, end)
        value = headers.get(b"heart-beat", _NO_BEATS)
        beats = NEVER if value == _NO_BEATS else self._agree(version, value)
        return None if beats is None else (versions, login, passcode, beats, before, behind)

    def _agree(self, version: Version, value: bytes) -> tuple[int, int] | None:
        """The heart-beats of a client that asks for these; None: this is no such header."""
        try:
            return agree_heart_beat(version, value.decode(), self._heart_beat_ms)
        except ProtocolError:
            return None

    def _read(self, octets: bytes, commands: Container[bytes], names: Container[bytes]) -> dict[bytes, bytes] | None:
        """The headers of a plain frame that has one of these commands, and no headers but these; None: it is none."""
        block, end, rest = octets.partition(b"\n\n\0")
        if not end or (rest and rest != b"\n") or len(octets) > self.most:
            return None
        lines = block.split(b"\n")
        if lines.pop(0) not in commands:
            return None
        headers: dict[bytes, bytes] = {}
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or name not in names or name in headers or value.translate(None, _PLAIN):
                return None
            headers[name] = value
        return headers

    def _is_for_all(self, name: bytes | None) -> bool:
        """Whether this is the default host, and it is everybody's."""
        host = self._hosts.find(None if name is None else name.decode(), is_strict=self._is_strict)
        return host is not None and host.is_default and not host.is_limited

    def find_subscribe(
        self, octets: bytes, versions: bytes, token: int, fence: int
    ) -> tuple[bytes, bytes, bytes] | None:
        """The id, the envelope for the parent, with this token and this fence, and the RECEIPT behind it, if one is
        asked for; None: the full program has to answer.

        `versions`: what the client has given as `accept-version`.
        """
        headers = self._read(octets, _SUBSCRIBE, _SUBSCRIBE_NAMES)
        if headers is None or b"" in headers.values():
            return None
        destination = headers.get(b"destination", b"")
        local = destination[_PREFIX:]
        mode = headers.get(b"ack", b"auto")
        found = self._of_subscribe.get(b"%b%b%b" % (versions, destination[:_PREFIX], mode))
        if found is None or b"id" not in headers or not local or local.translate(None, _PLAIN_NAME):
            return None
        name = headers[b"id"]
        version, kind, flags, index, count, before_id, behind_id, before, behind = found
        opening = b"%b%b%b" % (before_id, name, behind_id) if before_id else b""
        size, length = len(destination), len(opening)
        head = _PACK(_HEADER + size + length, version, kind, flags, token, 0, index, count, fence, 0, size, 0, length)
        receipt = headers.get(b"receipt", b"")
        if receipt:
            receipt = b"%b%b%b" % (before, receipt, behind)
        return name, b"%b%b%b" % (head, destination, opening), receipt


def _begin(shared: Shared, versions: str) -> tuple[Connecting, Session | None]:
    """A client with these versions, and its session."""
    sessions: list[Session] = []
    permissions = shared.permissions
    client = Identity(_LOGIN)
    setup = Setup(
        shared.policy,
        shared.limits,
        _SESSION,
        bytes(32),
        shared.slots.try_acquire,
        None if shared.verifier is None else lambda _: client,
        rights_of=lambda client: permissions.rights_of(client, is_local=False),
    )
    connecting = Connecting(setup, sessions.append, 0.0)
    connecting.receive(f"CONNECT\naccept-version:{versions}\nhost:/\n\n\0".encode(), 0.0)
    return connecting, sessions[0] if sessions else None


def _ask(shared: Shared, versions: str) -> tuple[Version, bytes, bytes, bytes]:
    """The version for a client that has these ones, and what `Connecting` says to it: before its number, behind it, and
    behind its login, if that is said.
    """
    connecting, _ = _begin(shared, versions)
    version = choose_version(versions)
    assert version is not None
    before, _, rest = b"".join(connecting.unwritten.gather()).partition(_SESSION.encode())
    behind, _, end = rest.partition(_LOGIN.encode())
    return version, before + shared.session_prefix.encode(), behind, end


def _ask_subscribe(shared: Shared, versions: str, prefix: bytes, mode: bytes) -> Subscribed | None:
    """What `Session` says to a SUBSCRIBE; None: not what a plain one is answered with."""
    connecting, session = _begin(shared, versions)
    if session is None:
        return None
    upward, unwritten = connecting.upward, connecting.unwritten
    upward.take()
    unwritten.written(unwritten.pending, 0.0)
    lines = b"id:%b\ndestination:%b%b\nack:%b\nreceipt:%b\n" % (_ID, prefix, _LOCAL, mode, _RECEIPT)
    session.receive(b"SUBSCRIBE\n%b\n\0" % lines, 0.0)
    told = [Envelope(b"".join(buffers)) for buffers in upward.take()]
    if [one.kind for one in told] != [Kind.SUBSCRIBE] or not session.is_open or told[0].destination != prefix + _LOCAL:
        return None
    session.receive_envelope(Envelope(b"".join(pack(Kind.FENCED, number=told[0].number))), 0.0)
    fields = HEADER.unpack_from(told[0].raw)
    before_id, _, behind_id = told[0].block.partition(_ID)
    before, _, behind = b"".join(unwritten.gather()).partition(_RECEIPT)
    return fields[1], fields[2], fields[3], fields[6], fields[7], before_id, behind_id, before, behind
