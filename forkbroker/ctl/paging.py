"""Listings that are sorted, filtered and cut by the broker: options with the names that the request's members have."""

from __future__ import annotations

import argparse
import os
from typing import Any

from forkbroker.config.values import choice, number
from forkbroker.control.verbs import MAX_OFFSET, MAX_PAGE, USE_KEYS
from forkbroker.ctl.command import Param
from forkbroker.ctl.connection import Connection
from forkbroker.ctl.tables import Row

OFFSET = Param("--offset", f"leave out so many first, at most {MAX_OFFSET:,}", "N", number(0, MAX_OFFSET))
_REVERSE = Param("--reverse", "the largest first")
_LIMIT = Param("--limit", f"so many rows at most; {MAX_PAGE:,} if they are sorted", "N", number(1, MAX_PAGE))
USES = Param("--use", "with processor time and memory of the processes")
_MEMBERS = ("sort", "reverse", "offset", "limit", "filter", "client", "use")


def word(name: str, text: str, metavar: str, words: tuple[str, ...], default: str | None = None) -> Param:
    """An option whose value is one of these words."""
    return Param(name, f"{text}{', '.join(words)}", metavar, choice(*words), default, completes=" ".join(words))


def pages(*keys: str) -> tuple[Param, ...]:
    """The options of a listing whose rows can be sorted by these members."""
    return word("--sort", "", "KEY", keys), _REVERSE, OFFSET, _LIMIT


def read_options(parsed: argparse.Namespace) -> dict[str, Any]:
    """What such options add to a request."""
    found = {name: getattr(parsed, name, None) for name in _MEMBERS}
    # 0 is a number, and False a switch that was not given
    return {name: value for name, value in found.items() if value is not None and value is not False}


def has_use(args: dict[str, Any]) -> bool:
    """Whether the rows of such a request have what processes use."""
    return bool(args.get("use")) or args.get("sort") in USE_KEYS


def ask(connection: Connection, verb: str, args: dict[str, Any]) -> list[Row]:
    """The rows. If the broker has cut them without having been told so, that is said on standard error.

    Raises:
        CtlError: as `Connection.ask`.
    """
    rows = list(connection.ask(verb, args))
    matched = connection.matched
    if matched is not None and "limit" not in args and matched > len(rows) + args.get("offset", 0):
        os.write(2, f"{len(rows):,} of {matched:,} rows: --offset and --limit choose others\n".encode())
    return rows
