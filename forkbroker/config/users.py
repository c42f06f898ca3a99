"""The password file: a line `name:hash` or `name:hash:groups` for each user, with commas between groups.

Empty lines, and lines that begin with `#`, have no meaning. Nobody but the owner and the group may read the file, and
nobody but the owner may write it: whoever reads a hash can guess at it for as long as they like.

It is read as a whole and checked as a whole, line by line: one bad line, and nothing of it is used. Texts of hashes are
handed on as they are. Who verifies a passcode reads the one that is needed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from forkbroker.errors import ConfigurationFileError
from forkbroker.passwords import PasswordError, check_name, parse_hash

MAX_BYTES = 1_048_576
"""Of the file, some 10,000 users: the parent process takes the table over in one turn of its loop."""
_FOR_OTHERS = 0o027
"""Permissions that the file may not have."""
_FORM = "a line is name:hash or name:hash:group,group, as stomp-brokerctl user writes it"


class UserEntry(NamedTuple):
    """A user."""

    name: str
    hash: str
    groups: tuple[str, ...]

    def to_line(self) -> bytes:
        """The line of the file."""
        groups = f":{','.join(self.groups)}" if self.groups else ""
        return f"{self.name}:{self.hash}{groups}".encode()


@dataclass(slots=True)
class UserFile:
    """What a password file says."""

    hashes: dict[str, str] = field(default_factory=dict)
    """Of each user, as a text."""
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The members of each group that a line names."""
    places: dict[str, str] = field(default_factory=dict)
    """Where each group is named first, for people."""

    def add(self, entry: UserEntry, where: str) -> None:
        """Add a user."""
        self.hashes[entry.name] = entry.hash
        for group in entry.groups:
            self.groups[group] = (*self.groups.get(group, ()), entry.name)
            self.places.setdefault(group, where)


def read_users(path: Path, owners: Collection[int]) -> UserFile:
    """Read a password file.

    Raises:
        ConfigurationFileError: it cannot be read, is not of one of the `owners`, others may read it, or a line is
            wrong.
    """
    try:
        # whatever the name leads to: a FIFO must not make the broker wait
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _check_rights(path, os.fstat(fd), owners)
            octets = os.read(fd, MAX_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        problem = f"the password file cannot be read: {error.strerror}"
        raise ConfigurationFileError(str(path), problem, "see that the broker's user may read it") from None
    if len(octets) > MAX_BYTES:
        raise ConfigurationFileError(
            str(path), "the password file is too large", f"it may have {MAX_BYTES // 1024**2} MiB"
        )
    return parse_users(octets, str(path))


def _check_rights(path: Path, found: os.stat_result, owners: Collection[int]) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationFileError(str(path), "it is not a file", "name a password file")
    mode = stat.S_IMODE(found.st_mode)
    if mode & _FOR_OTHERS:
        problem = f"the password file has mode {mode:04o}: other users may read or write it"
        raise ConfigurationFileError(str(path), problem, "chmod 0640 or 0600")
    if found.st_uid not in owners:
        problem = f"the password file belongs to user {found.st_uid}"
        raise ConfigurationFileError(str(path), problem, "it must belong to root or to the broker's user")


def parse_users(octets: bytes, origin: str) -> UserFile:
    """Read its lines. Raises ConfigurationFileError with the number of the line that is wrong."""
    found = UserFile()
    for number, line in enumerate(octets.split(b"\n"), 1):
        where = f"{origin}, line {number}"
        try:
            entry = parse_line(line)
            if entry is None:
                continue
            if entry.name in found.hashes:
                raise PasswordError("a line before has the same name")
        except PasswordError as error:
            raise ConfigurationFileError(where, str(error), _FORM) from None
        found.add(entry, where)
    return found


def parse_line(line: bytes) -> UserEntry | None:
    """Return the user of a line; None if it has no meaning. Raises PasswordError."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise PasswordError("the line is not UTF-8") from None
    if not text.strip() or text.startswith("#"):
        return None
    name, colon, rest = text.partition(":")
    if not colon:
        raise PasswordError("the line has no colon")
    check_name(name)
    hash_text, _, names = rest.partition(":")
    parse_hash(hash_text)
    groups = tuple(names.split(",")) if names else ()
    for group in groups:
        check_group(group)
    if len(set(groups)) < len(groups):
        raise PasswordError("a group is named twice")
    return UserEntry(name, hash_text, groups)


def check_group(name: str) -> None:
    """Raise PasswordError unless a group of the password file can be called so."""
    try:
        check_name(name)
    except PasswordError as error:
        raise PasswordError(f"the name of a group cannot be used: {error}") from None
    if "," in name:
        raise PasswordError("the name of a group has a comma")
