"""The verbs that ask no broker: `user` changes a password file, `can` explains what the configuration file permits."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from forkbroker.config.file import DEFAULT_FILE, ConfigurationFile, read_file
from forkbroker.config.permissions import add_groups
from forkbroker.config.users import parse_users
from forkbroker.ctl.can import Question, find_answer
from forkbroker.ctl.command import Command, Context, Param
from forkbroker.ctl.connection import CtlError
from forkbroker.ctl.paging import word
from forkbroker.ctl.passcode import PasscodeError, read_passcode
from forkbroker.ctl.users import (
    UserError,
    add_user,
    change_passcode,
    join_groups,
    leave_groups,
    list_users,
    remove_user,
)
from forkbroker.destinations import DestinationError
from forkbroker.errors import ConfigurationFileError, Exit
from forkbroker.passwords import PasswordError
from forkbroker.permissions import RIGHTS, Permissions


def _run_user(context: Context) -> int:
    parsed = context.parsed
    path: Path = parsed.users
    try:
        if parsed.part == "list":
            _print_users(path, as_json=parsed.json)
        elif parsed.part == "rm":
            remove_user(path, parsed.name)
        elif parsed.part in ("join", "leave"):
            (join_groups if parsed.part == "join" else leave_groups)(path, parsed.name, parsed.group)
        elif parsed.part == "add":
            add_user(path, parsed.name, read_passcode(parsed.name), parsed.group or ())
        else:
            change_passcode(path, parsed.name, read_passcode(parsed.name))
    except UserError as error:
        raise CtlError(f"{path}: {error}", error.status) from None
    except (PasscodeError, PasswordError) as error:
        raise CtlError(str(error), Exit.DATAERR) from None
    except ConfigurationFileError as error:
        raise CtlError(str(error), error.status) from None
    except OSError as error:
        raise CtlError(f"{error.filename or path}: {error.strerror}", _status_of(error)) from None
    except KeyboardInterrupt:
        raise CtlError("interrupted, nothing has changed", Exit.UNAVAILABLE) from None
    return Exit.OK


def _run_can(context: Context) -> int:
    """Print an answer; the exit status is 1 for no."""
    parsed = context.parsed
    try:
        file = read_file(parsed.config)
        known, notes = _find_groups(file, parsed.users)
        is_strict, groups = bool(file.given.get("strict")), tuple(map(str, parsed.group or ()))
        question = Question(parsed.user, parsed.right, parsed.destination, groups, parsed.host, is_strict)
        answer = find_answer(known, question)
    except DestinationError as error:
        raise CtlError(str(error), Exit.DATAERR) from None
    except ConfigurationFileError as error:
        raise CtlError(str(error), error.status) from None
    except OSError as error:
        raise CtlError(f"{error.filename or parsed.config}: {error.strerror}", _status_of(error)) from None
    if parsed.json:
        text = json.dumps(asdict(answer), ensure_ascii=False)
    else:
        reasons = [*answer.reasons, *notes]
        text = "\n".join(["yes" if answer.is_allowed else "no", *(f"  {reason}" for reason in reasons)])
    os.write(1, f"{text}\n".encode(errors="backslashreplace"))
    return 0 if answer.is_allowed else 1


def _find_groups(file: ConfigurationFile, named: Path | None) -> tuple[Permissions, list[str]]:
    """What the configuration file permits, with the groups of the password file; and what is not known.

    Raises:
        ConfigurationFileError: the password file has a mistake.
        OSError: it was named on the command line, and cannot be read.
    """
    given = file.given.get("users")
    path = named or (Path(given) if isinstance(given, str) else None)
    if path is None:
        return file.permissions, []
    try:
        octets = path.read_bytes()
    except OSError as error:
        if named is not None:
            raise
        return file.permissions, [f"groups of {path} are not known: {error.strerror}"]
    return add_groups(file.permissions, parse_users(octets, str(path))), []


def _print_users(path: Path, *, as_json: bool) -> None:
    users = list(list_users(path))
    text = (
        json.dumps([asdict(user) for user in users], ensure_ascii=False)
        if as_json
        else "\n".join(f"{user.name}\t{user.scheme}\t{','.join(user.groups)}".rstrip() for user in users)
    )
    if text:
        os.write(1, f"{text}\n".encode())


def _status_of(error: OSError) -> Exit:
    if isinstance(error, FileNotFoundError):
        return Exit.NOINPUT
    return Exit.NOPERM if isinstance(error, PermissionError) else Exit.IOERR


GROUPS = {"user": "the users of a password file"}
"""Help for what verbs of two words begin with."""

_USERS = Param("--users", "the password file", "FILE", Path, is_required=True, completes="file")
_NAME = Param("NAME", "login of the user")
_GROUPS = Param("GROUP", "names of groups", is_many=True)

COMMANDS = (
    Command(
        "user add",
        "add a user; the passcode is read from the terminal or standard input",
        _run_user,
        (_NAME, _USERS, Param("--group", "make the user a member of it; repeatable", "GROUP", is_many=True)),
    ),
    Command("user passwd", "change the passcode of a user", _run_user, (_NAME, _USERS)),
    Command("user rm", "remove a user", _run_user, (_NAME, _USERS)),
    Command("user join", "make a user a member of groups", _run_user, (_NAME, _GROUPS, _USERS)),
    Command("user leave", "make a user no member of groups any more", _run_user, (_NAME, _GROUPS, _USERS)),
    Command(
        "user list", "list the users, with their groups", _run_user, (_USERS, Param("--json", "print a JSON array"))
    ),
    Command(
        "can",
        "tell whether a user has a right, and which line of the configuration says so",
        _run_can,
        (
            Param("USER", "login of the user; an empty text for clients without one"),
            word("RIGHT", "", "", tuple(RIGHTS)),
            Param("DESTINATION", "as in /queue/jobs or /topic/news.*", completes="queue"),
            Param("--host", "the virtual host that the client connects to", "HOST"),
            Param("--group", "a group that a token or an authenticator names; repeatable", "GROUP", is_many=True),
            Param(
                "--users", "the password file; default: that of the configuration file", "FILE", Path, completes="file"
            ),
            Param("--config", f"default: {DEFAULT_FILE}", "FILE", Path, DEFAULT_FILE, completes="file"),
            Param("--json", "print a JSON object"),
        ),
    ),
)
