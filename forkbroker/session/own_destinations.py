"""The destinations that a client may name: those of its virtual host, and its own temporary ones.

A temporary destination is the client's own: `/temp-queue/x` is known to others as `/reply-queue/<key>.x`, which is
what a `reply-to` header becomes on its way. Both customs work: ActiveMQ's, to subscribe to `/temp-queue/x` and name it
in `reply-to`, and RabbitMQ's, where naming it is enough: the answers come with `subscription:/temp-queue/x`.

The key is a secret: who was not told the name can't send there, and forge an answer. It is another one for each name,
so that one `reply-to` that everybody sees does not tell the names of all. (The session's id would be no secret: every
message-id carries it.)
"""

from __future__ import annotations

from dataclasses import replace

from forkbroker.destinations import (
    Destination,
    DestinationError,
    Sort,
    durable_name,
    is_system,
    parse_destination,
    parse_subscription,
)
from forkbroker.digests import blake2b, compare_digest
from forkbroker.hosts import EVERYWHERE, MARK, Space
from forkbroker.patterns import PatternError, check_pattern
from forkbroker.session.errors import FrameError, shown

_REPLY_SORTS = {Sort.TEMP_QUEUE: "/reply-queue/", Sort.TEMP_TOPIC: "/reply-topic/"}


class OwnDestinations:
    """What names of destinations mean in one session."""

    def __init__(self, secret: bytes, bare: str, space: Space = EVERYWHERE, *, has_control: bool = True) -> None:
        """`secret` is known to this session alone, 16 to 64 octets that nobody can guess.

        `has_control`: the client may ask for what is about the broker as a whole.
        """
        self.secret = secret
        self._bare = bare
        self._space = space
        self._has_control = has_control

    def for_send(self, text: str) -> Destination:
        """Where a SEND to this name goes. Raises DestinationError."""
        return self._placed(parse_destination(text, self._bare), text)

    def for_subscribe(self, text: str) -> Destination:
        """What a SUBSCRIBE to this name means.

        Raises:
            DestinationError: not a destination.
            FrameError: it is another client's temporary destination, or none of this host.
        """
        destination = parse_subscription(text, self._bare)
        if destination.sort in (Sort.REPLY_QUEUE, Sort.REPLY_TOPIC) and not self._is_own(destination):
            raise FrameError(
                "destination of another client",
                f"{shown(text)} is another client's: it can be sent to, not subscribed to",
            )
        if is_system(destination.name):
            self.check_control(text)
            return destination
        return self._placed(destination, text)

    def durable_name(self, name: str) -> bytes:
        """As `destinations.durable_name`, within the host. Raises DestinationError."""
        return self._space.inward(durable_name(name))

    def check_control(self, text: str) -> None:
        """Raise FrameError unless the client may ask for what is about the broker as a whole."""
        if not self._has_control:
            raise FrameError(
                "not for this host",
                f"{shown(text)} is about the broker as a whole, which is not for clients of this host: connect to the "
                "default one",
            )

    def reply_name(self, text: str) -> str | None:
        """What others must send to when this session names `text` in `reply-to`; None: nothing of ours."""
        for sort in _REPLY_SORTS:
            if text.startswith(sort.value):
                return self._name(sort, text.removeprefix(sort.value))
        return None

    def _is_own(self, destination: Destination) -> bool:
        key, _, local = destination.local.partition(".")
        return compare_digest(key.encode(errors="surrogateescape"), self._key(local).encode())

    def _placed(self, destination: Destination, text: str) -> Destination:
        """With the name that the broker has for it."""
        if destination.local.startswith(MARK):
            raise DestinationError(
                f"destination {shown(text)}: no name begins with {MARK}, which the broker needs itself"
            )
        own = destination.name
        if destination.sort in _REPLY_SORTS:
            own = self._name(destination.sort, destination.local).encode(errors="surrogateescape")
        name = self._space.inward(own)
        if name is destination.name:
            return destination
        try:
            if destination.is_pattern:
                check_pattern(name)
        except PatternError as error:
            raise DestinationError(self._space.conceal(str(error))) from None
        return replace(destination, name=name)

    def _name(self, sort: Sort, local: str) -> str:
        return f"{_REPLY_SORTS[sort]}{self._key(local)}.{local}"

    def _key(self, local: str) -> str:
        return blake2b(local.encode(errors="surrogateescape"), key=self.secret, digest_size=16).hexdigest()
