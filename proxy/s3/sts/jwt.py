"""Web identities: JSON Web Tokens that an OpenID Connect provider signed, by RS256 or ES256.

Source: RFC 7515 and 7519; OpenID Connect Core 1.0, section 3.1.3.7
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from proxy.s3.sts.errors import StsError

MAX_TOKEN_SIZE = 20_000  # characters: STS API Reference, AssumeRoleWithWebIdentity
LEEWAY_SECONDS = 60  # between the provider's clock and ours
_MIN_RSA_BITS = 2048
_P256_BYTES = 32

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
Decoded = TypeVar("Decoded")


class Head(msgspec.Struct, frozen=True):
    """What a token says of its signature."""

    alg: str
    kid: str = ""
    crit: Sequence[str] = ()


class Claims(msgspec.Struct, frozen=True):
    """What a token says of its subject, as far as it counts here."""

    iss: str
    sub: str
    aud: str | Sequence[str]
    exp: float
    iat: float | None = None
    nbf: float | None = None
    azp: str | None = None
    amr: Sequence[str] = ()

    @property
    def audiences(self) -> tuple[str, ...]:
        return (self.aud,) if isinstance(self.aud, str) else tuple(self.aud)

    @property
    def audience(self) -> str:
        """The one that conditions compare: the authorised party, if there is one."""
        return self.azp or next(iter(self.audiences), "")


class Jwk(msgspec.Struct, frozen=True):
    """A public key, as a provider publishes it."""

    kty: str
    kid: str = ""
    use: str = "sig"
    alg: str = ""
    n: str = ""
    e: str = ""
    crv: str = ""
    x: str = ""
    y: str = ""


class Jwt(NamedTuple):
    """A token that was read; nothing in it is proven."""

    head: Head
    claims: Claims
    signed: bytes
    signature: bytes


def read_jwt(text: str) -> Jwt:
    """Read a token. Raises InvalidIdentityToken."""
    parts = text.split(".") if len(text) <= MAX_TOKEN_SIZE else []
    if len(parts) != 3 or not text.isascii():
        raise _invalid("The web identity token is no JSON Web Token")
    head, claims = _json(parts[0], Head), _json(parts[1], Claims)
    if head.crit or head.alg not in {"RS256", "ES256"}:
        raise _invalid("The web identity token must be signed by RS256 or ES256")
    return Jwt(head, claims, f"{parts[0]}.{parts[1]}".encode(), _bytes(parts[2]))


def verify(jwt: Jwt, key: PublicKey) -> None:
    """Prove that the key signed this. Raises InvalidIdentityToken."""
    try:
        if jwt.head.alg == "RS256" and isinstance(key, rsa.RSAPublicKey):
            key.verify(jwt.signature, jwt.signed, padding.PKCS1v15(), SHA256())
            return
        if jwt.head.alg == "ES256" and isinstance(key, ec.EllipticCurvePublicKey) and len(jwt.signature) == 2 * _P256_BYTES:
            r, s = (int.from_bytes(half, "big") for half in (jwt.signature[:_P256_BYTES], jwt.signature[_P256_BYTES:]))
            key.verify(encode_dss_signature(r, s), jwt.signed, ec.ECDSA(SHA256()))
            return
    except InvalidSignature:
        pass
    raise _invalid("The web identity token's signature does not fit")


def check_claims(claims: Claims, *, audiences: Sequence[str], now_ms: int) -> None:
    """Refuse a token that is for somebody else, or for another time. ExpiredTokenException, InvalidIdentityToken."""
    now = now_ms / 1000
    if claims.exp <= now - LEEWAY_SECONDS:
        raise StsError("ExpiredTokenException", "Token expired: the web identity token is no longer valid")
    if any(begin is not None and begin > now + LEEWAY_SECONDS for begin in (claims.nbf, claims.iat)):
        raise _invalid("The web identity token is not valid yet")
    if not set(claims.audiences) & set(audiences):
        raise _invalid("Incorrect token audience")
    if not claims.sub:
        raise _invalid("The web identity token has no subject")


def read_keys(document: bytes) -> Mapping[str, PublicKey]:
    """Read a provider's key set, by key id; keys of other kinds are passed over. Raises InvalidIdentityToken for what is no key set."""
    try:
        keys = msgspec.json.decode(document, type=_Keys).keys
    except msgspec.DecodeError:
        raise _invalid("The identity provider's key set cannot be read") from None
    return {jwk.kid: key for jwk in keys if jwk.use == "sig" and (key := _public_key(jwk)) is not None}


class _Keys(msgspec.Struct, frozen=True):
    keys: Sequence[Jwk]


def _public_key(jwk: Jwk) -> PublicKey | None:
    try:
        if jwk.kty == "RSA":
            key = rsa.RSAPublicNumbers(_number(jwk.e), _number(jwk.n)).public_key()
            return key if key.key_size >= _MIN_RSA_BITS else None
        if jwk.kty == "EC" and jwk.crv == "P-256":
            return ec.EllipticCurvePublicNumbers(_number(jwk.x), _number(jwk.y), ec.SECP256R1()).public_key()
    except (ValueError, StsError):
        return None
    return None


def _number(text: str) -> int:
    return int.from_bytes(_bytes(text), "big")


def _json(part: str, kind: type[Decoded]) -> Decoded:
    try:
        return msgspec.json.decode(_bytes(part), type=kind)
    except msgspec.DecodeError:
        raise _invalid("The web identity token cannot be read") from None


def _bytes(part: str) -> bytes:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise _invalid("The web identity token cannot be read") from None


def _invalid(message: str) -> StsError:
    return StsError("InvalidIdentityToken", message)
