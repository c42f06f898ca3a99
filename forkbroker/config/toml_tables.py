"""Tables of the configuration file: what is in them, or an error that says where, and what would be right.

A place in the file is known by its path: the names of its tables, from the outermost one, and its key.
"""

from __future__ import annotations

from collections.abc import Mapping

from forkbroker.errors import ConfigurationFileError
from forkbroker.passwords import PasswordError, check_name

Path = tuple[str, ...]

Lines = Mapping[Path, int]
"""The line of each key."""


class TomlTables:
    """The tables of one file."""

    def __init__(self, lines: Lines, name: str) -> None:
        """`name`: of the file."""
        self._lines = lines
        self._name = name

    def line(self, path: Path) -> str:
        """Say in which line that stands."""
        while path and path not in self._lines:
            path = path[:-1]
        return f"{self._name}, line {self._lines[path]}" if path else self._name

    def where(self, path: Path) -> str:
        """Line and key."""
        return f"{self.line(path)}: {'.'.join(path)}"

    def fault(self, path: Path, problem: str, remedy: str) -> ConfigurationFileError:
        """Make the error of a key."""
        return ConfigurationFileError(self.where(path), problem, remedy)

    def fault_of_value(self, path: Path, value: object, problem: str, remedy: str) -> ConfigurationFileError:
        """Make the error of a value."""
        return ConfigurationFileError(f"{self.where(path)} = {value}", problem, remedy)

    def read_table(self, found: object, path: Path, remedy: str) -> list[tuple[str, object]]:
        """Return keys and values. Raises ConfigurationFileError: there is no table."""
        if not isinstance(found, dict):
            raise self.fault(path, "not a table", remedy)
        return list(found.items())

    def read_texts(self, found: object, path: Path) -> list[str]:
        """Return one text or several. Raises ConfigurationFileError: there is something else."""
        texts: list[str] = []
        for text in found if isinstance(found, list) else [found]:
            if not isinstance(text, str):
                raise self.fault(path, "not a text in quotes", "write one text, or several in brackets")
            texts.append(text)
        return texts

    def check_name(self, name: str, path: Path) -> str:
        """Return the name of a user or group. Raises ConfigurationFileError: nobody can have it."""
        try:
            check_name(name)
        except PasswordError as error:
            raise ConfigurationFileError(f"{self.where(path)}: {name!r}", "not a name", str(error)) from None
        return name
