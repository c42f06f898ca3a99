"""A connection before CONNECTED: what the client's first frame asks for, and what it is granted.

The three verbs are those of `Session`, so that the program around both need not know which of them it has. `begin` gets
the session as soon as CONNECT is answered. That may be in a later turn than the one that brought the frame: nothing
relies on the order but that the parser keeps what comes behind the first frame until the version is known (C15).

Until then a connection owes nobody anything: it has no fence, and its end is at once.

With users, CONNECT may have to wait for its answer: at first until the login can be verified, and after a failure for
a second, so that guessing takes time. Meanwhile the client is not read. What a client is told of a failure is the same
whatever was wrong; the log has the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from forkbroker.errors import EnvelopeError
from forkbroker.hosts import describe_refusal
from forkbroker.identity import Credentials, Identity, Unclear
from forkbroker.session.downward import Unwritten, encode_error
from forkbroker.session.ending import Ending, Progress
from forkbroker.session.errors import FrameError, shown
from forkbroker.session.session import QUIET, TICK_S, Session
from forkbroker.session.setup import Setup, Terms
from forkbroker.session.upward import Upward
from forkbroker.stomp.encoder import encode_frame
from forkbroker.stomp.errors import ProtocolError
from forkbroker.stomp.frame import CONNECT_COMMANDS, FrameRun
from forkbroker.stomp.negotiation import agree_heart_beat, choose_version, connected_headers, supported_versions
from forkbroker.stomp.parser import Parser
from forkbroker.stomp.versions import V10, Version, lenient
from forkbroker.wire.envelope import Buffer, Envelope, pack
from forkbroker.wire.fields import MAX_LOGIN
from forkbroker.wire.kinds import Cause, Kind

ASK_AGAIN_S = 0.05
"""Others are being verified: how soon it is looked again whether there is room."""
_LOGIN = -2
"""The token in `holds` of a login that is being verified, beside those of the parent and `QUIET`."""


class Connecting:
    """The rules of one client's connection, from its first octet to CONNECTED, or to its end if that comes first."""

    login = ""
    subscribed: Mapping[str, object] = MappingProxyType({})

    def __init__(self, setup: Setup, begin: Callable[[Session], None], now: float) -> None:
        """A connection that waits for CONNECT; `begin` gets its session."""
        self._setup = setup
        self._begin = begin
        self.parser = Parser(setup.limits, strict=setup.policy.strict)
        self.unwritten = Unwritten()
        self.upward = Upward(setup.session_id.encode())
        self.ending = Ending()
        self.holds: set[int] = set()
        self._progress = Progress(setup.policy.frame_timeout_s)
        self._deadline = now + setup.policy.connect_timeout_s
        self._asked: tuple[Terms, Credentials] | None = None
        """What CONNECT asks for, and who the client says that it is, while that is not verified."""
        self._failure = ""
        """Why the login has failed, until the client is told so."""
        self._act_at = math.inf
        """When to ask again, or to tell the client."""
        self.wake_at = now
        """When `tick` is due, or earlier."""

    # What comes from the client

    def receive(self, data: bytes, now: float) -> None:
        """Octets from the client."""
        self._progress.octets += len(data)
        self._process(self.parser.receive(data), now)

    def body_received(self, octets: int, now: float) -> None:
        """So many octets were put into `parser.body_buffer()`."""
        self._progress.octets += octets
        self._process(self.parser.body_received(octets), now)

    def end_of_input(self, now: float) -> None:
        """The client has shut down its sending side, or is gone."""
        self.ending.finish("client left before it connected")

    def input_paused(self, now: float) -> None:
        """The client is not read just now."""
        self._progress.pause(now)

    def end(self, reason: str, now: float) -> None:
        """End the connection with an ERROR that gives the reason; nothing if it ends already, or the broker does."""
        if self.is_open and QUIET not in self.holds:
            self._fail(FrameError(reason, cause=Cause.DENIED), None)

    def connection_lost(self, reason: str) -> None:
        """Nothing can be read or written any more."""
        self.ending.finish(self.ending.reason or reason)

    @property
    def wants_input(self) -> bool:
        """Read from the client now."""
        return not (self.holds or self.ending.has_begun)

    @property
    def is_open(self) -> bool:
        """Nothing has ended the connection."""
        return not self.ending.has_begun

    @property
    def reason(self) -> str:
        """Why it ends, for the log."""
        return self.ending.reason

    def _process(self, runs: list[FrameRun], now: float) -> None:
        """Take the first frame, if it is complete: the parser gives one at most."""
        error = self.parser.error
        if runs:
            self._receive_first(runs[0], now)
        elif error is not None:
            self._blame(FrameError(error.message, error.detail), error.receipt)
        elif self.parser.is_within_frame:
            self._progress.begin(now)
            self.wake_at = min(self.wake_at, self._progress.deadline)

    def _receive_first(self, run: FrameRun, now: float) -> None:
        head = run.head
        is_connect = head.command in CONNECT_COMMANDS
        try:
            if not is_connect:
                raise FrameError("not connected", f"the first frame is {shown(head.command)}; CONNECT comes first")
            terms = self._agree(head.headers)
        except FrameError as error:
            self._blame(error, run.receipts[0] if run.receipts and not is_connect else None)
        except ProtocolError as error:
            self._blame(FrameError(error.message, error.detail), None)
        else:
            if self._setup.verify is None:
                self._grant(terms, now)
            else:
                self._begin_login(terms, _read_credentials(head.headers), now)

    def _agree(self, headers: Mapping[str, str]) -> Terms:
        """What CONNECT asks for, as far as it is possible. Raises FrameError, ProtocolError."""
        policy = self._setup.policy
        version = _choose_version(headers)
        if policy.strict and version is not V10 and "host" not in headers:
            raise FrameError("missing header host", "STOMP 1.1 and 1.2 demand a host header on CONNECT")
        host = self._setup.permissions.hosts.find(headers.get("host"), is_strict=policy.strict)
        if host is None:
            raise FrameError("unknown host", f"this broker has no virtual host {shown(headers['host'])}")
        return Terms(
            policy,
            version,
            version if policy.strict else lenient(version),
            agree_heart_beat(version, headers.get("heart-beat"), policy.heart_beat_ms),
            Identity(headers.get("login", "")),
            headers.get("client-id", ""),
            host,
        )

    # Logging in

    def _begin_login(self, terms: Terms, credentials: Credentials, now: float) -> None:
        """Verify who the client is: at once if possible. The time for CONNECT has been kept; this has its own."""
        self._asked = terms, credentials
        self._deadline = now + self._setup.policy.connect_timeout_s
        self._progress.deadline = math.inf
        self.holds.add(_LOGIN)
        self._ask(now)

    def _ask(self, now: float) -> None:
        verify = self._setup.verify
        if self._asked is None or verify is None:
            return
        terms, credentials = self._asked
        answer = verify(credentials)
        if answer is None:
            self._act_at = now + ASK_AGAIN_S
        elif isinstance(answer, str):
            self._asked = None
            self._failure = f"login failed, user {shown(credentials.login)}: {answer}"
            # else an authenticator that fails for a while would shut its clients out for minutes more
            self.ending.has_failed_login = not isinstance(answer, Unclear)
            self._deadline, self._act_at = math.inf, now + self._setup.habits.failed_s
        else:
            self._asked = None
            self.holds.discard(_LOGIN)
            self._grant(replace(terms, identity=answer), now)
            self.wake_at = now  # whoever turns has the session from the next turn on
            return
        self.wake_at = self._act_at

    def _act(self, now: float) -> None:
        """The time has come to ask again, or to tell the client that it can't log in."""
        self._act_at = math.inf
        if self._failure:
            self._blame(FrameError("login failed", cause=Cause.DENIED), None)
            self.ending.reason = self._failure
        else:
            self._ask(now)

    def _grant(self, terms: Terms, now: float) -> None:
        """CONNECTED: the session begins, and gets what the client has sent behind CONNECT."""
        policy, identity, host = self._setup.policy, terms.identity, terms.host
        if not self._setup.permissions.may_enter(identity, host.key):
            refusal = describe_refusal(identity.user, host.key)
            self._blame(FrameError("host refused", refusal, cause=Cause.DENIED), None)
            return
        connected = connected_headers(
            terms.version,
            session=self._setup.session_id,
            server=policy.server,
            heart_beat=policy.heart_beat_ms,
            user="" if self._setup.verify is None else identity.user,
        )
        self.unwritten.put([encode_frame(terms.version, "CONNECTED", connected)])
        self.upward.request(
            pack(
                Kind.CONNECTED,
                token=identity.way,
                count=identity.is_administrator,
                destination=identity.user.encode(errors="replace")[:MAX_LOGIN],
                block="\n".join(("" if host.is_default else host.key, *identity.groups)).encode(errors="replace"),
            )
        )
        self.parser.negotiated(terms.version)
        session = Session(self._setup, terms, self.parser, self.unwritten, self.upward, now)
        self._begin(session)
        session.receive(b"", now)

    # What comes from the parent

    def receive_envelope(self, envelope: Envelope, now: float) -> None:
        """An envelope from the parent.

        Raises:
            EnvelopeError: a kind that the parent never sends to a client that has not connected.
        """
        kind = envelope.kind
        if kind is Kind.QUIESCE:
            if QUIET not in self.holds:
                self.holds.add(QUIET)
                self._asked, self._failure, self._act_at = None, "", math.inf
                self.upward.request(pack(Kind.QUIESCED))
        elif self.ending.is_over:
            pass  # what was said last was the last
        elif kind is Kind.CLOSE:
            self._fail(FrameError(envelope.block.decode(errors="replace"), cause=Cause(envelope.token)), None)
        elif kind is not Kind.SEND:  # which everybody gets with `--broadcast all`
            raise EnvelopeError(f"{kind.name} from the parent before CONNECTED")

    # Time

    def tick(self, now: float) -> None:
        """Time has passed. Sets `wake_at`."""
        if not self.wants_input:
            self._progress.pause(now)
        if self.is_open and now >= self._act_at:
            self._act(now)
            if _LOGIN not in self.holds:
                return  # the session has begun
        try:
            if self.is_open and now >= self._deadline:
                limit = self._setup.policy.connect_timeout_s
                subject = "connected" if self._asked is None else "verified"
                raise FrameError(f"not {subject} in time", f"connect-timeout is {limit:g} s")
            if self.is_open and now >= self._progress.deadline:
                self._progress.check(now)
        except FrameError as error:
            self._blame(error, None)
        self.wake_at = max(self.deadline(), now + TICK_S)

    def deadline(self) -> float:
        """When `tick` is due; infinity: never."""
        return min(self._deadline, self._act_at, self._progress.deadline) if self.is_open else math.inf

    # What goes out

    def end_turn(self, now: float) -> None:
        """Nothing follows from a turn before CONNECTED."""

    def take_leaving(self) -> list[Buffer]:
        """The last envelope: why the connection ended."""
        return self.ending.pack_leaving(received=0, delivered=0, dropped=0)

    def _blame(self, error: FrameError, receipt: str | None) -> None:
        """As `_fail`, for what the client has done: the administrator should know."""
        self._fail(error, receipt)
        self.ending.is_warning = True

    def _fail(self, error: FrameError, receipt: str | None) -> None:
        """ERROR, and the end (E02)."""
        self.ending.finish(error.reason)
        self.ending.cause = error.cause
        self.unwritten.put([encode_error(None, error, receipt)])


def _read_credentials(headers: Mapping[str, str]) -> Credentials:
    """What CONNECT says of who the client is. `Authorization` is as in HTTP (RFC 6750, 2.1)."""
    value = headers.get("Authorization", headers.get("authorization", ""))
    scheme, _, token = value.partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return Credentials(headers.get("login", ""), headers.get("passcode", ""), bearer)


def _choose_version(headers: Mapping[str, str]) -> Version:
    """The version that is spoken from now on. Raises FrameError."""
    version = choose_version(headers.get("accept-version"))
    if version is None:
        versions = supported_versions()
        detail = f"accept-version is {shown(headers['accept-version'])}; supported versions are {versions}"
        raise FrameError("no version in common", detail, [("version", versions)])
    return version
