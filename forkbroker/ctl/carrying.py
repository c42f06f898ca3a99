"""export and import: what an administrator has set up in a broker, as a JSON file that another one takes in.

A queue that is held for a time has the time that is left; it begins anew when the file is taken in.

Messages are not in it: `backup` has those. Policies and permissions are not, either: they are in the configuration
file, which is carried by copying it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import forkbroker
from forkbroker.config.users import parse_line, parse_users
from forkbroker.control.arguments import RequestError
from forkbroker.control.verbs import VERBS
from forkbroker.ctl import tables
from forkbroker.ctl.changing import DRY_RUN
from forkbroker.ctl.command import Command, Context, Param
from forkbroker.ctl.connection import Connection, CtlError
from forkbroker.ctl.tables import Row, counted
from forkbroker.ctl.users import Merged, merge_users
from forkbroker.errors import ConfigurationFileError, Exit
from forkbroker.passwords import PasswordError, check_name
from forkbroker.posix.printable import printable

FORMAT = "forkbroker-export"
VERSION = 1
"""Of the file: raised when an older program could not read it."""
_SHORTEST_S = 0.1
"""The least time for which a broker says that a queue is held."""
_MEMBERS = {"format", "version", "broker", "durables", "held", "users"}


# -- export


def _export(context: Context) -> int:
    parsed = context.parsed
    users = _read_users(parsed.users) if parsed.users is not None else None
    with context.connect() as connection:
        rows = list(connection.ask("queues", {}))
    found: Row = {
        "format": FORMAT,
        "version": VERSION,
        "broker": forkbroker.__version__,
        "durables": [{"queue": row["name"], "topic": row["topic"]} for row in rows if "topic" in row],
        "held": [_show_hold(row) for row in rows if row["held"]],
    }
    if users is not None:
        found["users"] = users
    text = f"{json.dumps(found, indent=2)}\n"
    if parsed.file is None:
        tables.write(text.splitlines())
        return Exit.OK
    with _naming(parsed.file):
        # not for others: it may have hashes of passcodes
        descriptor = os.open(parsed.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    context.show(f"{parsed.file} written: {_count(found)}", {"file": str(parsed.file), **_sizes(found)})
    return Exit.OK


def _show_hold(row: Row) -> Row:
    """A queue that is held, as `hold` is asked for it."""
    hold, left_s = {"queue": row["name"]}, row.get("held-for")
    # one whose time is over in this moment is held still
    return hold if left_s is None else {**hold, "for": max(left_s, _SHORTEST_S)}


def _sizes(found: Row) -> Row:
    return {name: len(found[name]) for name in ("durables", "held", "users") if name in found}


def _count(found: Row) -> str:
    sizes = _sizes(found)
    parts = [counted(sizes["durables"], "durable subscription"), counted(sizes["held"], "held queue")]
    return ", ".join([*parts, counted(sizes["users"], "user")] if "users" in sizes else parts)


def _read_users(path: Path) -> dict[str, str]:
    with _naming(path):
        try:
            octets = path.read_bytes()
            parse_users(octets, str(path))
            entries = filter(None, map(parse_line, octets.split(b"\n")))
            return {entry.name: entry.to_line().decode().partition(":")[2] for entry in entries}
        except ConfigurationFileError as error:
            raise CtlError(str(error), Exit.CONFIG) from None


# -- import


@dataclass(slots=True)
class _Tally:
    """What has become of one kind of things."""

    made: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """Why not, by name."""

    def show(self, noun: str, done: str) -> str:
        """For people."""
        text = f"{counted(len(self.made), noun)} {done}, {len(self.there):,} there already"
        return f"{text}, {len(self.refused):,} not possible" if self.refused else text

    def to_row(self) -> Row:
        return {"made": self.made, "there": self.there, "refused": self.refused}


def _import(context: Context) -> int:
    parsed = context.parsed
    found = _read(parsed.file)
    if "users" in found and parsed.users is None:
        raise CtlError(f"{parsed.file} has users: say with --users which password file gets them", Exit.USAGE)
    durables, held, tallies = _Tally(), _Tally(), dict[str, _Tally]()
    with context.connect() as connection:
        for row in found["durables"]:
            _carry_out(connection, "durable", {**row, "dry-run": parsed.dry_run}, durables)
        is_held = {row["name"] for row in connection.ask("queues", {}) if row["held"]}
        for hold in found["held"]:
            if hold["queue"] in is_held:
                held.there.append(hold["queue"])
            elif parsed.dry_run:
                held.made.append(hold["queue"])
            else:
                _carry_out(connection, "hold", hold, held)
    tallies = {"durables": durables, "held": held}
    if "users" in found:
        tallies["users"] = _take_users(parsed.users, found["users"], is_dry_run=parsed.dry_run)
    if context.is_json:
        tables.write_json({name: tally.to_row() for name, tally in tallies.items()})
    else:
        tables.write(_describe(tallies, is_dry_run=parsed.dry_run))
    return Exit.UNAVAILABLE if any(tally.refused for tally in tallies.values()) else Exit.OK


def _carry_out(connection: Connection, verb: str, args: Row, tally: _Tally) -> None:
    try:
        result = connection.ask_one(verb, args)
    except CtlError as error:
        if not error.word:
            raise
        tally.refused[args["queue"]] = str(error)
    else:
        (tally.made if result["changed"] else tally.there).append(result["queue"])


def _take_users(path: Path, users: Mapping[str, str], *, is_dry_run: bool) -> _Tally:
    with _naming(path):
        try:
            merged: Merged = merge_users(path, users, is_dry_run=is_dry_run)
        except ConfigurationFileError as error:
            raise CtlError(str(error), Exit.CONFIG) from None
    refused = {name: f"user {name} has another passcode in {path}" for name in merged.different}
    return _Tally(merged.added, merged.there, refused)


def _describe(tallies: Mapping[str, _Tally], *, is_dry_run: bool) -> Iterator[str]:
    words = {"durables": ("durable subscription", "made"), "held": ("queue", "held"), "users": ("user", "added")}
    for name, tally in tallies.items():
        noun, done = words[name]
        yield tally.show(noun, f"would be {done}" if is_dry_run else done)
        for reason in tally.refused.values():
            yield printable(f"  {reason}")


def _read(path: Path) -> Row:
    """The file, checked as a whole before anything of it is done."""
    with _naming(path):
        octets = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    try:
        found = json.loads(octets)
        _check(found)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CtlError(f"{path}: this is no export of a broker, as it is not JSON: {error}", Exit.DATAERR) from None
    except ValueError as error:
        raise CtlError(f"{path}: {error}", Exit.DATAERR) from None
    return {"durables": [], "held": [], **found}


def _check(found: Any) -> None:
    """Raises ValueError."""
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError("this is no export of a broker")
    if found.get("version") != VERSION:
        raise ValueError(f"version {found.get('version')!r} of the file; this program reads version {VERSION}")
    unknown = sorted(found.keys() - _MEMBERS)
    if unknown:
        raise ValueError(f"unknown member {unknown[0]!r}; known are {', '.join(sorted(_MEMBERS))}")
    _check_list(found, "durables", "objects with the strings queue and topic", _is_durable)
    _check_list(found, "held", "objects with the string queue, and perhaps for, in seconds", _is_hold)
    users = found.get("users", {})
    if not isinstance(users, dict):
        raise ValueError("users must be an object: a hash for each name")
    for name, text in users.items():
        try:
            check_name(name)
            parse_line(f"{name}:{text if isinstance(text, str) else ''}".encode())
        except PasswordError as error:
            raise ValueError(f"user {name!r}: {error}") from None


def _check_list(found: Row, member: str, what: str, fits: Callable[[Any], bool]) -> None:
    value = found.get(member, [])
    if not isinstance(value, list) or not all(map(fits, value)):
        raise ValueError(f"{member} must be a list of {what}")


def _is_durable(one: Any) -> bool:
    return isinstance(one, dict) and one.keys() == {"queue", "topic"} and all(isinstance(x, str) for x in one.values())


def _is_hold(one: Any) -> bool:
    try:
        return isinstance(one, dict) and bool(VERBS["hold"].read(one))
    except RequestError:
        return False


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """An error of the system names the file."""
    try:
        yield
    except OSError as error:
        kinds = {FileNotFoundError: Exit.NOINPUT, FileExistsError: Exit.CANTCREAT, PermissionError: Exit.NOPERM}
        raise CtlError(f"{error.filename or path}: {error.strerror}", kinds.get(type(error), Exit.IOERR)) from None


def _durable(context: Context) -> int:
    parsed = context.parsed
    name = parsed.name if parsed.name.startswith("/") else f"/dsub/{parsed.name}"
    args = {"queue": name, "topic": parsed.topic_name, "dry-run": parsed.dry_run or None}
    with context.connect() as connection:
        result = connection.ask_one("durable", args)
    done = "would be made" if parsed.dry_run else "made"
    what = f"{printable(result['queue'])} to {printable(result['topic'])}"
    context.show(f"{what}: {done if result['changed'] else 'is there already'}", result)
    return Exit.OK


_USERS = Param("--users", "the password file", "FILE", Path, completes="file")

COMMANDS = (
    Command(
        "durable",
        VERBS["durable"].help,
        _durable,
        (
            Param("NAME", "its name, with or without /dsub/"),
            Param("TOPIC", "the topic, or a pattern of topics", dest="topic_name"),
            DRY_RUN,
        ),
    ),
    Command(
        "export",
        "write durable subscriptions, held queues and users to a file",
        _export,
        (
            Param("FILE", "a new file; default: standard output", parse=Path, is_optional=True, completes="file"),
            _USERS,
        ),
    ),
    Command(
        "import",
        "make what such a file has, and is not there",
        _import,
        (Param("FILE", "what export has written; -: standard input", parse=Path, completes="file"), _USERS, DRY_RUN),
    ),
)
