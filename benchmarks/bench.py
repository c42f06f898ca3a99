"""Measure forkbroker, and beside it the machine's limit, and print a table.

    bench.py [--only NAME]... [--quick] [--markdown] [--json FILE] [--broker HOST:PORT] [--list]

Starts its own brokers and relays on free ports of the loopback and ends them; each broker has a new database under
benchmarks/build, which goes with it. Every run has a deadline. Exit status:
0 if every scenario ran (a missed target stands in the table, it is no failure), 1 if one failed, 2 if nothing could be
measured.
"""

import argparse
import fnmatch
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import costs
import depth
import floods
import persistence
import procedures
import report
import scenarios
import turns
from procedures import Bench, Row
from processes import Broker, MeasurementError, compile_loadgen

Procedure = Callable[[Bench], list[Row]]

QUICK_SECONDS = 0.3
QUICK_IDLE = 200
QUICK_DEPTH = 0.1


def all_procedures() -> dict[str, Procedure]:
    """Everything that can be measured, by name, in the table's order."""

    def plain(scenario: scenarios.Scenario) -> Procedure:
        return lambda bench: procedures.measure_plain(bench, scenario)

    def persisting(scenario: scenarios.Scenario) -> Procedure:
        return lambda bench: persistence.measure_fill(bench, scenario)

    def costing(scenario: scenarios.Scenario) -> Procedure:
        return lambda bench: costs.measure_features(bench, scenario)

    def flooded(kind: str, is_from_one: bool) -> Procedure:
        return lambda bench: floods.measure(bench, kind, is_from_one=is_from_one)

    found: dict[str, Procedure] = {scenario.name: plain(scenario) for scenario in scenarios.PLAIN}
    found |= {scenario.name: plain(scenario) for scenario in scenarios.WEBSOCKET}
    found["websocket-ping-pong"] = procedures.measure_websocket_round
    found["websocket-tabs"] = procedures.measure_tabs
    found["backlog"] = procedures.measure_backlog
    found["singles"] = procedures.measure_singles
    found["bystanders"] = procedures.measure_bystanders
    found["workers"] = procedures.measure_workers
    found |= {scenario.name: persisting(scenario) for scenario in scenarios.PERSISTENT}
    found["persistent-flow"] = persistence.measure_flow
    found["deep-fill"] = depth.measure_deep
    found["deep-persistent"] = depth.measure_deep_persistent
    found["idle"] = procedures.measure_idle
    for scenario in costs.SCENARIOS:
        found[f"cost-{scenario.name}"] = costing(scenario)
    found["cost-tls"] = costs.measure_tls
    for kind, is_from_one in floods.KINDS:
        found[floods.name_of(kind, is_from_one=is_from_one)] = flooded(kind, is_from_one)
    found["turns"] = turns.measure_turns
    return found


def choose(patterns: Sequence[str]) -> dict[str, Procedure]:
    """Those whose names match one of the patterns; all without a pattern."""
    known = all_procedures()
    chosen = {name: run for name, run in known.items() if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)}
    return chosen if patterns else known


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    options = argparse.ArgumentParser(description="measure forkbroker beside a plain relay")
    options.add_argument("--only", metavar="NAME", action="append", default=[], help="scenarios (shell pattern)")
    options.add_argument("--list", action="store_true", help="print the names of the scenarios")
    options.add_argument("--quick", action="store_true", help="one short run of each: a trial, not a measurement")
    options.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    options.add_argument("--json", metavar="FILE", type=Path, help="write the rows to a file as well")
    options.add_argument("--broker", metavar="HOST:PORT", help="measure a broker that is running")
    options.add_argument(
        "--broker-option", metavar="OPTION", action="append", default=[], help="for brokers started here"
    )
    options.add_argument("--seconds", type=float, default=1.5, help="length of a run (default %(default)s)")
    options.add_argument("--runs", type=int, default=3, help="runs of which the median counts (default %(default)s)")
    options.add_argument("--deadline", type=float, default=30.0, help="seconds for a run (default %(default)s)")
    return options.parse_args(arguments)


def prepare(options: argparse.Namespace) -> Bench:
    """The settings that the options ask for."""
    bench = Bench(options.seconds, options.runs, options.deadline, broker_options=options.broker_option)
    if options.quick:
        bench.seconds, bench.runs, bench.idle_clients = QUICK_SECONDS, 1, QUICK_IDLE
        bench.depth = QUICK_DEPTH
    if options.broker:
        host, _, port = options.broker.rpartition(":")
        bench.given = Broker(host.strip("[]"), int(port), None)
    return bench


def raise_descriptor_limit() -> None:
    """A thousand clients need a thousand descriptors in the load generator, and the broker inherits the limit."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def measure(bench: Bench, chosen: dict[str, Procedure]) -> list[Row]:
    """All rows; a scenario that cannot even begin becomes a row that says why."""
    rows: list[Row] = []
    for name, run in chosen.items():
        print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
        try:
            rows += run(bench)
        except MeasurementError as error:
            rows.append(Row(name, name, None, scenarios.Unit.MESSAGES, error=str(error)))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the options ask for; returns the exit status."""
    options = parse(arguments)
    chosen = choose(options.only)
    if options.list:
        print("\n".join(chosen))
        return 0
    try:
        compile_loadgen()
    except MeasurementError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    if not chosen:
        print("benchmark: no scenario of that name; --list shows all", file=sys.stderr)
        return 2
    raise_descriptor_limit()
    rows = measure(prepare(options), chosen)
    print(report.heading(), end="\n\n")
    print(report.markdown(rows) if options.markdown else report.terminal(rows))
    if options.json:
        report.write_json(options.json, rows)
    return 1 if any(row.error for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
