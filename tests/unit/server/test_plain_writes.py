"""A plain write: whatever a look at its headers spares is what the long way finds, and nothing that a client says is lost."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import pytest

from proxy.config.sections import S3Config
from proxy.manifest.drafts import NO_CONDITIONS
from proxy.manifest.records import Bucket, BucketName, Tenant, TenantId
from proxy.s3.model import load_model
from proxy.s3.parsing import parse_request
from proxy.s3.policy.ownership import OWNERSHIP
from proxy.s3.routing import Target
from proxy.server.call import Call, OwnedBucket
from proxy.server.handlers.attributes import is_locked_by, object_attributes
from proxy.server.handlers.conditions import write_conditions
from proxy.server.handlers.encryption import AS_EVERY_OBJECT, new_encryption
from proxy.server.handlers.grants import acl_of_write
from proxy.server.handlers.plain_writes import is_plain_write, plain_attributes

PUT = load_model().operations["PutObject"]
USUAL = {"host": "b.localhost", "content-length": "4", "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": "20250101T000000Z"}
OWNER, OTHER = (
    Tenant(
        id=TenantId(name),
        name=name,
        canonical_id=f"canonical-{name}",
        account_id="123456789012",
        display_name=name,
        root_key_id="r",
        wrapped_key=b"",
        created_ms=0,
    )
    for name in ("owner", "other")
)
VALUES = {
    "x-amz-acl": "public-read",
    "x-amz-grant-read": 'id="canonical-other"',
    "x-amz-object-lock-legal-hold": "ON",
    "x-amz-object-lock-mode": "GOVERNANCE",
    "x-amz-object-lock-retain-until-date": "2030-01-01T00:00:00Z",
    "x-amz-server-side-encryption-bucket-key-enabled": "true",
    "x-amz-server-side-encryption": "aws:kms",
    "x-amz-storage-class": "STANDARD_IA",
    "x-amz-tagging": "a=b",
    "x-amz-website-redirect-location": "/elsewhere",
    "x-amz-meta-colour": "red",
    "content-type": "text/plain",
    "content-encoding": "gzip",
    "if-none-match": "*",
}
SILENT = frozenset({"content-length", "content-md5", "content-type"})  # of the body, and the type, which is read either way


def call(headers: Mapping[str, str], *, settings: Mapping[str, str] = {}, asker: Tenant | None = OWNER) -> Call:
    said = {**USUAL, **headers}
    bucket = Bucket(name=BucketName("b"), tenant_id=OWNER.id, policy="p", created_ms=0, settings=dict(settings))
    config = SimpleNamespace(tls=None, s3=S3Config(), region="us-east-1")
    services = SimpleNamespace(config=config, policies={}, clock=SimpleNamespace(now_ms=lambda: 0))
    return Call(
        operation=PUT,
        params=parse_request(PUT, Target("b", "k"), (), said),
        headers=said,
        asker=asker,
        services=services,  # type: ignore[arg-type]  # what the handlers ask for
        held=OwnedBucket(bucket=bucket, owner=OWNER),
    )


async def the_long_way(put: Call) -> object:
    try:
        new = await new_encryption(put)
        return new, object_attributes(put, await acl_of_write(put), new.encryption), write_conditions(put), is_locked_by(put)
    except Exception as error:  # whatever it is: a plain write has none
        return error


@pytest.mark.parametrize("asker", [OWNER, OTHER, None], ids=["owner", "other", "nobody"])
@pytest.mark.parametrize("name", ["", *sorted({*PUT.headers, *VALUES})])
async def test_what_is_plain_is_what_the_long_way_finds(name: str, asker: Tenant | None) -> None:
    put = call({name: VALUES.get(name, "1")} if name else {}, asker=asker)
    plain = (AS_EVERY_OBJECT, plain_attributes(put.headers), NO_CONDITIONS, False)
    assert not is_plain_write(put) or await the_long_way(put) == plain


@pytest.mark.parametrize("name", ["", *sorted(SILENT)])
def test_what_says_nothing_more_of_an_object_is_plain(name: str) -> None:
    assert is_plain_write(call({name: VALUES.get(name, "1")} if name else {}))


@pytest.mark.parametrize("name", sorted(VALUES.keys() - SILENT))
def test_what_says_more_is_not_plain(name: str) -> None:
    assert not is_plain_write(call({name: VALUES[name]}))


def test_a_bucket_with_settings_is_asked() -> None:
    assert not is_plain_write(call({}, settings={OWNERSHIP: "ObjectWriter"}, asker=OTHER))
