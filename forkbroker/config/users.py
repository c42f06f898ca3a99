"""The password file: a line `name:hash` for each user.

Empty lines, and lines that begin with `#`, have no meaning. Nobody but the owner and the group may read the file, and
nobody but the owner may write it: whoever reads a hash can guess at it for as long as they like.

It is read as a whole and checked as a whole, line by line: one bad line, and nothing of it is used. Texts of hashes are
handed on as they are. Who verifies a passcode reads the one that is needed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from forkbroker.errors import ConfigurationFileError
from forkbroker.passwords import PasswordError, check_name, parse_hash

MAX_BYTES = 1_048_576
"""Of the file, some 10,000 users: the parent process takes the table over in one turn of its loop."""
_FOR_OTHERS = 0o027
"""Permissions that the file may not have."""


def read_users(path: Path, owners: Collection[int]) -> dict[str, str]:
    """Read a password file: the hash of each user, as a text.

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


def parse_users(octets: bytes, origin: str) -> dict[str, str]:
    """Return the hash of each user. Raises ConfigurationFileError with the number of the line that is wrong."""
    hashes: dict[str, str] = {}
    for number, line in enumerate(octets.split(b"\n"), 1):
        try:
            entry = parse_line(line)
            if entry is None:
                continue
            name, text = entry
            if name in hashes:
                raise PasswordError("a line before has the same name")
        except PasswordError as error:
            raise ConfigurationFileError(
                f"{origin}, line {number}", str(error), "a line is name:hash, as stomp-brokerctl user add writes it"
            ) from None
        hashes[name] = text
    return hashes


def parse_line(line: bytes) -> tuple[str, str] | None:
    """Return name and hash; None if the line has no meaning. Raises PasswordError."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise PasswordError("the line is not UTF-8") from None
    if not text.strip() or text.startswith("#"):
        return None
    name, colon, hash_text = text.partition(":")
    if not colon:
        raise PasswordError("the line has no colon")
    check_name(name)
    parse_hash(hash_text)
    return name, hash_text
