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
from forkbroker.config.file import DEFAULT_FILE, read_file
from forkbroker.ctl.can import Answer, find_answer
from forkbroker.ctl.passcode import PasscodeError, read_passcode
from forkbroker.ctl.users import UserError, add_user, change_passcode, list_users, remove_user
from forkbroker.destinations import DestinationError
from forkbroker.errors import ConfigurationFileError, Exit
from forkbroker.passwords import PasswordError
from forkbroker.permissions import RIGHTS

PROGRAM = "stomp-brokerctl"


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all verbs."""
    parser = argparse.ArgumentParser(PROGRAM, description="Administer a STOMP broker.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {forkbroker.__version__}")
    subjects = parser.add_subparsers(dest="subject", required=True, metavar="user | can")
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
    text = "tell whether a user has a right, and which line of the configuration file says so"
    can = subjects.add_parser("can", help=text, description=text, allow_abbrev=False)
    can.add_argument("user", metavar="USER", help="login of the user; an empty text for clients without one")
    can.add_argument("right", metavar="RIGHT", choices=list(RIGHTS), help=", ".join(RIGHTS))
    can.add_argument("destination", metavar="DESTINATION", help="as in /queue/jobs or /topic/news.*")
    can.add_argument("--config", metavar="FILE", type=Path, default=DEFAULT_FILE, help=f"default: {DEFAULT_FILE}")
    can.add_argument("--json", action="store_true", help="print a JSON object")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    parsed = make_parser().parse_args(arguments)
    path: Path = parsed.config if parsed.subject == "can" else parsed.users
    try:
        if parsed.subject == "can":
            permissions = read_file(path).permissions
            answer = find_answer(permissions, parsed.user, parsed.right, parsed.destination)
            return _tell(answer, as_json=parsed.json)
        if parsed.verb == "list":
            _print_users(path, as_json=parsed.json)
        elif parsed.verb == "rm":
            remove_user(path, parsed.name)
        else:
            work = add_user if parsed.verb == "add" else change_passcode
            work(path, parsed.name, read_passcode(parsed.name))
    except UserError as error:
        return _complain(f"{path}: {error}", error.status)
    except (PasscodeError, PasswordError, DestinationError) as error:
        return _complain(str(error), Exit.DATAERR)
    except ConfigurationFileError as error:
        return _complain(str(error), error.status)
    except OSError as error:
        return _complain(f"{error.filename or path}: {error.strerror}", _status_of(error))
    except KeyboardInterrupt:
        return _complain("interrupted, nothing has changed", Exit.UNAVAILABLE)
    return Exit.OK


def _tell(answer: Answer, *, as_json: bool) -> int:
    """Print an answer; the exit status is 1 for no."""
    if as_json:
        text = json.dumps(asdict(answer), ensure_ascii=False)
    else:
        text = "\n".join(["yes" if answer.is_allowed else "no", *(f"  {reason}" for reason in answer.reasons)])
    os.write(1, f"{text}\n".encode(errors="backslashreplace"))
    return 0 if answer.is_allowed else 1


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
