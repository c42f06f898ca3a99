"""The command line of stomp-brokerctl.

The exit status is one of sysexits(3), but 2 for a command line that is wrong. A passcode is no argument, as each user
of the machine can read those.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import forkbroker
from forkbroker.ctl.passcode import PasscodeError, read_passcode
from forkbroker.ctl.users import UserError, add_user, change_passcode, list_users, remove_user
from forkbroker.errors import ConfigurationFileError, Exit
from forkbroker.passwords import PasswordError

PROGRAM = "stomp-brokerctl"


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all verbs."""
    parser = argparse.ArgumentParser(PROGRAM, description="Administer a STOMP broker.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {forkbroker.__version__}")
    subjects = parser.add_subparsers(required=True, metavar="user")
    user = subjects.add_parser("user", help="the users of a password file", allow_abbrev=False)
    verbs = user.add_subparsers(dest="verb", required=True, metavar="add | passwd | rm | list")
    for verb, text in (
        ("add", "add a user; the passcode is read from the terminal or standard input"),
        ("passwd", "change the passcode of a user"),
        ("rm", "remove a user"),
        ("list", "list the users"),
    ):
        command = verbs.add_parser(verb, help=text, description=text, allow_abbrev=False)
        command.add_argument("--users", metavar="FILE", type=Path, required=True, help="the password file")
        if verb == "list":
            command.add_argument("--json", action="store_true", help="print a JSON array")
        else:
            command.add_argument("name", metavar="NAME", help="login of the user")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    parsed = make_parser().parse_args(arguments)
    path: Path = parsed.users
    try:
        if parsed.verb == "list":
            _print_users(path, as_json=parsed.json)
        elif parsed.verb == "rm":
            remove_user(path, parsed.name)
        else:
            work = add_user if parsed.verb == "add" else change_passcode
            work(path, parsed.name, read_passcode(parsed.name))
    except UserError as error:
        return _complain(f"{path}: {error}", error.status)
    except (PasscodeError, PasswordError) as error:
        return _complain(str(error), Exit.DATAERR)
    except ConfigurationFileError as error:
        return _complain(str(error), error.status)
    except OSError as error:
        return _complain(f"{error.filename or path}: {error.strerror}", _status_of(error))
    except KeyboardInterrupt:
        return _complain("interrupted, nothing has changed", Exit.UNAVAILABLE)
    return Exit.OK


def _print_users(path: Path, *, as_json: bool) -> None:
    users = list(list_users(path))
    text = (
        json.dumps([asdict(user) for user in users], ensure_ascii=False)
        if as_json
        else "\n".join(f"{user.name}\t{user.scheme}" for user in users)
    )
    if text:
        os.write(1, f"{text}\n".encode())


def _status_of(error: OSError) -> Exit:
    if isinstance(error, FileNotFoundError):
        return Exit.NOINPUT
    return Exit.NOPERM if isinstance(error, PermissionError) else Exit.IOERR


def _complain(text: str, status: Exit) -> Exit:
    with suppress(OSError):
        sys.stderr.write(f"{PROGRAM}: {text}\n")
        sys.stderr.flush()
    return status
