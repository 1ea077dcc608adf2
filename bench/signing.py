"""Signed requests as bytes: botocore's own SigV4 with UNSIGNED-PAYLOAD, rendered before the clock starts."""

from __future__ import annotations

from dataclasses import dataclass

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens and which keys it knows."""

    host: str
    port: int
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    def sign(self, method: str, path: str, query: str = "", *, body_bytes: int | None = None, extra: dict[str, str] | None = None) -> bytes:
        """Return the header block of a signed request; `path` and `query` are percent-encoded already."""
        target = f"{path}?{query}" if query else path
        request = AWSRequest(method=method, url=f"http://{self.host}:{self.port}{target}", headers=dict(extra or {}))
        _UnsignedPayload(Credentials(self.access_key, self.secret_key), "s3", self.region).add_auth(request)
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        if body_bytes is not None:
            lines.append(f"Content-Length: {body_bytes}")
        return "\r\n".join([*lines, "", ""]).encode()


class _UnsignedPayload(S3SigV4Auth):
    """botocore hashes the payload whenever the endpoint is plain http; here every server is spared that alike."""

    def _should_sha256_sign_payload(self, request: AWSRequest) -> bool:  # noqa: ARG002 -- botocore's signature
        return False
