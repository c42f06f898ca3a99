"""One client's session: what its frames mean, what it may do now, and what it is told.

Three verbs, as with every rule here. *receive*: octets and the end from the client, envelopes from the parent.
*tick*: time has passed. *take*: the `outbox` holds what goes to the client, `take_envelopes` gives what goes to the
parent. The program around it (`forkbroker.child`) owns the socket, the channel and the clock.

States, and the commands that are legal in them:

    AWAITING_CONNECT ──CONNECT, STOMP──▶ CONNECTED ──DISCONNECT, an error, the end of input, CLOSE──▶ CLOSING ──▶ CLOSED

In CLOSING nothing more is taken from the client. It lasts until the parent has passed the last fence, so that the
RECEIPTs of what was accepted, and then the ERROR if there is one, are in the outbox; `is_finished` tells that the
outbox needs only to be written. A client that has shut down its sending side keeps its topics for `HALF_CLOSED_S`;
its queue subscriptions end at once, as it can't acknowledge, and may be gone (C16).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from itertools import count, repeat
from zlib import crc32

from forkbroker.errors import EnvelopeError, ForkbrokerError
from forkbroker.session.budget import Budget
from forkbroker.session.consuming import Consuming
from forkbroker.session.delivery import Delivery, SlowSubscriberError
from forkbroker.session.errors import FrameError, shown
from forkbroker.session.heartbeat import HeartBeat
from forkbroker.session.outbox import Outbox
from forkbroker.session.policy import FRAME_PROGRESS, SessionPolicy
from forkbroker.session.publishing import OwnDestinations, Publishing
from forkbroker.session.replies import Replies
from forkbroker.session.subscriptions import Subscriptions
from forkbroker.session.transactions import Transactions
from forkbroker.session.unsettled import Unsettled
from forkbroker.session.upward import Upward
from forkbroker.stomp.encoder import HEART_BEAT, encode_frame
from forkbroker.stomp.errors import ErrorKind, ProtocolError
from forkbroker.stomp.frame import CONNECT_COMMANDS, FrameRun
from forkbroker.stomp.limits import Limits
from forkbroker.stomp.negotiation import (
    choose_version,
    connected_headers,
    effective_heart_beat,
    parse_heart_beat,
    supported_versions,
)
from forkbroker.stomp.parser import Parser
from forkbroker.stomp.versions import V10, lenient
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.fields import MAX_LOGIN, MAX_REASON
from forkbroker.wire.kinds import Flag, Kind

HALF_CLOSED_S = 1.0
CLOSING_S = 5.0
"""How long the parent may take to pass the last fence before the session ends without it."""
_MOST_TOLD = 0xFFFF_FFFF
"""The field of LEAVING that tells how many messages were dropped has 32 bits; in a long life there may be more."""
_TICK_S = 0.01
"""Between two ticks at least: a beat that is due while octets wait to be written is not asked for in every turn."""

_Simple = Callable[[Mapping[str, str], "str | None"], None]


class State(Enum):
    """Where a session stands."""

    AWAITING_CONNECT = "awaiting CONNECT"
    CONNECTED = "connected"
    CLOSING = "closing"
    CLOSED = "closed"


class Session:
    """The rules of one client's connection, from its first octet to the reason of its end."""

    def __init__(
        self,
        policy: SessionPolicy,
        limits: Limits,
        session_id: str,
        secret: bytes,
        try_claim: Callable[[int], bool],
        now: float,
        crash: Callable[[str], None] | None = None,
    ) -> None:
        """A session that waits for CONNECT.

        `session_id` is unique over restarts and has no `-`; `secret` nobody else can know: the names of temporary
        destinations come of it (`OwnDestinations`); `try_claim` tries the semaphore of a slot; `crash` is called at
        the named fault points, when a test has set one.
        """
        self._policy = policy
        self._parser = Parser(limits, strict=policy.strict)
        self._id = session_id
        self._secret = secret
        self._try_claim = try_claim
        self._crash = crash
        self.state = State.AWAITING_CONNECT
        self.outbox = Outbox()
        self._replies = Replies(self.outbox)
        self._batch_numbers = count(1)
        self._upward = Upward(session_id.encode(), self._batch_numbers)
        # Tokens are part of the names that ACKs give. Counted from 1 in each session, the name of a delivery of the
        # client's last connection would be that of another one of this connection: a late ACK would settle that.
        self._subscriptions = Subscriptions(first_token=(crc32(session_id.encode()) >> 8) + 1)
        self._heart_beat = HeartBeat(0, 0, now)
        self._frame_deadline: float | None = None
        self._frame_octets = 0
        self._connect_deadline: float | None = now + policy.connect_timeout_s
        self.wake_at = now
        """When `tick` is due, or earlier: kept at hand, as it is asked for in every turn of a loop."""
        self._end_deadline: float | None = None
        self._holds: set[int] = set()
        self._is_quiet = False
        self._is_settling = False
        """The parent ends: read on only until the client has settled what it was delivered."""
        self._simple: dict[str, _Simple] = {}
        self._delivery: Delivery | None = None
        self._unsettled: Unsettled | None = None
        self._publishing: Publishing | None = None
        self.login = ""
        self.received = 0
        """Messages that the client has sent."""
        self.reason = ""
        """Why the session ends, for the log."""
        self.is_warning = False
        """The administrator should look at the reason."""

    # What comes from the client

    def receive(self, data: bytes, now: float) -> None:
        """Octets from the client."""
        self._heart_beat.received(now)
        self._frame_octets += len(data)
        self._process(self._parser.receive(data), now)

    def body_buffer(self) -> memoryview | None:
        """Where to read the rest of a large body to, instead of calling `receive`; tell `body_received`."""
        return self._parser.body_buffer()

    def body_received(self, octets: int, now: float) -> None:
        """So many octets were put into `body_buffer()`."""
        self._heart_beat.received(now)
        self._frame_octets += octets
        self._process(self._parser.body_received(octets), now)

    def end_of_input(self, now: float) -> None:
        """The client has shut down its sending side, or is gone: nobody knows which (C16)."""
        if self.state is State.AWAITING_CONNECT:
            self._finish("client left before it connected")
        if self.state is not State.CONNECTED:
            return
        self.reason = "client closed the connection"
        self.state = State.CLOSING
        self._consuming.end_queue_subscriptions()
        linger = HALF_CLOSED_S if len(self._subscriptions) else CLOSING_S
        self._end_deadline = self.wake_at = now + linger
        if not len(self._subscriptions):
            self._replies.after(self._upward.fence(), self._close)

    def input_paused(self, now: float) -> None:
        """The client is not read just now: that nothing comes from it is not its fault."""
        self._heart_beat.received(now)
        if self._frame_deadline is not None:
            self._frame_deadline = now + self._policy.frame_timeout_s

    def end(self, reason: str, now: float) -> None:
        """End the session with an ERROR that gives the reason; nothing if it ends already, or the broker does."""
        is_ending = self._is_quiet or self._is_settling
        if not is_ending and self.state in (State.AWAITING_CONNECT, State.CONNECTED):
            self._fail(reason, reason, None, now)

    def connection_lost(self, reason: str) -> None:
        """Nothing can be read or written any more."""
        self._finish(self.reason or reason)

    @property
    def wants_input(self) -> bool:
        """Read from the client now."""
        return not (self._holds or self._is_quiet) and self.state in (State.AWAITING_CONNECT, State.CONNECTED)

    @property
    def is_finished(self) -> bool:
        """Nothing more comes: write the outbox, and end."""
        return self.state is State.CLOSED

    @property
    def subscription_count(self) -> int:
        """Subscriptions that are open, for the process title."""
        return len(self._subscriptions)

    @property
    def delivered(self) -> int:
        """Messages that were given to the client."""
        return self._delivery.delivered if self._delivery else 0

    def _process(self, runs: list[FrameRun], now: float) -> None:
        if runs:
            self._frame_deadline = None
        while runs:
            for run in runs:
                if self.state is State.CONNECTED:
                    self._receive_run(run, now)
                elif self.state is State.AWAITING_CONNECT:
                    self._receive_first(run, now)
            runs = self._parser.receive(b"") if self._parser.version is None and self._negotiated() else []
        error = self._parser.error
        if error is not None and self.state in (State.AWAITING_CONNECT, State.CONNECTED):
            self._fail(error.message, error.detail, error.receipt, now)
            self.is_warning = error.kind in (ErrorKind.TLS_HELLO, ErrorKind.HTTP_REQUEST)
        self._watch_half_frame(now)
        if self._is_settling:
            self._quiesce()

    def _negotiated(self) -> bool:
        """Let the parser go on behind CONNECT, now that the version is known (C15)."""
        if self._replies.version is None:
            return False
        self._parser.negotiated(self._replies.version)
        return True

    def _receive_run(self, run: FrameRun, now: float) -> None:
        head = run.head
        receipt = run.receipts[0] if run.receipts else None
        try:
            if head.command == "SEND":
                assert self._publishing is not None
                if len(run.bodies) > 1 and "transaction" in head.headers:
                    self._receive_singly(run, now)
                    return
                self._publishing.receive(run)
                self.received += len(run.bodies)
                return
            handle = self._simple.get(head.command)
            if handle is None:
                receipt = receipt if head.command not in CONNECT_COMMANDS else None
                raise self._unexpected(head.command)
            for receipt in run.receipts or [None] * len(run.bodies):
                handle(head.headers, receipt)
                if head.command == "DISCONNECT":
                    self._end_deadline = self.wake_at = now + CLOSING_S
                    return
        except FrameError as error:
            self._fail(error.message, error.detail, receipt, now)
        except ForkbrokerError as error:
            self._fail(f"bad {head.command}", str(error), receipt, now)

    def _receive_singly(self, run: FrameRun, now: float) -> None:
        """A transaction may be full in the middle of a run: what came before has joined, and its receipts are due."""
        for body, receipt in zip(run.bodies, run.receipts or repeat(None), strict=False):
            if self.state is State.CONNECTED:
                self._receive_run(FrameRun(run.head, [body], None if receipt is None else [receipt]), now)

    def _unexpected(self, command: str) -> FrameError:
        if command in CONNECT_COMMANDS:
            return FrameError("connected already", f"{command} on a connection that is connected; open another one")
        known = ", ".join(["SEND", *self._simple])
        return FrameError("unknown command", f"{shown(command)} is not a command of a client; these are: {known}")

    # CONNECT

    def _receive_first(self, run: FrameRun, now: float) -> None:
        headers = run.head.headers
        try:
            if run.head.command not in CONNECT_COMMANDS:
                raise FrameError("not connected", f"the first frame is {shown(run.head.command)}; CONNECT comes first")
            self._connect(headers, now)
        except (FrameError, ProtocolError) as error:
            receipt = run.receipts[0] if run.receipts and run.head.command not in CONNECT_COMMANDS else None
            self._fail(error.message, error.detail, receipt, now)

    def _connect(self, headers: Mapping[str, str], now: float) -> None:
        version = choose_version(headers.get("accept-version"))
        if version is None:
            versions = supported_versions()
            detail = f"accept-version is {shown(headers['accept-version'])}; supported versions are {versions}"
            self._fail("no version in common", detail, None, now, extra=[("version", versions)])
            return
        if self._policy.strict and version is not V10 and "host" not in headers:
            raise FrameError("missing header host", "STOMP 1.1 and 1.2 demand a host header on CONNECT")
        client_beat = parse_heart_beat(headers.get("heart-beat")) if version.heart_beats else (0, 0)
        send_every, expect_every = effective_heart_beat(client_beat, self._policy.heart_beat_ms)
        self._heart_beat = HeartBeat(send_every, expect_every, now)
        self.wake_at = now
        self._connect_deadline = None
        self.login = headers.get("login", "")
        self._replies.version = version
        self._assemble(headers.get("client-id", ""))
        connected = connected_headers(
            version, session=self._id, server=self._policy.server, heart_beat=self._policy.heart_beat_ms
        )
        self.outbox.put([encode_frame(version, "CONNECTED", connected)])
        self._upward.request(pack(Kind.CONNECTED, destination=self.login.encode(errors="replace")[:MAX_LOGIN]))
        self.state = State.CONNECTED

    def _assemble(self, client_id: str) -> None:
        """Make the parts that need to know the version."""
        version = self._replies.version
        assert version is not None
        own = OwnDestinations(self._secret, self._policy.bare_destinations)
        budget = Budget(self._policy.max_client_memory)
        transactions = Transactions(self._policy, self._id.encode(), self._batch_numbers, budget)
        rules = version if self._policy.strict else lenient(version)
        unsettled = self._unsettled = Unsettled(self._subscriptions, rules)
        delivery = self._delivery = Delivery(
            self._policy,
            self._subscriptions,
            unsettled,
            self.outbox,
            self._upward,
            version,
            self._try_claim,
            self._replies.after,
            self._crash,
        )
        consuming = self._consuming = Consuming(
            self._policy,
            rules,
            own,
            self._subscriptions,
            unsettled,
            transactions,
            self._upward,
            self._replies,
            delivery,
            budget,
            client_id,
        )
        budget.waiting = delivery.waiting
        self._publishing = Publishing(
            self._policy, own, transactions, self._upward, self._replies, consuming.subscribe_to_replies
        )
        self._transactions = transactions
        self._simple = {
            "SUBSCRIBE": consuming.subscribe,
            "UNSUBSCRIBE": consuming.unsubscribe,
            "ACK": consuming.acknowledge,
            "NACK": consuming.reject,
            "BEGIN": self._begin,
            "COMMIT": lambda headers, receipt: consuming.commit(_transaction_name("COMMIT", headers), receipt),
            "ABORT": lambda headers, receipt: consuming.abort(_transaction_name("ABORT", headers), receipt),
            "DISCONNECT": self._disconnect,
        }

    def _begin(self, headers: Mapping[str, str], receipt: str | None) -> None:
        self._transactions.begin(_transaction_name("BEGIN", headers))
        if receipt is not None:
            self._replies.receipts(0, [receipt])

    def _disconnect(self, headers: Mapping[str, str], receipt: str | None) -> None:
        """DISCONNECT: its receipt says that all that came before has been processed (R05)."""
        self.reason = "client disconnected"
        self.state = State.CLOSING
        fence = self._upward.fence()
        if receipt is not None:
            self._replies.receipts(fence, [receipt])
        self._replies.after(fence, self._close)

    # What comes from the parent

    def receive_envelope(self, envelope: Envelope, now: float) -> None:
        """An envelope from the parent.

        Raises:
            EnvelopeError: a kind that the parent never sends.
        """
        kind = envelope.kind
        delivery = self._delivery
        if kind is Kind.SEND:
            if delivery is not None and self.state is not State.CLOSED:
                try:
                    delivery.topic(envelope, now)
                    if delivery.deadline is not None:
                        self.wake_at = min(self.wake_at, delivery.deadline)
                except SlowSubscriberError as error:
                    self._end_slow(error)
        elif kind is Kind.OFFER:
            assert delivery is not None
            delivery.offer(envelope, is_open=self.state is State.CONNECTED)
        elif kind is Kind.FENCED:
            self._replies.passed(envelope.number)
        else:
            self._receive_order(envelope, now)

    def _receive_order(self, envelope: Envelope, now: float) -> None:
        kind = envelope.kind
        if kind in (Kind.REFUSED, Kind.CLOSE):
            if self.state is not State.CLOSED:  # what was said last was the last
                self._receive_end(envelope, now)
        elif kind is Kind.HOLD:
            self._holds.add(envelope.token)
        elif kind is Kind.RESUME:
            self._holds.discard(envelope.token)
        elif kind is Kind.QUIESCE:
            self._is_settling = bool(envelope.token)
            self._quiesce()
        else:
            raise EnvelopeError(f"{kind.name} from the parent")

    def _quiesce(self) -> None:
        """Stop reading, unless what the client has to settle is waited for."""
        if self._is_quiet or (
            self._is_settling and self.state is State.CONNECTED and self._subscriptions.hold_deliveries()
        ):
            return
        self._is_quiet = True
        self._upward.request(pack(Kind.QUIESCED))

    def _receive_end(self, envelope: Envelope, now: float) -> None:
        reason = envelope.block.decode(errors="replace")
        is_refused = envelope.kind is Kind.REFUSED
        receipt = self._replies.first_receipt(envelope.number) if is_refused and envelope.number else None
        self._replies.drop_waiting()
        self._fail("refused" if is_refused else reason, reason, receipt, now)

    # Time

    def tick(self, now: float) -> None:
        """Time has passed: beats, and limits of time. Sets `wake_at`."""
        self._tick(now)
        deadline = self.deadline()
        self.wake_at = math.inf if deadline is None else max(deadline, now + _TICK_S)

    def _tick(self, now: float) -> None:
        if self._end_deadline is not None and now >= self._end_deadline:
            self._close()
        if self.state in (State.CLOSING, State.CLOSED):
            return
        if self._delivery is not None:
            self._delivery.tick(now)
        if not self.wants_input:
            self.input_paused(now)
        if self._connect_deadline is not None and now >= self._connect_deadline:
            self._fail("not connected in time", f"connect-timeout is {self._policy.connect_timeout_s:g} s", None, now)
        elif self._heart_beat.is_missing(now):
            self._fail("missed heart-beat", "no octet came for twice the interval that was agreed", None, now)
        elif self._frame_deadline is not None and now >= self._frame_deadline:
            self._check_half_frame(now)
        if self._heart_beat.is_due(now) and not self.outbox.pending and self.state is State.CONNECTED:
            self.outbox.put([HEART_BEAT])

    def deadline(self) -> float | None:
        """When `tick` is due."""
        if self.state in (State.CLOSING, State.CLOSED):
            return self._end_deadline if self.state is State.CLOSING else None
        beat = self._heart_beat.deadline(is_idle=not self.outbox.pending)
        slow = self._delivery.deadline if self._delivery is not None else None
        times = (self._connect_deadline, self._frame_deadline, beat, slow)
        return min((time for time in times if time is not None), default=None)

    def _watch_half_frame(self, now: float) -> None:
        if not self._parser.is_within_frame or self.state not in (State.AWAITING_CONNECT, State.CONNECTED):
            self._frame_deadline = None
        elif self._frame_deadline is None:
            self._frame_deadline = now + self._policy.frame_timeout_s
            self.wake_at = min(self.wake_at, self._frame_deadline)
            self._frame_octets = 0

    def _check_half_frame(self, now: float) -> None:
        """The limit is on progress, so that a large body may take its time (F27)."""
        if self._frame_octets < FRAME_PROGRESS:
            limit = self._policy.frame_timeout_s
            detail = f"a frame was begun and grew by {self._frame_octets:,} octets in {limit:g} s, frame-timeout"
            self._fail("half a frame", f"{detail}; {FRAME_PROGRESS:,} octets would be enough", None, now)
            return
        self._frame_deadline = now + self._policy.frame_timeout_s
        self._frame_octets = 0

    # What goes out

    def is_urgent(self) -> bool:
        """Something should be told to the parent now, not only what can wait for company (CLAIMED)."""
        if self._delivery is not None:
            self._delivery.settle_written()
            if self.state is not State.CLOSED:
                self._delivery.ask_again()
        return self._upward.is_urgent

    @property
    def fences(self) -> int:
        """How many the parent was asked for."""
        return self._upward.last_fence

    @property
    def has_claimed(self) -> bool:
        """A claim waits to be told."""
        return self._upward.has_claimed

    def take_envelopes(self) -> list[list[bytes | bytearray | memoryview]]:
        """What goes to the parent since the last call, in order; ask `is_urgent` first."""
        return self._upward.take()

    def written(self, octets: int, now: float) -> None:
        """The kernel has taken so many octets of the outbox: `is_urgent` settles the `ack:auto` ones."""
        self.outbox.written(octets)
        self._heart_beat.sent(now)
        if not self.outbox.pending:
            self.wake_at = min(self.wake_at, self._heart_beat.next_beat())

    # The end

    def _fail(
        self, message: str, detail: str, receipt: str | None, now: float, *, extra: list[tuple[str, str]] | None = None
    ) -> None:
        """ERROR, behind all receipts that are due, and the end (E02)."""
        self.reason = self.reason or (message if message == detail else f"{message} ({detail})")
        self.state = State.CLOSING
        self._frame_deadline = self._connect_deadline = None
        self._end_deadline = self.wake_at = now + CLOSING_S

        def say_and_close() -> None:
            self._replies.error(message, detail, receipt, extra or [])
            self._close()

        self._replies.after(0, say_and_close)

    def _end_slow(self, error: SlowSubscriberError) -> None:
        """No ERROR: who doesn't read won't read that either."""
        self.is_warning = True
        self._finish(str(error))

    def _close(self) -> None:
        self.state = State.CLOSED

    def _finish(self, reason: str) -> None:
        self.reason = reason
        self.state = State.CLOSED

    def take_leaving(self) -> list[bytes | bytearray | memoryview]:
        """The last envelope: why the session ended, and its figures."""
        dropped = self._delivery.dropped if self._delivery else 0
        return pack(
            Kind.LEAVING,
            flags=Flag.WARNING if self.is_warning or dropped else 0,
            count=min(dropped, _MOST_TOLD),
            number=self.received,
            serial=self.delivered,
            block=self.reason.encode(errors="replace")[:MAX_REASON],
        )


def _transaction_name(command: str, headers: Mapping[str, str]) -> str:
    """The `transaction` header, or FrameError."""
    name = headers.get("transaction")
    if name is None:
        raise FrameError("missing header transaction", f"{command} needs a transaction header")
    return name
