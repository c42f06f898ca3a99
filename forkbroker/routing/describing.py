"""What there is, in words for an administrator: a line for each queue and durable subscription, and the schedule."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from forkbroker.routing.counters import QueueView
from forkbroker.routing.jobs.delays import Delays
from forkbroker.routing.queues.registry import Queues, shown
from forkbroker.routing.topics.durables import Durable, Durables


def describe(queues: Queues, durables: Durables, delays: Delays) -> Iterator[str]:
    """The lines, queues by name. Each is made when it is asked for, and queues that are gone by then are left out."""
    names = sorted(queue.name for queue in queues.all())
    for name in names:
        queue, durable = queues.find(name), durables.find(name)
        if queue is not None:
            what = f"queue {shown(name)}" if durable is None else _describe_durable(durable)
            yield f"{what}: {_describe_view(queue.view())}"
    if not names:
        yield "no queues"
    if delays.messages:
        yield f"schedule: {delays.messages:,} messages, {delays.octets:,} bytes"


def _describe_view(view: QueueView) -> str:
    text = (
        f"{view.ready:,} ready, {view.unsettled:,} unsettled, {view.octets:,} bytes, "
        f"{view.consumers:,} consumer{'' if view.consumers == 1 else 's'}"
    )
    return f"{text}, {view.paged:,} on disk only" if view.paged else text


def _describe_durable(durable: Durable) -> str:
    used = datetime.fromtimestamp(durable.used_ms / 1000).isoformat(" ", "seconds")
    return f"durable subscription {shown(durable.queue.name)} to {shown(durable.topic)}, last used {used}"
