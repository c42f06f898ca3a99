"""What the programs of the shop have in common: they handle one message after the other, for ever.

A program can be killed at any instant, and so can the broker. What a program has not acknowledged then is delivered
again. So each of them is written such that it does no harm to do a thing twice.
"""

import json
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, get_type_hints

from link import Link, LostError, Message
from stomp.exception import StompException

Answer = tuple[Any, list[Message]]
"""What is answered to a request, and the messages that follow from it."""
NONSENSE = (AttributeError, KeyError, TypeError, ValueError)
"""What Python raises where a message has not the parts that it should have."""


class RefusedError(Exception):
    """A request that cannot be granted; the text is for whoever has asked."""


def run(begin: Callable[[Link], None], handle: Callable[[Link, Any], None]) -> None:
    """Connect, `begin` with the subscriptions, and `handle` each message; when the link breaks, do it all again."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    while True:
        try:
            with closing(Link()) as link:
                begin(link)
                while (frame := link.frames.get()) is not None:
                    try:
                        handle(link, frame)
                    except NONSENSE as error:
                        link.put_back(frame, f"it makes no sense, {error!r}", requeue=False)
        except (LostError, StompException, OSError) as error:
            print(f"{Path(sys.argv[0]).stem}: connecting again, {error!r}", flush=True)
        time.sleep(1)


def serve(verbs: Mapping[str, Callable[..., Answer]]) -> None:
    """Grant requests. Each verb has a queue, as /queue/orders.place, and a function."""

    def begin(link: Link) -> None:
        for name in verbs:
            link.subscribe(f"/queue/{name}")

    def handle(link: Link, frame: Any) -> None:
        # any other name may be that of a queue which is not the asker's
        asker = frame.headers.get("reply-to", "")
        has_asker = asker.startswith("/reply-queue/")
        try:
            answer, messages = perform(verbs[frame.headers["destination"].removeprefix("/queue/")], frame.body)
        except RefusedError as refused:
            if not has_asker:
                link.put_back(frame, f"refused, {refused}", requeue=False)
                return
            answer, messages = {"error": str(refused)}, []
        if has_asker:
            number = frame.headers.get("correlation-id", "")
            messages = [Message(asker, answer, {"correlation-id": number}), *messages]
        link.finish(frame, *messages)

    run(begin, handle)


def perform(verb: Callable[..., Answer], body: str) -> Answer:
    """Call the function of a verb with what a request says, which may be anything."""
    hints, arguments = get_type_hints(verb), json.loads(body)
    for name, value in arguments.items():
        if type(value) is not hints[name]:
            raise TypeError(f"{name} is no {hints[name].__name__}")
    return verb(**arguments)
