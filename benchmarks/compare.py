"""Measure forkbroker and what others use instead, in turn, with one generator, and print a table.

    compare.py [--server NAME]... [--only ROW]... [--quick] [--markdown] [--json FILE] [--list]

Starts each server on a free port of the loopback with data under benchmarks/build, which goes with it; one of them runs
at a time. Each round measures all servers; the median of the rounds counts. A server that is not installed is left
out, with the reason. Exit status: 0 if every row was measured, 1 if one failed, 2 if nothing can be measured.
"""

import argparse
import fnmatch
import json
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import report
from others.rows import ROWS, Effort, Row
from others.servers import SERVERS, Server
from processes import Broker, MeasurementError

QUICK = Effort(seconds=0.05, idle=20)
ABSENT = "–"  # noqa: RUF001 - a dash in a table
SMALL = 10


@dataclass
class Comparison:
    """The figures of all rounds, by row and server; what failed is not measured again."""

    servers: Sequence[Server]
    rows: Sequence[Row]
    effort: Effort
    figures: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def measure_round(self) -> None:
        """All servers, one after the other."""
        for server in self.servers:
            print(f"{time.strftime('%H:%M:%S')} {server.name}", file=sys.stderr, flush=True)
            rows = [row for row in self.rows if self._is_to_measure(row, server)]
            if server.stores_as_told:
                self._measure(server, rows, True)
            else:
                self._measure(server, [row for row in rows if not row.stored], False)
                self._measure(server, [row for row in rows if row.stored], True)

    def _is_to_measure(self, row: Row, server: Server) -> bool:
        return isinstance(server.client, row.needs) and (row.name, server.name) not in self.failures

    def _measure(self, server: Server, rows: Sequence[Row], stored: bool) -> None:
        if not rows:
            return
        try:
            with server.start(stored) as broker:
                for row in rows:
                    self._measure_row(row, server, broker)
        except MeasurementError as error:
            self.failures |= {(row.name, server.name): str(error) for row in rows}

    def _measure_row(self, row: Row, server: Server, broker: Broker) -> None:
        key = row.name, server.name
        try:
            self.figures.setdefault(key, []).append(row.run(broker, server.client, self.effort))
        except MeasurementError as error:
            self.failures[key] = str(error)

    def median(self, row: Row, server: Server) -> float | None:
        """Of the rounds."""
        key = row.name, server.name
        figures = self.figures.get(key)
        return statistics.median(figures) if figures and key not in self.failures else None


def cell(comparison: Comparison, row: Row, server: Server) -> str:
    """A figure, "failed", or a dash for what a server does not have."""
    if (row.name, server.name) in comparison.failures:
        return "failed"
    figure = comparison.median(row, server)
    if figure is None:
        return ABSENT
    text = f"{figure:.1f}" if figure < SMALL else report.figure_text(figure, row.unit)
    return f"{text} ({server.storing_note})" if row.stored and server.storing_note else text


def table(comparison: Comparison) -> list[list[str]]:
    """Lines of cells, the heading first."""
    heading = ["", "unit", *(f"{server.name} {server.version}" for server in comparison.servers)]
    return [heading] + [
        [row.title, row.unit.value, *(cell(comparison, row, server) for server in comparison.servers)]
        for row in comparison.rows
    ]


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """For docs/benchmarks.md."""
    heading, *others = lines
    rule = ["---", "---", *["---:"] * (len(heading) - 2)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (heading, rule, *others))


def terminal(lines: Sequence[Sequence[str]]) -> str:
    """Columns by blanks."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if place < 2 else text.rjust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def remarks(comparison: Comparison, missing: Sequence[Server]) -> list[str]:
    """What is left out, and what failed."""
    left_out = [f"{server.name} is left out: {server.missing}" for server in missing]
    return left_out + [f"{server}, {row}: {error}" for (row, server), error in comparison.failures.items()]


def as_json(comparison: Comparison, missing: Sequence[Server]) -> dict[str, Any]:
    """All figures, not only the medians."""
    return {
        "machine": report.heading(),
        "versions": {server.name: server.version for server in comparison.servers},
        "left_out": {server.name: server.missing for server in missing},
        "rows": [
            {
                "name": row.name,
                "unit": row.unit.value,
                "figures": {
                    server.name: comparison.figures[row.name, server.name]
                    for server in comparison.servers
                    if (row.name, server.name) in comparison.figures
                },
            }
            for row in comparison.rows
        ],
        "failures": [
            {"server": server, "row": row, "error": text} for (row, server), text in comparison.failures.items()
        ],
    }


def chosen(names: Sequence[str], patterns: Sequence[str]) -> set[str]:
    """The names that match one of the patterns; all without a pattern."""
    return {name for name in names if not patterns or any(fnmatch.fnmatch(name, one) for one in patterns)}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    options = argparse.ArgumentParser(description="measure forkbroker beside other servers")
    options.add_argument("--server", metavar="NAME", action="append", default=[], help="servers (shell pattern)")
    options.add_argument("--only", metavar="NAME", action="append", default=[], help="rows (shell pattern)")
    options.add_argument("--list", action="store_true", help="print the names of the servers and of the rows")
    options.add_argument("--quick", action="store_true", help="one short run of each: a trial, not a measurement")
    options.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    options.add_argument("--json", metavar="FILE", type=Path, help="write all figures to a file as well")
    options.add_argument("--seconds", type=float, default=0.5, help="length of a run (default %(default)s)")
    options.add_argument("--runs", type=int, default=3, help="rounds of which the median counts (default %(default)s)")
    options.add_argument("--idle", type=int, default=200, help="idle connections (default %(default)s)")
    return options.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the options ask for; returns the exit status."""
    options = parse(arguments)
    names = chosen([server.name for server in SERVERS], options.server)
    row_names = chosen([row.name for row in ROWS], options.only)
    servers = [server for server in SERVERS if server.name in names]
    rows = [row for row in ROWS if row.name in row_names]
    if options.list:
        print("\n".join([*(server.name for server in servers), "", *(row.name for row in rows)]))
        return 0
    present = [server for server in servers if not server.missing]
    missing = [server for server in servers if server.missing]
    if not present or not rows:
        print("benchmark: nothing to measure; --list shows the names", file=sys.stderr)
        return 2
    # The servers are to end with this process: their contexts must be left.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    comparison = Comparison(present, rows, QUICK if options.quick else Effort(options.seconds, options.idle))
    with suppress(KeyboardInterrupt):
        for _ in range(1 if options.quick else options.runs):
            comparison.measure_round()
    print(report.heading(), end="\n\n")
    print((markdown if options.markdown else terminal)(table(comparison)))
    print("".join(f"\n{remark}" for remark in remarks(comparison, missing)))
    if options.json:
        options.json.write_text(json.dumps(as_json(comparison, missing), indent=2) + "\n", encoding="utf-8")
    return 1 if comparison.failures else 0


if __name__ == "__main__":
    sys.exit(main())
