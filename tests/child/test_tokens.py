"""JSON web tokens: whose they are, and which are none."""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from forkbroker.child.tokens import TokenPolicy, Tokens
from forkbroker.errors import StartError
from forkbroker.identity import Identity, Way

SECRET = b"0123456789abcdef0123456789abcdef"
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())


def public(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def tokens(directory: Path, *keys: bytes, algorithms: tuple[str, ...] = ("ES256",), **more: str) -> Tokens:
    paths = []
    for number, octets in enumerate(keys or (public(KEY),)):
        paths.append(directory / f"key{number}")
        paths[-1].write_bytes(octets)
    return Tokens(TokenPolicy(tuple(paths), algorithms, **more))


def sign(key: object = KEY, algorithm: str = "ES256", **claims: object) -> str:
    found = {"sub": "alice", "exp": time.time() + 100_000, **claims}
    return jwt.encode({name: value for name, value in found.items() if value is not None}, key, algorithm)


def test_a_token_names_user_groups_and_its_end(tmp_path: Path) -> None:
    """Of any of the keys."""
    for made in (tokens(tmp_path), tokens(tmp_path, public(OTHER), public(KEY))):
        found = made.read(sign(groups=["a", "b"]))
        assert isinstance(found, Identity)
        assert (found.user, found.way, found.groups) == ("alice", Way.TOKEN, ("a", "b"))
        assert 99_000 < found.lasts_s <= 100_005
    assert tokens(tmp_path, SECRET + b"\n", algorithms=("RS256", "HS256")).read(sign(SECRET, "HS256")) != ""


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (sign(OTHER), "no key fits its signature"),
        (sign(SECRET, "HS256"), "no key fits its signature"),
        (jwt.encode({"sub": "alice", "exp": 9e9}, None, "none"), "no key fits its signature"),
        (jwt.encode({"sub": "alice", "exp": 9e9}, SECRET + SECRET, "HS512"), "no key fits its signature"),
        (sign(exp=time.time() - 60), "Signature has expired"),
        (sign(exp=None), 'Token is missing the "exp" claim'),
        (sign(exp="soon"), "Expiration Time claim (exp) must be an integer"),
        (sign(exp=1e400), "token: "),
        (sign(nbf=time.time() + 90_000), "The token is not yet valid (nbf)"),
        (sign(sub=None), 'Token is missing the "sub" claim'),
        (sign(sub="a:b"), "a name has printable characters"),
        (sign(sub="*\n"), "a name has printable characters"),
        (sign(groups=7), "token: groups must be a list of texts"),
        (sign(groups="workers"), 'token: groups must be a list of texts, as in ["workers"]'),
        (sign(groups=["a", 7]), "token: groups must be a list of texts"),
        (sign(groups=["a", ""]), "a name has printable characters"),
        (sign(aud="x"), "token: "),
        (sign()[:-4] + sign()[-4:].swapcase(), "token: "),
        ("eyJ.x.y", "token: "),
        (urlsafe_b64encode(b'{"alg":"ES256"}').decode().rstrip("=") + ".x.y", "token: "),
        ("", "token: Not enough segments"),
    ],
)
def test_what_is_no_good_token_is_refused_with_the_reason(tmp_path: Path, token: str, said: str) -> None:
    """Above all one that says itself how it wants to be verified."""
    found = tokens(tmp_path).read(token)

    assert isinstance(found, str)
    assert said in found


def test_audience_and_issuer_have_to_be_those_of_the_configuration(tmp_path: Path) -> None:
    """If it names them."""
    made = tokens(tmp_path, audience="broker", issuer="me")

    assert isinstance(made.read(sign(aud=["x", "broker"], iss="me")), Identity)
    for claims in ({"aud": "broker"}, {"iss": "me"}, {"aud": "x", "iss": "me"}, {"aud": "broker", "iss": "x"}):
        assert isinstance(made.read(sign(**claims)), str)


def test_a_key_that_cannot_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    """With its file."""
    for octets, algorithms, said in (
        (b"nonsense", ("ES256",), "has no public key for ES256"),
        (public(KEY), ("HS256",), "has no public key for HS256"),
        (b"short", ("HS256",), "too short, it must have 32 bytes"),
    ):
        with pytest.raises(StartError, match=said):
            tokens(tmp_path, octets, algorithms=algorithms)
    with pytest.raises(StartError, match=r"cannot read .*none: No such file"):
        Tokens(TokenPolicy((tmp_path / "none",), ("ES256",)))
