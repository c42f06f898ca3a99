"""Hashes of passcodes, names, and whether a login is right."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from typing import Any

import argon2
import bcrypt
import pytest

from forkbroker import passwords
from forkbroker.passwords import Hash, PasswordError, Users, check_name, make_hash, parse_hash, read_names
from forkbroker.wire.fields import MAX_LOGIN

CHEAP = {"ln": 1, "r": 8, "p": 1}
SALT = b"0123456789abcdef"


def cheap(passcode: str, **cost: int) -> str:
    """A hash that takes no time, as a line of a file has it."""
    cost = {**CHEAP, **cost}
    key = hashlib.scrypt(passcode.encode(), salt=SALT, n=2 ** cost["ln"], r=cost["r"], p=cost["p"], dklen=32)
    return str(Hash(**cost, salt=SALT, key=key))


def test_a_new_hash_can_be_read_again_and_is_of_its_passcode_only() -> None:
    """With the costs that are documented."""
    made = make_hash("secret", SALT)
    found = parse_hash(str(made))

    assert found == made
    assert str(made).startswith("$scrypt$ln=14,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$")
    assert found.matches("secret")
    assert not found.matches("Secret")


def test_the_vector_of_the_rfc() -> None:
    """RFC 7914, section 12: P=password, S=NaCl, N=1024, r=8, p=16, of which 64 bytes."""
    key = bytes.fromhex(
        "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
        "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640"
    )
    text = f"$scrypt$ln=10,r=8,p=16${b64encode(b'NaCl').decode().rstrip('=')}${b64encode(key).decode().rstrip('=')}"

    assert parse_hash(text).matches("password")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "form"),
        ("secret", "form"),
        ("$2b$12$abc", "form"),
        ("$scrypt$ln=14,r=8$c2FsdA$a2V5", "form"),
        (f"{cheap('x')} ", "form"),
        (f"{cheap('x')}\n", "form"),
        (cheap("x") + "=", "form"),
        ("$scrypt$ln=1,r=8,p=1$A$" + "A" * 43, "base64"),
        ("$scrypt$ln=19,r=8,p=1$AAAA$" + "A" * 43, "256 MiB"),
        ("$scrypt$ln=1,r=8,p=17$AAAA$" + "A" * 43, "p may be 16"),
        ("$scrypt$ln=16,r=1,p=1$AAAA$" + "A" * 43, "below 16 times r"),
        ("$scrypt$ln=1,r=8,p=1$AAAA$" + "A" * 20, "15 bytes"),
    ],
)
def test_what_is_no_hash_is_told_without_being_shown(text: str, problem: str) -> None:
    """An administrator may have put a passcode there."""
    with pytest.raises(PasswordError, match=problem) as caught:
        parse_hash(text)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("name", ["alice", "Ünï cödé", "a#b", "x" * 255, "a@b.example", "-"])
def test_a_name_can_have_what_can_be_printed(name: str) -> None:
    """Nothing is raised."""
    check_name(name)


@pytest.mark.parametrize("name", ["", "a:b", "#a", " a", "a ", "a\n", "a\tb", "a\u202eb", "ü" * 128, "\ud800"])
def test_a_name_that_would_break_a_line_or_a_log_is_refused(name: str) -> None:
    """Or that is longer than what the processes tell each other."""
    with pytest.raises(PasswordError):
        check_name(name)


def test_names_of_others_are_a_text_and_a_list_of_texts() -> None:
    """A text alone is no list: its characters are no groups."""
    assert read_names("alice", ["a", "b"]) == ("alice", ("a", "b"))
    assert read_names("alice", []) == ("alice", ())
    for user, groups, problem in (
        (7, [], "the user must be a text"),
        (None, [], "the user must be a text"),
        ("alice", "workers", "groups must be a list of texts"),
        ("alice", None, "groups must be a list of texts"),
        ("alice", ["a", 7], "groups must be a list of texts"),
        ("alice", {"a": 1}, "groups must be a list of texts"),
        ("alice", ["a", "b:c"], "a name has printable characters"),
        ("al:ice", [], "a name has printable characters"),
    ):
        with pytest.raises(PasswordError, match=problem):
            read_names(user, groups)


def test_a_name_is_as_long_as_a_login_that_the_parent_is_told() -> None:
    """Else two users could be one for it."""
    assert passwords.MAX_NAME == MAX_LOGIN


def test_a_login_is_right_or_wrong_or_unknown() -> None:
    """The reason is for the log."""
    users = Users({"alice": cheap("a"), "bob": cheap("b")}, b"secret")

    assert [users.find_problem(*login) for login in (("alice", "a"), ("bob", "b"), ("alice", "b"), ("eve", "a"))] == [
        "",
        "",
        "wrong passcode",
        "unknown user",
    ]
    assert users.find_problem("eve", "") == "unknown user"


def test_an_unknown_name_costs_what_a_known_one_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One computation with the cost of some user, always the same one for a name."""
    costs: list[int] = []
    derive = passwords._derive

    def count(passcode: str, ln: int, *more: Any) -> bytes:
        costs.append(ln)
        return derive(passcode, ln, *more)

    monkeypatch.setattr(passwords, "_derive", count)
    users = Users({"alice": cheap("a", ln=2), "bob": cheap("b", ln=3)}, b"secret")
    for name in ("eve", "eve", "alice", "mallory", *map(str, range(30))):
        users.find_problem(name, "x")

    assert len(costs) == 34
    assert costs[0] == costs[1] and costs[2] == 2
    assert set(costs[4:]) == {2, 3}


def test_without_any_user_the_cost_is_that_of_a_new_hash() -> None:
    """And nobody gets in."""
    users = Users({}, b"secret")

    assert users.find_problem("eve", "x") == "unknown user"
    assert users._stand_in("eve").ln == 14


def test_a_passcode_may_be_any_text() -> None:
    """Also what is not Unicode, and long."""
    users = Users({"alice": cheap("ü\\:" * 1000)}, b"s")

    assert users.find_problem("alice", "ü\\:" * 1000) == ""
    assert users.find_problem("alice", "\ud800") == "wrong passcode"


BCRYPT = "$2b$04$abcdefghijklmnopqrstuu5Lh2Lj9Ql1tq7aT5yIe0VtJ5pWn5m3W"


def test_hashes_of_other_programs_are_read_with_their_libraries() -> None:
    """Those that the libraries make themselves."""
    for made, scheme in (
        (bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode(), "bcrypt cost=4"),
        (argon2.PasswordHasher(1, 64, 1).hash("secret"), "argon2id m=64,t=1,p=1"),
    ):
        found = parse_hash(made)
        assert found.scheme == scheme
        assert [found.matches(text) for text in ("secret", "Secret", "")] == [True, False, False]
        assert [Users({"a": made}, b"k").find_problem(name, "x") for name in "ab"] == ["wrong passcode", "unknown user"]


def test_a_long_passcode_counts_to_bcrypts_end() -> None:
    """As everywhere that has hashes of bcrypt."""
    found = parse_hash(bcrypt.hashpw(b"a" * 72, bcrypt.gensalt(4)).decode())

    assert [found.matches("a" * length) for length in (71, 72, 100)] == [False, True, True]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BCRYPT.replace("$04$", "$16$"), "bcrypt may have a cost of 15"),
        ("$argon2id$v=19$m=9999999,t=1,p=1$MDEyMzQ1Njc4OTo$" + "A" * 43, "argon2 may take 256 MiB"),
        ("$argon2id$v=19$m=65536,t=99,p=1$MDEyMzQ1Njc4OTo$" + "A" * 43, "and 4 GiB in all its rounds"),
        ("$argon2id$v=19$m=0,t=1,p=1$MDEyMzQ1Njc4OTo$" + "A" * 43, "the hash does not have the form"),
    ],
)
def test_foreign_hashes_that_cost_too_much_are_refused(text: str, said: str) -> None:
    """As with scrypt."""
    with pytest.raises(PasswordError, match=re.escape(said)):
        parse_hash(text)


def test_a_missing_library_is_named(monkeypatch) -> None:
    """What to install is said when the file is read, and not at a login."""
    monkeypatch.setattr(passwords, "find_spec", lambda _name: None)

    with pytest.raises(PasswordError, match=re.escape("forkbroker[passwords]")):
        parse_hash(BCRYPT)
