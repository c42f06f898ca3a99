"""A reload, as the command knows it: what is read again, what of it has changed, and who has to heed it.

The checker reads the configuration file once more; the command line stays what it was. It finds out as well what names
of hosts mean, as a name service may take its time. What it has found travels to the parent as JSON: the values as they
were given, for all others are defaults. The parent reads these, which needs no disk, and makes a plan: it opens what is
new, and if that fails, everything stays as it is.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from forkbroker.cli.configuration import combine
from forkbroker.cli.conversion import Known
from forkbroker.cli.resources import BACKLOG, LogSwitch
from forkbroker.config.evaluation import make_settings
from forkbroker.config.file import DEFAULT_FILE
from forkbroker.config.options.option import Effect, Given, Option
from forkbroker.config.options.table import OPTIONS
from forkbroker.config.settings import Settings
from forkbroker.errors import ConfigurationError, Exit, StartError
from forkbroker.parent.reloading import Plan
from forkbroker.permissions import Permissions, from_plain
from forkbroker.posix.addresses import ListenAddress
from forkbroker.posix.listening import SocketRights, close_listener, look_up, open_listener
from forkbroker.posix.titles import set_title
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Kind

logger = logging.getLogger("forkbroker")

Listening = dict[ListenAddress, list[socket.socket]]
"""The sockets of each address; none: the service manager has opened those that there are."""


@dataclass(slots=True)
class Running:
    """What the broker is just now."""

    settings: Settings
    """What is in effect: an option that needs a restart keeps its value."""
    listening: Listening | None
    """None: the service manager listens."""
    rights: SocketRights
    known: Known


class Reloader:
    """Reads the configuration again, and knows what follows from it."""

    def __init__(
        self,
        arguments: Mapping[str, Given],
        running: Running,
        log: LogSwitch,
        prepare_serving: Callable[[Settings, Known], Callable[..., Plan]],
        default_file: Path | None = DEFAULT_FILE,
    ) -> None:
        """`arguments`: the command line. `prepare_serving`: see `Serving.prepare`."""
        self._arguments = arguments
        self._running = running
        self._log = log
        self._prepare_serving = prepare_serving
        self._default_file = default_file

    # -- in the checker

    def check(self, end: socket.socket) -> int:
        """Read and check the configuration, and say what it is; the exit status."""
        return self._report(end, self._read)

    def rehearse(self, end: socket.socket) -> int:
        """As `check`, and find out whether all of it could be taken over, by a reload and by a start; say what would
        change.

        All that is opened for this ends with the process.
        """
        return self._report(end, lambda: self._try_out(self._read()).encode(errors="replace"))

    def _report(self, end: socket.socket, find: Callable[[], bytes]) -> int:
        set_title("checker")
        try:
            found = pack(Kind.CHECKED, block=find())
            status = Exit.OK
        except (ConfigurationError, StartError) as error:
            found = pack(Kind.FAILED, token=error.status, block=str(error).encode(errors="replace"))
            status = error.status
        end.setblocking(True)
        end.sendall(b"".join(found))
        end.close()
        return status

    def _read(self) -> bytes:
        configuration = combine(self._arguments, self._default_file)
        hosts = {address.describe(): look_up(address) for address in configuration.settings.listen if not address.path}
        permissions = configuration.permissions.to_plain()
        return json.dumps(
            [configuration.given, configuration.origins, hosts, configuration.users, permissions]
        ).encode()

    def _try_out(self, found: bytes) -> str:
        given, origins, hosts, users, permissions = json.loads(found)
        known = Known(users, from_plain(permissions))
        wanted = make_settings(given, origins)
        changed, settings = self._compare(wanted)
        # the options that wait for a restart as well
        self._prepare_serving(wanted, known)
        with ExitStack() as undo:
            self._open(settings, hosts, undo)
            self._prepare_serving(settings, known)
            log = None if settings.log_file is None else Path(settings.log_file)
            if log is not None and not log.exists():
                undo.callback(log.unlink, missing_ok=True)
            self._log.prepare(settings, self._running.settings)
        return self._summarise(changed, known)

    # -- in the parent

    def prepare(self, found: bytes) -> Plan:
        """See `forkbroker.parent.reloading.Reload`.

        Raises:
            StartError: something new cannot be opened.
            ConfigurationError: new values cannot be used beside those that wait for a restart.
        """
        given, origins, hosts, users, permissions = json.loads(found)
        known = Known(users, from_plain(permissions))
        changed, settings = self._compare(make_settings(given, origins))
        with ExitStack() as undo:
            opened = self._open(settings, hosts, undo)
            make_plan = self._prepare_serving(settings, known)
            change_log = self._log.prepare(settings, self._running.settings)
            undo.pop_all()
        # from here on nothing can fail: there is no way back
        change_log()
        dropped = self._exchange_listeners(settings, opened)
        summary = self._summarise(changed, known)
        self._running.settings, self._running.known = settings, known
        return make_plan(
            opened=[listener for listeners in opened.values() for listener in listeners],
            dropped=dropped,
            summary=summary,
        )

    def _compare(self, wanted: Settings) -> tuple[list[Option], Settings]:
        """Which options change, and what is in effect then."""
        changed = [option for option in OPTIONS if _differs(option, wanted, self._running.settings)]
        taken = [option.field for option in changed if option.effect is not Effect.RESTART]
        return changed, replace(self._running.settings, **{field: getattr(wanted, field) for field in taken})

    def _open(self, settings: Settings, hosts: Mapping[str, list[list[str]]], undo: ExitStack) -> Listening:
        """Open the addresses that are new; on an error, `undo` closes them."""
        known = self._running.listening
        opened: Listening = {}
        for address in settings.listen if known is not None else ():
            if known is not None and address not in known:
                found = [(int(family), host) for family, host in hosts.get(address.describe(), [])]
                opened[address] = open_listener(address, BACKLOG, self._running.rights, found=found, patience_s=0.0)
                for listener in opened[address]:
                    undo.callback(close_listener, listener)
        return opened

    def _exchange_listeners(self, settings: Settings, opened: Listening) -> list[socket.socket]:
        """Note what is listened on from now on; the listeners that are to be closed."""
        known = self._running.listening
        if known is None:
            return []
        gone = [address for address in known if address not in settings.listen]
        dropped = [listener for address in gone for listener in known.pop(address)]
        known.update(opened)
        return dropped

    def _summarise(self, changed: Sequence[Option], known: Known) -> str:
        """Which options have changed, and which of these wait for something; how many users; whether others."""
        before = self._running.known
        user_changes = _count_changes(before.users or {}, known.users or {})
        has_other_permissions = _without_places(before.permissions) != _without_places(known.permissions)
        has_other_hosts = before.permissions.hosts != known.permissions.hosts
        if not (changed or user_changes or has_other_permissions or has_other_hosts):
            return "nothing has changed"
        parts = [
            f"{effect.value}: {', '.join(names)}"
            for effect in Effect
            if (names := [option.name for option in changed if option.effect is effect])
        ]
        if self._running.listening is None and any(option.name == "listen" for option in changed):
            parts.append("the service manager listens, so listen has no effect")
        if user_changes:
            parts.append(f"users: {user_changes}")
        if has_other_permissions:
            parts.append("permissions changed")
        if has_other_hosts:
            parts.append("hosts changed")
        return "; ".join(parts)


def _count_changes(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What has become of the users: `1 added, 2 removed`; nothing if all are the same."""
    counts = {
        "added": len(now.keys() - before.keys()),
        "removed": len(before.keys() - now.keys()),
        "changed": sum(now[name] != text for name, text in before.items() if name in now),
    }
    return ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)


def _without_places(permissions: Permissions) -> Permissions:
    """What the tables say, wherever in the file that stands."""
    grants = permissions.grants
    bare = None if grants is None else tuple(grant._replace(where="") for grant in grants)
    return Permissions(bare, permissions.groups, quotas=permissions.quotas)


def _differs(option: Option, wanted: Settings, running: Settings) -> bool:
    return bool(getattr(wanted, option.field) != getattr(running, option.field))
