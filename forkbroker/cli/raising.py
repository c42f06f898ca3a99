"""The program of the nursery: what its children can do, and who is played in it before it forks any of them."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from forkbroker.child import nursery, proxied
from forkbroker.child.answers import Answers
from forkbroker.child.lobby import Bell, Lobby
from forkbroker.child.rehearsal import USER, rehearse
from forkbroker.child.spare import WAYS, Spare
from forkbroker.child.transport import PlainTransport, Transport
from forkbroker.child.verifying import Verifier, Ways
from forkbroker.cli.serving import Equipment, Serving
from forkbroker.config.settings import Settings
from forkbroker.errors import StartError
from forkbroker.passwords import SALT_BYTES, Users, make_hash
from forkbroker.permissions import Permissions
from forkbroker.posix import merging
from forkbroker.posix.daemonize import drop_standard_streams
from forkbroker.posix.oom import go_first
from forkbroker.posix.places import Places
from forkbroker.posix.privileges import apply_limits
from forkbroker.wire.kinds import Begin

logger = logging.getLogger("forkbroker")


def raise_children(serving: Serving, end: socket.socket, follow_log: nursery.LogProgram) -> int:
    """Be the nursery on this end of its channel, for clients that are served in this way; the exit status."""
    bell, spare = Bell(), Spare()
    spare.suspected = serving.places.leave_one
    _become_nursery(serving.equipment.settings)
    bell.hang()

    def equip(told: bytes) -> nursery.SpareProgram:
        if told:
            serving.learn(told)
        return _equip(serving.equipment, serving.places, spare, bell)

    try:
        return nursery.main(end, equip, follow_log)
    except StartError as error:
        # the parent, which could read all of it a moment ago, tries once more
        logger.error("nursery: cannot take over the reload: %s", error)
        return error.status


def _equip(equipment: Equipment, places: Places, spare: Spare, bell: Bell) -> nursery.SpareProgram:
    """Play clients through, and return what a spare runs that is equipped so; it verifies logins at `places`."""
    settings, shared = equipment.settings, equipment.shared
    answers = Answers(shared)
    lobby = Lobby(spare, shared, answers, bell)
    spare.programs[:] = [None] * WAYS
    _give_programs(equipment, spare, bell)
    spare.programs[0] = lobby.serve
    # who plays a client in the nursery must not have the limits of one
    rehearsing = replace(shared, verifier=_make_rehearsed_verifier(equipment, places), permissions=Permissions())
    rehearsed = Answers(rehearsing)
    lobbies, others = [lobby], list[Callable[[], None]]()
    if equipment.web is not None:
        from forkbroker.child.web import porch
        from forkbroker.child.web.playing import play_visitors

        others.append(partial(play_visitors, rehearsing, rehearsed, equipment.web))
        if shared.verifier is None or not equipment.web.cookie:
            lobbies.append(porch.WebLobby(spare, shared, answers, bell, equipment.web))
            spare.programs[Begin.WEB] = lobbies[-1].serve

    rehearse(rehearsing, rehearsed, others)
    for one in lobbies:
        one.prepare()
    return _limit(settings, spare.wait)


def _make_rehearsed_verifier(equipment: Equipment, places: Places) -> Verifier | None:
    """As the real one, for the user who is played in the nursery, and whose passcode takes no time.

    None: no hash is computed for clients, and what is needed for one is perhaps not loaded.
    """
    if equipment.shared.verifier is None or equipment.known.users is None:
        return None
    hashes = {USER: str(make_hash(USER, bytes(SALT_BYTES), ln=1))}
    return Verifier(Users(hashes, bytes(SALT_BYTES)), places, Ways())


def _become_nursery(settings: Settings) -> None:
    """What holds for this process and all that it forks."""
    if settings.daemonize:
        drop_standard_streams()
    go_first()
    if settings.merge_memory:
        merging.merge()


def _limit(settings: Settings, wait: Callable[[int], int]) -> Callable[[int], int]:
    """What a spare runs: `wait` itself where nothing is limited, as each function more costs memory of each client."""
    if not (settings.child_memory or settings.child_cpu or settings.child_files):
        return wait

    def wait_within_limits(fd: int) -> int:
        apply_limits(
            memory_bytes=settings.child_memory or None,
            cpu_s=settings.child_cpu or None,
            files=settings.child_files or None,
        )
        return wait(fd)

    return wait_within_limits


def _give_programs(equipment: Equipment, spare: Spare, bell: Bell) -> None:
    """Let a spare serve clients in all ways that there are but the lobby's."""
    programs = spare.programs
    give: dict[str, Any] = {"shared": equipment.shared, "bell": bell}
    programs[Begin.PROXIED] = partial(proxied.serve, spare, make=PlainTransport, **give)
    makers: dict[int, Callable[[socket.socket], Transport]] = {0: PlainTransport}
    if equipment.tls is not None:
        from forkbroker.child import tls

        encrypted = partial(tls.serve, spare, context=equipment.tls, **give)
        programs[Begin.TLS] = encrypted
        programs[Begin.TLS | Begin.PROXIED] = partial(encrypted, is_proxied=True)
        makers[Begin.TLS] = partial(tls.TlsTransport, context=equipment.tls)
    if equipment.web is not None:
        from forkbroker.child.web import site
        from forkbroker.child.web.page import load

        if equipment.web.page is not None:
            load(equipment.web.page)  # before the children, which have its files then
        for tls_or_not, make in makers.items():
            served = partial(site.serve, spare, policy=equipment.web, make=make, is_tls=bool(tls_or_not), **give)
            programs[Begin.WEB | tls_or_not] = served
            programs[Begin.WEB | tls_or_not | Begin.PROXIED] = partial(served, is_proxied=True)
            programs[Begin.WEB | tls_or_not | Begin.FORWARDED] = partial(served, is_forwarded=True)
