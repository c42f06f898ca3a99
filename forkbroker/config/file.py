"""The configuration file: TOML, with the options' own names as keys.

    max-clients = 500
    listen = ["localhost:61613", "unix:/run/forkbroker/socket"]
    policy = ["/queue/mail.# max-deliveries=5 lease=2min"]

What is wrong is told with file, line and key. The parser of the standard library knows the line of a mistake in the
form, but not the lines of keys: for these the text is read once more, statement by statement. A statement ends with the
first line up to which it can be parsed by itself. Behind the header of a table, keys are those of the table.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, time
from pathlib import Path

from forkbroker.config.options.option import Given, Option, Type, is_relative
from forkbroker.config.options.table import BY_NAME, OPTIONS
from forkbroker.config.permissions import TABLES, read_permissions
from forkbroker.config.suggesting import suggest
from forkbroker.errors import ConfigurationFileError
from forkbroker.permissions import Permissions

DEFAULT_FILE = Path("/etc/forkbroker/forkbroker.toml")
"""Read if it exists and no other file is named."""

_TWICE = "Cannot overwrite a value"
"""What the parser of TOML says of a key that a table has already."""
_POSITION = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)

_TAKEN: Mapping[Type, tuple[type, ...]] = {
    Type.FLAG: (bool,),
    Type.NUMBER: (int,),
    Type.SIZE: (int, str),
    Type.TIME: (int, float, str),
    Type.TEXT: (str,),
}


@dataclass(frozen=True, slots=True)
class ConfigurationFile:
    """What a file gives."""

    given: Mapping[str, Given]
    """By field name."""
    origins: Mapping[str, str]
    """Where that stands, as in "/etc/forkbroker/forkbroker.toml, line 12"; by field name."""
    permissions: Permissions = field(default_factory=Permissions)
    """What the tables say."""


def read_file(path: Path) -> ConfigurationFile:
    """Read a configuration file.

    Raises:
        ConfigurationFileError: it cannot be read, or has mistakes.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        remedies: dict[type[OSError], str] = {
            FileNotFoundError: "make it, or name another one",
            IsADirectoryError: "name a file",
        }
        remedy = remedies.get(type(error), "see to its permissions")
        raise ConfigurationFileError(str(path), f"cannot be read: {error.strerror}", remedy) from None
    except UnicodeDecodeError as error:
        raise ConfigurationFileError(str(path), f"is not UTF-8: {error.reason}", "TOML is always UTF-8") from None
    return parse_text(text, str(path))


def exists(path: Path) -> bool:
    """Tell whether there is something under this name, as far as this process may know; also if it may not be read."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def parse_text(text: str, name: str) -> ConfigurationFile:
    """Read the text of a configuration file that is called `name`.

    Raises:
        ConfigurationFileError: it has mistakes.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _explain(str(error), text, name) from None
    lines = find_lines(text)
    given: dict[str, Given] = {}
    origins: dict[str, str] = {}
    for key, value in values.items():
        if key in TABLES:
            continue
        where = f"{name}, line {lines[(key,)]}"
        option = _find_option(key, value, where)
        given[option.field] = _read(option, value, where)
        origins[option.field] = where
    return ConfigurationFile(given, origins, read_permissions(values, lines, name))


def _explain(message: str, text: str, name: str) -> ConfigurationFileError:
    match = _POSITION.fullmatch(message)
    problem, line = (match[1], match[2]) if match else (message, None)
    where = f"{name}, line {line or text.count(chr(10)) + 1}"
    if problem == _TWICE:
        return ConfigurationFileError(where, "the key was given before", "write it once; several values go in brackets")
    return ConfigurationFileError(where, problem[:1].lower() + problem[1:], "see toml.io for the form of the file")


def find_lines(text: str) -> dict[tuple[str, ...], int]:
    """Return the number of the line in which the statement of each key begins, for a text that can be parsed.

    A key is known by the names of the tables that it is in, from the outermost one, and its own.
    """
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    first, statement = 1, ""
    for number, line in enumerate(text.split("\n"), 1):
        statement += f"{line}\n"
        try:
            values = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue  # it goes on in the next line
        paths = list(_find_paths(values))
        if statement.lstrip().startswith("["):
            table = paths[-1]
        for path in paths:
            found.setdefault(path if statement.lstrip().startswith("[") else table + path, first)
        first, statement = number + 1, ""
    return found


def _find_paths(values: Mapping[str, object], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from _find_paths(value, (*above, key))


def _find_option(key: str, value: object, where: str) -> Option:
    option = BY_NAME.get(key)
    if option is None:
        if isinstance(value, dict):
            raise ConfigurationFileError(
                f"{where}: {key}", "unknown table", f"tables are {', '.join(TABLES)}; options stand in none"
            )
        known = [option.name for option in OPTIONS if option.in_file]
        remedy = suggest(key.replace("_", "-").lower(), known, "forkbroker.toml(5) has the keys")
        raise ConfigurationFileError(f"{where}: {key}", "unknown key", remedy)
    if not option.in_file:
        raise ConfigurationFileError(f"{where}: {key}", "not for the file", f"give --{key} on the command line")
    return option


def _read(option: Option, value: object, where: str) -> Given:
    """The value as it would be given on a command line."""
    if option.repeatable:
        values = value if isinstance(value, list) else [value]
        return [_to_text(option, one, where) for one in values]
    if option.is_flag and isinstance(value, bool):
        return value
    return _to_text(option, value, where)


def _to_text(option: Option, value: object, where: str) -> str:
    # bool is an int for Python, and is none for TOML
    if not isinstance(value, _TAKEN[option.type]) or isinstance(value, bool):
        remedy = f"write {option.type.value}" + (", or several in brackets" if option.repeatable else "")
        raise ConfigurationFileError(f"{where}: {option.name} = {_show(value)}", f"is {_describe(value)}", remedy)
    text = value if isinstance(value, str) else f"{value:f}" if isinstance(value, float) else str(value)
    if is_relative(option, text):
        raise ConfigurationFileError(
            f"{where}: {option.name} = {_show(value)}", "not an absolute path", "begin it with /"
        )
    return text


def _show(value: object) -> str:
    if isinstance(value, (date, time)):  # a moment is a date as well
        return str(value)
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value).replace("'", '"')


def _describe(value: object) -> str:
    words: dict[type, str] = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}
    return words.get(type(value), "a table" if isinstance(value, dict) else "a date or time")
