"""Bearer tokens: JSON web tokens (RFC 7519, RFC 6750) that somebody else has signed, by PyJWT.

A token names its user (`sub`), until when it is valid (`exp`), and perhaps a list of groups (`groups`). The
configuration says which algorithms a signature may have, and never the token.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from forkbroker.errors import Exit, StartError
from forkbroker.identity import Identity, Way
from forkbroker.passwords import PasswordError, read_names

MAX_BYTES = 65_536
"""Of a key file."""
_LEEWAY_S = 5.0
"""How far clocks may differ."""
_SHORTEST_SECRET = 32
"""Octets of a key for HS256, HS384, HS512 (RFC 7518, 3.2)."""


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """Which tokens are right."""

    keys: tuple[Path, ...]
    """Files with a public key or a certificate in PEM each; or with the octets of a shared secret."""
    algorithms: tuple[str, ...]
    """As RFC 7518 and RFC 8037 call them."""
    audience: str | None = None
    """What `aud` has to have; None: a token with `aud` is refused."""
    issuer: str | None = None
    """What `iss` has to be; None: any."""


class Tokens:
    """Reads tokens."""

    def __init__(self, policy: TokenPolicy) -> None:
        """Read the keys.

        Raises:
            StartError: a key cannot be read, or is not one for these algorithms.
        """
        self._policy = policy
        self._keys = [_read_key(path, policy.algorithms) for path in policy.keys]

    def read(self, token: str) -> Identity | str:
        """Whose token this is; or why it is not accepted, for the log."""
        problem = "token: no key fits its signature"
        for key, algorithms in self._keys:
            try:
                claims = jwt.decode(
                    token,
                    key,
                    algorithms,
                    {"require": ["exp", "sub"]},
                    audience=self._policy.audience,
                    issuer=self._policy.issuer,
                    leeway=_LEEWAY_S,
                )
            except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
                continue
            except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError) as error:
                return f"token: {str(error)[:100]}"
            return _read_claims(claims)
        return problem


def _read_claims(claims: dict[str, object]) -> Identity | str:
    expiry = claims["exp"]
    try:
        user, groups = read_names(claims["sub"], claims.get("groups", []))
    except PasswordError as error:
        return f"token: {error}"
    assert isinstance(expiry, int | float | str)
    left = float(expiry) + _LEEWAY_S - time.time()
    return Identity(user, Way.TOKEN, groups, lasts_s=max(0.0, left))


def _read_key(path: Path, algorithms: Sequence[str]) -> tuple[Any, list[str]]:
    """A key, and for which of these algorithms it is. (Any: each algorithm has a type of its own.)"""
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_BYTES)
    except OSError as error:
        raise StartError(f"tokens: cannot read {path}: {error.strerror}", Exit.CONFIG) from None
    fitting: list[str] = []
    key: Any = octets
    for name in algorithms:
        algorithm = jwt.get_algorithm_by_name(name)
        try:
            prepared = algorithm.prepare_key(octets.strip() if name.startswith("HS") else octets)
        except (jwt.InvalidKeyError, ValueError, TypeError):
            continue
        if name.startswith("HS") and len(octets.strip()) < _SHORTEST_SECRET:
            raise StartError(f"tokens: the key in {path} is too short, it must have 32 bytes", Exit.CONFIG)
        fitting.append(name)
        key = octets.strip() if isinstance(prepared, bytes) else prepared
    if not fitting:
        raise StartError(f"tokens: {path} has no public key for {', '.join(algorithms)}", Exit.CONFIG)
    return key, fitting
