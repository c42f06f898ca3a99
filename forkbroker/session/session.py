"""One client's session: what its frames mean, what it may do now, and what it is told.

It begins with CONNECTED (`connecting`). Three verbs, as with every rule here. *receive*: octets and the end from the
client, envelopes from the parent. *tick*: time has passed. *take*: `unwritten` holds what goes to the client, `upward`
what goes to the parent. The program around it (`forkbroker.child`) owns the socket, the channel and the clock. What it
has to know in every turn is an attribute; what follows from a turn is in `end_turn`.

It ends by DISCONNECT, an error, the end of input, or CLOSE (`ending`). That lasts until the parent has passed the last
fence, so that the RECEIPTs of what was accepted, and then the ERROR if there is one, wait to be written; it is
over when nothing else is left. A client that has shut down its sending side keeps its topics for `HALF_CLOSED_S`; its
queue subscriptions end at once, as it can't acknowledge, and may be gone (C16).
"""

from __future__ import annotations

import math
from binascii import crc32
from collections.abc import Callable, Mapping
from itertools import repeat

from forkbroker.errors import EnvelopeError, ForkbrokerError
from forkbroker.permissions import DeniedError, Right, Rights, unpack
from forkbroker.session.asking import Asking
from forkbroker.session.budget import Budget
from forkbroker.session.downward import Replies, Unwritten
from forkbroker.session.ending import CLIENT_CLOSED, Ending, HeartBeat, Progress
from forkbroker.session.errors import FrameError, shown
from forkbroker.session.own_destinations import OwnDestinations
from forkbroker.session.publishing import Publishing
from forkbroker.session.queue_delivery import QueueDelivery
from forkbroker.session.rate import Rate
from forkbroker.session.settling import Settling, Unacknowledged
from forkbroker.session.setup import Setup, Terms
from forkbroker.session.subscribing import Subscribing
from forkbroker.session.subscriptions import Subscription, Subscriptions
from forkbroker.session.topic_delivery import SlowSubscriberError, TopicDelivery
from forkbroker.session.tracing import Tracing
from forkbroker.session.transacting import Transacting
from forkbroker.session.transactions import Transactions
from forkbroker.session.upward import Upward
from forkbroker.stomp.encoder import HEART_BEAT
from forkbroker.stomp.frame import CONNECT_COMMANDS, FrameRun, Head
from forkbroker.stomp.parser import Parser
from forkbroker.wire.envelope import Buffer, Envelope, pack
from forkbroker.wire.kinds import Cause, Kind, Trace

HALF_CLOSED_S = 1.0
CLOSING_S = 5.0
"""How long the parent may take to pass the last fence before the session ends without it."""
QUIET = -1
"""In `holds` when the broker ends and nothing more is read: no HOLD of the parent has such a token."""
_DENIED = "permission denied"
_RATE = -3
"""In `holds` when the client has sent faster than it may."""
TICK_S = 0.01
"""Between two ticks at least: a beat that is due while octets wait to be written is not asked for in every turn."""


class Session:
    """The rules of one client's connection, from CONNECTED to the reason of its end."""

    def __init__(
        self, setup: Setup, terms: Terms, parser: Parser, unwritten: Unwritten, upward: Upward, now: float
    ) -> None:
        """Go on with `parser`, `unwritten` and `upward` where `Connecting` has come to."""
        policy = setup.policy
        space = self._space = terms.host.make_space()
        self.login = terms.identity.user
        self._ends_at = now + terms.identity.lasts_s
        """When it is not known any more who the client is."""
        self.rights = setup.rights_of(terms.identity).within(space)
        """What the client may do now."""
        self._rate = Rate(self.rights.quota, now) if self.rights.quota.has_rate else None
        """What may hold the client back; None: nothing does."""
        self._read_at = math.inf
        """When it may be read again that was held back."""
        self._counted = 0
        """Messages that the rate knows of."""
        self.parser = parser
        self.unwritten = unwritten
        self.upward = upward
        self.ending = Ending()
        self.holds: set[int] = set()
        """Who wants the client not to be read; it is while nobody does."""
        self.received = 0
        """Messages that the client has sent."""
        self.wake_at = now
        """When `tick` is due, or earlier."""
        self._tracing: Tracing | None = None
        """It is told of all frames, while an administrator looks at this client."""
        self._version = terms.version
        self._is_settling = False
        """The parent ends: read on only until the client has settled what it was delivered."""
        unwritten.written_at = now
        self._heart_beat = HeartBeat(*terms.heart_beat, unwritten, now, setup.habits.patience_s)
        self._progress = Progress(policy.frame_timeout_s)
        replies = self._replies = Replies(unwritten, terms.version)
        budget = Budget(policy.max_client_memory)
        token = first_token(setup.session_id.encode())
        self._most_subscriptions = policy.max_subscriptions
        most = self.rights.quota.subscriptions or policy.max_subscriptions
        subscriptions = self._subscriptions = Subscriptions(budget, most, token)
        self.subscribed: Mapping[str, Subscription] = subscriptions.by_id
        """The client's subscriptions, by its ids."""
        unacknowledged = self._unacknowledged = Unacknowledged(subscriptions, terms.rules)
        self._queues = QueueDelivery(
            setup, terms.version, space, subscriptions, unacknowledged, unwritten, upward, replies
        )
        self._topics = TopicDelivery(policy, terms.version, subscriptions, unacknowledged, unwritten, upward)
        budget.waiting = self._topics.waiting
        transactions = self._transactions = Transactions(policy, upward.branch, budget)
        own = self._own = OwnDestinations(setup.secret, policy.bare_destinations, space, has_control=terms.host.control)
        subscribing = self._subscribing = Subscribing(
            terms, own, self.rights, subscriptions, self._topics, self._queues, unwritten, upward, replies
        )
        self._asking = Asking(own, self.rights, upward, replies, subscribing.subscribe_to_replies)
        self._publishing = Publishing(
            policy, own, self.rights, transactions, upward, replies, self._asking, subscribing.subscribe_to_replies
        )
        settling = self._settling = Settling(
            terms,
            unacknowledged,
            transactions,
            self._topics.deliver_waiting,
            self._queues.claim_ahead,
            self._queues.hand_back,
            upward,
            replies,
        )
        transacting = Transacting(transactions, settling, subscriptions, unacknowledged, upward, replies)
        self._handlers: dict[str, Callable[[Mapping[str, str], str | None], None]] = {
            "SUBSCRIBE": subscribing.subscribe,
            "UNSUBSCRIBE": subscribing.unsubscribe,
            "ACK": settling.acknowledge,
            "NACK": settling.reject,
            "BEGIN": transacting.begin,
            "COMMIT": transacting.commit,
            "ABORT": transacting.abort,
            "DISCONNECT": self._disconnect,
        }
        """Of all commands but SEND, which comes in runs."""

    def adopt(
        self,
        login: str,
        rights: Rights,
        session_id: bytes,
        secret: bytes,
        octets: int,
        heart_beat: HeartBeat,
        now: float,
    ) -> None:
        """Be the session of this client: as if it had begun now, with this `Setup`.

        For a session that was begun for a client that was not known yet, and has done nothing. The client has no
        client-id and no login that ends; its CONNECT and its beats had so many octets, and its beats are those of
        `heart_beat`.
        """
        self.parser.position = octets
        self.login = login
        self._settling.be(login)
        self._give_rights(rights, now)
        self.upward.session_id = session_id
        self._own.secret = secret
        self._subscriptions.count_from(first_token(session_id))
        self._heart_beat.go_on_from(heart_beat)
        self.wake_at = now

    # What comes from the client

    def receive(self, data: bytes, now: float) -> None:
        """Octets from the client."""
        self._heart_beat.received_at = now
        self._progress.octets += len(data)
        self._process(self.parser.receive(data), now)
        if self._rate is not None:
            self._hold_back(self._rate, len(data), now)

    def body_received(self, octets: int, now: float) -> None:
        """So many octets were put into `parser.body_buffer()`, where the rest of a large body is to be read to."""
        self._heart_beat.received_at = now
        self._progress.octets += octets
        self._process(self.parser.body_received(octets), now)
        if self._rate is not None:
            self._hold_back(self._rate, octets, now)

    def _hold_back(self, rate: Rate, octets: int, now: float) -> None:
        """Let the client wait, if it sends faster than it may."""
        until = rate.spend(self.received - self._counted, octets, now)
        self._counted = self.received
        if until > now:
            self.holds.add(_RATE)
            self._read_at = until
            self.wake_at = min(self.wake_at, until)

    def end_of_input(self, now: float) -> None:
        """The client has shut down its sending side, or is gone: nobody knows which (C16)."""
        if self.ending.has_begun:
            return
        self._subscribing.end_queue_subscriptions()
        has_topics = bool(self.subscribed)
        self._begin_end(CLIENT_CLOSED, now + (HALF_CLOSED_S if has_topics else CLOSING_S))
        if not has_topics:
            self._replies.after(self.upward.fence(), self.ending.close)

    def input_paused(self, now: float) -> None:
        """The client is not read just now: that nothing comes from it is not its fault."""
        self._heart_beat.received_at = now
        self._progress.pause(now)

    def end(self, reason: str, now: float) -> None:
        """End the session with an ERROR that gives the reason; nothing if it ends already, or the broker does."""
        if not (QUIET in self.holds or self._is_settling or self.ending.has_begun):
            self._fail(FrameError(reason, cause=Cause.DENIED), None, now)

    def connection_lost(self, reason: str) -> None:
        """Nothing can be read or written any more."""
        self.ending.finish(self.ending.reason or reason)

    @property
    def wants_input(self) -> bool:
        """Read from the client now."""
        return not (self.holds or self.ending.has_begun)

    @property
    def is_open(self) -> bool:
        """Nothing has ended the session."""
        return not self.ending.has_begun

    @property
    def reason(self) -> str:
        """Why the session ends, for the log."""
        return self.ending.reason

    def _process(self, runs: list[FrameRun], now: float) -> None:
        ending, parser, progress = self.ending, self.parser, self._progress
        if runs:
            progress.deadline = math.inf
            for run in runs:
                if not ending.has_begun:
                    if self._tracing is not None:
                        self._tracing.received(run)
                    self._receive_run(run, now)
        if not ending.has_begun:
            error = parser.error
            if error is not None:
                self._blame(FrameError(error.message, error.detail), error.receipt, now)
            elif parser.is_within_frame:
                progress.begin(now)
                self.wake_at = min(self.wake_at, progress.deadline)
        if self._is_settling:
            self._quiesce()

    def _receive_run(self, run: FrameRun, now: float) -> None:
        head = run.head
        receipt = run.receipts[0] if run.receipts else None
        try:
            if head.command == "SEND":
                if len(run.bodies) > 1 and "transaction" in head.headers:
                    self._receive_singly(run, now)
                    return
                self._publishing.receive(run)
                self.received += len(run.bodies)
                return
            handle = self._handlers.get(head.command)
            if handle is None:
                receipt = receipt if head.command not in CONNECT_COMMANDS else None
                raise self._unexpected(head.command)
            if run.ids is not None:
                if not self._settling.acknowledge_all(run.ids, run.receipts):
                    self._receive_each(run.ids, run.receipts, now)
                return
            for receipt in run.receipts or [None] * len(run.bodies):
                handle(head.headers, receipt)
                if head.command == "DISCONNECT":
                    self._begin_end("client sent DISCONNECT", now + CLOSING_S)
                    return
        except FrameError as error:
            self._blame(error, receipt, now)
        except DeniedError as error:
            self._blame(FrameError(_DENIED, str(error), cause=Cause.DENIED), receipt, now)
        except ForkbrokerError as error:
            self._blame(FrameError(f"bad {head.command}", str(error)), receipt, now)

    def _receive_singly(self, run: FrameRun, now: float) -> None:
        """A transaction may be full in the middle of a run: what came before has joined, and its receipts are due."""
        for body, receipt in zip(run.bodies, run.receipts or repeat(None), strict=False):
            if not self.ending.has_begun:
                self._receive_run(FrameRun(run.head, [body], None if receipt is None else [receipt]), now)

    def _receive_each(self, ids: list[bytes], receipts: list[str | None] | None, now: float) -> None:
        """ACKs that are not all alike: one of them may end the session."""
        for ack_id, receipt in zip(ids, receipts or repeat(None), strict=False):
            if not self.ending.has_begun:
                head = Head("ACK", {"id": ack_id.decode()})
                self._receive_run(FrameRun(head, [b""], None if receipt is None else [receipt]), now)

    def _unexpected(self, command: str) -> FrameError:
        if command in CONNECT_COMMANDS:
            return FrameError("connected already", f"{command} on a connection that is connected; open another one")
        known = ", ".join(["SEND", *self._handlers])
        return FrameError("unknown command", f"{shown(command)} is not a command of a client; these are: {known}")

    def _disconnect(self, _headers: Mapping[str, str], receipt: str | None) -> None:
        """DISCONNECT: its receipt says that all that came before has been processed (R05)."""
        fence = self.upward.fence()
        if receipt is not None:
            self._replies.receipts(fence, [receipt])
        self._replies.after(fence, self.ending.close)

    # What comes from the parent

    def receive_envelope(self, envelope: Envelope, now: float) -> None:
        """An envelope from the parent.

        Raises:
            EnvelopeError: a kind that the parent never sends.
        """
        kind = envelope.kind
        if kind is Kind.SEND or kind is Kind.RENDERED:
            if not self.ending.is_over:
                topics = self._topics
                try:
                    topics.receive(envelope, now)
                except SlowSubscriberError as error:  # no ERROR: who doesn't read won't read that either
                    self.ending.is_warning = True
                    self.ending.finish(str(error))
                if topics.deadline < self.wake_at:
                    self.wake_at = topics.deadline
        elif kind is Kind.OFFER or kind is Kind.AHEAD:
            if self.ending.has_begun:
                self._queues.decline(envelope)
            else:
                self._queues.receive(envelope)
        elif kind is Kind.FENCED:
            self.upward.passed = envelope.number
            self._replies.passed(envelope.number)
        else:
            self._receive_order(envelope, now)

    def _receive_order(self, envelope: Envelope, now: float) -> None:
        kind = envelope.kind
        if kind in (Kind.REFUSED, Kind.CLOSE):
            if not self.ending.is_over:  # what was said last was the last
                self._receive_end(envelope, now)
        elif kind is Kind.ANSWER:
            if not self.ending.has_begun:
                self._asking.answered(envelope)
        elif kind is Kind.WITHDRAW:
            self._queues.withdraw(envelope)
        elif kind is Kind.HOLD:
            self.holds.add(envelope.token)
        elif kind is Kind.RESUME:
            self.holds.discard(envelope.token)
        elif kind is Kind.QUIESCE:
            self._is_settling = bool(envelope.token)
            self._queues.stop()
            self._quiesce()
        elif kind is Kind.TRACE:
            self._trace(Trace(envelope.token))
        elif kind is Kind.RIGHTS:
            self._change_rights(unpack(envelope.block).within(self._space), now)
        else:
            raise EnvelopeError(f"{kind.name} from the parent")

    def _trace(self, wanted: Trace) -> None:
        """Tell of frames from now on, or no longer."""
        if wanted is Trace.NOTHING:
            self._tracing = self.unwritten.tracing = None
            return
        if self._tracing is None:
            self._tracing = self.unwritten.tracing = Tracing(self._version, self.upward, has_bodies=False)
        self._tracing.has_bodies = wanted is Trace.BODIES
        self.upward.request(pack(Kind.TRACED, block=b"[]"))

    def _change_rights(self, rights: Rights, now: float) -> None:
        """Heed other rights from now on. If something that the client has needs one that is lost, the session ends."""
        self._give_rights(rights, now)
        self.parser.forget_memos()
        if self.ending.has_begun:
            return
        try:
            self._subscribing.check_rights()
            for name in self._transactions.destinations():
                rights.check(Right.WRITE, name)
        except DeniedError as error:
            changed = f"permissions have changed, {error}"
            self._blame(FrameError(_DENIED, changed, cause=Cause.DENIED), None, now)

    def _give_rights(self, rights: Rights, now: float) -> None:
        self.rights = self._publishing.rights = self._subscribing.rights = self._asking.rights = rights
        quota = rights.quota
        self._subscriptions.limit(quota.subscriptions or self._most_subscriptions)
        self._rate = Rate(quota, now) if quota.has_rate else None
        self._counted = self.received

    def _quiesce(self) -> None:
        """Stop reading, unless what the client has to settle is waited for."""
        is_waited_for = self._is_settling and self.is_open and self._subscriptions.hold_deliveries()
        if not (QUIET in self.holds or is_waited_for):
            self.holds.add(QUIET)
            self.upward.request(pack(Kind.QUIESCED))

    def _receive_end(self, envelope: Envelope, now: float) -> None:
        reason = self._space.conceal(envelope.block.decode(errors="replace"))
        is_refused = envelope.kind is Kind.REFUSED
        receipt = self._replies.first_receipt(envelope.number) if is_refused and envelope.number else None
        self._replies.drop_waiting()
        if is_refused:
            self._fail(FrameError("refused", reason, cause=Cause.FULL), receipt, now)
        else:
            self._fail(FrameError(reason, cause=Cause(envelope.token)), receipt, now)

    # Time

    def tick(self, now: float) -> None:
        """Time has passed: beats, and limits of time. Sets `wake_at`."""
        if now >= self.ending.deadline:
            self.ending.close()
        if not self.ending.has_begun:
            self._tick_open(now)
        self.wake_at = max(self.deadline(), now + TICK_S)

    def _tick_open(self, now: float) -> None:
        if now >= self._read_at:
            self._read_at = math.inf
            self.holds.discard(_RATE)
        self._topics.tick(now)
        if not self.wants_input:
            self.input_paused(now)
        try:
            if now >= self._ends_at:
                detail = "what the client has logged in with is not valid any more"
                raise FrameError("login expired", detail, cause=Cause.DENIED)
            if self._heart_beat.is_missing(now):
                silence = f"nothing was received for {self._heart_beat.gone_after:g} s"
                raise FrameError("missed heart-beat", silence)
            if now >= self._progress.deadline:
                self._progress.check(now)
        except FrameError as error:
            self._fail(error, None, now)
            return
        if self._heart_beat.is_due(now):
            self.unwritten.put([HEART_BEAT])

    def deadline(self) -> float:
        """When `tick` is due; infinity: never."""
        if self.ending.has_begun:
            return math.inf if self.ending.is_over else self.ending.deadline
        return min(
            self._heart_beat.deadline(), self._progress.deadline, self._topics.deadline, self._ends_at, self._read_at
        )

    # What follows

    def end_turn(self, now: float) -> None:
        """All was read and written that could be: what that means for the parent, and when `tick` is due next."""
        unwritten = self.unwritten
        if self._tracing is not None:
            self._tracing.report(now)
        if unwritten.written_runs:
            self._queues.settle_written()
        if self._subscribing.draining:
            self._subscribing.end_drained()
        if not self.ending.is_over:
            if self._queues.passed:
                self._queues.ask_again()
            if self._topics.is_behind:
                self._topics.catch_up()
        if unwritten.written_at == now and not unwritten.pending:
            self.wake_at = min(self.wake_at, now + self._heart_beat.beat_after)

    # The end

    def _begin_end(self, reason: str, deadline: float) -> None:
        self.ending.begin(reason, deadline)
        self._queues.stop()
        self.wake_at = deadline

    def _blame(self, error: FrameError, receipt: str | None, now: float) -> None:
        """As `_fail`, for what the client has done: the administrator should know."""
        self.ending.is_warning = True
        self._fail(error, receipt, now)

    def _fail(self, error: FrameError, receipt: str | None, now: float) -> None:
        """ERROR, behind all receipts that are due, and the end (E02)."""
        self._begin_end(error.reason, now + CLOSING_S)
        self.ending.cause = error.cause

        def say_and_close() -> None:
            self._replies.error(error, receipt)
            self.ending.close()

        self._replies.after(0, say_and_close)

    def take_leaving(self) -> list[Buffer]:
        """The last envelope: why the session ended, and its figures."""
        return self.ending.pack_leaving(self.received, self.unwritten.delivered, self._topics.dropped)


def first_token(session_id: bytes) -> int:
    """Of the subscriptions of a session.

    Tokens are part of the names that ACKs give. Counted from 1 in each session, the name of a delivery of the client's
    last connection would be that of another one of this connection: a late ACK would settle that.
    """
    return (crc32(session_id) >> 8) + 1
