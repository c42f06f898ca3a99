"""Requests to the broker itself: SENDs to `/control/<verb>`, and the answers that come back.

The form of a request, and the client's right to it, are checked here: what is wrong is answered at once, and the parent
process hears nothing of it. All else goes up as an ASK. What comes down, as one ANSWER or several, is sent to the
destination that `reply-to` has named, like any message of this client: so it reaches whoever reads there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product, repeat

from forkbroker.control import arguments, verbs
from forkbroker.control.arguments import RequestError
from forkbroker.destinations import Sort, is_queue
from forkbroker.permissions import RIGHTS, Right, Rights
from forkbroker.session.downward import Replies
from forkbroker.session.errors import FrameError, shown
from forkbroker.session.own_destinations import OwnDestinations
from forkbroker.session.upward import SendPlan, Upward
from forkbroker.stomp.encoder import encode_block
from forkbroker.stomp.frame import FrameRun, Head
from forkbroker.wire.envelope import Envelope, pack
from forkbroker.wire.kinds import Flag, Kind

_FINAL = int(Flag.FINAL)


class Asking:
    """The requests of one client."""

    def __init__(
        self,
        own: OwnDestinations,
        rights: Rights,
        upward: Upward,
        replies: Replies,
        subscribe_to_replies: Callable[[str], None],
    ) -> None:
        """`subscribe_to_replies` gets the name of a temporary queue that `reply-to` names."""
        self._own = own
        self.rights = rights
        """What the client may do; may be changed."""
        self._upward = upward
        self._replies = replies
        self._subscribe_to_replies = subscribe_to_replies
        self._open: dict[int, SendPlan] = {}
        """How the answers are sent that are due, by the numbers of the ASKs."""
        self._last = 0

    def receive(self, run: FrameRun) -> None:
        """Requests with one header block. A RECEIPT says that the request has been received, and no more.

        Raises:
            FrameError, DestinationError, DeniedError: the client may not ask here, or there is no way to answer: the
                frame is an error.
        """
        head = run.head
        reply = self._plan_reply(head)
        name = head.headers["destination"].removeprefix(verbs.CONTROL)
        for body, receipt in zip(run.bodies, run.receipts or repeat(None), strict=False):
            try:
                self._ask(name, bytes(body), reply)
            except RequestError as error:
                self._upward.send(reply, [json.dumps(error.answer()).encode()])
            if receipt is not None:
                self._replies.receipts(self._upward.fence(), [receipt])

    def _plan_reply(self, head: Head) -> SendPlan:
        headers = head.headers
        self._own.check_control(headers["destination"])
        if "transaction" in headers:
            raise FrameError(
                "a request in a transaction",
                f"{shown(headers['destination'])} is a request to the broker, which no transaction can have: send it "
                "without the transaction header",
            )
        text = headers.get("reply-to")
        if text is None:
            raise FrameError(
                "missing header reply-to",
                f"a SEND to {shown(headers['destination'])} is a request to the broker, and needs a reply-to header: "
                "where the answer is to go, for example /temp-queue/answers",
            )
        destination = self._own.for_send(text)
        if destination.sort is Sort.CONTROL:
            raise FrameError("bad reply-to", f"reply-to {shown(text)} is no place for an answer: name a queue or topic")
        self.rights.check(Right.READ, destination.name)
        if destination.sort is Sort.TEMP_QUEUE:
            self._subscribe_to_replies(text)
        answer = [("destination", self._own.reply_name(text) or text), ("content-type", "application/json")]
        answer += [(name, headers[name]) for name in ("correlation-id",) if name in headers]
        lines = encode_block(answer)
        may_make = not is_queue(destination.name) or self.rights.allows(Right.CREATE, destination.name)
        flags = 0 if may_make else int(Flag.EXISTING)
        return SendPlan(destination.name, lines, None, adds_length=True, is_escaped=b"\\" in lines, flags=flags)

    def _ask(self, name: str, body: bytes, reply: SendPlan) -> None:
        verb = verbs.find(name)
        found = verb.read(arguments.parse(body))
        if verb.is_own:
            result = self._show_rights(found.get("destinations", []))
            self._upward.send(reply, [json.dumps({"ok": True, "result": result}).encode()])
            return
        for right, needed in product(verb.rights(found), verb.needs(found)):
            if not self.rights.allows(RIGHTS[right], needed):
                destination = needed.decode("utf-8", "backslashreplace")
                raise RequestError("denied", f"{name} needs the right {right} on {destination}")
        if len(self._open) >= verbs.MAX_OPEN:
            raise RequestError(
                "unavailable", f"{verbs.MAX_OPEN} requests of this client are open already, wait for an answer"
            )
        packed = arguments.pack(found)
        self._last += 1
        self._open[self._last] = reply
        self._upward.request(pack(Kind.ASK, token=self._last, destination=name.encode(), block=packed))

    def _show_rights(self, names: list[str]) -> dict[str, object]:
        """What the client may do: verbs that concern no destination, and what it may do with these destinations."""
        may = self.rights.allows
        return {
            "login": self.rights.user,
            "verbs": [
                verb.name
                for verb in verbs.VERBS.values()
                if verb.is_own or (not verb.concerns and may(RIGHTS[verb.right], verb.needs({})[0]))
            ],
            "destinations": {
                name: [right.value for right in Right if may(right, name.encode(errors="surrogateescape"))]
                for name in names
            },
        }

    def answered(self, envelope: Envelope) -> None:
        """ANSWER: the whole answer, or a part of it."""
        reply = self._open[envelope.token]
        if envelope.flags & _FINAL:
            del self._open[envelope.token]
        self._upward.send(reply, [envelope.block])


def is_request(head: Head) -> bool:
    """Whether this SEND is for the broker itself."""
    return head.headers.get("destination", "").startswith(verbs.CONTROL)
