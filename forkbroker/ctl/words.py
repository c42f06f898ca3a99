"""The words of a command line, in the order that argparse reads: verb, options, arguments.

Options can stand before the verb as well. argparse would take the value of such an option for the verb, and complain of
that. So they are moved behind the verb, as long as all words up to it are known; else the error names the right word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

_HELP = ("-h", "--help", "--version")
_ALIKE = 0.7
"""How like a word is one that is meant, from 0 to 1."""
_NAMED = 4
"""Verbs that an error lists."""


class WordError(ValueError):
    """A word that is no verb and no option, or stands where it has no meaning. The text is for the user."""


@dataclass(frozen=True, slots=True)
class Words:
    """What words there are."""

    program: str
    options: Mapping[str, Mapping[str, str]]
    """Of each verb, which may be two words: the names of its options, with the name of their value or an empty text."""

    def arrange(self, given: Sequence[str]) -> list[str]:
        """The same words, with no option before the verb. The last one of two equal options is still the last one.

        Raises:
            WordError: there is no verb, it is none, or it does not have an option that stands before it.
        """
        early, rest = self._split(given)
        if rest and rest[0] in _HELP:
            return rest
        if not rest:
            before = f"{early[0]} stands there without a verb" if early else "there is no verb"
            raise WordError(f"{before}: write one, such as {self.program} status. {self._hint()}")
        verb, *rest = rest
        parts = self._find_parts(verb)
        if verb not in self.options and not parts:
            raise WordError(f"there is no verb {verb!r}{_suggest(verb, self._verbs)} {self._hint()}")
        words = [verb]
        if parts:
            more, rest = self._split(rest)
            early += more
            if not rest or rest[0] not in parts:
                if rest and rest[0] in _HELP:
                    return [verb, rest[0]]
                given_part = f"not {rest[0]!r}" if rest else "and there is nothing"
                raise WordError(f"behind {verb} stands one of {', '.join(parts)}, {given_part}")
            words.append(rest.pop(0))
        for word in early:
            name = word.partition("=")[0]
            if name not in self.options[" ".join(words)]:
                raise WordError(self.describe_unknown(" ".join(words), name))
        return [*words, *early, *rest]

    def describe_unknown(self, verb: str, word: str) -> str:
        """Why a word that is left over means nothing behind this verb."""
        if not word.startswith("-"):
            return f"{verb} takes no further argument: {word!r} is too much"
        name = word.partition("=")[0]
        others = [other for other, options in self.options.items() if name in options]
        if not others:
            return f"{verb} has no option {name}{_suggest(name, self.options[verb])} {self._hint(verb)}"
        named = _list(others) if len(others) <= _NAMED else "only other verbs"
        return f"{verb} has no option {name}: {named} {'has' if len(others) == 1 else 'have'} it. {self._hint(verb)}"

    @property
    def _verbs(self) -> list[str]:
        return list(dict.fromkeys(verb.partition(" ")[0] for verb in self.options))

    def _find_parts(self, verb: str) -> list[str]:
        """The words that can follow a verb of two words; none: it is no such verb."""
        return [name.removeprefix(f"{verb} ") for name in self.options if name.startswith(f"{verb} ")]

    def _split(self, given: Sequence[str]) -> tuple[list[str], list[str]]:
        """The options that the words begin with, with their values, and the rest."""
        known = {name: value for options in self.options.values() for name, value in options.items()}
        early, rest = list[str](), list(given)
        while rest and rest[0].startswith("-") and rest[0] not in _HELP:
            name, equals, _ = rest[0].partition("=")
            if name not in known:
                raise WordError(f"there is no option {name}{_suggest(name, known)} {self._hint()}")
            size = 2 if known[name] and not equals else 1
            if len(rest) < size:
                raise WordError(f"{name} needs a value: write {name} {known[name]}")
            # as one word the value cannot be taken for an option, or for the verb
            early.append(f"{name}={rest[1]}" if size == 2 else rest[0])
            rest = rest[size:]
        return early, rest

    def _hint(self, verb: str = "") -> str:
        return f"{self.program} {f'{verb} --help lists its options' if verb else '--help lists the verbs'}."


def _suggest(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word, list(known), 1, _ALIKE)
    return f": did you mean {near[0]}?" if near else "."


def _list(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
