"""`shardgate access`: who may do what, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
import typer

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, with_services
from proxy.errors import BucketMissing, ConfigError, TenantMissing
from proxy.s3.naming import BUCKET_ARN

if TYPE_CHECKING:
    from proxy.s3.policy.decision import Grants, ObjectFacts, Question
    from proxy.s3.policy.grants import Restrictions
    from proxy.s3.policy.principal import Principal
    from proxy.services import Services

app = typer.Typer(help="Explain access.", no_args_is_help=True)


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The decision about one request."""

    allowed: bool
    decided_by: str
    principal: str
    action: str
    resource: str
    not_given: list[str]  # condition keys that policies asked for


@app.command("explain")
def explain(
    action: Annotated[str, typer.Option(help="As s3:GetObject.")],
    resource: Annotated[str, typer.Option(help="As arn:aws:s3:::BUCKET/KEY.")],
    config: ConfigOption = DEFAULT_CONFIG,
    key: Annotated[str | None, typer.Option(help="The access key that signs; none: a request without a signature.")] = None,
    role: Annotated[str | None, typer.Option(help="The role of the session that signs, as arn:aws:iam::ACCOUNT:role/NAME.")] = None,
    session: Annotated[str, typer.Option(help="The name of that session.")] = "session",
    context: Annotated[list[str] | None, typer.Option(help="A condition key of the request, as aws:SourceIp=192.0.2.7.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether a request would be allowed, and which statement or rule decides."""
    if key is not None and role is not None:
        raise ConfigError("--key and --role: a request is signed by one of them; leave out the other")
    given = _given(context or [])
    bucket, slash, name = resource.removeprefix(BUCKET_ARN).partition("/")
    if not resource.startswith(BUCKET_ARN) or not bucket or "*" in bucket:
        raise ConfigError(f'--resource: "{resource}" is not {BUCKET_ARN}BUCKET or {BUCKET_ARN}BUCKET/KEY')
    asker = _Asker(key, role, session)
    found = with_services(config, lambda services: _explain(services, asker, action, (bucket, name if slash else None), given))
    if as_json:
        print_json(found)
        return
    print("allowed" if found.allowed else "denied")
    print(f"decided by: {found.decided_by}\nprincipal: {found.principal}\naction: {found.action}\nresource: {found.resource}")
    if found.not_given:
        print(f"asked for by a condition, and not given: {', '.join(found.not_given)}; give them with --context KEY=VALUE")


def _given(context: list[str]) -> dict[str, list[str]]:
    """Read KEY=VALUE; a key may be given several times."""
    given: dict[str, list[str]] = {}
    for entry in context:
        key, equals, value = entry.partition("=")
        if not equals or ":" not in key:
            raise ConfigError(f'--context: "{entry}" is not KEY=VALUE; write it as in "aws:SourceIp=192.0.2.7"')
        given.setdefault(key.lower(), []).append(value)
    return given


class _Asker(NamedTuple):
    """Who signs: a key, a session of a role, or nobody."""

    key: str | None
    role: str | None
    session: str


async def _explain(
    services: Services, asker: _Asker, action: str, where: tuple[str, str | None], given: dict[str, list[str]]
) -> Explanation:
    from proxy.manifest.records import AccessKeyId, BucketName
    from proxy.s3.policy.catalogue import named_actions
    from proxy.s3.policy.decision import Question, Resource
    from proxy.s3.policy.grants import Holder, bucket_grants
    from proxy.s3.policy.judges import Judges
    from proxy.s3.policy.stated import StatedContext
    from proxy.tenancy import credentials_of

    caller = await services.manifest.find_caller(None if asker.key is None else AccessKeyId(asker.key), BucketName(where[0]))
    if asker.key is not None and caller.access_key is None:
        raise TenantMissing(f"there is no access key {asker.key}")
    if caller.bucket is None or caller.owner is None:
        raise BucketMissing(f"there is no bucket {where[0]}")
    named = named_actions(action)
    if len(named) != 1:
        raise ConfigError(f'--action: "{action}" is no action of S3; write it as in "s3:GetObject"')
    principal, restrictions = credentials_of(caller) if asker.role is None else await _session(services, asker.role, asker.session)
    holder = Holder(caller.bucket.name, caller.bucket.settings, caller.owner.id, caller.owner.canonical_id)
    stated = StatedContext(given, now_ms=services.clock.now_ms())
    version_id = given.get("s3:versionid", [None])[0]
    question = Question(principal, next(iter(named)), Resource(*where), stated, version_id=version_id, account_id=caller.owner.account_id)
    question = question._replace(thing=await _thing(services, caller.bucket.id, where[1], version_id))
    return _told(question, bucket_grants(Judges(), holder, restrictions), stated.not_given)


async def _session(services: Services, arn: str, session: str) -> tuple[Principal, Restrictions]:
    """Return whom a session of a role stands for, and what it may do. What the session's own policy takes away is not known here."""
    from proxy.s3.policy.grants import Restrictions
    from proxy.s3.policy.principal import Principal
    from proxy.s3.policy.principals import read_arn

    named = read_arn(arn)
    if named is None or named.kind != "role":
        raise ConfigError(f'--role: "{arn}" is not arn:aws:iam::ACCOUNT:role/NAME')
    tenant = await services.manifest.find_account(named.account_id)
    role = None if tenant is None else await services.manifest.find_role(tenant.id, named.name)
    if tenant is None or role is None:
        raise TenantMissing(f"there is no role {arn}")
    principal = Principal(tenant.id, None, tenant.account_id, tenant.canonical_id, role=role.name, session=session)
    return principal, Restrictions(role=(role.policy,))


async def _thing(services: Services, bucket_id: int, key: str | None, version_id: str | None) -> ObjectFacts:
    from proxy.manifest.records import BucketId, ObjectKey, VersionId
    from proxy.s3.policy.decision import NO_OBJECT, ObjectFacts

    wanted = None if version_id is None else VersionId(version_id)
    version = None if key is None else await services.manifest.find_version(BucketId(bucket_id), ObjectKey(key), wanted)
    if version is None or version.is_delete_marker:
        return NO_OBJECT
    return ObjectFacts(tags=version.attributes.tags, acl=version.attributes.acl)


def _told(question: Question, grants: Grants, not_given: set[str]) -> Explanation:
    from proxy.s3.policy.decision import decide

    decision = decide(question, grants)
    return Explanation(
        allowed=decision.allowed,
        decided_by=decision.by,
        principal=question.principal.arn or "nobody in particular (no signature)",
        action=question.action,
        resource=question.resource.arn,
        not_given=sorted(not_given),
    )
