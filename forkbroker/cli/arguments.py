"""The command line of stomp-broker, made from the table of options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import forkbroker
from forkbroker.config.options import OPTIONS, Option, Settings, make_settings

PROGRAM = "stomp-broker"


def make_parser() -> argparse.ArgumentParser:
    """A parser that takes every option of the table; values stay texts, which the table checks."""
    parser = argparse.ArgumentParser(
        PROGRAM,
        description="A STOMP message broker with a process for each client.",
        epilog="Sizes: bytes, or with KiB, MiB, GiB. Times: seconds, or with ms, s, min, h, d. "
        "The manual page stomp-broker(8) explains each option.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {forkbroker.__version__}")
    groups: dict[str, argparse._ArgumentGroup] = {}
    for option in OPTIONS:
        group = groups.get(option.group) or parser.add_argument_group(option.group)
        groups[option.group] = group
        _add(group, option)
    return parser


def _add(group: argparse._ArgumentGroup, option: Option) -> None:
    text = option.help.replace("%", "%%")
    if option.is_flag:
        group.add_argument(f"--{option.name}", action="store_true", help=text)
        return
    if option.default is not None:
        text = f"{text} (default: {option.default})"
    action = "append" if option.repeatable else "store"
    group.add_argument(f"--{option.name}", action=action, metavar=option.metavar, help=text)


def read_arguments(arguments: Sequence[str] | None) -> Settings:
    """Settings from a command line; the process's own when None.

    Raises:
        ConfigurationError: a value that cannot be used.
        SystemExit: status 2 for what is no option, after a message; 0 after --help and --version.
    """
    return make_settings(vars(make_parser().parse_args(arguments)))
