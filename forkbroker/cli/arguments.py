"""The command line of stomp-broker, made from the table of options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from difflib import get_close_matches

import forkbroker
from forkbroker.config.options.option import Given, Option, absolute
from forkbroker.config.options.table import CHAPTERS, OPTIONS

PROGRAM = "stomp-broker"


def make_parser() -> argparse.ArgumentParser:
    """A parser that takes every option of the table; values stay texts, which the table checks."""
    parser = argparse.ArgumentParser(
        PROGRAM,
        # all of them would hide a complaint, which stands below
        usage=f"{PROGRAM} [OPTION ...]",
        description="A STOMP message broker with a process for each client.",
        epilog="Sizes: bytes, or with KiB, MiB, GiB. Times: seconds, or with ms, s, min, h, d. "
        "The manual page stomp-broker(8) explains each option.",
        allow_abbrev=False,
        formatter_class=_without_terminal,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {forkbroker.__version__}")
    for chapter in CHAPTERS:
        group = parser.add_argument_group(chapter.title)
        for option in chapter.options:
            _add(group, option)
    parser.formatter_class = argparse.HelpFormatter
    return parser


def _without_terminal(prog: str) -> argparse.HelpFormatter:
    """What is asked whether the options are well formed. To find the terminal's width, it would import what no process
    of the broker needs.
    """
    return argparse.HelpFormatter(prog, width=80)


def _add(group: argparse._ArgumentGroup, option: Option) -> None:
    text = option.help.replace("%", "%%")
    if option.is_flag:
        group.add_argument(f"--{option.name}", action="store_true", help=text)
        return
    if option.default is not None:
        text = f"{text} (default: {option.default})"
    action = "append" if option.repeatable else "store"
    group.add_argument(f"--{option.name}", action=action, metavar=option.metavar, help=text)


def read_arguments(arguments: Sequence[str] | None) -> dict[str, Given]:
    """What a command line gives, by field name; the process's own command line when None.

    Names of files are absolute in it: it may be read again when the broker has left the directory.

    Raises:
        SystemExit: status 2 for what is no option, after a message; 0 after --help and --version.
    """
    parser = make_parser()
    parsed, rest = parser.parse_known_args(arguments)
    if rest:
        parser.error(_describe_unknown(rest[0]))
    given = vars(parsed)
    return {
        option.field: _make_absolute(option, given[option.field])
        for option in OPTIONS
        if given[option.field] not in (None, False)
    }


def _describe_unknown(word: str) -> str:
    name = word.partition("=")[0]
    if not name.startswith("-"):
        return f"{word!r} is no option, and there are no arguments. {PROGRAM} --help lists the options."
    near = get_close_matches(name, [f"--{option.name}" for option in OPTIONS], 1)
    hint = f": did you mean {near[0]}?" if near else "."
    return f"there is no option {name}{hint} {PROGRAM} --help lists the options."


def _make_absolute(option: Option, given: Given) -> Given:
    if isinstance(given, list):
        return [absolute(option, text) for text in given]
    return absolute(option, given) if isinstance(given, str) else given
