"""Which actions a request is asked for, and on what: all of those it needs, on each thing that it touches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.manifest.records import BucketName, Caller, ObjectKey
from proxy.s3.claim import ANONYMOUS_CLAIM
from proxy.s3.errors import S3Error
from proxy.s3.model import load_model
from proxy.s3.policy.decision import Grants, Question, Resource
from proxy.s3.policy.principal import Principal
from proxy.s3.routing import Target
from proxy.server.access import Gate
from proxy.server.call import Call, OwnedBucket
from proxy.server.guard import NOTHING, Guard, no_object
from proxy.server.handlers import HANDLERS
from proxy.server.identity.auth import Sender
from proxy.server.wire.peers import Peers
from tests.laboratory import Laboratory, laboratory


class Asked:
    """Stands for `authorise`, and remembers what it was asked. Denied are the pairs of action and key that it is told."""

    def __init__(self, *denied: tuple[str, str]) -> None:
        self.actions: list[tuple[str, Resource]] = []
        self._denied = denied

    def __call__(self, question: Question, grants: Grants) -> None:
        self.actions.append((question.action, question.resource))
        if (question.action, question.resource.key) in self._denied:
            raise S3Error("AccessDenied")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Laboratory]:
    async with laboratory(tmp_path) as running:
        yield running


async def _asked_of_the_gate(lab: Laboratory, monkeypatch: pytest.MonkeyPatch, operation: str, **headers: str) -> Asked:
    asked = Asked()
    monkeypatch.setattr("proxy.server.guard.authorise", asked)
    monkeypatch.setattr("proxy.server.guard.may_all", lambda *_: False)  # an owner is asked for nothing else
    found = await lab.services.manifest.find_caller(None, BucketName("bucket"))
    caller = Caller(tenant=lab.tenant, bucket=found.bucket, owner=found.owner)
    sender = Sender(principal=Principal(lab.tenant.id, "AK"), caller=caller, claim=ANONYMOUS_CLAIM)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    await Gate(lab.services.manifest, lab.clock, Peers(())).admit(
        load_model().operations[operation], Target("bucket", "k"), [], named, sender
    )
    return asked


async def test_every_action_that_a_request_needs_is_asked_for(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = await _asked_of_the_gate(lab, monkeypatch, "PutObject", x_amz_tagging="a=b", x_amz_acl="private")
    resource = Resource("bucket", "k")
    assert asked.actions == [("s3:PutObject", resource), ("s3:PutObjectTagging", resource), ("s3:PutObjectAcl", resource)]


@pytest.mark.parametrize(("source", "action"), [("bucket/other", "s3:GetObject"), ("bucket/other?versionId=v", "s3:GetObjectVersion")])
@pytest.mark.parametrize("operation", ["CopyObject", "UploadPartCopy"])
async def test_a_copy_is_asked_for_what_it_reads(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch, operation: str, source: str, action: str
) -> None:
    asked = await _asked_of_the_gate(lab, monkeypatch, operation, x_amz_copy_source=source)
    assert asked.actions == [("s3:PutObject", Resource("bucket", "k")), (action, Resource("bucket", "other"))]


async def test_each_key_of_a_list_is_asked_for_on_its_own(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("a", "b"):
        await lab.put(key, b"data")
    asked = Asked(("s3:DeleteObject", "a"))
    monkeypatch.setattr("proxy.server.guard.authorise", asked)
    monkeypatch.setattr("proxy.server.guard.may_all", lambda *_: False)  # an owner is asked for nothing else
    answer = await HANDLERS["DeleteObjects"](_deletion(lab, {"Key": "a"}, {"Key": "b"}, {"Key": "b", "VersionId": "null"}))
    assert isinstance(answer, dict)
    assert [(error["Key"], error["Code"]) for error in answer["Errors"]] == [("a", "AccessDenied")]
    assert await lab.services.engine.find_version(lab.bucket, ObjectKey("a")) is not None
    assert await lab.services.engine.find_version(lab.bucket, ObjectKey("b")) is None
    assert asked.actions == [
        ("s3:DeleteObject", Resource("bucket", "a")),
        ("s3:DeleteObject", Resource("bucket", "b")),
        ("s3:DeleteObjectVersion", Resource("bucket", "b")),
    ]


async def test_each_condition_of_a_list_counts_for_its_key(lab: Laboratory) -> None:
    for key in ("a", "b"):
        await lab.put(key, b"data")
    answer = await HANDLERS["DeleteObjects"](_deletion(lab, {"Key": "a", "ETag": '"another"'}, {"Key": "b"}))
    assert isinstance(answer, dict)
    assert [(error["Key"], error["Code"]) for error in answer["Errors"]] == [("a", "PreconditionFailed")]
    assert await lab.services.engine.find_version(lab.bucket, ObjectKey("a")) is not None


def _deletion(lab: Laboratory, *objects: dict[str, str]) -> Call:
    return Call(
        operation=load_model().operations["DeleteObjects"],
        params={"Bucket": "bucket", "Delete": {"Objects": list(objects)}},
        headers={"content-md5": "checked elsewhere"},
        principal=Principal(lab.tenant.id, "AK"),
        asker=lab.tenant,
        services=lab.services,
        held=OwnedBucket(bucket=lab.bucket, owner=lab.tenant),
        guard=Guard(Principal(lab.tenant.id, "AK"), Grants(lab.tenant.id), NOTHING, no_object),
    )
