"""A policy that is narrowed to one request says the same of each of its objects as the whole policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest

from proxy.s3.policy.decision import Finding, Grants, ObjectFacts, ObjectNeeded, Policy, Question, Resource, decide
from proxy.s3.policy.evaluate import Judge
from proxy.s3.policy.narrowing import narrowed
from tests.unit.s3.policy.requests import JANE, STRANGER
from tests.unit.s3.policy.test_evaluate import EXAMPLES, allow, deny, judge

TAGGED = ObjectFacts(tags={"environment": "production", "team": "red"})
DELETE = "s3:DeleteObjectVersion"
BUCKET = "amzn-s3-demo-bucket"


def others(question: Question) -> list[Question]:
    """Return questions that differ in their object alone."""
    bucket = question.resource.bucket
    keys = (question.resource.key, "", "home/jane/x", "a/b", "other", "*", "taxdocuments/x.pdf")
    things = (None, ObjectFacts(), TAGGED)
    return [
        question._replace(resource=Resource(bucket, key), thing=thing, version_id=version)
        for key in keys
        for thing in things
        for version in (None, "v1", question.version_id)
    ]


def said(policy: Policy, question: Question) -> Finding | str:
    try:
        return policy.judge(question)
    except ObjectNeeded:
        return "the object is needed"


def narrow(policy: Policy, question: Question) -> Policy:
    found = narrowed(Grants("t", bucket_policy=policy), question._replace(thing=None, version_id=None)).bucket_policy
    assert found is not None
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_aws_say_the_same(name: str) -> None:
    example = EXAMPLES[name]
    for question in (*example.allowed, *example.denied, *example.silent):
        policy = narrow(example.policy, question)
        for other in others(question):
            assert said(policy, other) == said(example.policy, other)


class Given(NamedTuple):
    """A context that counts how often it is asked."""

    asked: list[str]

    def values(self, key: str, question: Question) -> Sequence[str] | None:
        self.asked.append(key)
        if key == "s3:versionid":
            return None if question.version_id is None else (question.version_id,)
        if key.startswith("s3:existingobjecttag/"):
            tag = question.object().tags.get(key.partition("/")[2])
            return None if tag is None else (tag,)
        return {"aws:useragent": ("curl",), "aws:username": ("jane",)}.get(key)


RULES = judge(
    deny(DELETE, f"arn:aws:s3:::{BUCKET}/${{aws:username}}/*", Sid="own", Condition={"StringLike": {"aws:UserAgent": "c*"}}),
    deny("s3:*", Sid="one", Condition={"StringEquals": {"s3:VersionId": "v1"}}),
    deny("s3:*", Sid="red", Condition={"StringEquals": {"s3:ExistingObjectTag/team": "red", "aws:UserAgent": "curl"}}),
    deny(DELETE, Sid="missing", Condition={"StringEquals": {"aws:Referer": "x"}}),
    deny(DELETE, f"arn:aws:s3:::{BUCKET}/${{aws:PrincipalTag/none}}", Sid="nothing"),
    allow(DELETE, Sid="all"),
    allow("s3:GetObject", Sid="reading"),
)  # fmt: skip


def question(key: str, *, thing: ObjectFacts | None = None, version: str = "v2", asked: list[str] | None = None) -> Question:
    context = Given([] if asked is None else asked)
    return Question(JANE, DELETE, Resource(BUCKET, key), context, thing, version)


@pytest.mark.parametrize(
    ("key", "version", "thing", "by"),
    [
        ("jane/x", "v2", None, 'statement 1 "own"'),
        ("x", "v1", None, 'statement 2 "one"'),
        ("x", "v2", TAGGED, 'statement 3 "red"'),
        ("x", "v2", ObjectFacts(), 'statement 6 "all"'),
    ],
)
def test_what_rests_on_the_object_is_decided_key_by_key(key: str, version: str, thing: ObjectFacts | None, by: str) -> None:
    policy = narrow(RULES, question("any"))
    assert policy.judge(question(key, thing=thing, version=version)).by == by


def test_what_is_the_same_for_all_keys_is_asked_once() -> None:
    asked: list[str] = []
    policy = narrow(RULES, question("any", asked=asked))
    assert "aws:useragent" in asked
    asked.clear()
    policy.judge(question("x", thing=ObjectFacts(), asked=asked))
    assert set(asked) == {"s3:versionid", "s3:existingobjecttag/team", "aws:principaltag/none"}


def test_every_policy_of_the_grants_is_narrowed() -> None:
    grants = Grants("t", bucket_policy=RULES, limits=(("key policy", RULES),), role=(RULES,))
    found = narrowed(grants, question("any")._replace(version_id=None))
    assert not any(isinstance(one, Judge) for one in (found.bucket_policy, *(policy for _, policy in found.limits), *(found.role or ())))
    for key in ("jane/x", "x"):
        about = question(key, thing=ObjectFacts())
        assert decide(about, found) == decide(about, grants)
    assert not decide(question("x", thing=ObjectFacts())._replace(principal=STRANGER), narrowed(Grants(), question("any"))).allowed
