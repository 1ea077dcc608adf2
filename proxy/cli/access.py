"""`shardgate access`: who may do what, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from proxy.cli.context import DEFAULT_CONFIG, ConfigOption, JsonOption, print_json, with_services
from proxy.errors import BucketMissing, ConfigError, TenantMissing
from proxy.s3.naming import BUCKET_ARN

if TYPE_CHECKING:
    from proxy.s3.policy.decision import Grants, ObjectFacts, Question
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
    context: Annotated[list[str] | None, typer.Option(help="A condition key of the request, as aws:SourceIp=192.0.2.7.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether a request would be allowed, and which statement or rule decides."""
    given = _given(context or [])
    bucket, slash, name = resource.removeprefix(BUCKET_ARN).partition("/")
    if not resource.startswith(BUCKET_ARN) or not bucket or "*" in bucket:
        raise ConfigError(f'--resource: "{resource}" is not {BUCKET_ARN}BUCKET or {BUCKET_ARN}BUCKET/KEY')
    found = with_services(config, lambda services: _explain(services, key, action, (bucket, name if slash else None), given))
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


async def _explain(
    services: Services, key: str | None, action: str, where: tuple[str, str | None], given: dict[str, list[str]]
) -> Explanation:
    from proxy.manifest.records import AccessKeyId, BucketName
    from proxy.s3.policy.catalogue import named_actions
    from proxy.s3.policy.context import StatedContext
    from proxy.s3.policy.decision import Question, Resource
    from proxy.s3.policy.grants import Holder, bucket_grants
    from proxy.s3.policy.judges import Judges
    from proxy.tenancy import credentials_of

    caller = await services.manifest.find_caller(None if key is None else AccessKeyId(key), BucketName(where[0]))
    if key is not None and caller.access_key is None:
        raise TenantMissing(f"there is no access key {key}")
    if caller.bucket is None or caller.owner is None:
        raise BucketMissing(f"there is no bucket {where[0]}")
    named = named_actions(action)
    if len(named) != 1:
        raise ConfigError(f'--action: "{action}" is no action of S3; write it as in "s3:GetObject"')
    principal, restrictions = credentials_of(caller)
    holder = Holder(caller.bucket.name, caller.bucket.settings, caller.owner.id, caller.owner.canonical_id)
    stated = StatedContext(given, now_ms=services.clock.now_ms())
    version_id = given.get("s3:versionid", [None])[0]
    question = Question(principal, next(iter(named)), Resource(*where), stated, version_id=version_id, account_id=caller.owner.account_id)
    question = question._replace(thing=await _thing(services, caller.bucket.id, where[1], version_id))
    return _told(question, bucket_grants(Judges(), holder, restrictions), stated.not_given)


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
