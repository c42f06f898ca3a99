"""What is printed: columns for people, JSON for programs.

Columns are always the same, in the same order. What strangers have chosen (names, logins) is shown so that it cannot
move a terminal's cursor.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from forkbroker.posix.printable import printable

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    title: str
    show: Callable[[Row], str]
    is_number: bool = False


def text(title: str, member: str) -> Column:
    """A member that is text; nothing is a dash."""
    return Column(title, lambda row: printable(str(row.get(member) or "-")))


def number(title: str, member: str) -> Column:
    """A member that is a number."""
    return Column(title, lambda row: plain(row.get(member)), is_number=True)


def span(title: str, member: str) -> Column:
    """A member that is a time in seconds."""
    return Column(title, lambda row: short_span(row.get(member)), is_number=True)


def octets(title: str, member: str) -> Column:
    """A member that is a number of bytes."""
    return Column(title, lambda row: short_octets(row.get(member)), is_number=True)


def plain(value: Any) -> str:
    """A number; none is a dash."""
    return "-" if value is None else f"{value}"


def short_span(seconds: float | None) -> str:
    """`1.5s`, `12m`, `3h20m`, `5d`."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h{minutes:02}m"
    return f"{hours // 24}d"


def short_octets(value: int | None) -> str:
    """`512`, `1.5K`, `20M`."""
    if value is None:
        return "-"
    size, units, unit = float(value), list("TGMK"), ""
    while size >= 1000 and units:
        size /= 1024
        unit = units.pop()
    return f"{size:.1f}{unit}" if unit and size < 10 else f"{size:.0f}{unit}"


def draw(columns: Sequence[Column], rows: Iterable[Row]) -> list[str]:
    """Lines with a header, aligned."""
    cells = [[column.title for column in columns], *[[column.show(row) for column in columns] for row in rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for line in cells:
        padded = [
            cell.rjust(width) if column.is_number else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return lines


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 message`, `2 messages`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def write(lines: Iterable[str]) -> None:
    """To standard output, all at once: a listing is not torn by a pipe that ends early."""
    octets = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
    view = memoryview(octets)
    while view:
        view = view[os.write(1, view) :]


def write_json(value: Any) -> None:
    """One line of JSON."""
    write([json.dumps(value, ensure_ascii=True)])
