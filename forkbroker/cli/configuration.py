"""What the broker is told to be: the command line and the configuration file, read and checked together."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from forkbroker.cli.arguments import read_arguments
from forkbroker.cli.conversion import routing_policy
from forkbroker.cli.optional import check_web_paths
from forkbroker.config.evaluation import make_settings
from forkbroker.config.file import DEFAULT_FILE, ConfigurationFile, exists, read_file
from forkbroker.config.options.option import Given
from forkbroker.config.permissions import add_groups
from forkbroker.config.settings import Settings
from forkbroker.config.users import read_users
from forkbroker.errors import ConfigurationError, ConfigurationFileError
from forkbroker.permissions import ANONYMOUS, Permissions
from forkbroker.store.locate import make_store


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings, and where they come from."""

    settings: Settings
    arguments: Mapping[str, Given]
    """What the command line gives, by field name."""
    given: Mapping[str, Given]
    """What was given there or in the file; the rest are defaults."""
    origins: Mapping[str, str]
    """Where in the file that stands; what is given and has none comes from the command line."""
    users: Mapping[str, str] | None
    """The hash of each user's passcode; None: there is no password file."""
    permissions: Permissions


def read_configuration(arguments: Sequence[str] | None, default_file: Path | None = DEFAULT_FILE) -> Configuration:
    """Read a command line (the process's own when None), and the file that it names, or `default_file` if that exists.

    Raises:
        ConfigurationError: a value that cannot be used.
        ConfigurationFileError: the same, if the file has it; or it, or the password file, cannot be read or used.
        SystemExit: as `read_arguments`.
    """
    return combine(read_arguments(arguments), default_file)


def combine(arguments: Mapping[str, Given], default_file: Path | None = DEFAULT_FILE) -> Configuration:
    """Read the file that belongs to a command line, whose own values win. Raises as `read_configuration`."""
    file = _read_file(arguments.get("config"), default_file)
    given = {**file.given, **arguments}
    origins = {field: where for field, where in file.origins.items() if field not in arguments}
    settings = make_settings(given, origins)
    users = None if settings.users is None else read_users(settings.users, _find_owners(settings))
    permissions = replace(file.permissions, has_users=settings.needs_login)
    if users is not None:
        permissions = add_groups(permissions, users)
    hashes = None if users is None else users.hashes
    configuration = Configuration(settings, arguments, given, origins, hashes, permissions)
    _check(configuration)
    return configuration


def _find_owners(settings: Settings) -> set[int]:
    """Whom the password file may belong to: root, this user, and the one that the broker becomes."""
    owners = {0, os.geteuid()}
    if settings.user is not None:
        with suppress(KeyError):  # a user that there is not is told of elsewhere
            owners.add(pwd.getpwnam(settings.user).pw_uid)
    return owners


def _read_file(named: Given | None, default_file: Path | None) -> ConfigurationFile:
    if isinstance(named, str):
        return read_file(Path(named))
    if default_file is not None and exists(default_file):
        return read_file(default_file)
    return ConfigurationFile({}, {})


def _check(configuration: Configuration) -> None:
    """What only the parts know that use the values."""
    settings, origins = configuration.settings, configuration.origins
    _check_permissions(configuration.permissions)
    _check_administrators(settings, origins)
    try:
        routing_policy(settings)
        if settings.store is not None:
            make_store(settings.store)
        check_web_paths(settings)
    except ConfigurationError as error:
        named = [field for field in _find_culprits(error) if field in origins]
        if not named:
            raise
        raise ConfigurationFileError(f"{origins[named[0]]}: {error.what}", error.problem, error.remedy) from None


def _find_culprits(error: ConfigurationError) -> tuple[str, ...]:
    """The fields of which one is wrong."""
    return ("web_path",) if error.what.startswith("--web-path") else ("policy", "queue_full", "store")


def _check_permissions(permissions: Permissions) -> None:
    """Where nobody has to prove who they are, a right of some user would be everybody's who gives that name."""
    for grant in () if permissions.has_users else permissions.grants or ():
        if grant.subject != ANONYMOUS:
            raise ConfigurationFileError(
                f"{grant.where}: permissions of {grant.subject}",
                "clients can give any login, as there are no users",
                f"give users or another way to log in, or write [permissions.{ANONYMOUS}] only",
            )
    for host in () if permissions.has_users else permissions.hosts.all:
        if host.is_limited:
            raise ConfigurationFileError(
                f"{host.where}: users and groups of host {host.key}",
                "clients can give any login, as there are no users",
                "give users or another way to log in, or leave these out",
            )


def _check_administrators(settings: Settings, origins: Mapping[str, str]) -> None:
    """A group that there is not would have no members, without a word."""
    group = settings.administrators
    try:
        if group is not None:
            grp.getgrnam(group)
    except KeyError:
        problem, remedy = "there is no such group", "make it, or name another one"
        if "administrators" in origins:
            where = f"{origins['administrators']}: administrators = {group}"
            raise ConfigurationFileError(where, problem, remedy) from None
        raise ConfigurationError(f"--administrators {group}", problem, remedy) from None
