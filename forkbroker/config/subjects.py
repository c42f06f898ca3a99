"""Of whom a table speaks: `user.NAME`, `group.NAME`, `all-users` or `anonymous`, a table each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from forkbroker.config.suggesting import list_words, suggest
from forkbroker.config.toml_tables import Path, TomlTables
from forkbroker.errors import ConfigurationFileError
from forkbroker.permissions import ALL_USERS, ANONYMOUS, group_subject, user_subject

NAME_IT = "name its members in [groups], or give it none: []"
"""What to do with a group that there is not."""

_SUBJECTS = {"user": user_subject, "group": group_subject}
_KINDS = (*_SUBJECTS, ALL_USERS, ANONYMOUS)


def read_subjects(
    tables: TomlTables, table: str, found: object, groups: Iterable[str]
) -> Iterator[tuple[str, object, Path]]:
    """Return each subject of `table`, what is said of it, and where that stands.

    Raises:
        ConfigurationFileError: it is nobody.
    """
    remedy = f"write a table for each user or group, as in [{table}.group.workers]"
    for kind, within in tables.read_table(found, (table,), remedy):
        path = (table, kind)
        if kind not in _KINDS:
            raise tables.fault(path, f"not whose {table} these are", f"write {list_words(_KINDS)}")
        if kind not in _SUBJECTS:
            yield kind, within, path
            continue
        for whose, said in tables.read_table(within, path, remedy):
            here = (*path, whose)
            tables.check_name(whose, here)
            if kind == "group" and whose not in groups:
                raise tables.fault(here, "unknown group", suggest(whose, groups, NAME_IT))
            yield _SUBJECTS[kind](whose), said, here


def unknown_group(tables: TomlTables, path: Path, group: str, groups: Iterable[str]) -> ConfigurationFileError:
    """Make the error of a group that there is not, among the values of a key."""
    return tables.fault(path, f"unknown group {group}", suggest(group, groups, NAME_IT))
