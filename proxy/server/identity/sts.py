"""The Security Token Service, on the same endpoint: a form that is posted to "/", signed for the service `sts`.

A role is taken on if its trust policy says so, and whatever limits the asker does not forbid it. The trust policy must allow it also
within the role's own account.

Source: docs.aws.amazon.com/STS/latest/APIReference
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from proxy.engine.memory.grant import Grant
from proxy.errors import ProxyError
from proxy.manifest.protocol import Manifest
from proxy.manifest.records import Role, Tenant
from proxy.s3.policy.actions import Action
from proxy.s3.policy.context import Session
from proxy.s3.policy.decision import Question, Resource
from proxy.s3.policy.document import read_identity_policy
from proxy.s3.policy.judges import Judges
from proxy.s3.policy.principal import ANONYMOUS, Principal, role_arn
from proxy.s3.policy.principals import Named
from proxy.s3.policy.stated import TrustContext
from proxy.s3.sts.answers import Element
from proxy.s3.sts.errors import StsError, as_sts
from proxy.s3.sts.jwt import Claims
from proxy.s3.sts.requests import CHAINED_SECONDS, MAX_SIZE, ROOT_TOKEN_SECONDS, TOKEN_SECONDS, Parameters
from proxy.s3.sts.tags import SessionTags
from proxy.server.body import RawBody
from proxy.server.errors import translate
from proxy.server.identity.auth import Authenticator, Sender
from proxy.server.identity.oidc import Providers, provider_name
from proxy.server.identity.sessions import Minted, Sessions
from proxy.server.wire.peers import Connection, Peers

_TOKEN_DEFAULT = 12 * 3600
_FORM = "application/x-www-form-urlencoded"
_Result = Mapping[str, Element | None]


class Sent(NamedTuple):
    """A request as it was sent: a form that was posted, or a query."""

    method: str
    raw_query: str
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def form(self) -> bytes:
        return self.body if self.method == "POST" else self.raw_query.encode()


class Asked(NamedTuple):
    """One request: its head, its body, and who sent it."""

    headers: Mapping[str, str]
    parameters: Parameters
    sender: Sender
    connection: Connection


def is_for_tokens(method: str, query: Sequence[tuple[str, str]], headers: Mapping[str, str], *, at_root: bool) -> bool:
    """Tell whether a request is one to this service.

    Nothing of S3 posts a form of this kind to "/". Nor does its ListBuckets have an Action and a Version, which are in the query of a GET:
    so are the presigned URLs by which programs show others who they are.
    """
    if not at_root:
        return False
    if method == "POST":
        return headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM
    return method == "GET" and {name for name, _ in query} >= {"Action", "Version"}


def body_size(headers: Mapping[str, str]) -> int:
    """Return how long a request's body is. ValidationError for one that is too long, or of which that is not said."""
    text = headers.get("content-length", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 9) or int(text) > MAX_SIZE:
        raise StsError("ValidationError", f"A request must say its length, {MAX_SIZE} bytes at most")
    return int(text)


async def read_small(raw: RawBody, size_bytes: int, held: Grant) -> bytes:
    """Read a body whole. Its memory is taken when its first byte is there."""
    body = bytearray()
    async with held.filling():
        while data := await raw.read():
            await held.grow(held.claim_bytes)
            body += data
            if len(body) > size_bytes:
                raise StsError("ValidationError", "The request is longer than it says")
    return bytes(body)


def told(error: ProxyError) -> StsError:
    """Return any error as this service tells it."""
    return error if isinstance(error, StsError) else as_sts(translate(error))


class TokenService:
    """Answers the actions of the service."""

    def __init__(self, manifest: Manifest, authenticator: Authenticator, sessions: Sessions, providers: Providers, peers: Peers) -> None:
        self._manifest = manifest
        self._authenticator = authenticator
        self._sessions = sessions
        self._providers = providers
        self._peers = peers
        self._judges = Judges()

    async def answer(self, sent: Sent, connection: Connection) -> tuple[str, _Result]:
        """Return the action and its result. Raises `StsError`."""
        parameters, headers = Parameters(sent.form), sent.headers
        action = parameters.action
        if action != "AssumeRole":
            parameters.without_tags()
        try:
            if action == "AssumeRoleWithWebIdentity":
                sender = await self._authenticator.check(None, None)
                return action, await self._assume_with_web_identity(Asked(headers, parameters, sender, connection))
            sender = await self._authenticator.authenticate_service(sent.method, sent.query, headers, sent.body, service="sts")
            asked = Asked(headers, parameters, sender, connection)
            if sender.principal.anonymous:
                raise StsError("MissingAuthenticationToken", "Request is missing Authentication Token")
            match action:
                case "GetCallerIdentity":
                    return action, _identity(sender.principal)
                case "GetSessionToken":
                    return action, self._session_token(asked)
                case "AssumeRole":
                    return action, await self._assume(asked)
        except ProxyError as error:
            raise told(error) from error
        raise StsError("InvalidAction", f"Could not find operation {action[:100]} for version 2011-06-15")

    def _session_token(self, asked: Asked) -> _Result:
        sender, tenant = asked.sender, asked.sender.tenant
        if sender.session is not None:
            raise StsError("AccessDenied", "Cannot call GetSessionToken with session credentials")
        assert tenant is not None
        most = ROOT_TOKEN_SECONDS if sender.principal.is_root else TOKEN_SECONDS
        minted = self._sessions.mint(
            tenant,
            made_with=sender.principal.access_key or "",
            now_ms=self._authenticator.now_ms(),
            seconds=asked.parameters.seconds(default=_TOKEN_DEFAULT, maximum=most),
        )
        return {"Credentials": _credentials(minted)}

    async def _assume(self, asked: Asked) -> _Result:
        parameters, sender = asked.parameters, asked.sender
        name, session = parameters.role(), parameters.session_name()
        external_id, policy = parameters.external_id(), _checked(parameters.policy())
        asked_tags = parameters.tags()
        tags = asked_tags.after(_tags_of(sender.session))
        said = {"sts:rolesessionname": [session], **({"sts:externalid": [external_id]} if external_id else {}), **asked_tags.conditions()}
        tenant, role = await self._role(name)
        arn = role_arn(name.account_id, name.name)
        if role is None or tenant is None or not self._may_become(asked, role, "sts:AssumeRole", arn, sender.principal, said):
            raise _denied(sender, "sts:AssumeRole", arn)
        if tags.values and not self._may_become(asked, role, "sts:TagSession", arn, sender.principal, said):
            raise _denied(sender, "sts:TagSession", arn)
        most = min(role.max_session_seconds, CHAINED_SECONDS) if sender.principal.role else role.max_session_seconds
        minted = self._sessions.mint(
            tenant,
            made_with=sender.made_with,
            now_ms=self._authenticator.now_ms(),
            seconds=parameters.seconds(default=CHAINED_SECONDS, maximum=most),
            role=role.name,
            session=session,
            policy=policy,
            tags=tags,
        )
        return {"AssumedRoleUser": _assumed(tenant, role, session), "Credentials": _credentials(minted)}

    async def _assume_with_web_identity(self, asked: Asked) -> _Result:
        parameters = asked.parameters
        name, session, policy = parameters.role(), parameters.session_name(), _checked(parameters.policy())
        claims = await self._providers.verify(parameters.required("WebIdentityToken"))
        tenant, role = await self._role(name)
        issuer = provider_name(claims.iss)
        provider = f"arn:aws:iam::{name.account_id}:oidc-provider/{issuer}"
        identity = ANONYMOUS._replace(federated=provider)
        said = {"sts:rolesessionname": [session], "aws:federatedprovider": [provider], **_said_by(claims, issuer)}
        action, arn = "sts:AssumeRoleWithWebIdentity", role_arn(name.account_id, name.name)
        if role is None or tenant is None or not tenant.enabled or not self._may_become(asked, role, action, arn, identity, said):
            raise StsError("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
        minted = self._sessions.mint(
            tenant,
            made_with="",
            now_ms=self._authenticator.now_ms(),
            seconds=parameters.seconds(default=CHAINED_SECONDS, maximum=role.max_session_seconds),
            role=role.name,
            session=session,
            policy=policy,
            provider=provider,
        )
        return {
            "SubjectFromWebIdentityToken": claims.sub,
            "Audience": claims.audience,
            "Provider": provider,
            "AssumedRoleUser": _assumed(tenant, role, session),
            "Credentials": _credentials(minted),
        }

    async def _role(self, named: Named) -> tuple[Tenant | None, Role | None]:
        tenant = await self._manifest.find_account(named.account_id)
        return tenant, None if tenant is None else await self._manifest.find_role(tenant.id, named.name)

    def _may_become(self, asked: Asked, role: Role, action: str, arn: str, principal: Principal, said: Mapping[str, Sequence[str]]) -> bool:
        """Tell whether the trust policy allows this, and nothing of the asker's forbids it."""
        peer = partial(self._peers.peer, asked.connection, asked.headers)
        sender = asked.sender
        context = TrustContext(
            action, (), asked.headers, claim=sender.claim, now_ms=self._authenticator.now_ms(), peer=peer, session=sender.session
        ).say(said)
        question = Question(principal, Action(action), Resource(named=arn), context)
        trust = self._judges.of_trust(role.trust).judge(question)
        limits = [self._judges.of_identity(text).judge(question).effect for _, text in sender.restrictions.limits]
        own = [self._judges.of_identity(text).judge(question).effect for text in sender.restrictions.role or ()]
        if trust.effect != "Allow" or any(effect != "Allow" for effect in limits) or "Deny" in own:
            return False
        return sender.restrictions.role is None or "Allow" in own or (trust.direct and principal.tenant_id == role.tenant_id)


def _identity(principal: Principal) -> _Result:
    if principal.role:
        user_id = f"{principal.role}:{principal.session}"
    else:
        user_id = principal.access_key or "" if principal.user else principal.account_id
    return {"Arn": principal.arn, "UserId": user_id, "Account": principal.account_id}


def _denied(sender: Sender, action: str, arn: str) -> StsError:
    return StsError("AccessDenied", f"User: {sender.principal.arn} is not authorized to perform: {action} on resource: {arn}")


def _tags_of(session: Session | None) -> SessionTags:
    return SessionTags() if session is None else SessionTags(session.tags, frozenset(session.transitive))


def _assumed(tenant: Tenant, role: Role, session: str) -> dict[str, Element | None]:
    asker = Principal(tenant.id, None, tenant.account_id, role=role.name, session=session)
    return {"Arn": asker.arn, "AssumedRoleId": f"{role.name}:{session}"}


def _credentials(minted: Minted) -> dict[str, Element | None]:
    temporary = minted.temporary
    return {
        "AccessKeyId": temporary.access_key,
        "SecretAccessKey": temporary.secret_key,
        "SessionToken": minted.token,
        "Expiration": datetime.fromtimestamp(temporary.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _checked(policy: str | None) -> str | None:
    if policy is not None:
        read_identity_policy(policy.encode())
    return policy


def _said_by(claims: Claims, issuer: str) -> dict[str, Sequence[str]]:
    """Return a provider's condition keys, as AWS names them: the issuer, a colon, the claim."""
    said: dict[str, Sequence[str]] = {"sub": [claims.sub], "aud": [claims.audience], "oaud": claims.audiences, "amr": claims.amr}
    return {f"{issuer}:{name}".lower(): values for name, values in said.items() if values}
