"""SEND: what a client publishes, and the temporary destinations that it may name.

A temporary destination is the client's own: `/temp-queue/x` is known to others as `/reply-queue/<key>.x`, which is
what a `reply-to` header becomes on its way. Both customs work: ActiveMQ's, to subscribe to `/temp-queue/x` and name it
in `reply-to`, and RabbitMQ's, where naming it is enough: the answers come with `subscription:/temp-queue/x`.

The key is a secret: who was not told the name can't send there, and forge an answer. It is another one for each name,
so that one `reply-to` that everybody sees does not tell the names of all. (The session's id would be no secret: every
message-id carries it.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from hmac import compare_digest

from forkbroker.destinations import Destination, Sort, is_bare, is_queue, parse_destination, parse_subscription
from forkbroker.session.dialects import NOT_FORWARDED, wants_persistence
from forkbroker.session.errors import FrameError, shown
from forkbroker.session.policy import SessionPolicy
from forkbroker.session.replies import Replies
from forkbroker.session.transactions import Transactions
from forkbroker.session.upward import SendPlan, Upward
from forkbroker.session.wishes import read_wishes
from forkbroker.stomp.encoder import encode_block
from forkbroker.stomp.frame import FrameRun, Head
from forkbroker.wire.details import NO_WISHES, Wishes
from forkbroker.wire.kinds import Flag

_PERSISTENT = int(Flag.PERSISTENT)
_BARE = int(Flag.BARE)
_REPLY_SORTS = {Sort.TEMP_QUEUE: "/reply-queue/", Sort.TEMP_TOPIC: "/reply-topic/"}


class OwnDestinations:
    """The temporary destinations of one session."""

    def __init__(self, secret: bytes, bare: str) -> None:
        """`secret` is known to this session alone, 16 to 64 octets that nobody can guess."""
        self._secret = secret
        self._bare = bare

    def for_send(self, text: str) -> Destination:
        """Where a SEND to this name goes. Raises DestinationError."""
        return self._shared(parse_destination(text, self._bare))

    def for_subscribe(self, text: str) -> Destination:
        """What a SUBSCRIBE to this name means.

        Raises:
            DestinationError: not a destination.
            FrameError: it is another client's temporary destination.
        """
        destination = parse_subscription(text, self._bare)
        if destination.sort in (Sort.REPLY_QUEUE, Sort.REPLY_TOPIC) and not self._is_own(destination):
            raise FrameError(
                "destination of another client",
                f"{shown(text)} is another client's: it can be sent to, not subscribed to",
            )
        return self._shared(destination)

    def reply_name(self, text: str) -> str | None:
        """What others must send to when this session names `text` in `reply-to`; None: nothing of ours."""
        for sort in _REPLY_SORTS:
            if text.startswith(sort.value):
                return self._name(sort, text.removeprefix(sort.value))
        return None

    def _is_own(self, destination: Destination) -> bool:
        key, _, local = destination.local.partition(".")
        return compare_digest(key.encode(errors="surrogateescape"), self._key(local).encode())

    def _shared(self, destination: Destination) -> Destination:
        if destination.sort in _REPLY_SORTS:
            name = self._name(destination.sort, destination.local)
            return replace(destination, name=name.encode(errors="surrogateescape"))
        return destination

    def _name(self, sort: Sort, local: str) -> str:
        return f"{_REPLY_SORTS[sort]}{self._key(local)}.{local}"

    def _key(self, local: str) -> str:
        return blake2b(local.encode(errors="surrogateescape"), key=self._secret, digest_size=16).hexdigest()


class Publishing:
    """Takes in SENDs: plans them once for each header block, and sends them up or into their transaction."""

    def __init__(
        self,
        policy: SessionPolicy,
        own: OwnDestinations,
        transactions: Transactions,
        upward: Upward,
        replies: Replies,
        subscribe_to_replies: Callable[[str], None],
    ) -> None:
        """`subscribe_to_replies` gets the name of a temporary queue that a `reply-to` header named."""
        self._policy = policy
        self._own = own
        self._transactions = transactions
        self._upward = upward
        self._replies = replies
        self._subscribe_to_replies = subscribe_to_replies

    def receive(self, run: FrameRun) -> None:
        """SENDs with one header block (STOMP 1.2, SEND).

        Raises:
            FrameError, DestinationError, HeaderError: it can't be processed.
        """
        head = run.head
        plan = head.memo
        if not isinstance(plan, SendPlan):
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
            flags=_read_flags(head, destination, text),
            section=b"" if wishes is NO_WISHES or wishes == NO_WISHES else wishes.pack(),
            is_single=bool(wishes.dedup_id),
        )
        if not is_reply_to_own:  # else the subscription to the replies may have ended before the next frame
            head.memo = plan
        return plan

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
            "only messages to queues can wait",
            f"{shown(text)} is no queue: what a SEND to it asks for, a delay or a schedule, is for queues alone",
        )
    return wishes
