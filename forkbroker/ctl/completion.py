"""Completion for shells, made of the table of verbs: `python -m forkbroker.ctl.completion bash|zsh|fish`.

Names of queues are asked of the broker, with a short patience: a shell must not hang because a broker does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

from forkbroker.ctl.command import Param
from forkbroker.ctl.main import ALONE, COMMANDS, CONNECTING, PARAMS, PROGRAM
from forkbroker.ctl.offline import GROUPS

EARLY = CONNECTING
"""Options that are offered before there is a verb."""
_NAMES = f"{PROGRAM} queues --interval 0 --timeout 1s 2>/dev/null | sed '1d;s/ .*//' | grep '^[A-Za-z0-9/._-]*$'"
"""Clients choose the names of queues, and bash expands what it offers: so only harmless ones are offered."""


def make_bash() -> Iterator[str]:
    """For bash-completion 2."""
    yield f"# completion of {PROGRAM} for bash"
    yield "_stomp_brokerctl() {"
    yield '    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words="" at=1'
    yield "    COMPREPLY=()"
    # options can stand before the verb
    yield from _skip_options("    ", EARLY)
    yield "    local verb=${COMP_WORDS[at]}"
    yield '    [ "$at" -ge "$COMP_CWORD" ] && verb=""'
    for first in GROUPS:
        yield f'    if [ "$verb" = {first} ]; then'
        yield "        at=$((at + 1))"
        yield from _skip_options("        ", _options_of_group(first))
        yield '        [ "$at" -lt "$COMP_CWORD" ] && verb="$verb ${COMP_WORDS[at]}"'
        yield "    fi"
    yield '    case "$verb $before" in'
    early = [(name, _options_of_group(name)) for name in GROUPS] + [("", EARLY)]
    for name, params in [*PARAMS.items(), *early]:
        for param in params:
            if param.is_option and param.metavar:
                yield f'        "{name} {param.name}") {_offer_bash(param)}; return ;;'
    yield "    esac"
    yield '    if [ -z "$verb" ]; then'
    words = [*(verb for verb, _ in _verbs()), *(param.name for param in EARLY)]
    yield f'        COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$word"))'
    yield "        return"
    yield "    fi"
    yield '    case "$verb" in'
    for first in GROUPS:
        names = [*(part for part, _ in _parts(first)), *(param.name for param in _options_of_group(first))]
        yield f'        {first}) words="{" ".join(names)}" ;;'
    for name, params in PARAMS.items():
        options = " ".join(param.name for param in params if param.is_option)
        offers = [_words(param) for param in params if not param.is_option]
        more = " ".join(words for words in offers if words != "queue")
        yield f'        "{name}")'
        yield f'            words="{f"{options} {more}".strip()}"'
        if "queue" in offers:
            yield f'            case "$word" in -*) ;; *) words="$words $({_NAMES})" ;; esac'
        yield "            ;;"
    yield "    esac"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$word"))'
    yield "}"
    yield f"complete -F _stomp_brokerctl {PROGRAM}"


def _skip_options(indent: str, options: Sequence[Param]) -> Iterator[str]:
    """Lead `at` past these, with their values."""
    yield f'{indent}while [ "$at" -lt "$COMP_CWORD" ]; do'
    yield f'{indent}    case "${{COMP_WORDS[at]}}" in'
    yield f"{indent}        {'|'.join(param.name for param in options if param.metavar)}) at=$((at + 2)) ;;"
    yield f"{indent}        -*) at=$((at + 1)) ;;"
    yield f"{indent}        *) break ;;"
    yield f"{indent}    esac"
    yield f"{indent}done"


def _offer_bash(param: Param) -> str:
    if param.completes == "file":
        return 'COMPREPLY=($(compgen -f -- "$word"))'
    words = f"$({_NAMES})" if param.completes == "queue" else param.completes
    if not words:
        return ":"
    return f'COMPREPLY=($(compgen -W "{words}" -- "$word"))'


def make_zsh() -> Iterator[str]:
    """For compsys."""
    yield f"#compdef {PROGRAM}"
    yield "_stomp_brokerctl_queues() {"
    yield f'    local -a names=(${{(f)"$({_NAMES})"}})'
    yield "    compadd -a names"
    yield "}"
    yield "local -i at=2"
    yield "while (( at < CURRENT )); do"
    yield "    case $words[at] in"
    yield f"        {'|'.join(param.name for param in EARLY if param.metavar)}) (( at += 2 )) ;;"
    yield "        -*) (( at += 1 )) ;;"
    yield "        *) break ;;"
    yield "    esac"
    yield "done"
    yield "if (( at > CURRENT )) || [[ $at -eq $CURRENT && $words[CURRENT] == -* ]]; then"
    yield "    _arguments \\"
    for param in EARLY:
        yield f"        {_argument(param, 0)} \\"
    yield ""
    yield "    return"
    yield "fi"
    yield "if (( at == CURRENT )); then"
    yield "    local -a verbs=("
    for verb, text in _verbs():
        yield f"        '{verb}:{_quote(text)}'"
    yield "    )"
    yield "    _describe verb verbs"
    yield "    return"
    yield "fi"
    yield "shift $(( at - 2 )) words; (( CURRENT -= at - 2 ))"
    yield "local verb=$words[2]"
    for first in GROUPS:
        yield f"if [[ $verb == {first} ]]; then"
        yield "    if (( CURRENT == 3 )); then"
        yield "        local -a verbs=("
        for part, text in _parts(first):
            yield f"            '{part}:{_quote(text)}'"
        yield "        )"
        yield "        _describe verb verbs"
        yield "        return"
        yield "    fi"
        yield '    verb="$verb $words[3]"'
        yield "    shift words; (( CURRENT-- ))"
        yield "fi"
    yield 'case "$verb" in'
    for name, params in PARAMS.items():
        yield f'    "{name}")'
        yield "        shift words; (( CURRENT-- ))"
        yield "        _arguments \\"
        places = 0
        for param in params:
            places += not param.is_option
            yield f"            {_argument(param, places)} \\"
        yield "            ;;"
    yield "esac"


def _argument(param: Param, place: int) -> str:
    action = {"file": "_files", "queue": "_stomp_brokerctl_queues"}.get(param.completes, f"({param.completes})")
    action = action if param.completes else " "
    if not param.is_option:
        return f"'{'*' if param.is_many else place}:{param.name}:{action}'"
    star = "*" if param.is_many else ""
    value = f":{param.metavar.replace(':', chr(92) + ':')}:{action}" if param.metavar else ""
    return f"'{star}{param.name}[{_quote(param.help)}]{value}'"


def _quote(text: str) -> str:
    return text.replace("'", "'\\''").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")


def make_fish() -> Iterator[str]:
    """For fish."""
    yield f"# completion of {PROGRAM} for fish"
    yield f"complete -c {PROGRAM} -f"
    for verb, text in _verbs():
        yield f"complete -c {PROGRAM} -n __fish_use_subcommand -a {verb} -d {_single(text)}"
    for param in EARLY:
        yield _complete_option(param, "-n __fish_use_subcommand")
    for first in GROUPS:
        parts = " ".join(part for part, _ in _parts(first))
        when = f"__fish_seen_subcommand_from {first}; and not __fish_seen_subcommand_from {parts}"
        for part, text in _parts(first):
            yield f"complete -c {PROGRAM} -n '{when}' -a {part} -d {_single(text)}"
    for name, params in PARAMS.items():
        seen = "-n '" + "; and ".join(f"__fish_seen_subcommand_from {word}" for word in name.split()) + "'"
        for param in params:
            offer = _offer_fish(param)
            if param.is_option:
                yield _complete_option(param, seen)
            elif offer:
                yield f"complete -c {PROGRAM} {seen}{offer}"


def _complete_option(param: Param, when: str) -> str:
    needs = " -r" if param.metavar else ""
    return f"complete -c {PROGRAM} {when} -l {param.name[2:]}{needs}{_offer_fish(param)} -d {_single(param.help)}"


def _offer_fish(param: Param) -> str:
    if param.completes == "file":
        return " -F"
    if param.completes == "queue":
        return f" -a {_single(f'({_NAMES})')}"
    return f" -a '{param.completes}'" if param.completes else ""


def _single(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _verbs() -> Iterator[tuple[str, str]]:
    """The first words, with their helps."""
    yield from ((command.name, command.help) for command in (*COMMANDS, *ALONE) if " " not in command.name)
    yield from GROUPS.items()


def _parts(first: str) -> Iterator[tuple[str, str]]:
    """The second words of verbs that begin with this one."""
    for command in ALONE:
        word, _, part = command.name.partition(" ")
        if word == first and part:
            yield part, command.help


def _options_of_group(first: str) -> list[Param]:
    """Of all these verbs."""
    found = {param.name: param for name, params in PARAMS.items() if name.startswith(f"{first} ") for param in params}
    return [param for param in found.values() if param.is_option]


def _words(param: Param) -> str:
    """What is offered for an argument."""
    return param.completes if param.completes != "file" else ""


SHELLS: dict[str, Callable[[], Iterator[str]]] = {"bash": make_bash, "zsh": make_zsh, "fish": make_fish}

if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in SHELLS[sys.argv[1]]()))
