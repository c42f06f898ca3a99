"""What there is to say about an option.

Command line, help, configuration file, manual page and `forkbroker.config.settings` follow from its row, and a test
holds them together. A default stands in the form in which a user would write it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

Given = str | bool | list[str]
"""What is given for an option: a text, True or False for a flag, several texts if it is repeatable."""


class Effect(Enum):
    """When a value has its effect that was changed in the configuration file, after a reload."""

    ALL = "at once"
    NEW = "for clients that connect from then on"
    RESTART = "after a restart"


class Type(Enum):
    """How a value is written in the configuration file."""

    FLAG = "true or false"
    NUMBER = "a whole number"
    SIZE = 'a number of bytes, or a text as in "10 MiB"'
    TIME = 'a number of seconds, or a text as in "10 min"'
    TEXT = "a text in quotes"


_TYPES = {"": Type.FLAG, "N": Type.NUMBER, "SECONDS": Type.NUMBER, "SIZE": Type.SIZE, "TIME": Type.TIME}
"""By the word that stands for the value in the help; all others are texts."""


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table."""

    name: str
    """As on the command line, without the dashes; with underscores it is the field of `Settings`."""
    parse: Callable[[str], object] | None
    """Text to value; raises ConfigurationError. None for a flag, which takes no value."""
    default: str | None
    """As a user would write it; None when the option is off until it is given."""
    metavar: str
    help: str
    repeatable: bool = False
    in_file: bool = True
    """Whether the configuration file may have it; else it is about this one start."""
    effect: Effect = Effect.RESTART
    example: str = ""
    """A value in TOML, for the commented file, where there is no default."""

    @property
    def field(self) -> str:
        """The field of `Settings`."""
        return self.name.replace("-", "_")

    @property
    def type(self) -> Type:
        """How its value is written in the configuration file."""
        return _TYPES.get(self.metavar, Type.TEXT)

    @property
    def is_flag(self) -> bool:
        """Whether it is given without a value."""
        return self.parse is None


@dataclass(frozen=True, slots=True)
class Chapter:
    """Options that are explained together."""

    title: str
    """In the help and in the configuration file."""
    options: tuple[Option, ...]


def absolute(option: Option, text: str) -> str:
    """Make the name of a file in a value absolute, as the broker leaves the directory to which it is relative.

    A value that cannot be understood is left to the option's parser.
    """
    prefix, name = _split_file_name(option, text)
    if name:
        with suppress(OSError):
            return prefix + str(Path(name).absolute())
    return text


def is_relative(option: Option, text: str) -> bool:
    """Tell whether a value has the name of a file that is relative to some directory."""
    _, name = _split_file_name(option, text)
    return bool(name) and not name.startswith("/")


def _split_file_name(option: Option, text: str) -> tuple[str, str]:
    if option.metavar == "FILE":
        return "", text
    return ("unix:", text.removeprefix("unix:")) if option.name == "listen" and text.startswith("unix:") else ("", "")
