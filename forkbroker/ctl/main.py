"""The command line of stomp-brokerctl.

The exit status is one of sysexits(3), but 2 for a command line that is wrong, and that of `health`. A passcode is no
argument, as each user of the machine can read those.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import forkbroker
from forkbroker.config.values import seconds
from forkbroker.ctl import carrying, changing, health, installing, looking, messages, offline, sending, tailing, top
from forkbroker.ctl.command import Command, Context, Param
from forkbroker.ctl.connection import CtlError, Target, find_url
from forkbroker.ctl.words import WordError, Words
from forkbroker.errors import Exit

PROGRAM = "stomp-brokerctl"

COMMANDS: tuple[Command, ...] = (
    *looking.COMMANDS,
    *changing.COMMANDS,
    *carrying.COMMANDS,
    *health.COMMANDS,
    *messages.COMMANDS,
    *sending.COMMANDS,
    *tailing.COMMANDS,
    *top.COMMANDS,
)
"""All verbs that ask a broker."""

ALONE: tuple[Command, ...] = (*offline.COMMANDS, *installing.COMMANDS)
"""Those that ask none."""

CONNECTING = (
    Param("--url", "where the broker is: stomp://HOST:PORT, tls://HOST:PORT or unix:/PATH", "URL"),
    Param("--login", "log in as this user", "NAME"),
    Param("--passcode-file", "a file whose first line is the passcode", "FILE", Path, completes="file"),
    Param(
        "--ca-file", "certificates of the authorities to trust; default: the system's", "FILE", Path, completes="file"
    ),
    Param("--certificate", "own certificate, with its key", "FILE", Path, completes="file"),
    Param("--timeout", "wait so long for an answer", "TIME", seconds(0.001), 30.0),
    Param("--json", "print JSON"),
)
"""Parameters of all of these."""

PARAMS = {
    **{command.name: (*command.params, *CONNECTING) for command in COMMANDS},
    **{command.name: command.params for command in ALONE},
}
"""Of each verb."""

WORDS = Words(
    PROGRAM,
    {name: {one.name: one.metavar for one in params if one.is_option} for name, params in PARAMS.items()},
)


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all verbs."""
    parser = argparse.ArgumentParser(
        PROGRAM,
        usage=f"{PROGRAM} [OPTION ...] VERB ...",
        description="Administer a STOMP broker.",
        epilog=f"{PROGRAM} VERB --help shows the arguments and options of a verb.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {forkbroker.__version__}")
    group = parser.add_argument_group("options of all verbs that ask a broker, before or behind the verb")
    for param in CONNECTING:
        param.add_to(group)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", prog=PROGRAM)
    places = {"": verbs}
    for command in (*COMMANDS, *ALONE):
        *first, name = command.name.split()
        place = places.get("".join(first)) or places.setdefault(first[0], _add_group(verbs, first[0]))
        sub = place.add_parser(name, help=command.help, description=_sentence(command.help), allow_abbrev=False)
        for param in PARAMS[command.name]:
            param.add_to(sub)
        sub.set_defaults(run=command.run)
    return parser


def _add_group(verbs: Any, word: str) -> Any:
    """What adds the verbs of two words of which this is the first."""
    group = verbs.add_parser(word, help=offline.GROUPS[word], allow_abbrev=False)
    return group.add_subparsers(dest="part", required=True, metavar="VERB")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    parser = make_parser()
    try:
        words = WORDS.arrange(sys.argv[1:] if arguments is None else arguments)
    except WordError as error:
        parser.error(str(error))
    parsed, rest = parser.parse_known_args(words)
    if rest and not _take_rest(parsed, rest):
        unknown = next((word for word in rest if word.startswith("-") and word != "-"), rest[0])
        parser.error(WORDS.describe_unknown(_find_name(parsed), unknown))
    try:
        return int(parsed.run(Context(parsed, lambda: _find_target(parsed))))
    except CtlError as error:
        return _complain(str(error), error.status)
    except BrokenPipeError:
        return Exit.IOERR
    except KeyboardInterrupt:
        return _complain("interrupted", Exit.UNAVAILABLE)


def _take_rest(parsed: argparse.Namespace, rest: list[str]) -> bool:
    """Arguments that may be left out can stand behind options too, where argparse does not look for them."""
    if any(one.startswith("-") and one != "-" for one in rest):
        return False
    for param in PARAMS[_find_name(parsed)]:
        if param.is_option or not param.is_optional or not rest:
            continue
        if param.is_many:
            setattr(parsed, param.dest_name, [*(getattr(parsed, param.dest_name) or ()), *rest])
            return True
        if getattr(parsed, param.dest_name) is None:
            setattr(parsed, param.dest_name, rest.pop(0))
    return not rest


def _find_name(parsed: argparse.Namespace) -> str:
    """The verb, of one word or two."""
    return f"{parsed.verb} {getattr(parsed, 'part', '')}".rstrip()


def _find_target(parsed: argparse.Namespace) -> Target:
    """Which broker, and as whom: options first, then the environment."""
    passcode = os.environ.get("FORKBROKER_PASSCODE", "")
    if parsed.passcode_file is not None:
        try:
            passcode = parsed.passcode_file.read_text().partition("\n")[0].removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise CtlError(f"{parsed.passcode_file}: {reason}", Exit.NOINPUT) from None
    return Target(
        url=find_url(parsed.url),
        login=parsed.login or os.environ.get("FORKBROKER_LOGIN", ""),
        passcode=passcode,
        timeout_s=parsed.timeout,
        ca_file=parsed.ca_file,
        certificate=parsed.certificate,
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _complain(text: str, status: Exit) -> Exit:
    with suppress(OSError):
        sys.stderr.write(f"{PROGRAM}: {text}\n")
        sys.stderr.flush()
    return status
