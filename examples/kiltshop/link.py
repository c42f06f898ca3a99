"""A program's link to the broker: subscribe, acknowledge, send, ask.

stomp.py receives in a thread of its own. A Link passes the frames on to the main thread, which handles one after the
other, and can wait for an answer while it does so.
"""

import json
import logging
import queue
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

import stomp
from places import STOMP

logging.getLogger("stomp.py").setLevel(logging.CRITICAL)  # what goes wrong is raised, too
ANSWERS = "/temp-queue/answers"
PATIENCE_S = 10


class Message(NamedTuple):
    """A message that a program sends."""

    destination: str
    body: Any
    headers: Mapping[str, str] = {}


class LostError(Exception):
    """The link is broken, or something did not come in time."""


class Link(stomp.ConnectionListener):
    """A connection to the broker, from now on until it breaks."""

    def __init__(self) -> None:
        self.frames: queue.Queue[Any] = queue.Queue()
        """The messages of subscriptions; None: the link is broken."""
        self._replies: queue.Queue[Any] = queue.Queue()
        self._stomp = stomp.Connection12([STOMP], heartbeats=(10_000, 10_000), reconnect_attempts_max=1)
        self._stomp.set_listener("link", self)
        self._stomp.connect(wait=True)

    def on_message(self, frame: Any) -> None:
        (self._replies if frame.headers["subscription"] == ANSWERS else self.frames).put(frame)

    def on_receipt(self, frame: Any) -> None:
        self._replies.put(frame)

    def on_error(self, frame: Any) -> None:
        print("the broker says:", frame.body, flush=True)

    def on_disconnected(self) -> None:
        self.frames.put(None)
        self._replies.put(None)

    def subscribe(self, destination: str, *, durable: str = "") -> None:
        """Get the messages of a queue or topic, each of them until it is acknowledged. `durable`: also when away."""
        headers = {"prefetch-count": "1", **({"durable": "true", "auto-delete": "false"} if durable else {})}
        self._stomp.subscribe(destination, id=durable or destination, ack="client-individual", headers=headers)

    def finish(self, frame: Any, *messages: Message) -> None:
        """Acknowledge a message and send others: all of it or nothing. It is on the disk when this returns."""
        transaction = self._stomp.begin()
        for message in messages:
            self._send(message, transaction=transaction)
        self._stomp.ack(frame.headers["ack"], transaction)
        self._stomp.commit(transaction, receipt=transaction)
        self._await("receipt-id", transaction)

    def put_back(self, frame: Any, reason: str, *, requeue: bool) -> None:
        """Give a message back, to be tried again; without `requeue` it is put aside as a dead letter."""
        print(f"{frame.headers['destination']}: a message is put back, {reason}", flush=True)
        self._stomp.nack(frame.headers["ack"], requeue=str(requeue).lower(), reason=reason)

    def ask(self, destination: str, **body: Any) -> Any:
        """Send a question to a service, and return its answer."""
        number = str(uuid.uuid4())
        self._send(Message(destination, body, {"reply-to": ANSWERS, "correlation-id": number}))
        return json.loads(self._await("correlation-id", number).body)

    def close(self) -> None:
        """End the link; what was not acknowledged goes back."""
        self._stomp.disconnect()

    def _send(self, message: Message, **headers: str) -> None:
        all_headers = {"persistent": "true", **message.headers, **headers}
        self._stomp.send(message.destination, json.dumps(message.body), "application/json", all_headers)

    def _await(self, header: str, value: str) -> Any:
        try:
            while (frame := self._replies.get(timeout=PATIENCE_S)) is not None:
                if frame.headers.get(header) == value:
                    return frame
        except queue.Empty:
            raise LostError(f"no answer in {PATIENCE_S} s") from None
        raise LostError("the broker has gone")
