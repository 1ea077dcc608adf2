"""Sessions: whose they are, what limits them, and when they end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from proxy.manifest.records import AccessKeyId, Role, Tenant
from proxy.s3.errors import S3Error
from proxy.server.identity.sessions import Holder, Sessions
from proxy.tenancy import add_access_key, add_tenant
from tests.laboratory import Laboratory, laboratory

POLICY = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}}'


class Desk:
    """Makes and opens sessions of a laboratory."""

    def __init__(self, lab: Laboratory) -> None:
        self.lab = lab
        self.sessions = Sessions(lab.services.manifest, lab.services.keyring)

    def mint(self, tenant: Tenant, made_with: str, *, role: str = "", policy: str | None = None) -> str:
        now = self.lab.clock.now_ms()
        return self.sessions.mint(tenant, made_with=made_with, now_ms=now, seconds=900, role=role, session="ab", policy=policy).token

    async def find(self, token: str, *, later_ms: int = 0) -> Holder:
        return await self.sessions.find(token, None, self.lab.clock.now_ms() + later_ms)

    async def key(self, tenant: Tenant, *, policy: str = "") -> str:
        services = self.lab.services
        return (await add_access_key(services.manifest, services.keyring, services.clock, tenant, policy=policy)).access_key

    async def role(self) -> None:
        role = Role(tenant_id=self.lab.tenant.id, name="reader", trust="{}", policy=POLICY, created_ms=0)
        await self.lab.services.manifest.put_role(role)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with laboratory(tmp_path) as lab:
        yield Desk(lab)


async def test_a_session_of_a_key_is_of_its_principal_with_its_limits(desk: Desk) -> None:
    tenant = desk.lab.tenant
    plain = await desk.find(desk.mint(tenant, await desk.key(tenant)))
    assert (plain.principal.tenant_id, plain.principal.is_root, plain.restrictions.limits) == (tenant.id, True, ())
    limited = await desk.find(desk.mint(tenant, await desk.key(tenant, policy=POLICY)))
    assert limited.restrictions.limits == (("key policy", POLICY),)


async def test_a_session_of_a_role_has_its_policy_and_the_session_s(desk: Desk) -> None:
    await desk.role()
    found = await desk.find(desk.mint(desk.lab.tenant, "", role="reader", policy="{...}"))
    assert (found.principal.role, found.principal.session, found.principal.is_root) == ("reader", "ab", False)
    assert (found.restrictions.limits, found.restrictions.role) == ((("session policy", "{...}"),), (POLICY,))


async def test_a_session_ends_with_its_time(desk: Desk) -> None:
    token = desk.mint(desk.lab.tenant, await desk.key(desk.lab.tenant))
    await desk.find(token, later_ms=890_000)
    with pytest.raises(S3Error, match="ExpiredToken"):
        await desk.find(token, later_ms=901_000)


async def test_a_session_ends_with_its_key_and_its_role(desk: Desk) -> None:
    await desk.role()
    tenant, manifest = desk.lab.tenant, desk.lab.services.manifest
    key = await desk.key(tenant)
    by_key, of_role, by_role = desk.mint(tenant, key), desk.mint(tenant, key, role="reader"), desk.mint(tenant, "", role="reader")
    for token in (by_key, of_role, by_role):
        await desk.find(token)
    await manifest.remove_access_key(AccessKeyId(key))
    for token in (by_key, of_role):
        with pytest.raises(S3Error, match="InvalidToken"):
            await desk.find(token)
    await desk.find(by_role)
    await manifest.remove_role(tenant.id, "reader")
    with pytest.raises(S3Error, match="InvalidToken"):
        await desk.find(by_role)


async def test_a_session_in_another_account_ends_with_the_account_that_made_it(desk: Desk) -> None:
    await desk.role()
    services = desk.lab.services
    made = await add_tenant(services.manifest, services.keyring, services.clock, "other")
    token = desk.mint(desk.lab.tenant, made.access_key, role="reader")
    found = await desk.find(token)
    assert (found.principal.tenant_id, found.caller.tenant) == (desk.lab.tenant.id, desk.lab.tenant)
    other = await services.manifest.find_tenant_by_name("other")
    assert other is not None
    await services.manifest.set_tenant_enabled(other.id, False)
    with pytest.raises(S3Error, match="InvalidToken"):
        await desk.find(token)


async def test_a_token_that_was_changed_or_is_of_another_key_is_none(desk: Desk) -> None:
    tenant = desk.lab.tenant
    token, another_key = desk.mint(tenant, await desk.key(tenant)), desk.lab.services.keyring.new_tenant_key(tenant.id)[1]
    foreign = desk.mint(replace(tenant, wrapped_key=another_key), await desk.key(tenant))
    for wrong in (token[:-4] + "AAAA", foreign, "", "x"):
        with pytest.raises(S3Error, match="InvalidToken"):
            await desk.find(wrong)
