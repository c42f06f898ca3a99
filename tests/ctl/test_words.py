"""Options before the verb and behind it, and what is said of words that mean nothing where they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkbroker.ctl.main import WORDS, main, make_parser
from forkbroker.ctl.words import WordError

from .played import answering, played


@pytest.mark.parametrize(
    ("given", "arranged"),
    [
        (["status", "--url", "X"], ["status", "--url", "X"]),
        (["--url", "X", "status"], ["status", "--url=X"]),
        (["--url=X", "--json", "queues", "a*"], ["queues", "--url=X", "--json", "a*"]),
        (["--url", "status", "status"], ["status", "--url=status"]),
        (["--reason", "--json", "kick", "7"], ["kick", "--reason=--json", "7"]),
        (["--users", "F", "user", "list"], ["user", "list", "--users=F"]),
        (["user", "--users", "F", "list"], ["user", "list", "--users=F"]),
        (["--json", "user", "--users=F", "list"], ["user", "list", "--json", "--users=F"]),
        (["user", "add", "--users", "F", "alice"], ["user", "add", "--users", "F", "alice"]),
        (["--json", "--help"], ["--help"]),
        (["user", "-h"], ["user", "-h"]),
        (["--version"], ["--version"]),
        (["send", "/queue/a", "--", "--json"], ["send", "/queue/a", "--", "--json"]),
    ],
)
def test_options_before_the_verb_are_moved_behind_it(given: list[str], arranged: list[str]) -> None:
    """With their values; nothing else changes."""
    assert WORDS.arrange(given) == arranged


def test_the_last_one_of_two_equal_options_holds() -> None:
    """As it does where both stand behind the verb."""
    words = WORDS.arrange(["--timeout", "1", "status", "--timeout", "2"])

    assert make_parser().parse_args(words).timeout == 2.0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "there is no verb: write one, such as stomp-brokerctl status."),
        (["--json"], "--json stands there without a verb"),
        (["quues"], "there is no verb 'quues': did you mean queues? stomp-brokerctl --help lists the verbs."),
        (["help"], "there is no verb 'help'. stomp-brokerctl --help"),
        (["--url"], "--url needs a value: write --url URL"),
        (["--intervall", "5", "queues"], "there is no option --intervall: did you mean --interval?"),
        (["-v", "status"], "there is no option -v."),
        (["--interval", "5", "who"], "who has no option --interval: queues and top have it."),
        (["--url", "X", "user", "list"], "user list has no option --url: only other verbs have it."),
        (["--group", "G", "user", "list"], "user list has no option --group: user add and can have it."),
        (["user"], "behind user stands one of add, passwd, rm, join, leave, list, and there is nothing"),
        (["user", "--users", "F", "ad"], "one of add, passwd, rm, join, leave, list, not 'ad'"),
    ],
)
def test_what_is_wrong_before_the_verb_is_named(given: list[str], said: str) -> None:
    """And what is right."""
    with pytest.raises(WordError) as caught:
        WORDS.arrange(given)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["queues", "a", "b"], "queues takes no further argument: 'b' is too much"),
        (["queues", "--intervall", "5"], "queues has no option --intervall: did you mean --interval?"),
        (["status", "--colour=red"], "status has no option --colour. stomp-brokerctl status --help lists its options."),
        (["user", "list", "--users", "F", "x"], "user list takes no further argument: 'x' is too much"),
        (["--url", "X", "user", "list"], "user list has no option --url"),
    ],
)
def test_the_complaint_is_the_last_line(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The status is 2, and the usage above is short."""
    with pytest.raises(SystemExit) as caught:
        main(given)
    usage, complaint = capsys.readouterr().err.splitlines()

    assert caught.value.code == 2
    assert usage == "usage: stomp-brokerctl [OPTION ...] VERB ..."
    assert complaint.startswith(f"stomp-brokerctl: error: {said}")


def test_the_words_are_those_of_the_parser() -> None:
    """Of every verb, also those that ask no broker: options, and whether they have a value."""
    found = dict[str, dict[str, bool]]()
    waiting = [("", make_parser())]
    while waiting:
        name, parser = waiting.pop()
        inner = parser._subparsers and next(a for a in parser._actions if isinstance(a.choices, dict))
        if inner:
            waiting += [(f"{name} {verb}".strip(), sub) for verb, sub in dict(inner.choices or {}).items()]
        else:
            options = [action for action in parser._actions if action.option_strings and action.dest != "help"]
            found[name] = {action.option_strings[-1]: action.nargs != 0 for action in options}

    assert found == {verb: {name: bool(v) for name, v in options.items()} for verb, options in WORDS.options.items()}
    values = {name: {bool(o[name]) for o in WORDS.options.values() if name in o} for o in found.values() for name in o}
    assert all(len(has) == 1 for has in values.values()), "an option has a value with one verb, and none with another"


def test_an_option_before_the_verb_reaches_the_broker(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As behind it."""
    asked: list[tuple[str, object]] = []
    with played(tmp_path / "s", answering({"topics": []}, asked)) as url:
        assert main(["--url", url, "--json", "topics", "a*"]) == 0
        assert main(["topics", "a*", "--json", "--url", url]) == 0

    assert asked == [("topics", {"pattern": "a*"})] * 2
    assert capfd.readouterr().out == "[]\n[]\n"
