"""Web identity tokens: whose they are, whom they are for, and when."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from proxy.s3.sts.errors import StsError
from proxy.s3.sts.jwt import MAX_TOKEN_SIZE, Claims, check_claims, read_jwt, read_keys, verify

NOW = 1_000_000
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SHORT = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC = ec.generate_private_key(ec.SECP256R1())
CLAIMS = {"iss": "https://issuer.example", "sub": "job", "aud": "us", "exp": NOW + 60}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def token(algorithm: str, head: dict[str, object] | None = None) -> str:
    text = f"{b64(json.dumps({'alg': algorithm, **(head or {})}).encode())}.{b64(json.dumps(CLAIMS).encode())}"
    if algorithm == "ES256":
        r, s = decode_dss_signature(EC.sign(text.encode(), ec.ECDSA(SHA256())))
        return f"{text}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"
    return f"{text}.{b64(RSA.sign(text.encode(), padding.PKCS1v15(), SHA256()))}"


def refusal(text: str) -> str:
    with pytest.raises(StsError) as caught:
        read_jwt(text)
    return caught.value.code


def test_a_token_is_proven_by_the_key_that_signed_it_alone() -> None:
    for algorithm, right, wrong in (("RS256", RSA, EC), ("ES256", EC, RSA)):
        jwt = read_jwt(token(algorithm))
        assert jwt.claims.sub == "job"
        verify(jwt, right.public_key())
        for key in (wrong, SHORT, ec.generate_private_key(ec.SECP256R1())):
            with pytest.raises(StsError, match="InvalidIdentityToken"):
                verify(jwt, key.public_key())
        with pytest.raises(StsError, match="InvalidIdentityToken"):
            verify(jwt._replace(signed=jwt.signed + b"x"), right.public_key())


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS512", "rs256", ""])
def test_only_two_algorithms_are_taken(algorithm: str) -> None:
    assert refusal(token(algorithm)) == "InvalidIdentityToken"


def test_what_must_be_understood_and_is_not_is_refused() -> None:
    assert refusal(token("RS256", head={"crit": ["x"]})) == "InvalidIdentityToken"


@given(st.text(max_size=60) | st.lists(st.binary(max_size=20).map(b64), min_size=3, max_size=3).map(".".join))
def test_whatever_else_comes_is_no_token(text: str) -> None:
    assert refusal(text) == "InvalidIdentityToken"


def test_a_token_that_is_too_long_is_not_read() -> None:
    assert refusal("a" * (MAX_TOKEN_SIZE + 1)) == "InvalidIdentityToken"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"exp": NOW - 59}, None),
        ({"exp": NOW - 61}, "ExpiredTokenException"),
        ({"nbf": NOW + 59, "iat": NOW + 59}, None),
        ({"nbf": NOW + 61}, "InvalidIdentityToken"),
        ({"iat": NOW + 61}, "InvalidIdentityToken"),
        ({"aud": ["other", "us"]}, None),
        ({"aud": "other"}, "InvalidIdentityToken"),
        ({"aud": []}, "InvalidIdentityToken"),
        ({"sub": ""}, "InvalidIdentityToken"),
    ],
)
def test_a_token_is_for_us_and_for_now(change: dict[str, object], code: str | None) -> None:
    claims = Claims(**{**CLAIMS, **change})  # type: ignore[arg-type]  # of the table
    if code is None:
        check_claims(claims, audiences=["us"], now_ms=NOW * 1000)
        return
    with pytest.raises(StsError) as caught:
        check_claims(claims, audiences=["us"], now_ms=NOW * 1000)
    assert caught.value.code == code


def test_keys_that_can_prove_nothing_are_passed_over() -> None:
    def jwk(key: rsa.RSAPrivateKey, kid: str) -> dict[str, str]:
        numbers = key.public_key().public_numbers()
        return {"kty": "RSA", "kid": kid, "n": b64(numbers.n.to_bytes(256, "big")), "e": "AQAB"}

    off_the_curve = {"kty": "EC", "crv": "P-256", "kid": "off", "x": "AQ", "y": "AQ"}
    others = [{"kty": "oct", "kid": "o"}, off_the_curve, {**jwk(RSA, "enc"), "use": "enc"}]
    keys = read_keys(json.dumps({"keys": [jwk(RSA, "a"), jwk(SHORT, "short"), *others]}).encode())
    assert list(keys) == ["a"]
    with pytest.raises(StsError):
        read_keys(b"{}")
