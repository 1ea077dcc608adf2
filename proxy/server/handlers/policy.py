"""A bucket's policy: put, told and removed."""

from __future__ import annotations

from proxy.manifest.records import Bucket
from proxy.s3.errors import S3Error
from proxy.s3.naming import BUCKET_ARN
from proxy.s3.policy.actions import Action
from proxy.s3.policy.decision import Grants, Question, Resource, decide
from proxy.s3.policy.document import Document, read_bucket_policy
from proxy.s3.policy.evaluate import Judge
from proxy.s3.policy.grants import POLICY
from proxy.s3.policy.principals import read_arn
from proxy.s3.policy.public_access import PUBLIC_ACCESS_BLOCK, public_access_block
from proxy.s3.policy.public_policy import is_public
from proxy.server.call import Call


async def get_bucket_policy(call: Call) -> dict[str, object]:
    """Tell the policy as it was put."""
    _check_account(call)
    return {"Policy": policy_text(call.bucket)}


async def put_bucket_policy(call: Call) -> dict[str, object]:
    """Replace the policy. MalformedPolicy; AccessDenied for one that is public where that is blocked, or that bars the asker
    from putting the next, unless that is confirmed.
    """
    _check_account(call)
    text = call.required_text("Policy")
    document = read_bucket_policy(text.encode(), call.bucket.name)
    if is_public(document) and public_access_block(call.bucket.settings.get(PUBLIC_ACCESS_BLOCK)).block_public_policy:
        raise S3Error("AccessDenied", _blocked(call))
    await _check_principals(call, document)
    if call.headers.get("x-amz-confirm-remove-self-bucket-access", "false").lower() != "true":
        _check_not_locked_out(call, document)
    await call.services.engine.put_bucket_setting(call.bucket, POLICY, text, because_of=[PUBLIC_ACCESS_BLOCK])
    return {}


def _blocked(call: Call) -> str:
    who = f"User: {call.principal.arn} is not authorized to perform: s3:PutBucketPolicy"
    why = "because public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access."
    return f'{who} on resource: "{BUCKET_ARN}{call.bucket.name}" {why}'


async def get_bucket_policy_status(call: Call) -> dict[str, object]:
    """Tell whether the policy is public, whatever the public access block makes of it."""
    document = read_bucket_policy(policy_text(call.bucket).encode(), call.bucket.name)
    return {"PolicyStatus": {"IsPublic": is_public(document)}}


async def delete_bucket_policy(call: Call) -> dict[str, object]:
    _check_account(call)
    await call.services.engine.put_bucket_setting(call.bucket, POLICY, None)
    return {}


def policy_text(bucket: Bucket) -> str:
    """Return a bucket's policy. NoSuchBucketPolicy."""
    text = bucket.settings.get(POLICY)
    if text is None:
        raise S3Error("NoSuchBucketPolicy", BucketName=bucket.name)
    return text


def _check_account(call: Call) -> None:
    """A policy is the business of the account that owns the bucket, whatever the policy allows others. AWS answers 405."""
    if call.principal.tenant_id != call.owner.id:
        raise S3Error("MethodNotAllowed", Method=call.operation.method, ResourceType="BUCKETPOLICY")


async def _check_principals(call: Call, document: Document) -> None:
    """Whom a policy names must be there: AWS refuses a name that is nobody's yet, for somebody else may get it."""
    for name in document.named_principals:
        if not await _exists(call, name):
            raise S3Error("MalformedPolicy", "Invalid principal in policy", Detail=f'"AWS" : "{name}"')


async def _exists(call: Call, name: str) -> bool:
    engine, named = call.services.engine, read_arn(name)
    tenant = await engine.find_account(name if named is None else named.account_id)
    if tenant is None or named is None:
        return tenant is not None
    if named.kind == "user":
        return await engine.has_user(tenant, named.name)
    return await engine.has_role(tenant, named.name.partition("/")[0] if named.kind == "assumed-role" else named.name)


def _check_not_locked_out(call: Call, document: Document) -> None:
    grants = Grants(call.owner.id, bucket_policy=Judge(document))
    question = Question(call.principal, Action("s3:PutBucketPolicy"), Resource(call.bucket.name), call.guard.context)
    if not decide(question, grants).allowed:
        raise S3Error(
            "AccessDenied", "This policy would bar you from changing it; confirm that with x-amz-confirm-remove-self-bucket-access"
        )
