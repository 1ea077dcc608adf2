"""Sessions: temporary credentials made, and known again by their tokens. Nothing of them is stored."""

from __future__ import annotations

import secrets
import string
from collections import OrderedDict
from typing import NamedTuple

from msgspec.structs import replace

from proxy.errors import KeyUnavailable
from proxy.keyring import Keyring
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import AccessKeyId, BucketName, Caller, Look, Tenant, TenantId
from proxy.s3.errors import S3Error
from proxy.s3.policy.context import Session
from proxy.s3.policy.grants import Restrictions
from proxy.s3.policy.principal import Principal
from proxy.s3.sts.errors import StsError
from proxy.s3.sts.tags import SessionTags
from proxy.s3.sts.token import MAX_TOKEN_SIZE, Envelope, Temporary, pack, read_token, token_header, token_text, unpack

MAX_KEPT_TOKENS = 1_000  # some 4 KiB each
NO_TAGS = SessionTags()
_ALPHABET = string.ascii_uppercase + "234567"


class Minted(NamedTuple):
    """Temporary credentials, as their new holder is told them."""

    temporary: Temporary
    token: str


class Holder(NamedTuple):
    """Who holds a session, once its token is opened. Nothing is proven before the request's signature is checked with its secret."""

    temporary: Temporary
    caller: Caller  # its `tenant` is the session's account
    principal: Principal
    restrictions: Restrictions
    session: Session


class Sessions:
    """Makes temporary credentials, and opens their tokens."""

    def __init__(self, manifest: Manifest, keyring: Keyring) -> None:
        self._manifest = manifest
        self._keyring = keyring
        self._opened: OrderedDict[tuple[str, bytes], Temporary] = OrderedDict()

    def mint(
        self,
        tenant: Tenant,
        *,
        made_with: str,
        now_ms: int,
        seconds: int,
        role: str = "",
        session: str = "",
        policy: str | None = None,
        provider: str = "",
        tags: SessionTags = NO_TAGS,
    ) -> Minted:
        """Return credentials that live for `seconds`: of a role of this account, or else of the access key that they are made with."""
        now = now_ms // 1000
        temporary = Temporary(
            access_key="ASIA" + "".join(secrets.choice(_ALPHABET) for _ in range(16)),
            secret_key=secrets.token_urlsafe(30),
            issued=now,
            expires=now + seconds,
            role=role,
            session=session,
            policies=() if policy is None else (policy,),
            provider=provider,
            tags=dict(tags.values),
            transitive=tuple(sorted(tags.transitive)),
        )
        header = token_header(tenant.id, made_with)
        token = token_text(header, self._keyring.tenant_cipher(tenant).seal_session(pack(temporary), header))
        if len(token) > MAX_TOKEN_SIZE:
            raise StsError("PackedPolicyTooLarge", "The session's policy and tags make a token that is too long; shorten them")
        return Minted(temporary, token)

    async def find(self, token: str, about: BucketName | None, now_ms: int, look: Look | None = None) -> Holder:
        """Return who holds a session, and the bucket that is asked about. InvalidToken; ExpiredToken.

        The access key that it was made with, and the role, must still be there.
        """
        envelope = read_token(token)
        made_with = AccessKeyId(envelope.made_with) if envelope.made_with else None
        caller = await self._manifest.find_caller(made_with, about, look)
        if made_with is not None and (caller.access_key is None or not caller.access_key.enabled):
            raise S3Error("InvalidToken")
        if caller.tenant is not None and not caller.tenant.enabled:  # who made it, perhaps of another account
            raise S3Error("InvalidToken")
        tenant = caller.tenant
        if tenant is None or tenant.id != envelope.tenant_id:
            tenant = await self._manifest.find_tenant(TenantId(envelope.tenant_id))
        if tenant is None:
            raise S3Error("InvalidToken")
        temporary = self._open(token, envelope, tenant)
        if temporary.expires * 1000 <= now_ms:
            raise S3Error("ExpiredToken")
        return await self._holder(temporary, replace(caller, tenant=tenant))

    def _open(self, token: str, envelope: Envelope, tenant: Tenant) -> Temporary:
        kept = token, tenant.wrapped_key
        temporary = self._opened.get(kept)
        if temporary is None:
            try:
                temporary = unpack(self._keyring.tenant_cipher(tenant).open_session(envelope.sealed, envelope.header))
            except KeyUnavailable:
                raise S3Error("InvalidToken") from None
            self._opened[kept] = temporary
            if len(self._opened) > MAX_KEPT_TOKENS:
                self._opened.popitem(last=False)
        return temporary

    async def _holder(self, temporary: Temporary, caller: Caller) -> Holder:
        tenant, key = caller.tenant, caller.access_key
        assert tenant is not None
        session = Session(temporary.issued * 1000, temporary.provider, temporary.tags, temporary.transitive)
        limits = tuple(("session policy", policy) for policy in temporary.policies)
        if not temporary.role:
            assert key is not None  # a token without a role is made with a key
            principal = Principal(tenant.id, key.id, tenant.account_id, tenant.canonical_id, key.user)
            own = (("key policy", key.policy),) if key.policy else ()
            return Holder(temporary, caller, principal, Restrictions((*own, *limits)), session)
        role = await self._manifest.find_role(tenant.id, temporary.role)
        if role is None:
            raise S3Error("InvalidToken")
        principal = Principal(
            tenant.id, temporary.access_key, tenant.account_id, tenant.canonical_id, role=role.name, session=temporary.session
        )
        return Holder(temporary, caller, principal, Restrictions(limits, (role.policy,)), session)
