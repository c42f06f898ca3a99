"""The command line, as the table makes it."""

from __future__ import annotations

import pytest

import forkbroker
from forkbroker.cli.arguments import make_parser, read_arguments
from forkbroker.config.evaluation import make_settings
from forkbroker.config.options.table import OPTIONS
from forkbroker.posix.addresses import ListenAddress


def test_an_empty_command_line_gives_the_defaults() -> None:
    """Nothing is given."""
    assert read_arguments([]) == {}


def test_options_are_read_and_listen_may_be_repeated() -> None:
    """Values in the next word or behind an equals sign."""
    settings = make_settings(
        read_arguments(
            ["--listen", "127.0.0.1:0", "--listen=unix:/run/b", "--strict", "--max-body=1 KiB", "--heart-beat", "0,0"]
        )
    )

    assert settings.listen == (ListenAddress("127.0.0.1", 0), ListenAddress(path="/run/b"))
    assert (settings.strict, settings.max_body, settings.heart_beat) == (True, 1024, (0, 0))


def test_the_help_names_every_option_with_its_default() -> None:
    """Whatever the width of the terminal."""
    text = " ".join(make_parser().format_help().split())

    for option in OPTIONS:
        assert f"--{option.name}" in text
        if option.default is not None:
            assert f"(default: {option.default})" in text


def test_the_version_is_told(capsys) -> None:
    """And nothing is started."""
    with pytest.raises(SystemExit) as caught:
        read_arguments(["--version"])

    assert caught.value.code == 0
    assert capsys.readouterr().out == f"stomp-broker {forkbroker.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lissen", "x"], "there is no option --lissen: did you mean --listen?"),
        (["--max-bod=1"], "there is no option --max-bod: did you mean --max-body?"),
        (["--colour", "red"], "there is no option --colour. stomp-broker --help lists"),
        (["-d"], "there is no option -d. "),
        (["--listen"], "argument --listen: expected one argument"),
        (["start"], "'start' is no option, and there are no arguments."),
    ],
)
def test_what_is_no_option_ends_with_status_2(arguments, said, capsys) -> None:
    """Abbreviations neither: they would change their meaning with the next release. The usage is short."""
    with pytest.raises(SystemExit) as caught:
        read_arguments(arguments)
    usage, complaint = capsys.readouterr().err.splitlines()

    assert caught.value.code == 2
    assert usage == "usage: stomp-broker [OPTION ...]"
    assert complaint.startswith(f"stomp-broker: error: {said}")
