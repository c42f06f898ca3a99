"""[quotas]: limits of users and groups (`forkbroker.permissions.Quota`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from forkbroker.config.subjects import read_subjects
from forkbroker.config.suggesting import list_words, suggest
from forkbroker.config.toml_tables import Path, TomlTables
from forkbroker.config.values import number, size
from forkbroker.errors import ConfigurationError
from forkbroker.permissions import QUOTA_KEYS

QUOTAS = "quotas"

_LIMITS = {
    "connections": number(1),
    "subscriptions": number(1),
    "messages-per-second": number(1),
    "bytes-per-second": size(1),
    "memory": size(67_108_864),
    "cpu": number(1),
    "nice": number(1, 19),
    "queues": number(1),
    "queue-bytes": size(1),
}


def read_quotas(tables: TomlTables, found: object, groups: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return the limits of each subject, by the fields of a quota. Raises ConfigurationFileError."""
    return {
        subject: dict(_read_limits(tables, limits, path))
        for subject, limits, path in read_subjects(tables, QUOTAS, found, groups)
    }


def _read_limits(tables: TomlTables, found: object, path: Path) -> Iterator[tuple[str, int]]:
    for key, value in tables.read_table(found, path, "write limits as in connections = 10"):
        here = (*path, key)
        if key not in QUOTA_KEYS:
            otherwise = f"write {list_words(tuple(QUOTA_KEYS))}"
            raise tables.fault(here, "unknown limit", suggest(key, QUOTA_KEYS, otherwise))
        if not isinstance(value, int | str) or isinstance(value, bool):
            raise tables.fault(here, "not a number", 'write a number, or a size as in "1 MiB"')
        try:
            yield QUOTA_KEYS[key], _LIMITS[key](str(value))
        except ConfigurationError as error:
            raise tables.fault_of_value(here, value, error.problem, error.remedy) from None
