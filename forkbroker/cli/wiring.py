"""The parent, joined with the programs of all other processes: no other module knows all of them."""

from __future__ import annotations

import socket
import time
from dataclasses import replace

from forkbroker.cli.conversion import max_passed, parent_policy, routing_policy, spin_s
from forkbroker.cli.raising import raise_children
from forkbroker.cli.resources import Resources
from forkbroker.cli.serving import Serving
from forkbroker.config.settings import Settings
from forkbroker.parent.parent import Parent
from forkbroker.parent.setup import Hooks, Programs
from forkbroker.posix.blocks import use_again
from forkbroker.posix.daemonize import drop_standard_streams
from forkbroker.posix.loop import Loop
from forkbroker.routing.router import Router
from forkbroker.stomp.encoder import encode_frame
from forkbroker.store import process, saving
from forkbroker.store.locate import make_store


def run_broker(settings: Settings, resources: Resources, serving: Serving, hooks: Hooks) -> int:
    """Serve clients, and Prometheus, until a signal ends it; the exit status."""
    use_again()
    loop = Loop(for_many=True, spin_s=spin_s(settings))
    parent = Parent(
        loop,
        resources.listeners,
        Router(routing_policy(settings), resources.semaphores, time.time),
        _make_programs(settings, resources, serving),
        parent_policy(settings, serving.equipment.known),
        replace(hooks, fault=serving.tell_fault),
    )
    try:
        return parent.run()
    finally:
        loop.close()


def _make_programs(settings: Settings, resources: Resources, serving: Serving) -> Programs:
    store = make_store(settings.store or "")

    def raise_spares(end: socket.socket) -> int:
        # with the equipment that there is by then
        return raise_children(serving, end, resources.log.follow)

    def keep(end: socket.socket, is_fresh: bool) -> int:
        _let_go(settings)
        return process.main(
            end,
            store,
            is_fresh=is_fresh,
            repair=settings.store_repair,
            max_envelope=max_passed(settings),
            watermark=settings.disk_free,
            spin_s=spin_s(settings),
        )

    def back_up(end: socket.socket, name: str) -> int:
        _let_go(settings)
        return saving.main(end, store, name)

    def measure(end: socket.socket) -> int:
        # the modules for HTTP come with it, of which nobody else should have the memory
        from forkbroker.metrics import process as metrics

        _let_go(settings)
        return metrics.main(end, list(resources.scraped), settings.metrics_queues)

    return Programs(
        nursery=raise_spares,
        store=keep,
        refusal=refuse,
        kept=serving.kept,
        backup=back_up,
        metrics=measure if resources.scraped else None,
        metrics_kept=[listener.fileno() for listener in resources.scraped],
    )


def _let_go(settings: Settings) -> None:
    """A process of a daemon does not keep the streams of whoever has started it."""
    if settings.daemonize:
        drop_standard_streams()


def refuse(reason: str, is_web: bool, heard: bytes) -> bytes:
    """The ERROR for a client that gets no process, whose version is not known yet; or the answer to its request."""
    if is_web:
        from forkbroker.child.web.requests import refuse as refuse_request

        return refuse_request(reason, heard)
    headers = [("message", reason), ("content-type", "text/plain")]
    return encode_frame(None, "ERROR", headers, f"{reason}\n".encode())
