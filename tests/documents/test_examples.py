"""Each example of the manual pages is run, here or by a test that is named here: there is none that is only read."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from documents.test_readme import form_of
from faults.scene import processes
from support.deadline import wait_until
from support.manual import PAGES, examples, typed
from support.rawclient import connect

from forkbroker.testing.broker import RunningBroker

ROOT = Path(__file__).parents[2]
BROKER, COMMAND, FILE, METRICS = "stomp-broker.8", "stomp-brokerctl.1", "forkbroker.toml.5", "forkbroker-metrics.7"

HERE = [
    (BROKER, r"--policy "),
    (BROKER, r"stomp-broker: parent "),
    (BROKER, r"[#$] stomp-broker "),
    (BROKER, r"# mv broker.log "),
    (COMMAND, r"\$ stomp-brokerctl can "),
    (COMMAND, r"# install -m 640 "),
    (FILE, r"stomp-broker: /etc/forkbroker/forkbroker.toml, line 7: "),
    (FILE, r"\$ stomp-broker --config "),
    (METRICS, r"scrape_configs:"),
]
"""What the beginnings look like of the examples that the tests below run."""
ELSEWHERE = [
    (BROKER, r"# sqlite3 ", "documents/test_documents.py", "test_the_statements_for_administrators_run"),
    (BROKER, r"# systemctl enable --now ", "services/packages.py", "test_the_socket_starts_the_service"),
    (
        COMMAND,
        r"\$ (seq|stomp-brokerctl (queues|move|kick)) ",
        "documents/test_control.py",
        "test_the_examples_of_the_command_run",
    ),
    (COMMAND, r"# python3 -m venv ", "services/packages.py", "test_the_wheel_in_an_environment_makes_itself_a_service"),
    (FILE, r"(listen|users) = ", "documents/test_documents.py", "test_the_examples_of_configuration_files_can_be_used"),
    ("forkbroker-control.7", r".* nc ", "documents/test_control.py", "test_the_conversation_by_hand_is_answered"),
    (
        "forkbroker-control.7",
        r"import ",
        "documents/test_control.py",
        "test_the_program_of_the_page_prints_how_many_clients_there_are",
    ),
    ("forkbroker-http.7", r"", "documents/test_http.py", "test_the_lines_of_curl_do_what_they_say"),
]
"""The examples that other tests run, and which."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_example_is_run_by_a_test(page: Path) -> None:
    """One that is new has to be run as well."""
    known = HERE + [(name, pattern) for name, pattern, *_ in ELSEWHERE]
    for text in examples(page.name):
        found = [pattern for name, pattern in known if name == page.name and re.match(pattern, text)]

        assert len(found) == 1, f"no test runs this example of {page.name}, or more than one does:\n{text}"


def test_the_tests_that_run_examples_are_there() -> None:
    """And nothing is said of examples that are gone."""
    for _, _, file, function in ELSEWHERE:
        assert f"def {function}(" in (ROOT / "tests" / file).read_text()
    for name, pattern in HERE + [(name, pattern) for name, pattern, *_ in ELSEWHERE]:
        assert any(re.match(pattern, text) for text in examples(name)), (name, pattern)


def run(directory: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Type a line in a directory; both commands are those of this checkout."""
    for name in ("stomp-broker", "stomp-brokerctl"):
        script = directory / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/bin/{name}" "$@"\n')
        script.chmod(0o755)
    environment = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}
    return subprocess.run(
        line, shell=True, cwd=directory, env=environment, capture_output=True, text=True, timeout=60.0
    )


def options_of(*pages: str) -> list[str]:
    """The options of all examples that begin a broker."""
    found = [text for page in pages for text in examples(page)]
    lines = [text.lstrip("#$ ").removeprefix("stomp-broker ") for text in found]
    is_begin = re.compile(r"[#$] stomp-broker |--policy ")
    return [line for text, line in zip(found, lines, strict=True) if is_begin.match(text)]


@pytest.mark.parametrize("options", options_of(BROKER, FILE))
def test_a_broker_can_be_started_so(tmp_path: Path, options: str) -> None:
    """With all that there is to check before it; the user of the example is one of this machine."""
    (tmp_path / "forkbroker.toml").write_text("max-clients = 500\n")
    words = shlex.split(options)
    if "--user" in words:
        words[words.index("--user") + 1] = "nobody"
    if "--store-repair" in words:
        with RunningBroker(*words) as broker:
            broker.wait_for_log("nothing to repair")
        return
    config = [] if "--config" in words else ["--config", os.devnull]
    done = run(tmp_path, shlex.join(["stomp-broker", *config, *words, "--check-config"]))

    assert done.returncode == 0, done.stderr


def test_the_lines_of_ps_are_those_of_a_broker() -> None:
    """Each kind of process that the page shows."""
    (shown,) = (text for text in examples(BROKER) if text.startswith("stomp-broker: parent"))

    def forms(lines: Iterable[str]) -> set[str]:
        return {re.sub(r"sqlite://\S+", "STORE", form_of(line)) for line in lines}

    with RunningBroker() as broker, connect(broker.port, login="alice") as client:
        client.subscribe("/topic/a", 1)
        client.subscribe("/topic/b", 2)
        expected = forms(shown.splitlines())
        wait_until(lambda: expected <= forms(one.title for one in processes(broker.pid)), f"processes: {expected}")


def test_a_log_that_is_renamed_is_followed(tmp_path: Path) -> None:
    """Without a signal."""
    (line,) = (text for text in examples(BROKER) if text.startswith("# mv"))
    log = tmp_path / "broker.log"
    with RunningBroker("--log-file", str(log)):
        wait_until(log.exists, "the log")
        assert run(tmp_path, line.lstrip("# ")).returncode == 0
        wait_until(log.exists, "another log")


def test_an_error_in_the_file_looks_so(tmp_path: Path) -> None:
    """File, line, and the nearest key."""
    (said,) = (text for text in examples(FILE) if "max-client:" in text)
    (tmp_path / "forkbroker.toml").write_text("\n" * 6 + "max-client = 1\n")
    done = run(tmp_path, "stomp-broker --config forkbroker.toml --check-config")

    assert done.returncode == 78
    assert done.stderr.strip() == said.replace("/etc/forkbroker", str(tmp_path))


def test_a_user_is_made_and_may_what_the_file_says(tmp_path: Path) -> None:
    """The file is the one of the page of its own; what makes a passcode is another program here."""
    (config,) = (text for text in examples(FILE) if "[permissions.group.workers]" in text)
    path, users = tmp_path / "forkbroker.toml", tmp_path / "users"
    path.write_text(config.replace("/etc/forkbroker/users", str(users)))
    make_file, add_user, _reload = typed(COMMAND, "install -m 640")
    for line in (make_file.replace(" -g stomp-broker", ""), add_user.replace("pwgen -s 20 1", "echo secret")):
        done = run(tmp_path, line.replace("/etc/forkbroker/users", str(users)))
        assert (done.returncode, done.stderr) == (0, "")
    assert users.read_text().startswith("alice:$scrypt$")
    (block,) = (text for text in examples(COMMAND) if "stomp-brokerctl can" in text)
    line, _, answer = block.removeprefix("$ ").partition("\n")
    done = run(tmp_path, line.replace("can", f"can --config {path}", 1))

    assert (done.stdout.rstrip("\n"), done.stderr) == (answer.replace("/etc/forkbroker/forkbroker.toml", str(path)), "")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="install prometheus, which has promtool")
def test_prometheus_reads_its_configuration(tmp_path: Path) -> None:
    """With the rules that are installed."""
    (block,) = examples(METRICS)
    (tmp_path / "prometheus.yml").write_text(block)
    shutil.copy(ROOT / "etc/prometheus/forkbroker.yml", tmp_path)
    done = run(tmp_path, "promtool check config prometheus.yml")

    assert done.returncode == 0, done.stdout + done.stderr
