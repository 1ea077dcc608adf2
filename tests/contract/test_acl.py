"""What the manifest keeps for access control: accounts found by what ACLs call them, and the ACLs of versions."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from proxy.manifest.drafts import AttributeChange, VersionDraft
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import NULL_VERSION, ObjectAttributes
from proxy.s3.policy.acl import Acl, Grant
from tests.contract.conftest import NOW, tenant
from tests.listed import listed

BUCKET = 1


async def test_accounts_are_found_by_canonical_id_and_by_address(manifest: Manifest) -> None:
    for name, email in (("x", "one@a.example"), ("y", "One@A.example"), ("z", "")):
        await manifest.add_tenant(replace(tenant(name), email=email))

    async def found(ids: Sequence[str] = (), emails: Sequence[str] = ()) -> list[str]:
        return sorted(one.id for one in await manifest.find_accounts(ids, emails))

    assert await found([tenant("z").canonical_id, "nobody"]) == ["z"]
    assert await found(emails=["ONE@a.example", "two@a.example"]) == ["x", "y"]
    assert await found([tenant("x").canonical_id], ["one@a.example"]) == ["x", "y"]
    assert await found() == []


async def test_the_acl_of_a_version_is_changed_and_its_owner_is_listed(manifest: Manifest) -> None:
    attributes = ObjectAttributes(tags={"a": "b"})
    await manifest.commit_version(VersionDraft(bucket_id=BUCKET, key="k", id="v1", modified_ms=NOW, attributes=attributes))
    acl = Acl(owner="o", grants=(Grant("g", "READ"),))
    await manifest.change_attributes(BUCKET, "k", NULL_VERSION, AttributeChange(acl=acl))
    version = await manifest.find_version(BUCKET, "k")
    assert version is not None
    assert (version.attributes.acl, version.attributes.tags) == (acl, {"a": "b"})
    assert await owner_listed(manifest) == "o"
    await manifest.change_attributes(BUCKET, "k", NULL_VERSION, AttributeChange(acl=None))
    assert await owner_listed(manifest) == ""


async def owner_listed(manifest: Manifest) -> str:
    page = await manifest.list_objects(BUCKET, prefix="", delimiter="", after="", limit=10)
    return listed(page)[0].owner
