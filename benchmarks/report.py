"""The table, for a terminal or in Markdown, and the same as JSON."""

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from procedures import Row, machine
from scenarios import Unit

KIB = 1024
MIB = 1024 * 1024
COLUMNS = ("scenario", "size", "unit", "forkbroker", "limit", "ratio", "target", "met", "note")
LEFT = (0, 2, 8)


def size_text(size: int | None) -> str:
    """Octets of a body, as people say them."""
    if size is None:
        return ""
    if size % MIB == 0:
        return f"{size // MIB} MiB"
    return f"{size // KIB} KiB" if size % KIB == 0 else f"{size} B"


def figure_text(figure: float | None, unit: Unit) -> str:
    """A figure with the digits that mean something."""
    if figure is None:
        return ""
    return f"{figure:,.2f}" if unit is Unit.MEBIBYTES else f"{figure:,.0f}"


def cells(row: Row) -> list[str]:
    """The texts of one line."""
    figure = "failed" if row.error else figure_text(row.figure, row.unit)
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    met = {True: "yes", False: "no", None: ""}[row.met]
    texts = [row.title, size_text(row.size), row.unit.value, figure, figure_text(row.limit, row.unit), ratio]
    return [*texts, figure_text(row.target, row.unit), met, row.error or row.note]


def terminal_line(texts: Sequence[str], widths: Sequence[int]) -> str:
    """One line with columns of these widths."""
    padded = (
        text.ljust(width) if place in LEFT else text.rjust(width)
        for place, (text, width) in enumerate(zip(texts, widths, strict=True))
    )
    return "  ".join(padded).rstrip()


def terminal(rows: Sequence[Row]) -> str:
    """Columns by blanks."""
    table = [list(COLUMNS), *map(cells, rows)]
    widths = [max(len(texts[place]) for texts in table) for place in range(len(COLUMNS) - 1)] + [0]
    return "\n".join(terminal_line(texts, widths) for texts in table)


def markdown(rows: Sequence[Row]) -> str:
    """A table for docs/benchmarks.md."""
    rule = ["---" if place in LEFT else "---:" for place in range(len(COLUMNS))]
    table = [list(COLUMNS), rule, *map(cells, rows)]
    return "\n".join("| " + " | ".join(text.replace("|", "/") for text in texts) + " |" for texts in table)


def heading() -> str:
    """Where this was measured."""
    return f"{machine()}, Python {platform.python_version()}"


def as_json(row: Row) -> dict[str, Any]:
    """A row with numbers as numbers."""
    return {**vars(row), "unit": row.unit.value, "ratio": row.ratio, "met": row.met}


def write_json(path: Path, rows: Sequence[Row]) -> None:
    """The rows and the machine."""
    text = json.dumps({"machine": heading(), "rows": [as_json(row) for row in rows]}, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
