"""The handler of each verb."""

from __future__ import annotations

from collections.abc import Mapping

from forkbroker.parent.channels import Channels
from forkbroker.parent.clients import Clients
from forkbroker.parent.control.asked import Handler
from forkbroker.parent.control.broker import Whole
from forkbroker.parent.control.clients import Visitors
from forkbroker.parent.control.messages import Messages
from forkbroker.parent.control.queues import Looks
from forkbroker.parent.control.times import Times
from forkbroker.parent.draining import Draining


def make_handlers(
    channels: Channels, clients: Clients, draining: Draining, whole: Whole, looks: Looks
) -> Mapping[str, Handler]:
    """One for each row of `forkbroker.control.verbs`."""
    loop, router = channels.loop, channels.router
    visitors = Visitors(loop, router, clients, draining)
    messages = Messages(loop, router)
    times = Times(router)
    return {
        "status": whole.status,
        "log-level": whole.log_level,
        "reload": whole.reload,
        "check": whole.check,
        "backup": whole.backup,
        "who": visitors.who,
        "processes": whole.processes,
        "kick": visitors.kick,
        "tail": visitors.tail,
        "drain": visitors.drain,
        "undrain": visitors.undrain,
        "queues": looks.queues,
        "topics": looks.topics,
        "subscriptions": looks.subscriptions,
        "show": messages.show,
        "hold": times.hold,
        "release": times.release,
        "durable": looks.durable,
        "schedule": times.schedule,
        "schedule-run": times.run_now,
        "schedule-cancel": times.cancel,
        "purge": messages.purge,
        "rm": messages.remove,
        "move": messages.move,
        "copy": messages.copy,
        "retry": messages.retry,
    }
