"""Command line and file together, and what --check-config says of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from forkbroker.cli.configuration import read_configuration
from forkbroker.errors import ConfigurationError, ConfigurationFileError, Exit

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with three options."""
    path = tmp_path / "f.toml"
    path.write_text('prefetch = 7\nlisten = "unix:/a"\nstrict = true\n')
    return path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "forkbroker", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_the_command_line_wins(file: Path) -> None:
    """Option by option; what can be repeated is replaced."""
    both = read_configuration(["--config", str(file), "--prefetch", "8", "--listen", "unix:/b"])

    assert (both.settings.prefetch, both.settings.strict) == (8, True)
    assert [address.path for address in both.settings.listen] == ["/b"]
    assert both.origins == {"strict": f"{file}, line 3"}


def test_the_default_file_is_read_if_it_exists(file: Path, tmp_path: Path) -> None:
    """And another one that is named in its place."""
    (tmp_path / "other.toml").write_text("prefetch = 9\n")

    assert read_configuration([], file).settings.prefetch == 7
    assert read_configuration([], tmp_path / "none").settings.prefetch == 100
    assert read_configuration(["--config", str(tmp_path / "other.toml")], file).settings.prefetch == 9
    with pytest.raises(ConfigurationFileError, match="No such file"):
        read_configuration(["--config", str(tmp_path / "none")], file)


def test_names_of_files_on_the_command_line_become_absolute(tmp_path: Path, monkeypatch) -> None:
    """They are read again after the broker has left its directory."""
    monkeypatch.chdir(tmp_path)
    given = read_configuration(["--log-file", "log", "--listen", "unix:s", "--pidfile=/p"], None).given

    assert given == {"log_file": f"{tmp_path}/log", "listen": [f"unix:{tmp_path}/s"], "pidfile": "/p"}


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/healthz", "probes"),
        ("/chat/readyz", "probes"),
        ("/topic/news", "messages of topics"),
        ("/a/queue/b", "messages of queues"),
        ("/admin", "files of the page"),
        ("/admin/", "files of the page"),
        ("/x/admin/index.html", "files of the page"),
    ],
)
def test_no_websocket_is_at_the_path_of_something_else(path: str, owner: str) -> None:
    """Nobody would reach it: the other one comes first. It is the settings' fault, and they are not used."""
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(["--web-path", "/ws", "--web-path", path], None)

    assert (
        str(caught.value) == f"--web-path {path}: {owner} are at this path; choose another one, such as /ws or /stomp"
    )


@pytest.mark.parametrize("path", ["/", "/ws", "/queue", "/topic/", "/admin/ws", "/info", "/healthz/ws", "/health"])
def test_other_paths_can_be_those_of_websockets(path: str) -> None:
    """Also those that only look alike; and without the page, the page's."""
    assert read_configuration(["--web-path", path], None).settings.web_path == (path,)
    assert read_configuration(["--web-path", "/admin", "--web-admin", "none"], None).settings.web_path == ("/admin",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('store = "odd:x"', "line 1: odd:x: no such store"),
        (
            'queue-full = "dead-letter"\nmax-queue-bytes = 1024\npolicy = "/queue/DLQ dead-letter=/queue/x"',
            "line 3: --policy '/queue/DLQ': full queues would move",
        ),
        ('policy = "/queue/a lease=1s"\nweb-path = ["/ws", "/healthz"]', "line 2: --web-path /healthz: probes are at"),
    ],
)
def test_what_only_the_parts_know_is_told_with_the_line_too(tmp_path: Path, text: str, said: str) -> None:
    """Stores, circles of dead letters, and paths at which something else is."""
    (tmp_path / "f.toml").write_text(text)

    with pytest.raises(ConfigurationFileError, match=said):
        read_configuration([], tmp_path / "f.toml")
    with pytest.raises(ConfigurationError, match=r"^odd:x"):
        read_configuration(["--store", "odd:x"], None)


def test_the_check_prints_what_is_in_effect_and_starts_nothing(file: Path) -> None:
    """Each value with its source; status 0."""
    ended = run("--config", str(file), "--check-config", "--prefetch", "8")
    lines = ended.stdout.splitlines()

    assert (ended.returncode, ended.stderr) == (Exit.OK, "")
    assert [line for line in lines if line.startswith(("prefetch", "strict", "max-clients "))] == [
        "max-clients = 2000                           # default",
        f"strict = true                                # {file}, line 3",
        "prefetch = 8                                 # command line",
    ]


@pytest.mark.parametrize("how", [["--check-config"], []])
def test_a_mistake_in_the_file_is_one_line_and_status_78(file: Path, how: list[str]) -> None:
    """Whether the broker is to start or not."""
    file.write_text("prefetch = 7\nlog-level = 'loud'\n")
    ended = run("--config", str(file), *how)

    assert ended.returncode == Exit.CONFIG
    assert ended.stderr == (
        f"stomp-broker: {file}, line 2: log-level = loud: not a choice; choose error, warning, info or debug\n"
    )


def test_the_check_ends_with_78_for_a_mistake_on_the_command_line_as_well() -> None:
    """Good or bad, and nothing else."""
    assert run("--check-config", "--prefetch", "none").returncode == Exit.CONFIG


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--listen", "tls://localhost:0", "--tls-certificate", "/none.pem"],
            "TLS: cannot read /none.pem: No such file",
        ),
        (["--token-key", "/none"], "tokens: cannot read /none: No such file"),
        (["--authenticator", "/none"], "authenticator /none: No such file"),
        (["--authenticator", "/etc/passwd"], "authenticator /etc/passwd: not a program that can be run; chmod +x"),
    ],
)
@pytest.mark.parametrize("how", [["--check-config"], ["--listen", "localhost:0", "--store", "memory:"]])
def test_files_that_the_settings_name_are_looked_at(options: list[str], said: str, how: list[str]) -> None:
    """By the check, too: it says whether the broker would start."""
    ended = run(*how, *options)

    assert ended.returncode != 0 and (ended.returncode == Exit.CONFIG or "--check-config" not in how)
    assert said in ended.stderr and "Traceback" not in ended.stderr


def test_a_reader_that_leaves_is_no_fault() -> None:
    """`--check-config | head` for one."""
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen(
        [sys.executable, "-m", "forkbroker", "--check-config"], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE
    ) as process:
        os.close(writing)
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == Exit.OK
