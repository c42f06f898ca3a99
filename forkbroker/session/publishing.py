"""SEND: what a client publishes, or asks of the broker itself."""

from __future__ import annotations

from collections.abc import Callable

from forkbroker.destinations import Destination, Sort, is_bare, is_queue
from forkbroker.permissions import Right, Rights
from forkbroker.session.asking import Asking, is_request
from forkbroker.session.dialects import NOT_FORWARDED, wants_persistence
from forkbroker.session.downward import Replies
from forkbroker.session.errors import FrameError, shown
from forkbroker.session.own_destinations import OwnDestinations
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.transactions import Transactions
from forkbroker.session.upward import SendPlan, Upward
from forkbroker.session.wishes import read_wishes
from forkbroker.stomp.encoder import encode_block
from forkbroker.stomp.frame import FrameRun, Head
from forkbroker.wire.details import NO_WISHES, Wishes
from forkbroker.wire.kinds import Flag

_PERSISTENT = int(Flag.PERSISTENT)
_BARE = int(Flag.BARE)
_EXISTING = int(Flag.EXISTING)


class Publishing:
    """Takes in SENDs: plans them once for each header block, and sends them up or into their transaction."""

    def __init__(
        self,
        policy: SessionPolicy,
        own: OwnDestinations,
        rights: Rights,
        transactions: Transactions,
        upward: Upward,
        replies: Replies,
        asking: Asking,
        subscribe_to_replies: Callable[[str], None],
    ) -> None:
        """`asking` gets what is for the broker itself.

        `subscribe_to_replies` gets the name of a temporary queue that a `reply-to` header named.
        """
        self._policy = policy
        self._own = own
        self.rights = rights
        """What the client may do. When they change, plans have to be made anew."""
        self._transactions = transactions
        self._upward = upward
        self._replies = replies
        self._asking = asking
        self._subscribe_to_replies = subscribe_to_replies

    def receive(self, run: FrameRun) -> None:
        """SENDs with one header block (STOMP 1.2, SEND).

        Raises:
            FrameError, DestinationError, HeaderError, DeniedError: it can't be processed.
        """
        head = run.head
        plan = head.memo
        if not isinstance(plan, SendPlan):
            if is_request(head):
                self._asking.receive(run)
                return
            plan = self._plan(head)
        if plan.transaction is None:
            self._upward.send(plan, run.bodies)
            if run.receipts is not None:
                self._replies.receipts(self._upward.fence(), run.receipts)
        else:
            self._join(plan, run, plan.transaction)

    def _join(self, plan: SendPlan, run: FrameRun, name: str) -> None:
        self._transactions.send(name, plan, run.bodies)
        if run.receipts is not None:
            self._replies.receipts(0, run.receipts)

    def _plan(self, head: Head) -> SendPlan:
        text = head.headers.get("destination")
        if text is None:
            raise FrameError("missing header destination", "a SEND needs a destination header")
        destination = self._own.for_send(text)
        self.rights.check(Right.WRITE, destination.name)
        wishes = _read_wishes(head, destination, text)
        headers = [("destination", text)]
        headers += [(name, value) for name, value in head.headers.items() if name not in NOT_FORWARDED]
        is_reply_to_own = self._rewrite_reply_to(headers)
        if head.content_length is not None:
            headers.append(("content-length", str(head.content_length)))
        lines = encode_block(headers)
        plan = SendPlan(
            destination.name,
            lines,
            head.headers.get("transaction"),
            adds_length=head.content_length is None and self._policy.content_length_always,
            is_escaped=b"\\" in lines,
            flags=_read_flags(head, destination, text) | self._flag_for(destination.name),
            section=b"" if wishes is NO_WISHES or wishes == NO_WISHES else wishes.pack(),
            is_single=bool(wishes.dedup_id),
        )
        if not is_reply_to_own:  # else the subscription to the replies may have ended before the next frame
            head.memo = plan
        return plan

    def _flag_for(self, name: bytes) -> int:
        """The flag of an envelope for who may not make this queue."""
        return 0 if not is_queue(name) or self.rights.allows(Right.CREATE, name) else _EXISTING

    def _rewrite_reply_to(self, headers: list[tuple[str, str]]) -> bool:
        for position, (name, value) in enumerate(headers):
            if name == "reply-to" and (shared := self._own.reply_name(value)) is not None:
                headers[position] = (name, shared)
                if value.startswith(Sort.TEMP_QUEUE.value):
                    self._subscribe_to_replies(value)
                return True
        return False


def _read_flags(head: Head, destination: Destination, text: str) -> int:
    if not wants_persistence(head.headers):
        return 0
    return _PERSISTENT | _BARE if destination.sort is Sort.TOPIC and is_bare(text) else _PERSISTENT


def _read_wishes(head: Head, destination: Destination, text: str) -> Wishes:
    wishes = read_wishes(head.headers)
    if wishes is not NO_WISHES and wishes.is_delayed and not is_queue(destination.name):
        raise FrameError(
            "only messages to queues can be delayed",
            f"{shown(text)} is not a queue; delay, repeat and cron headers are for queues only",
        )
    return wishes
