"""The verbs that ask no broker: `user` changes a password file, `can` explains what the configuration file permits."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from forkbroker.config.file import DEFAULT_FILE, ConfigurationFile, read_file
from forkbroker.config.permissions import add_groups
from forkbroker.config.users import parse_users
from forkbroker.ctl.can import Question, find_answer
from forkbroker.ctl.command import Context
from forkbroker.ctl.connection import CtlError
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

VERBS = {
    "add": "add a user; the passcode is read from the terminal or standard input",
    "passwd": "change the passcode of a user",
    "rm": "remove a user",
    "join": "make a user a member of groups",
    "leave": "make a user no member of groups any more",
    "list": "list the users, with their groups",
}
OPTIONS = {
    **{f"user {verb}": {"--users": "FILE"} for verb in VERBS},
    "user add": {"--users": "FILE", "--group": "GROUP"},
    "user list": {"--users": "FILE", "--json": ""},
    "can": {"--host": "HOST", "--group": "GROUP", "--users": "FILE", "--config": "FILE", "--json": ""},
}
"""The options of these verbs, with the names of their values."""


def add_parsers(subjects: Any) -> None:
    """Let the command line know them."""
    user = subjects.add_parser("user", help="the users of a password file", allow_abbrev=False)
    verbs = user.add_subparsers(dest="user_verb", required=True, metavar=" | ".join(VERBS))
    for verb, text in VERBS.items():
        command: argparse.ArgumentParser = verbs.add_parser(verb, help=text, description=text, allow_abbrev=False)
        command.add_argument("--users", metavar="FILE", type=Path, required=True, help="the password file")
        if verb == "list":
            command.add_argument("--json", action="store_true", help="print a JSON array")
        else:
            command.add_argument("name", metavar="NAME", help="login of the user")
        if verb == "add":
            command.add_argument("--group", metavar="GROUP", action="append", default=[], help="repeatable")
        elif verb in ("join", "leave"):
            command.add_argument("group", metavar="GROUP", nargs="+", help="names of groups")
        command.set_defaults(run=_run_user)
    text = "tell whether a user has a right, and which line of the configuration file says so"
    can: argparse.ArgumentParser = subjects.add_parser("can", help=text, description=text, allow_abbrev=False)
    can.add_argument("user", metavar="USER", help="login of the user; an empty text for clients without one")
    can.add_argument("right", metavar="RIGHT", choices=list(RIGHTS), help=", ".join(RIGHTS))
    can.add_argument("destination", metavar="DESTINATION", help="as in /queue/jobs or /topic/news.*")
    can.add_argument("--host", metavar="HOST", help="the virtual host that the client connects to")
    text = "a group that the user's token or an authenticator names; repeatable"
    can.add_argument("--group", metavar="GROUP", action="append", default=[], help=text)
    text = "the password file; default: the one that the configuration file names"
    can.add_argument("--users", metavar="FILE", type=Path, help=text)
    can.add_argument("--config", metavar="FILE", type=Path, default=DEFAULT_FILE, help=f"default: {DEFAULT_FILE}")
    can.add_argument("--json", action="store_true", help="print a JSON object")
    can.set_defaults(run=_run_can)


def _run_user(context: Context) -> int:
    parsed = context.parsed
    path: Path = parsed.users
    try:
        if parsed.user_verb == "list":
            _print_users(path, as_json=parsed.json)
        elif parsed.user_verb == "rm":
            remove_user(path, parsed.name)
        elif parsed.user_verb in ("join", "leave"):
            (join_groups if parsed.user_verb == "join" else leave_groups)(path, parsed.name, parsed.group)
        elif parsed.user_verb == "add":
            add_user(path, parsed.name, read_passcode(parsed.name), parsed.group)
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
        is_strict, groups = bool(file.given.get("strict")), tuple(map(str, parsed.group))
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
