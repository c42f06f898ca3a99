"""The users of a password file: add one, change a passcode or groups, remove one, list them.

Lines that are not about the user stay as they are, comments too, and in their order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from forkbroker.config.users import UserEntry, check_group, parse_line, parse_users
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
    groups: tuple[str, ...]


def list_users(path: Path) -> Iterator[User]:
    """Yield the users of a file, in its order. Raises OSError, ConfigurationFileError."""
    octets = path.read_bytes()
    parse_users(octets, str(path))
    for entry in filter(None, map(parse_line, octets.split(b"\n"))):
        yield User(entry.name, parse_hash(entry.hash).scheme, entry.groups)


def add_user(path: Path, name: str, passcode: str, groups: Collection[str] = ()) -> None:
    """Add a user, and make the file if there is none.

    Raises:
        PasswordError: the name cannot be used.
        UserError: there is such a user.
        OSError, ConfigurationFileError: the file cannot be read, used or written; it is as it was.
    """
    check_name(name)
    line = _make_line(name, passcode, _check_groups(groups))

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
        return [*lines[:at], _with_groups(line, _read_groups(lines[at])), *lines[at + 1 :]]

    edit(path, change)


def join_groups(path: Path, name: str, groups: Collection[str]) -> None:
    """Make a user a member of these groups as well; it may be one already. Raises as `change_passcode`."""
    wanted = _check_groups(groups)
    _change_groups(path, name, lambda before: tuple(dict.fromkeys([*before, *wanted])))


def leave_groups(path: Path, name: str, groups: Collection[str]) -> None:
    """Make a user no member of these groups. Raises as `change_passcode`; UserError if it is none of one of them."""

    def leave(before: tuple[str, ...]) -> tuple[str, ...]:
        for group in groups:
            if group not in before:
                raise UserError(f"user {name} is not in group {group} here", Exit.NOUSER)
        return tuple(group for group in before if group not in groups)

    _change_groups(path, name, leave)


def _change_groups(path: Path, name: str, make: Callable[[tuple[str, ...]], tuple[str, ...]]) -> None:
    def change(lines: list[bytes]) -> list[bytes]:
        at = _must_find(path, lines, name)
        return [*lines[:at], _with_groups(lines[at], make(_read_groups(lines[at]))), *lines[at + 1 :]]

    edit(path, change)


def _check_groups(groups: Collection[str]) -> tuple[str, ...]:
    for group in groups:
        check_group(group)
    return tuple(dict.fromkeys(groups))


def _read_groups(line: bytes) -> tuple[str, ...]:
    entry = parse_line(line)
    return () if entry is None else entry.groups


def _with_groups(line: bytes, groups: tuple[str, ...]) -> bytes:
    entry = parse_line(line)
    return line if entry is None else entry._replace(groups=groups).to_line()


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
    """Add those of these users who are not there; the file is made if there is none.

    `users`: hashes by names, perhaps with a colon and groups behind them, checked. Groups of who is there stay.

    Raises:
        OSError, ConfigurationFileError: the file cannot be read, used or written; it is as it was.
    """
    merged = Merged([], [], [])

    def change(lines: list[bytes]) -> list[bytes]:
        known = parse_users(b"\n".join(lines), str(path)).hashes
        for name, text in users.items():
            if name not in known:
                merged.added.append(name)
            else:
                (merged.there if known[name] == text.partition(":")[0] else merged.different).append(name)
        return lines if is_dry_run else [*lines, *(f"{name}:{users[name]}".encode() for name in merged.added)]

    if is_dry_run:
        change(path.read_bytes().splitlines() if path.exists() else [])
    else:
        edit(path, change, create=True)
    return merged


def _make_line(name: str, passcode: str, groups: tuple[str, ...] = ()) -> bytes:
    return UserEntry(name, str(make_hash(passcode, os.urandom(SALT_BYTES))), groups).to_line()


def _must_find(path: Path, lines: list[bytes], name: str) -> int:
    at = _find(path, lines, name)
    if at is None:
        raise UserError(f"there is no user {name}", Exit.NOUSER)
    return at


def _find(path: Path, lines: list[bytes], name: str) -> int | None:
    """Where the line of a user stands. Raises ConfigurationFileError: a file with a bad line is nothing to build on."""
    parse_users(b"\n".join(lines), str(path))
    entries = map(parse_line, lines)
    return next((at for at, entry in enumerate(entries) if entry is not None and entry.name == name), None)
