"""Who is let in, and what a presigned URL carries besides its signature."""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from proxy.manifest.records import AccessKeyId
from proxy.s3.errors import S3Error
from proxy.s3.evidence import evidence_of_request
from proxy.server.identity import auth
from proxy.server.identity.auth import Authenticator, Sender, _SigningKeys, hoisted_headers
from proxy.tenancy import Credentials, add_tenant
from tests.blackbox.signer import Signer
from tests.laboratory import Laboratory, laboratory


class Door(NamedTuple):
    """An authenticator before a laboratory, and the credentials of one tenant."""

    lab: Laboratory
    authenticator: Authenticator
    credentials: Credentials

    async def ask(self, way: str) -> Sender:
        """Ask for a key by a signature that is right: in a header, or in an address of either version."""
        now_ms = self.lab.clock.now_ms()
        when = datetime.fromtimestamp(now_ms / 1000, UTC)
        signer = Signer(self.credentials.access_key, self.credentials.secret_key, "h")
        headers: Mapping[str, str] = {"host": "h"}
        query: Sequence[tuple[str, str]] = ()
        if way == "header":
            headers = signer.sign("GET", "/b/k", when=when).headers
        elif way == "address":
            query = signer.presign("GET", "/b/k", when=when)
        else:
            expires = str(now_ms // 1000 + 60)
            text = f"GET\n\n\n{expires}\n/b/k".encode()
            signature = b64encode(hmac.digest(self.credentials.secret_key.encode(), text, "sha1")).decode()
            query = [("AWSAccessKeyId", self.credentials.access_key), ("Expires", expires), ("Signature", signature)]
        evidence = evidence_of_request("GET", "/b/k", query, headers, resource="/b/k", place=self.authenticator.place)
        return await self.authenticator.check(evidence, "b")


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with laboratory(tmp_path) as lab:
        services = lab.services
        credentials = await add_tenant(services.manifest, services.keyring, lab.clock, "asker")
        authenticator = Authenticator(manifest=services.manifest, keyring=services.keyring, clock=lab.clock, region="us-east-1")
        yield Door(lab, authenticator, credentials)


WAYS = ("header", "address", "address of version 2")


@pytest.mark.parametrize("way", WAYS)
async def test_who_signs_with_a_key_of_a_tenant_is_that_tenant(door: Door, way: str) -> None:
    sender = await door.ask(way)
    assert sender.tenant is not None
    assert (sender.tenant.name, sender.principal.access_key) == ("asker", door.credentials.access_key)


@pytest.mark.parametrize("way", WAYS)
async def test_a_disabled_tenant_is_not_let_in(door: Door, way: str) -> None:
    """Not even one whose key was used a moment ago, and until it is enabled again."""
    tenant = (await door.ask(way)).tenant
    assert tenant is not None
    await door.lab.services.manifest.set_tenant_enabled(tenant.id, False)
    with pytest.raises(S3Error, match="AccessDenied: This account is disabled"):
        await door.ask(way)
    await door.lab.services.manifest.set_tenant_enabled(tenant.id, True)
    await door.ask(way)


@pytest.mark.parametrize("way", WAYS)
async def test_a_disabled_key_is_not_let_in(door: Door, way: str) -> None:
    await door.ask(way)
    manifest = door.lab.services.manifest
    found = (await manifest.find_caller(AccessKeyId(door.credentials.access_key), None)).access_key
    assert found is not None
    await manifest.remove_access_key(found.id)
    await manifest.add_access_key(replace(found, enabled=False))
    with pytest.raises(S3Error, match="InvalidAccessKeyId"):
        await door.ask(way)


@pytest.mark.parametrize("way", WAYS)
async def test_a_removed_key_is_not_let_in(door: Door, way: str) -> None:
    await door.ask(way)
    await door.lab.services.manifest.remove_access_key(AccessKeyId(door.credentials.access_key))
    with pytest.raises(S3Error, match="InvalidAccessKeyId"):
        await door.ask(way)


@pytest.mark.parametrize("way", WAYS)
async def test_the_secret_of_another_key_is_not_let_in(door: Door, way: str) -> None:
    services = door.lab.services
    other = await add_tenant(services.manifest, services.keyring, door.lab.clock, "other")
    forger = Door(door.lab, door.authenticator, replace(door.credentials, secret_key=other.secret_key))
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        await forger.ask(way)


@pytest.mark.parametrize("way", WAYS)
async def test_whose_key_was_used_last_is_no_matter(door: Door, way: str) -> None:
    """Derived keys are remembered: each for its own access key."""
    services = door.lab.services
    other = await add_tenant(services.manifest, services.keyring, door.lab.clock, "other")
    sender = await Door(door.lab, door.authenticator, other).ask(way)
    assert sender.tenant is not None
    assert sender.tenant.name == "other"
    forger = Door(door.lab, door.authenticator, replace(door.credentials, secret_key=other.secret_key))
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        await forger.ask(way)
    await door.ask(way)


@pytest.mark.parametrize("way", WAYS)
async def test_who_is_let_in_today_is_let_in_tomorrow(door: Door, way: str) -> None:
    await door.ask(way)
    door.lab.clock.advance(24 * 3600)
    await door.ask(way)


async def test_the_key_of_a_day_is_derived_once(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    derived, derive = list[str](), auth.signing_key

    def counted(secret: str, date: str, region: str, service: str) -> bytes:
        derived.append(date)
        return derive(secret, date, region, service)

    monkeypatch.setattr(auth, "signing_key", counted)
    for way in ("header", "address", "header"):
        await door.ask(way)
    assert len(derived) == 1
    door.lab.clock.advance(24 * 3600)
    await door.ask("header")
    assert len(set(derived)) == len(derived) == 2


def test_remembered_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.server.identity.auth.MAX_CACHED_KEYS", 2)
    keys = _SigningKeys()
    for number in range(4):
        keys.keep(b"sealed", "20261124", f"region-{number}", b"key %d" % number)
    assert [keys.find(b"sealed", "20261124", f"region-{number}") for number in range(4)] == [None, None, b"key 2", b"key 3"]


def test_hoisted_parameters_become_headers_but_the_signature_does_not() -> None:
    query = [("X-Amz-Signature", "s"), ("X-Amz-Checksum-Mode", "ENABLED"), ("x-amz-acl", "public-read"), ("prefix", "p")]
    merged = hoisted_headers(query, {"host": "h", "x-amz-acl": "private"})
    assert merged == {"host": "h", "x-amz-acl": "private", "x-amz-checksum-mode": "ENABLED"}


def test_a_checksum_of_the_body_is_not_taken_from_an_address() -> None:
    """The JavaScript SDK signs that of an empty body there."""
    query = [("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-sdk-checksum-algorithm", "CRC32"), ("x-amz-checksum-algorithm", "SHA256")]
    assert hoisted_headers(query, {}) == {"x-amz-checksum-algorithm": "SHA256"}


def test_version_2_signs_two_more_headers_in_the_address() -> None:
    query = [("Content-Type", "a/b"), ("content-md5", "m"), ("x-amz-meta-a", "b")]
    assert hoisted_headers(query, {}) == {"x-amz-meta-a": "b"}
    assert hoisted_headers([*query, ("AWSAccessKeyId", "a")], {}) == {"content-type": "a/b", "content-md5": "m", "x-amz-meta-a": "b"}
    assert hoisted_headers([*query, ("AWSAccessKeyId", "a")], {"content-type": "c/d"})["content-type"] == "c/d"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-meta-a", "b\r\nSet-Cookie: c"),
        ("x-amz-meta-a", "b\x00"),
        ("x-amz-website-redirect-location", "/a\nb"),
        ("x-amz-meta-a b", "c"),
        ("x-amz-meta-a\n", "b"),
        ("x-amz-meta-é", "b"),
        ("x-amz-meta-a:", "b"),
    ],
)
def test_what_no_header_can_be_is_not_hoisted(name: str, value: str) -> None:
    with pytest.raises(S3Error) as caught:
        hoisted_headers([(name, value)], {})
    assert (caught.value.code, caught.value.status, caught.value.details["ArgumentName"]) == ("InvalidArgument", 400, name)
