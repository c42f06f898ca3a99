"""The command stomp-broker: from a command line to a parent that accepts clients.

The order of the start, and why:
 1. what was inherited and is not to be kept; then the command line, so that a mistake costs nothing;
 2. what the service manager says, while this is still the process that it says it to;
 3. users, as they are looked up and not yet used;
 4. the log, the listeners, the semaphores, the store's directory: with the rights that the command was started with,
    before the caller's directory is left, and while complaints still reach the terminal;
 5. detaching, which changes the process's number: everything above is inherited;
 6. the pidfile, with signals held until the parent hears them: its lock and its number are this process's, its
    directory often root's;
 7. giving up rights: after the last thing that needs them, before the first octet of a stranger. Every module is
    imported by now, as the interpreter's directory may be unreadable afterwards;
 8. the parent, which says that it is ready once it accepts.
What is opened is closed in the opposite order, on whatever way the start or the broker ends.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace

import forkbroker
from forkbroker.cli.arguments import PROGRAM
from forkbroker.cli.authenticating import Authenticator
from forkbroker.cli.configuration import Configuration, read_configuration
from forkbroker.cli.opening import (
    LogSwitch,
    check_passed,
    make_store_directory,
    open_listeners,
    open_log,
    open_metrics,
    socket_rights,
)
from forkbroker.cli.reloading import Reloader, Running
from forkbroker.cli.status import find_status
from forkbroker.cli.wiring import Known, Serving, check_metrics, run_broker
from forkbroker.config.listing import list_effective
from forkbroker.config.settings import Settings
from forkbroker.errors import ConfigurationError, Exit, StartError
from forkbroker.parent.parent import Hooks
from forkbroker.parent.reloading import Reload
from forkbroker.posix.addresses import describe_listener
from forkbroker.posix.children import Ended
from forkbroker.posix.daemonize import Readiness, complain, detach
from forkbroker.posix.inheritance import shed
from forkbroker.posix.listening import close_listener
from forkbroker.posix.logs import set_level
from forkbroker.posix.outlets import Outlet
from forkbroker.posix.pidfile import Pidfile
from forkbroker.posix.places import Places
from forkbroker.posix.privileges import Identity, drop, raise_file_limit, resolve
from forkbroker.posix.semaphores import SemaphorePool
from forkbroker.posix.service import Service, count_passed, take_listeners
from forkbroker.posix.signals import hold_signals
from forkbroker.posix.terminal import watch_terminal
from forkbroker.posix.titles import name_instance
from forkbroker.store.locate import default_url, make_store

logger = logging.getLogger("forkbroker")

SLOTS = 64
"""Offers that can be open at one time; with more to offer, the next one waits for an answer. Four workers have four
open at once, a queue that is emptied has 20 to 50 long ones: more slots made no benchmark faster. Each is a mapping in
every process, which costs 0.2 KiB of the kernel's memory; a fork hardly notices."""

FILES_BESIDE_CLIENTS = 112
"""Descriptors that the parent has besides one for each client: listeners, log, pidfile, the channels to helpers and to
spares, connections being refused."""

Run = Callable[[Settings, Sequence[socket.socket], SemaphorePool, Serving, Hooks, Sequence[socket.socket]], int]


class Foreground:
    """Who waits for the broker to be ready when it does not detach: a person, or a program that reads its output."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def ready(self) -> None:
        """Say where the broker listens, a line for each address: with port 0 this is how to learn the port.

        Past the interpreter's buffer, which would complain again at the end when nobody reads; and without waiting for
        a reader.
        """
        with suppress(OSError), closing(Outlet(1)) as outlet:
            outlet.write("".join(f"listening on {name}\n" for name in self._names).encode())

    def failed(self, message: str, status: int) -> None:
        """Complain; the status is the process's own."""
        complain(message)


def main(arguments: Sequence[str] | None = None, run: Run = run_broker) -> int:
    """Run the command to its end; the exit status. `run` is what serves the clients."""
    shed(count_passed())
    try:
        configuration = read_configuration(arguments)
    except ConfigurationError as error:
        complain(str(error))
        # whoever only checks wants to know one thing
        return Exit.CONFIG if "--check-config" in (arguments or sys.argv) else error.status
    settings = configuration.settings
    if settings.check_config:
        return _show(configuration)
    if settings.status:
        return _tell_status(settings)
    with ExitStack() as opened:
        try:
            return _start(configuration, opened, run)
        except ConfigurationError as error:
            complain(str(error))
            return error.status
        except StartError as error:
            complain(str(error))
            return error.status


def _show(configuration: Configuration) -> int:
    """Print what is in effect, and where it comes from."""
    lines = list_effective(configuration.given, configuration.origins, configuration.permissions)
    _print("".join(f"{line}\n" for line in lines))
    return Exit.OK


def _print(text: str) -> None:
    """Write on standard output, past the interpreter: it would complain at its end if nobody reads."""
    data = text.encode(errors="backslashreplace")
    with suppress(OSError):
        while data:
            data = data[os.write(1, data) :]


def _tell_status(settings: Settings) -> int:
    """Print whether the broker of the pidfile runs; the exit status says the same."""
    assert settings.pidfile is not None  # the settings demand it
    status, text = find_status(settings.pidfile)
    _print(f"{text}\n")
    return status


def _start(configuration: Configuration, opened: ExitStack, run: Run) -> int:
    """Steps 2 to 5 of the start; what goes wrong here is the caller's to tell."""
    settings = configuration.settings
    if settings.instance is not None:
        name_instance(settings.instance)
    service = Service()
    passed = take_listeners()
    identity = resolve(settings.user, settings.group)
    # where that is depends on whose rights the command was started with
    settings = replace(settings, store=settings.store or default_url(os.environ, os.geteuid()))
    check_metrics(settings)
    make_store(settings.store or "")  # its modules are imported while they can be read
    log = open_log(settings, identity, opened)
    files = raise_file_limit()
    check_passed(passed, settings)
    rights = socket_rights(settings, identity)
    listening = None if passed else open_listeners(settings, rights, opened)
    listeners = [one for some in listening.values() for one in some] if listening is not None else passed
    scraped = open_metrics(settings, opened)
    semaphores = SemaphorePool(SLOTS)
    opened.callback(semaphores.close)
    if identity is not None:
        make_store_directory(settings.store or "", identity)
    places = Places()
    opened.callback(places.close)
    known = Known(configuration.users, configuration.permissions)
    authenticator = None if settings.authenticator is None else Authenticator(settings, identity)
    if authenticator is not None:
        opened.callback(authenticator.close)
    serving = Serving(settings, semaphores, places, known, None if authenticator is None else authenticator.link)
    running = Running(configuration.settings, listening, rights, known)
    reloader = Reloader(configuration.arguments, running, log, serving.prepare)
    has_hung_up = _never if settings.daemonize or service.is_there else watch_terminal()
    names = [describe_listener(listener) for listener in listeners]
    readiness = detach() if settings.daemonize else Foreground(names)
    hooks = Hooks(
        ready=lambda: _be_ready(readiness, service, names, scraped),
        stopping=service.stopping,
        status=service.status,
        beat=lambda: _beat(service, log),
        reopen_logs=log.reopen,
        set_log_level=set_level,
        reload=Reload(
            check=reloader.check,
            rehearse=reloader.rehearse,
            prepare=reloader.prepare,
            begun=service.reloading,
            ended=service.ready,
        ),
        has_hung_up=has_hung_up,
        close_listener=close_listener,
        log_descriptors=lambda: log.descriptors,
        reaped=_ignore if authenticator is None else authenticator.ended,
    )
    try:
        _settle(settings, identity, opened, lambda: _start_helper(authenticator, log))
        _warn(settings, files)
        return run(settings, listeners, semaphores, serving, hooks, scraped)
    except (StartError, ConfigurationError) as error:
        readiness.failed(str(error), error.status)
        if settings.daemonize:
            logger.error("cannot start: %s", error)
        return error.status


def _never() -> bool:
    return False


def _beat(service: Service, log: LogSwitch) -> None:
    """The parent's loop turns."""
    service.alive()
    log.look_after()


def _ignore(_: Ended) -> None:
    pass


def _start_helper(authenticator: Authenticator | None, log: LogSwitch) -> None:
    if authenticator is not None:
        authenticator.start(log.descriptors)


def _settle(settings: Settings, identity: Identity | None, opened: ExitStack, fork_first: Callable[[], None]) -> None:
    """Steps 6 and 7. From the pidfile on anybody may know this process: no signal may find it without handlers.

    `fork_first` forks what may need the rights that are given up.
    """
    hold_signals()
    if settings.pidfile is not None:
        pidfile = Pidfile(settings.pidfile)
        opened.callback(pidfile.remove)
    fork_first()
    if identity is not None:
        drop(identity)


def _be_ready(
    readiness: Readiness | Foreground, service: Service, names: Sequence[str], scraped: Sequence[socket.socket]
) -> None:
    """Tell everybody who waits for it that connections are accepted."""
    logger.info("%s %s: process %d listens on %s", PROGRAM, forkbroker.__version__, os.getpid(), ", ".join(names))
    for listener in scraped:
        logger.info("metrics: http://%s/metrics", describe_listener(listener))
    readiness.ready()
    service.ready()


def _warn(settings: Settings, files: int) -> None:
    """What an administrator should look at, and what stops nobody."""
    if os.geteuid() == 0:
        logger.warning("running as root; give --user, or start the broker as another user")
    if files < settings.max_clients + FILES_BESIDE_CLIENTS:
        logger.warning(
            "the limit of %d open files is too low for %d clients; raise it, or lower --max-clients",
            files,
            settings.max_clients,
        )
