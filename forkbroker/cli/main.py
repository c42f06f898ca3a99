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
from contextlib import ExitStack, suppress
from dataclasses import replace

from forkbroker.cli.announcing import Announcer
from forkbroker.cli.authenticating import check_program, open_authenticator
from forkbroker.cli.configuration import Configuration, read_configuration
from forkbroker.cli.conversion import Known
from forkbroker.cli.optional import check_metrics, make_tls, make_tokens, make_web
from forkbroker.cli.reloading import Reloader, Running
from forkbroker.cli.resources import LogSwitch, open_resources
from forkbroker.cli.serving import Serving
from forkbroker.cli.status import find_status
from forkbroker.cli.wiring import run_broker
from forkbroker.config.listing import list_effective
from forkbroker.config.options import tls, web
from forkbroker.config.settings import Settings
from forkbroker.errors import ConfigurationError, Exit, StartError
from forkbroker.parent.reloading import Reload
from forkbroker.parent.setup import Hooks
from forkbroker.posix.addresses import SchemeListener
from forkbroker.posix.daemonize import complain
from forkbroker.posix.inheritance import shed
from forkbroker.posix.listening import close_listener
from forkbroker.posix.logs import set_level
from forkbroker.posix.pidfile import Pidfile
from forkbroker.posix.privileges import SystemUser, drop, raise_file_limit, resolve
from forkbroker.posix.service import Service, count_passed, take_listeners
from forkbroker.posix.signals import hold_signals
from forkbroker.posix.terminal import watch_terminal
from forkbroker.posix.titles import name_instance
from forkbroker.store.locate import default_url, make_store

logger = logging.getLogger("forkbroker")

FILES_BESIDE_CLIENTS = 112
"""Descriptors that the parent has besides one for each client: listeners, log, pidfile, the channels to helpers and to
spares, connections being refused."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command to its end; the exit status."""
    shed(count_passed())
    try:
        configuration = read_configuration(arguments)
    except ConfigurationError as error:
        complain(str(error))
        # whoever only checks wants to know one thing
        return Exit.CONFIG if "--check-config" in (arguments or sys.argv) else error.status
    settings = configuration.settings
    if settings.check_config:
        try:
            _check_parts(settings)
        except StartError as error:
            complain(str(error))
            return Exit.CONFIG
        return _show(configuration)
    if settings.status:
        return _tell_status(settings)
    with ExitStack() as opened:
        try:
            return _start(configuration, opened)
        except (ConfigurationError, StartError) as error:
            complain(str(error))
            return error.status


def _check_parts(settings: Settings) -> None:
    """Make what the settings ask for, as a start would: libraries, and what is read from files. Raises StartError."""
    check_metrics(settings)
    make_tls(settings)
    make_tokens(settings)
    make_web(settings)
    if settings.authenticator is not None:
        check_program(settings.authenticator)


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


def _start(configuration: Configuration, opened: ExitStack) -> int:
    """Steps 2 to 8; what goes wrong up to the detaching is the caller's to tell."""
    settings = configuration.settings
    if settings.instance is not None:
        name_instance(settings.instance)
    service, passed = Service(), take_listeners()
    system_user = resolve(settings.user, settings.group)
    # where that is depends on whose rights the command was started with
    settings = replace(settings, store=settings.store or default_url(os.environ, os.geteuid()))
    check_metrics(settings)
    make_store(settings.store or "")  # its modules are imported while they can be read
    files = raise_file_limit()
    resources = open_resources(settings, passed, system_user, opened)
    authenticator = open_authenticator(settings, system_user, opened)
    known = Known(configuration.users, configuration.permissions)
    serving = Serving(settings, resources.semaphores, resources.places, known, authenticator.link)
    running = Running(configuration.settings, resources.listening, resources.rights, known)
    reloader = Reloader(configuration.arguments, running, resources.log, serving.prepare)
    has_hung_up = _never if settings.daemonize or service.is_there else watch_terminal()
    announcer = Announcer(service, resources, daemonizes=settings.daemonize)
    hooks = replace(
        _make_hooks(service, resources.log, reloader),
        ready=announcer.ready,
        has_hung_up=has_hung_up,
        reaped=authenticator.ended,
    )
    try:
        _settle(settings, system_user, opened, lambda: authenticator.start(resources.log.descriptors))
        _warn(settings, files)
        _warn_of_idle_options(configuration, resources.listeners)
        return run_broker(settings, resources, serving, hooks)
    except (StartError, ConfigurationError) as error:
        announcer.failed(error)
        return error.status


def _never() -> bool:
    return False


def _make_hooks(service: Service, log: LogSwitch, reloader: Reloader) -> Hooks:
    """What the service manager, the log and a reload have to do with the parent's life."""

    def beat() -> None:
        service.alive()
        log.look_after()

    return Hooks(
        stopping=service.stopping,
        status=service.status,
        beat=beat,
        reopen_logs=log.reopen,
        set_log_level=set_level,
        log_descriptors=lambda: log.descriptors,
        close_listener=close_listener,
        reload=Reload(
            check=reloader.check,
            rehearse=reloader.rehearse,
            prepare=reloader.prepare,
            begun=service.reloading,
            ended=service.ready,
        ),
    )


def _settle(
    settings: Settings, system_user: SystemUser | None, opened: ExitStack, fork_first: Callable[[], None]
) -> None:
    """Steps 6 and 7. From the pidfile on anybody may know this process: no signal may find it without handlers.

    `fork_first` forks what may need the rights that are given up.
    """
    hold_signals()
    if settings.pidfile is not None:
        pidfile = Pidfile(settings.pidfile)
        opened.callback(pidfile.remove)
    fork_first()
    if system_user is not None:
        drop(system_user)


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


def _warn_of_idle_options(configuration: Configuration, listeners: Sequence[socket.socket]) -> None:
    """Name options that were given for addresses of a kind that there are none of."""
    has_tls = any(isinstance(one, SchemeListener) and one.is_tls for one in listeners)
    has_web = any(isinstance(one, SchemeListener) and one.is_web for one in listeners)
    for chapter, is_used, schemes in (
        (tls.CHAPTER, has_tls, "tls:// or wss://"),
        (web.CHAPTER, has_web, "ws:// or wss://"),
    ):
        names = ", ".join(option.name for option in chapter.options if option.field in configuration.given)
        if names and not is_used:
            logger.warning("%s: no effect, as no address of --listen begins with %s", names, schemes)
