"""Where customers' keys are taken from: over TLS, and from this machine."""

from __future__ import annotations

from base64 import b64encode
from hashlib import md5
from types import SimpleNamespace

import pytest

from proxy.config.sections import S3Config, TlsConfig
from proxy.manifest.records import Bucket, BucketName, Tenant, TenantId
from proxy.s3.errors import S3Error
from proxy.s3.model import load_model
from proxy.server.call import Call, OwnedBucket
from proxy.server.handlers.encryption import new_encryption

PUT = load_model().operations["PutObject"]
KEY = bytes(32)
HEADERS = {
    "x-amz-server-side-encryption-customer-algorithm": "AES256",
    "x-amz-server-side-encryption-customer-key": b64encode(KEY).decode(),
    "x-amz-server-side-encryption-customer-key-md5": b64encode(md5(KEY).digest()).decode(),
}
TLS = TlsConfig(certificate="c", key="k")


def call(remote: str, *, tls: TlsConfig | None, allowed: bool) -> Call:
    config = SimpleNamespace(tls=tls, s3=S3Config(allow_customer_keys_without_tls=allowed), region="us-east-1")
    bucket = Bucket(name=BucketName("b"), tenant_id=TenantId("t"), policy="p", created_ms=0)
    owner = Tenant(
        id=TenantId("t"),
        name="t",
        canonical_id="c",
        account_id="123456789012",
        display_name="t",
        root_key_id="r",
        wrapped_key=b"",
        created_ms=0,
    )
    held = OwnedBucket(bucket=bucket, owner=owner)
    services = SimpleNamespace(config=config)
    return Call(operation=PUT, params={}, headers=HEADERS, services=services, held=held, hop=remote)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("remote", "tls", "allowed"),
    [
        ("192.0.2.1", TLS, False),
        ("192.0.2.1", None, True),
        ("127.0.0.1", None, False),
        ("127.8.9.1", None, False),
        ("::1", None, False),
        ("::ffff:127.0.0.1", None, False),
    ],
)
async def test_a_customers_key_is_taken_where_nobody_overhears_it(remote: str, tls: TlsConfig | None, allowed: bool) -> None:
    assert (await new_encryption(call(remote, tls=tls, allowed=allowed))).customer_key is not None


@pytest.mark.parametrize("remote", ["192.0.2.1", "10.0.0.1", "::ffff:192.0.2.1", "2001:db8::1", "", "localhost"])
async def test_a_customers_key_over_plain_http_is_refused(remote: str) -> None:
    with pytest.raises(S3Error, match="must be made over a secure connection") as caught:
        await new_encryption(call(remote, tls=None, allowed=False))
    assert caught.value.code == "InvalidRequest"
