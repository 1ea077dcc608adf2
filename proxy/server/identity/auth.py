"""Who sends a request: the signature checked against a tenant's access key."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from proxy.clock import Clock
from proxy.keyring import Keyring
from proxy.keyring.tenant import TenantCipher
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import AccessKey, AccessKeyId, BucketName, Caller, Look, Tenant
from proxy.s3 import sigv2
from proxy.s3.checksums import claims_body
from proxy.s3.claim import ANONYMOUS_CLAIM, STREAMING_MODES, Claim
from proxy.s3.errors import S3Error
from proxy.s3.evidence import Evidence, Keys, Place, evidence_of_form, evidence_of_service
from proxy.s3.metadata import check_header
from proxy.s3.policy.context import Session
from proxy.s3.policy.grants import UNRESTRICTED, Restrictions
from proxy.s3.policy.principal import ANONYMOUS, Principal
from proxy.s3.sigv4 import signing_key
from proxy.s3.sts.token import Temporary, read_token
from proxy.server.identity.sessions import Sessions
from proxy.tenancy import credentials_of

MAX_CACHED_KEYS = 10_000  # some 300 bytes each
_SIGNING_PARAMETERS = {
    "x-amz-algorithm", "x-amz-credential", "x-amz-signature", "x-amz-date", "x-amz-signedheaders", "x-amz-expires",
    "x-amz-security-token", "x-amz-content-sha256",
}  # fmt: skip


class Sender(msgspec.Struct, frozen=True, kw_only=True):
    """Who signed, and what a chunk-signed body needs to go on. `caller` also has the bucket asked about, as it was at the same instant."""

    principal: Principal
    caller: Caller
    claim: Claim
    signing_key: bytes = b""
    restrictions: Restrictions = UNRESTRICTED
    session: Session | None = None  # of temporary credentials
    made_with: str = ""  # the permanent key that signed, or that the session was made with

    @property
    def tenant(self) -> Tenant | None:
        """The account that signed; None for nobody in particular."""
        return None if self.principal.tenant_id is None else self.caller.tenant


class Authenticator:
    """Verifies signatures. Access keys are asked for with every request, so that a revoked one ends at once.

    A signature's region may also be the name of a policy: clients such as minio's sign with what GetBucketLocation tells them.
    """

    def __init__(self, *, manifest: Manifest, keyring: Keyring, clock: Clock, region: str, other_regions: Collection[str] = ()) -> None:
        self._manifest = manifest
        self._keyring = keyring
        self._clock = clock
        self._region = region
        self._other_regions = frozenset(other_regions)
        self._signing_keys = _SigningKeys()
        self._accounts: dict[AccessKeyId, _Account] = {}
        self.sessions = Sessions(manifest, keyring)

    async def authenticate_form(self, fields: Mapping[str, str], *, bucket: str | None) -> Sender:
        """Return who signed the policy among a form's fields, by lower-case name. Without one, that is the anonymous principal."""
        return await self.check(evidence_of_form(fields, self.place), bucket)

    async def authenticate_service(
        self, method: str, query: Sequence[tuple[str, str]], headers: Mapping[str, str], body: bytes, *, service: str
    ) -> Sender:
        """Return who signed a request to another service of this endpoint."""
        return await self.check(evidence_of_service(method, query, headers, body, service=service, place=self.place), None)

    async def check(self, evidence: Evidence | None, bucket: str | None, look: Look | None = None) -> Sender:
        """Check evidence, from whatever part of a request it comes, and return who sent it: without any, the anonymous principal.

        `look` is what to look up in the bucket meanwhile: nobody may learn of it who is not let in. Raises S3Error for anything that is
        wrong with a signature.
        """
        about = None if bucket is None else BucketName(bucket)
        if evidence is None:
            return Sender(principal=ANONYMOUS, caller=await self._manifest.find_caller(None, about, look), claim=ANONYMOUS_CLAIM)
        if evidence.claim.security_token is not None:
            return await self._check_session(evidence, evidence.claim.security_token, about, look)
        return self._proved(evidence, await self._manifest.find_caller(AccessKeyId(evidence.claim.access_key), about, look))

    def check_at_once(self, evidence: Evidence, bucket: str, look: Look | None) -> Sender | None:
        """As `check`, if nobody need be waited for; else None."""
        if evidence.claim.security_token is not None:
            return None
        caller = self._manifest.recall_caller(AccessKeyId(evidence.claim.access_key), BucketName(bucket), look)
        return None if caller is None else self._proved(evidence, caller)

    def _proved(self, evidence: Evidence, caller: Caller) -> Sender:
        """Return who sent a request, now that it is known whose the key is that it claims."""
        claim, access_key, tenant = evidence.claim, caller.access_key, caller.tenant
        if access_key is None or tenant is None or not access_key.enabled:
            raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=claim.access_key)
        account = self._account(caller, access_key, tenant)
        evidence.prove(account.keys)
        if not tenant.enabled:
            raise S3Error("AccessDenied", "This account is disabled")
        return Sender(
            principal=account.principal,
            caller=caller,
            claim=claim,
            signing_key=_chunk_key(claim, account.keys),
            restrictions=account.restrictions,
            made_with=access_key.id,
        )

    def _account(self, caller: Caller, access_key: AccessKey, tenant: Tenant) -> _Account:
        """Return what an access key stands for. It is kept while neither the key nor the tenant has changed."""
        account = self._accounts.get(access_key.id)
        if account is None or account.access_key is not access_key or account.tenant is not tenant:
            if len(self._accounts) >= MAX_CACHED_KEYS:
                self._accounts.clear()
            principal, restrictions = credentials_of(caller)
            keys = _KeysOf(access_key, self._keyring.tenant_cipher(tenant), self._signing_keys)
            account = self._accounts[access_key.id] = _Account(access_key, tenant, keys, principal, restrictions)
        return account

    async def _check_session(self, evidence: Evidence, token: str, about: BucketName | None, look: Look | None) -> Sender:
        """As `check`, for temporary credentials. InvalidToken, ExpiredToken."""
        claim = evidence.claim
        holder = await self.sessions.find(token, about, self._clock.now_ms(), look)
        if holder.temporary.access_key != claim.access_key:
            raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=claim.access_key)
        keys = _KeysOfSession(holder.temporary, self._signing_keys)
        evidence.prove(keys)
        if holder.caller.tenant is None or not holder.caller.tenant.enabled:
            raise S3Error("AccessDenied", "This account is disabled")
        return Sender(
            principal=holder.principal,
            caller=holder.caller,
            claim=claim,
            signing_key=_chunk_key(claim, keys),
            restrictions=holder.restrictions,
            session=holder.session,
            made_with=read_token(token).made_with,
        )

    def now_ms(self) -> int:
        return self._clock.now_ms()

    @property
    def place(self) -> Place:
        """When and where a claim is judged just now."""
        return Place(self._clock.now_ms(), self._region, self._other_regions)


class _SigningKeys:
    """Derived signing keys, those used last. Deriving takes four HMACs and the secret from under its seal.

    The sealed secret stands for the secret: a new one has a new seal.
    """

    def __init__(self) -> None:
        self._keys: OrderedDict[tuple[bytes, str, str, str], bytes] = OrderedDict()

    def find(self, sealed_secret: bytes, date: str, region: str, service: str = "s3") -> bytes | None:
        return self._keys.get((sealed_secret, date, region, service))

    def keep(self, sealed_secret: bytes, date: str, region: str, key: bytes, service: str = "s3") -> None:
        self._keys[sealed_secret, date, region, service] = key
        if len(self._keys) > MAX_CACHED_KEYS:
            self._keys.popitem(last=False)


class _KeysOf:
    """The keys of one access key."""

    __slots__ = ("_cipher", "_derived", "_sealed")

    def __init__(self, access_key: AccessKey, cipher: TenantCipher, derived: _SigningKeys) -> None:
        self._sealed = access_key.sealed_secret
        self._cipher = cipher
        self._derived = derived

    def secret(self) -> str:
        return self._cipher.open_secret(self._sealed)

    def signing_key(self, date: str, region: str, service: str = "s3") -> bytes:
        key = self._derived.find(self._sealed, date, region, service)
        if key is None:
            key = signing_key(self.secret(), date, region, service)
            self._derived.keep(self._sealed, date, region, key, service)
        return key


class _Account(NamedTuple):
    """What an access key stands for."""

    access_key: AccessKey
    tenant: Tenant
    keys: _KeysOf
    principal: Principal
    restrictions: Restrictions


class _KeysOfSession:
    """The keys of temporary credentials. Their own id stands for their secret: both are drawn together."""

    def __init__(self, temporary: Temporary, derived: _SigningKeys) -> None:
        self._temporary = temporary
        self._id = f"session {temporary.access_key} {temporary.secret_key}".encode()
        self._derived = derived

    def secret(self) -> str:
        return self._temporary.secret_key

    def signing_key(self, date: str, region: str, service: str = "s3") -> bytes:
        key = self._derived.find(self._id, date, region, service)
        if key is None:
            key = signing_key(self._temporary.secret_key, date, region, service)
            self._derived.keep(self._id, date, region, key, service)
        return key


def _chunk_key(claim: Claim, keys: Keys) -> bytes:
    """Return the key that a body's chunks are signed with; only chunks are signed further."""
    return keys.signing_key(claim.date, claim.region) if claim.payload_hash in STREAMING_MODES else b""


def hoisted_headers(query: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a presigned request with those that its URL carries as parameters, as some SDKs sign them.

    A checksum of the body is not among them: whoever signs a URL does not know the body yet, and the JavaScript SDK puts that of an empty
    one there. InvalidArgument for one that is no header: kept with an object, it would spoil every answer that tells it.
    """
    merged = dict(headers)
    version_2 = any(name == "AWSAccessKeyId" for name, _ in query)
    for name, value in query:
        lower = name.lower()
        carried = sigv2.is_signed_header(name) if version_2 else lower.startswith("x-amz-")
        if carried and lower not in _SIGNING_PARAMETERS and not claims_body(lower):
            check_header(lower, value)
            merged.setdefault(lower, value)
    return merged
