"""What a verb of the command is: its parameters, for the command line and the completion, and what it does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from forkbroker.ctl import tables
from forkbroker.ctl.connection import Connection, Target
from forkbroker.ctl.tables import Column, Row, counted
from forkbroker.errors import ConfigurationError
from forkbroker.posix.printable import printable

EVERYTHING = "ALL"
"""How everything is spelled where it would be a pity to do it by mistake."""


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter: an option if its name begins with `--`, else an argument."""

    name: str
    help: str
    metavar: str = ""
    """Of the value; an option without one is a switch."""
    parse: Callable[[str], Any] = str
    default: Any = None
    is_optional: bool = False
    """An argument that need not be given."""
    is_many: bool = False
    """It may be given several times."""
    is_required: bool = False
    """An option that must be given."""
    completes: str = ""
    """What the shell offers: `queue`, `file`, or words with blanks between."""
    dest: str = ""
    """The name that its value has in the program, if it is another one."""

    @property
    def is_option(self) -> bool:
        """It has a name on the command line."""
        return self.name.startswith("--")

    @property
    def dest_name(self) -> str:
        """The name that its value has in the program."""
        return self.dest or self.name.lower().lstrip("-").replace("-", "_")

    def add_to(self, parser: argparse._ActionsContainer) -> None:
        """Let the parser know it."""
        help_text = self.help.replace("%", "%%")
        if self.is_option and not self.metavar:
            parser.add_argument(self.name, dest=self.dest_name, action="store_true", help=help_text)
        elif self.is_option:
            action = "append" if self.is_many else "store"
            parser.add_argument(
                self.name,
                dest=self.dest_name,
                metavar=self.metavar,
                type=self._convert,
                default=self.default,
                action=action,
                required=self.is_required,
                help=help_text,
            )
        else:
            nargs = {(True, False): "?", (False, True): "+", (True, True): "*"}.get((self.is_optional, self.is_many))
            parser.add_argument(
                self.dest_name, metavar=self.name, type=self._convert, nargs=nargs, default=self.default, help=help_text
            )

    def _convert(self, text: str) -> Any:
        try:
            return self.parse(text)
        except ConfigurationError as error:
            raise argparse.ArgumentTypeError(str(error)) from None


class Context:
    """One call of the command."""

    def __init__(self, parsed: argparse.Namespace, make_target: Callable[[], Target]) -> None:
        self.parsed = parsed
        self._make_target = make_target

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection for the time of a `with` block."""
        with Connection(self._make_target()) as connection:
            yield connection

    @property
    def is_json(self) -> bool:
        """A program reads what is printed."""
        return bool(self.parsed.json)

    def show_rows(self, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        """A table, or an array."""
        if self.is_json:
            tables.write_json(rows)
        else:
            tables.write(tables.draw(columns, rows))

    def show(self, sentence: str, result: Row) -> None:
        """What was done: a sentence that says how much, or an object."""
        if self.is_json:
            tables.write_json(result)
        else:
            tables.write([sentence])


@dataclass(frozen=True, slots=True)
class Command:
    """A verb."""

    name: str
    """One word, or two."""
    help: str
    run: Callable[[Context], int]
    params: tuple[Param, ...] = ()


def read_ids(given: list[str] | None) -> list[str] | None:
    """Those of the command line, and those of standard input where there is a `-`."""
    if not given:
        return None
    found: list[str] = []
    for one in given:
        found += [line.strip() for line in sys.stdin if line.strip()] if one == "-" else [one]
    return found


def tell(context: Context, result: Row, done: str) -> None:
    """How many messages it were."""
    sentence = f"{counted(result['count'], 'message')} {done}"
    if result.get("left-out"):
        sentence += f", {result['left-out']:,} left where they are: {result['left-out-reason']}"
    if result.get("not-found"):
        sentence += f", not found: {', '.join(map(printable, result['not-found'][:20]))}"
    context.show(sentence, result)
