"""Users, and hashes of their passcodes: what a password file holds, and whether a passcode is the right one.

A hash is one word without a colon, in the form of the PHC string format. The first part is its version:

    $scrypt$ln=14,r=8,p=1$<salt>$<key>

scrypt (RFC 7914) with N = 2^ln; salt and key are base64 without padding. A new one takes 16 MiB of memory and some
50 ms: enough to make guessing expensive, and little enough that a login is not noticed.

Hashes of bcrypt (`$2b$12$…`) and argon2 (`$argon2id$v=19$m=…,t=…,p=…$…`), which other programs have made, are read as
well where their libraries are installed (extra `passwords`).

How long an answer takes must not tell whether there is such a user. So for a name that there is not, the same work is
done with the hash of some user: always the same one for a name, as hashes may differ in their cost.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

from forkbroker.digests import blake2b, compare_digest
from forkbroker.errors import ForkbrokerError

MAX_NAME = 255
"""Bytes of a name: what the processes of the broker tell each other of a login."""
SALT_BYTES = 16

_LN, _R, _P = 14, 8, 1
_KEY_BYTES = 32
_MAX_MEMORY = 268_435_456
"""Bytes that a verification may take: a mistyped cost must not take the machine's memory."""
_MAX_P = 16
_SCRYPT = re.compile(r"\$scrypt\$ln=([1-9]\d?),r=([1-9]\d?),p=([1-9]\d?)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")
_MAX_BCRYPT = 15
"""Some 3 s of a processor."""
_BCRYPT_BYTES = 72
_ARGON2 = re.compile(
    r"\$(argon2(?:id|i|d))\$v=19\$m=([1-9]\d{0,7}),t=([1-9]\d{0,4}),p=([1-9]\d{0,2})\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{16,}"
)
_MAX_ARGON2 = 4_194_304
"""KiB of memory times rounds: some 4 s of a processor."""
_FORM = "$scrypt$ln=14,r=8,p=1$SALT$KEY"


class PasswordError(ForkbrokerError):
    """A name or a hash that cannot be used; the text says what is wrong, and never what was met."""


@dataclass(frozen=True, slots=True)
class Hash:
    """A passcode's hash, and what it was made with."""

    ln: int
    """The cost: N is 2 to this power."""
    r: int
    p: int
    salt: bytes
    key: bytes

    @property
    def scheme(self) -> str:
        """How the passcode is hashed, with the cost."""
        return f"scrypt ln={self.ln},r={self.r},p={self.p}"

    def __str__(self) -> str:
        salt, key = (b64encode(part).decode().rstrip("=") for part in (self.salt, self.key))
        return f"$scrypt$ln={self.ln},r={self.r},p={self.p}${salt}${key}"

    def matches(self, passcode: str) -> bool:
        """Tell whether this is the hash of `passcode`. Takes the time and the memory that its cost says."""
        return compare_digest(_derive(passcode, self.ln, self.r, self.p, self.salt, len(self.key)), self.key)


@dataclass(frozen=True, slots=True)
class ForeignHash:
    """A hash for which a library is needed."""

    text: str
    scheme: str
    """How the passcode is hashed, with the cost."""
    library: str
    """The module that knows it."""

    def matches(self, passcode: str) -> bool:
        """Tell whether this is the hash of `passcode`. Takes the time and the memory that its cost says."""
        octets = passcode.encode(errors="surrogatepass")
        if self.library == "bcrypt":
            import bcrypt

            # what bcrypt has always done with what it cannot use
            return bcrypt.checkpw(octets.partition(b"\0")[0][:_BCRYPT_BYTES], self.text.encode())
        import argon2

        try:
            return argon2.PasswordHasher().verify(self.text, octets)
        except argon2.exceptions.VerificationError:
            return False


def make_hash(passcode: str, salt: bytes, ln: int = _LN) -> Hash:
    """Return a new hash of a passcode; `salt` is random, and used once.

    `ln`: the cost. Below the usual one only where nobody has a reason to guess.
    """
    return Hash(ln, _R, _P, salt, _derive(passcode, ln, _R, _P, salt, _KEY_BYTES))


def _derive(passcode: str, ln: int, r: int, p: int, salt: bytes, length: int) -> bytes:
    # it wants to be permitted a little more than the formula of the RFC
    memory = 128 * r * (2**ln + p + 2)
    octets = passcode.encode(errors="surrogatepass")
    return _load_scrypt()(octets, salt=salt, n=2**ln, r=r, p=p, maxmem=2 * memory, dklen=length)


@cache
def _load_scrypt() -> Callable[..., bytes]:
    """OpenSSL's, which comes with it. To import it each time would touch memory of each client that logs in."""
    from hashlib import scrypt

    return scrypt


def parse_hash(text: str) -> Hash | ForeignHash:
    """Read a hash.

    Raises:
        PasswordError: it is none, or one that costs too much; or its library is not installed.
    """
    return (None if text.startswith("$scrypt$") else _parse_foreign(text)) or _parse_scrypt(text)


def _parse_foreign(text: str) -> ForeignHash | None:
    """A hash of bcrypt or argon2; None: it is neither. Raises PasswordError."""
    found = _BCRYPT.fullmatch(text)
    if found is not None:
        if int(found[1]) > _MAX_BCRYPT:
            raise PasswordError(f"the hash costs too much; bcrypt may have a cost of {_MAX_BCRYPT}")
        return _need_library(ForeignHash(text, f"bcrypt cost={int(found[1])}", "bcrypt"))
    found = _ARGON2.fullmatch(text)
    if found is None:
        return None
    memory, rounds = int(found[2]), int(found[3])
    if 1024 * memory > _MAX_MEMORY or memory * rounds > _MAX_ARGON2:
        raise PasswordError(
            f"the hash costs too much; argon2 may take {_MAX_MEMORY // 1024**2} MiB, and {_MAX_ARGON2 // 1024**2} GiB "
            "in all its rounds"
        )
    return _need_library(ForeignHash(text, f"{found[1]} m={memory},t={rounds},p={int(found[4])}", "argon2"))


def _need_library(found: ForeignHash) -> ForeignHash:
    if find_spec(found.library) is None:
        raise PasswordError(f"hashes of {found.library} need a library that is not installed: forkbroker[passwords]")
    return found


def _parse_scrypt(text: str) -> Hash:
    found = _SCRYPT.fullmatch(text)
    if found is None:
        raise PasswordError(f"the hash does not have the form {_FORM}")
    ln, r, p = map(int, found.group(1, 2, 3))
    try:
        salt, key = (b64decode(part + "=" * (-len(part) % 4), validate=True) for part in found.group(4, 5))
    except binascii.Error:
        raise PasswordError("salt or key of the hash is not base64") from None
    if 128 * r * 2**ln > _MAX_MEMORY or p > _MAX_P:
        raise PasswordError(f"the hash costs too much; it may take {_MAX_MEMORY // 1024**2} MiB, and p may be {_MAX_P}")
    if ln >= 16 * r:
        raise PasswordError("ln of the hash must be below 16 times r")
    if len(key) < _KEY_BYTES // 2:
        raise PasswordError(f"the key of the hash has {len(key)} bytes; it must have {_KEY_BYTES // 2} at least")
    return Hash(ln, r, p, salt, key)


def check_name(name: str) -> None:
    """Raise PasswordError unless a line of a password file may begin with this name."""
    if not name or ":" in name or name.startswith("#") or name != name.strip() or not name.isprintable():
        raise PasswordError(
            "a name has printable characters, does not begin with # or a space, does not end with a space, "
            "and has no colon"
        )
    if len(name.encode(errors="replace")) > MAX_NAME:
        raise PasswordError(f"the name has more than {MAX_NAME} bytes")


def read_names(user: object, groups: object) -> tuple[str, tuple[str, ...]]:
    """Return the user and the groups that a token or a program names, as they stand in its JSON.

    Raises:
        PasswordError: they are not a text and a list of texts, or such names can't be.
    """
    if not isinstance(user, str):
        raise PasswordError("the user must be a text")
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise PasswordError('groups must be a list of texts, as in ["workers"]')
    for name in (user, *groups):
        check_name(name)
    return user, tuple(groups)


class Users:
    """Who may log in."""

    def __init__(self, hashes: Mapping[str, str], secret: bytes) -> None:
        """`hashes`: of each user, as `parse_hash` takes them; `secret` is random, and no client may know it."""
        # for those who are forked later: most of them would load it
        _load_scrypt()
        self._hashes = hashes
        self._names = tuple(hashes)
        self._secret = secret

    def find_problem(self, name: str, passcode: str) -> str:
        """Return why this user may not log in, for the log; empty: the passcode is right.

        It takes the same time in each case.
        """
        known = self._hashes.get(name)
        is_right = (self._stand_in(name) if known is None else parse_hash(known)).matches(passcode)
        if known is None:
            return "unknown user"
        return "" if is_right else "wrong passcode"

    def _stand_in(self, name: str) -> Hash | ForeignHash:
        """The hash that is computed for a name that there is not."""
        digest = blake2b(name.encode(errors="surrogatepass"), key=self._secret, digest_size=8).digest()
        if not self._names:
            return Hash(_LN, _R, _P, digest, bytes(_KEY_BYTES))
        return parse_hash(self._hashes[self._names[int.from_bytes(digest) % len(self._names)]])
