"""A real broker, scraped over HTTP."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from support.rawclient import RawClient

from forkbroker.testing.broker import RunningBroker

from .conftest import Join

pytest.importorskip("prometheus_client")

ROOT = Path(__file__).parents[2]
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="install prometheus, which has promtool")
OPTIONS = ("--metrics", "127.0.0.1:0")


def address_of(broker: RunningBroker) -> str:
    """Where it answers; the log tells."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = re.search(r"metrics: (http://\S+)/metrics", "\n".join(broker.log))
        if found:
            return found[1]
        time.sleep(0.01)
    raise AssertionError(broker.log)


def scrape(address: str, path: str = "/metrics") -> tuple[int, str]:
    try:
        with urlopen(address + path, timeout=20) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def value(text: str, sample: str) -> float:
    return float(next(line for line in text.splitlines() if line.startswith(f"{sample} ")).rpartition(" ")[2])


def pid_of(address: str, client: RawClient) -> int:
    """The helper's process, as the broker tells it."""
    client.send("SEND", destination="/control/processes", reply_to="/temp-queue/answers")
    rows = json.loads(client.expect("MESSAGE").body)["rows"]
    return next((row["pid"] for row in rows if row["role"] == "metrics"), 0)


def test_a_scrape_has_what_there_is(join: Join, make_broker: Callable[..., RunningBroker]) -> None:
    """Messages, queues, processes, and the latencies of commits and turns."""
    broker = make_broker(*OPTIONS)
    client = join(broker)
    client.publish("/queue/scraped", "1", persistent="true")
    status, text = scrape(address_of(broker))

    assert status == 200
    assert value(text, 'forkbroker_queue_messages{queue="/queue/scraped",state="waiting"}') == 1
    assert value(text, "forkbroker_clients") == 1
    assert value(text, 'forkbroker_processes{role="client"}') == 1
    assert value(text, 'forkbroker_process_cpu_seconds_total{role="parent"}') > 0
    assert value(text, "forkbroker_commit_seconds_count") >= 1
    assert value(text, "forkbroker_turn_seconds_count") >= 1
    assert scrape(address_of(broker), "/healthz") == (200, "ok\n")
    assert scrape(address_of(broker), "/readyz") == (200, "ready\n")
    assert scrape(address_of(broker), "/other")[0] == 404


@needs_promtool
def test_promtool_finds_nothing_wrong(join: Join, make_broker: Callable[..., RunningBroker]) -> None:
    """With the text, and with the alerts; each metric of the alerts and of the dashboard is there."""
    assert PROMTOOL is not None
    broker = make_broker(*OPTIONS)
    join(broker).publish("/queue/checked", "1")
    _, text = scrape(address_of(broker))
    alerts = ROOT / "etc" / "prometheus" / "forkbroker.yml"
    found = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")
    found = subprocess.run([PROMTOOL, "check", "rules", alerts], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stdout + found.stderr


def test_alerts_and_dashboard_name_metrics_that_there_are(
    join: Join, make_broker: Callable[..., RunningBroker]
) -> None:
    """A name that is wrong would show nothing, for ever."""
    broker = make_broker(*OPTIONS)
    join(broker).publish("/queue/named", "1")
    _, text = scrape(address_of(broker))
    dashboard = (ROOT / "etc" / "grafana" / "forkbroker.json").read_text()
    json.loads(dashboard)
    alerts = (ROOT / "etc" / "prometheus" / "forkbroker.yml").read_text()
    named = set(re.findall(r"\bforkbroker_\w+", dashboard + alerts))

    assert len(named) > 15
    assert [name for name in named if not re.search(rf"^{name}[ {{]", text, re.MULTILINE)] == []


def test_a_helper_that_is_killed_is_replaced_and_no_client_notices(
    join: Join, make_broker: Callable[..., RunningBroker]
) -> None:
    """The port stays open, so a scraper waits; also one that had just asked."""
    broker = make_broker(*OPTIONS)
    address, client = address_of(broker), join(broker)
    with ThreadPoolExecutor(4) as pool:
        killed = set()
        for _ in range(3):
            waiting = [pool.submit(_scrape_or_fail, address) for _ in range(4)]
            pid = pid_of(address, client)
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
            for one in waiting:
                one.result()
            assert scrape(address)[0] == 200
            assert pid_of(address, client) not in killed
    client.publish("/queue/unmoved", "1")


def _scrape_or_fail(address: str) -> None:
    try:
        scrape(address)
    except (OSError, HTTPException):
        """Its connection was the helper's."""


def test_the_broker_answers_its_clients_while_it_is_flooded_with_scrapes(
    join: Join, make_broker: Callable[..., RunningBroker]
) -> None:
    """Half-open connections take their places for a few seconds; the parent does the work of one scrape a second."""
    broker = make_broker(*OPTIONS)
    address, client = address_of(broker), join(broker)
    host, port = address.removeprefix("http://").split(":")
    with ThreadPoolExecutor(12) as pool:
        statuses = {status for status, _ in pool.map(scrape, [address] * 200)}
        client.publish("/queue/quick", "1")
    assert statuses == {200}

    silent = [socket.create_connection((host, int(port)), timeout=10) for _ in range(30)]
    client.publish("/queue/quick", "2")
    assert scrape(address, "/healthz")[0] == 200
    for one in silent:
        one.close()


def test_queues_beyond_metrics_queues_are_summed(join: Join, make_broker: Callable[..., RunningBroker]) -> None:
    """Two of five have series."""
    broker = make_broker(*OPTIONS, "--metrics-queues", "2")
    client = join(broker)
    for number in range(5):
        client.publish(f"/queue/{number}", "1")
    _, text = scrape(address_of(broker))

    assert len(re.findall(r"^forkbroker_queue_bytes{", text, re.MULTILINE)) == 3
    assert value(text, 'forkbroker_queue_messages{queue="other",state="waiting"}') == 3


def test_a_port_in_use_ends_the_start(make_broker: Callable[..., RunningBroker]) -> None:
    """With status 69, and the reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = _start("--metrics", address)

    assert ended.returncode == 69
    assert f"--metrics {address}: " in ended.stderr and "in use" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """Status 78: prometheus_client is not there."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nreal = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'prometheus_client' else real(name, *a)\n"
    )
    ended = _start(*OPTIONS, env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"})

    assert ended.returncode == 78
    assert "prometheus_client is not installed; pip install 'forkbroker[metrics]'" in ended.stderr


def _start(*options: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forkbroker", "--config", "/dev/null", "--listen", "127.0.0.1:0", *options]
    command += ["--store", "memory:"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, cwd=ROOT)
