"""SigV4 written from AWS's description, apart from both the server's code and botocore's, so that requests can be wrong on purpose."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Signed:
    """The headers of a signed request, and what the chunk signatures continue from."""

    headers: dict[str, str]
    signature: str
    key: bytes
    timestamp: str
    scope: str

    def chunk(self, data: bytes, previous: str) -> str:
        """Return the signature of one chunk of STREAMING-AWS4-HMAC-SHA256-PAYLOAD."""
        lines = ["AWS4-HMAC-SHA256-PAYLOAD", self.timestamp, self.scope, previous, EMPTY_SHA256, hashlib.sha256(data).hexdigest()]
        return _hmac(self.key, "\n".join(lines)).hex()

    def trailer(self, trailer: bytes, previous: str) -> str:
        """Return the signature of the trailing headers, given as `name:value\\n` lines."""
        lines = ["AWS4-HMAC-SHA256-TRAILER", self.timestamp, self.scope, previous, hashlib.sha256(trailer).hexdigest()]
        return _hmac(self.key, "\n".join(lines)).hex()


@dataclass(frozen=True)
class Signer:
    """Signs for one access key."""

    access_key: str
    secret_key: str
    host: str
    region: str = "us-east-1"
    service: str = "s3"

    def sign(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        *,
        payload_hash: str = UNSIGNED,
        when: datetime | None = None,
    ) -> Signed:
        """Sign a request whose `path` is percent-encoded already; all headers given are signed."""
        timestamp = (when or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{timestamp[:8]}/{self.region}/{self.service}/aws4_request"
        sent = {"host": self.host, **{name.lower(): value for name, value in (headers or {}).items()}}
        sent |= {"x-amz-date": timestamp, "x-amz-content-sha256": payload_hash}
        names = ";".join(sorted(sent))
        canonical = self._canonical(method, path, query, sent, payload_hash)
        signature = self._signature(canonical, timestamp, scope)
        authorization = f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        return Signed(sent | {"authorization": authorization}, signature, self._key(timestamp[:8]), timestamp, scope)

    def presign(
        self,
        method: str,
        path: str,
        *,
        expires: int | str = 300,
        when: datetime | None = None,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> list[tuple[str, str]]:
        """Return the query of a presigned request."""
        timestamp = (when or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{timestamp[:8]}/{self.region}/{self.service}/aws4_request"
        sent = {"host": self.host, **{name.lower(): value for name, value in (headers or {}).items()}}
        signed = [
            *query,
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", f"{self.access_key}/{scope}"),
            ("X-Amz-Date", timestamp),
            ("X-Amz-Expires", str(expires)),
            ("X-Amz-SignedHeaders", ";".join(sorted(sent))),
        ]
        canonical = self._canonical(method, path, signed, sent, UNSIGNED)
        return [*signed, ("X-Amz-Signature", self._signature(canonical, timestamp, scope))]

    def _signature(self, canonical: str, timestamp: str, scope: str) -> str:
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        return _hmac(self._key(timestamp[:8]), "\n".join(["AWS4-HMAC-SHA256", timestamp, scope, hashed])).hex()

    @staticmethod
    def _canonical(method: str, path: str, query: Sequence[tuple[str, str]], headers: Mapping[str, str], payload_hash: str) -> str:
        pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query)
        lines = [method, path, "&".join(f"{name}={value}" for name, value in pairs)]
        lines += [f"{name}:{' '.join(headers[name].split())}" for name in sorted(headers)]
        return "\n".join([*lines, "", ";".join(sorted(headers)), payload_hash])

    def _key(self, date: str) -> bytes:
        key = f"AWS4{self.secret_key}".encode()
        for part in (date, self.region, self.service, "aws4_request"):
            key = _hmac(key, part)
        return key


def encode_query(query: Sequence[tuple[str, str]]) -> str:
    """Return a query string in the order given."""
    return "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" if value else quote(name, safe="-_.~") for name, value in query
    )


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
