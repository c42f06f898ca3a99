"""The configuration file: what it gives, and how its mistakes are told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forkbroker.config.evaluation import make_settings
from forkbroker.config.file import exists, find_lines, parse_text, read_file
from forkbroker.config.options.option import Type
from forkbroker.config.options.table import OPTIONS
from forkbroker.errors import ConfigurationError, ConfigurationFileError, Exit


def mistake(text: str) -> str:
    """Return what is said of a file with this text."""
    with pytest.raises(ConfigurationFileError) as caught:
        file = parse_text(text, "f.toml")
        make_settings(file.given, file.origins)
    assert caught.value.status == Exit.CONFIG
    return str(caught.value)


def test_values_are_as_on_the_command_line() -> None:
    """Numbers, sizes and times bare or as texts, flags, one or several of what can be repeated."""
    file = parse_text(
        'max-clients = 5\nmax-body = "1 MiB"\nmax-client-buffer = 65536\n'
        'connect-timeout = 0.5\nframe-timeout = "2 min"\n'
        'strict = true\nsyslog = false\nlisten = ["127.0.0.1:1", "unix:/s"]\npolicy = "/queue/a lease=1s"\n',
        "f.toml",
    )
    settings = make_settings(file.given, file.origins)

    assert (settings.max_clients, settings.max_body, settings.max_client_buffer) == (5, 1_048_576, 65_536)
    assert (settings.connect_timeout, settings.frame_timeout) == (0.5, 120.0)
    assert (settings.strict, settings.syslog) == (True, False)
    assert [address.describe() for address in settings.listen] == ["127.0.0.1:1", "unix:/s"]
    assert settings.policy[0].changes == {"lease": 1000}


def test_an_empty_file_gives_nothing() -> None:
    """Everything is a default then."""
    assert parse_text("# nothing\n", "f.toml").given == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max-client = 5", "f.toml, line 1: max-client: unknown key; write max-clients"),
        ("\n\nMax_Clients = 5", "f.toml, line 3: Max_Clients: unknown key; write max-clients"),
        (
            "[queues]\nprefetch = 1",
            "f.toml, line 1: queues: unknown table; tables are groups, permissions, quotas, hosts;",
        ),
        ("daemonize = true", "f.toml, line 1: daemonize: not for the file; give --daemonize on the command line"),
        ('prefetch = "5"', 'f.toml, line 1: prefetch = "5": is a text; write a whole number'),
        ("prefetch = 1.5", "f.toml, line 1: prefetch = 1.5: is a number; write a whole number"),
        ("prefetch = true", "f.toml, line 1: prefetch = true: is true or false; write a whole number"),
        ("strict = 1", "f.toml, line 1: strict = 1: is a number; write true or false"),
        ("log-level = 3", "f.toml, line 1: log-level = 3: is a number; write a text in quotes"),
        ("max-body = [1]", 'max-body = [1]: is a list; write a number of bytes, or a text as in "10 MiB"'),
        ("listen = [1]", "listen = 1: is a number; write a text in quotes, or several in brackets"),
        ("dedup-window = 2026-01-01", "is a date or time; write a number of seconds"),
        ('log-file = "log"', 'f.toml, line 1: log-file = "log": not an absolute path; begin it with /'),
        ('listen = "unix:s"', 'f.toml, line 1: listen = "unix:s": not an absolute path; begin it with /'),
        ("prefetch = 0", "f.toml, line 1: prefetch = 0: too small; give a number of 1 or more"),
        ("# x\nprefetch = -1", "f.toml, line 2: prefetch = -1: not a whole number; give one of 1 or more"),
        ('queue-full = "drop"', "queue-full = drop: not a choice; choose hold, refuse, drop-oldest or dead-letter"),
        ('policy = ["/queue/a\\nleese=1"]', "f.toml, line 1: policy = /queue/a"),
        ('syslog = true\nlog-file = "/l"', "f.toml, line 1: syslog = true: --log-file is given as well"),
        ('#\nlisten = ["0.0.0.0:1"]', "f.toml, line 2: listen = 0.0.0.0:1: other hosts can reach it"),
        ('heart-beat = "1,1"', "f.toml, line 1: heart-beat = 1,1: the interval expected from clients is below"),
        ("prefetch = 1\nprefetch = 2", "f.toml, line 2: the key was given before; write it once; several"),
        ("[groups]\na = []\n[groups]\n", "f.toml, line 3: cannot declare"),
        ("connect-timeout = 1979-05-27", "connect-timeout = 1979-05-27: is a date or time; write a number of seconds"),
        ("connect-timeout = 07:32:00", "connect-timeout = 07:32:00: is a date or time"),
        ("prefetch = ", "f.toml, line 1: invalid value"),
        ('log-level = """\n', "f.toml, line 2: "),
    ],
)
def test_a_mistake_is_told_with_file_line_key_and_what_would_be_right(text: str, said: str) -> None:
    """Whatever it is: form, key, type, value, values that exclude each other."""
    assert said in mistake(text)


def test_lines_are_those_in_which_statements_begin() -> None:
    """Also behind texts and lists of several lines that look like keys."""
    text = (
        '# c = 0\na = """\nb = 1\n[c]\n"""\n\n"quoted key" = [\n  1,  # d = 2\n\n  2,\n]\n'
        "d = '''x'''\n e.f = { g = 1 }\n[t]\n[[l]]\nh = 1\n[[l]]\nz\u2028 = 1\n".replace(
            "z\u2028 = 1\n", "z = '\u2028'\n"
        )
    )

    assert find_lines(text) == {
        ("a",): 2,
        ("quoted key",): 7,
        ("d",): 12,
        ("e",): 13,
        ("e", "f"): 13,
        ("e", "f", "g"): 13,
        ("t",): 14,
        ("l",): 15,
        ("l", "h"): 16,
        ("l", "z"): 18,
    }


def test_a_long_file_is_read_in_no_time(tmp_path: Path) -> None:
    """Each statement is parsed once more, not each beginning of the file."""
    rules = "".join(f'  "/queue/q{number} lease=1s",\n' for number in range(300))
    path = tmp_path / "f.toml"
    path.write_text(f"{'# comment' * 10}\n" * 2000 + f"policy = [\n{rules}]\nprefetch = 1\n")

    file = read_file(path)

    assert file.origins["prefetch"] == f"{path}, line 2303"


def test_a_file_that_cannot_be_read_is_a_mistake_too(tmp_path: Path) -> None:
    """With the reason of the system."""
    (tmp_path / "latin").write_bytes(b"# \xe9\n")
    none, place = "cannot be read: No such file or directory; make it", "cannot be read: Is a directory; name a file"
    for path, said in ((tmp_path / "none", none), (tmp_path, place), (tmp_path / "latin", "is not UTF-8")):
        with pytest.raises(ConfigurationFileError, match=f"{path}: {said}"):
            read_file(path)


def test_a_file_that_may_not_be_read_exists(tmp_path: Path) -> None:
    """Who may not read the file of the system shall not start with other values without a word."""
    (tmp_path / "file").touch()

    assert exists(tmp_path / "file")
    assert not exists(tmp_path / "none")
    assert not exists(tmp_path / "file" / "below")
    if os.getuid() != 0:
        tmp_path.chmod(0)
        assert exists(tmp_path / "file")
        tmp_path.chmod(0o700)


def test_an_error_of_the_command_line_is_one_of_the_command_line() -> None:
    """Although there is a file."""
    with pytest.raises(ConfigurationError, match=r"^--prefetch x: ") as caught:
        make_settings({"prefetch": "x", "strict": True}, {"strict": "f.toml, line 1"})

    assert caught.value.status == Exit.USAGE


def test_each_option_has_a_type_that_its_default_is_written_in() -> None:
    """A default could be written in the file."""
    for option in OPTIONS:
        assert (option.type is Type.FLAG) == option.is_flag
        if option.type is Type.NUMBER and option.default is not None:
            assert option.default.isdecimal()
