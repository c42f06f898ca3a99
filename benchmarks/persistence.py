"""How persistent messages are measured: each run on a new broker, and the plain loop between the runs.

The disk is slower at one time than at another, so broker and loop write in turn, each into a new database, as many
messages each.
"""

import statistics

import scenarios
from procedures import Bench, Row, row_of
from processes import MeasurementError, Result, run_plain_store
from scenarios import Load, Scenario


def run_on_new_broker(bench: Bench, load: Load, count: int) -> Result:
    """One run, its database empty."""
    with bench.broker() as broker:
        return bench.run_on(broker, load, count)


def measure_fill(bench: Bench, scenario: Scenario) -> list[Row]:
    """Into a queue, each message with a receipt; beside it the plain loop with transactions of the window's size."""
    row = row_of(scenario)
    load = scenario.load
    written: list[float] = []
    plain: list[float] = []
    try:
        count = bench.run_count(scenario, lambda count: run_on_new_broker(bench, load, count))
        for _ in range(bench.runs):
            plain.append(float(run_plain_store(count, load.receipt_window, load.size, bench.deadline_s)["rate"]))
            written.append(float(run_on_new_broker(bench, load, count)["rate"]))
    except MeasurementError as error:
        row.error = str(error)
        return [row]
    row.figure, row.limit = statistics.median(written), statistics.median(plain)
    row.note = f"limit: a plain loop, {load.receipt_window:,} in a transaction"
    share = scenarios.PERSISTENT_SHARES.get(load.receipt_window)
    if share is not None:
        row.target = share * row.limit
        row.note += f"; target: {share:.0%} of it"
    return [row]


def measure_flow(bench: Bench) -> list[Row]:
    """In and out at the same time."""
    scenario = scenarios.PERSISTENT_FLOW
    row = row_of(scenario)
    try:
        with bench.broker() as broker:
            row.figure = float(bench.measure_on(broker, scenario)["rate"])
    except MeasurementError as error:
        row.error = str(error)
    return [row]
