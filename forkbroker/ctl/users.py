"""The users of a password file: add one, change a passcode, remove one, list them.

Lines that are not about the user stay as they are, comments too, and in their order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from forkbroker.config.users import parse_line, parse_users
from forkbroker.ctl.editing import edit
from forkbroker.errors import Exit, ForkbrokerError
from forkbroker.passwords import SALT_BYTES, check_name, make_hash, parse_hash


class UserError(ForkbrokerError):
    """What was asked for cannot be done with this user."""

    def __init__(self, message: str, status: Exit) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class User:
    """What is shown of a user: never the hash."""

    name: str
    scheme: str
    """How the passcode is hashed, with the cost."""


def list_users(path: Path) -> Iterator[User]:
    """Yield the users of a file, in its order. Raises OSError, ConfigurationFileError."""
    for name, text in parse_users(path.read_bytes(), str(path)).items():
        yield User(name, parse_hash(text).scheme)


def add_user(path: Path, name: str, passcode: str) -> None:
    """Add a user, and make the file if there is none.

    Raises:
        PasswordError: the name cannot be used.
        UserError: there is such a user.
        OSError, ConfigurationFileError: the file cannot be read, used or written; it is as it was.
    """
    check_name(name)
    line = _make_line(name, passcode)

    def change(lines: list[bytes]) -> list[bytes]:
        if _find(path, lines, name) is not None:
            raise UserError(f"there is a user {name}; passwd changes the passcode", Exit.CANTCREAT)
        return [*lines, line]

    edit(path, change, create=True)


def change_passcode(path: Path, name: str, passcode: str) -> None:
    """Give a user another passcode. Raises as `add_user`; UserError if there is no such user."""
    line = _make_line(name, passcode)

    def change(lines: list[bytes]) -> list[bytes]:
        at = _must_find(path, lines, name)
        return [*lines[:at], line, *lines[at + 1 :]]

    edit(path, change)


def remove_user(path: Path, name: str) -> None:
    """Remove a user. Raises as `change_passcode`."""

    def change(lines: list[bytes]) -> list[bytes]:
        at = _must_find(path, lines, name)
        return [*lines[:at], *lines[at + 1 :]]

    edit(path, change)


@dataclass(frozen=True, slots=True)
class Merged:
    """What has become of users that were to be added."""

    added: list[str]
    there: list[str]
    """With the same hash."""
    different: list[str]
    """With another hash, which stays."""


def merge_users(path: Path, users: Mapping[str, str], *, is_dry_run: bool) -> Merged:
    """Add those of these users (hashes by names, checked) who are not there; the file is made if there is none.

    Raises:
        OSError, ConfigurationFileError: the file cannot be read, used or written; it is as it was.
    """
    merged = Merged([], [], [])

    def change(lines: list[bytes]) -> list[bytes]:
        known = parse_users(b"\n".join(lines), str(path))
        for name, text in users.items():
            if name not in known:
                merged.added.append(name)
            else:
                (merged.there if known[name] == text else merged.different).append(name)
        return lines if is_dry_run else [*lines, *(f"{name}:{users[name]}".encode() for name in merged.added)]

    if is_dry_run:
        change(path.read_bytes().splitlines() if path.exists() else [])
    else:
        edit(path, change, create=True)
    return merged


def _make_line(name: str, passcode: str) -> bytes:
    return f"{name}:{make_hash(passcode, os.urandom(SALT_BYTES))}".encode()


def _must_find(path: Path, lines: list[bytes], name: str) -> int:
    at = _find(path, lines, name)
    if at is None:
        raise UserError(f"there is no user {name}", Exit.NOUSER)
    return at


def _find(path: Path, lines: list[bytes], name: str) -> int | None:
    """Where the line of a user stands. Raises ConfigurationFileError: a file with a bad line is nothing to build on."""
    parse_users(b"\n".join(lines), str(path))
    entries = map(parse_line, lines)
    return next((at for at, entry in enumerate(entries) if entry is not None and entry[0] == name), None)
