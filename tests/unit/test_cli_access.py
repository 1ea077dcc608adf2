"""Keys with policies, and `access explain`, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.cli.context import with_services
from proxy.manifest.records import Bucket, BucketName
from proxy.services import Services
from tests.unit.test_cli import Run, run

__all__ = ["run"]  # the fixture

ARN = "arn:aws:s3:::bucket"
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "office",
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": f"{ARN}/*",
            "Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}},
        },
        {"Sid": "kept", "Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": f"{ARN}/kept/*"},
    ],
}


def make_bucket(tmp_path: Path) -> None:
    async def make(services: Services) -> None:
        tenant = await services.manifest.find_tenant_by_name("local")
        assert tenant is not None
        settings = {"policy": json.dumps(POLICY)}
        await services.manifest.create_bucket(
            Bucket(name=BucketName("bucket"), tenant_id=tenant.id, policy="standard", created_ms=0, settings=settings)
        )

    with_services(Path("config/local.toml"), make)


def explained(run: Run, *arguments: str) -> dict[str, object]:
    answer = run("access", "explain", *arguments, "--json").data
    assert isinstance(answer, dict)
    return answer


def test_a_key_with_a_policy_is_listed_with_it(run: Run) -> None:
    run("init")
    made = run("key", "add", "local", "--name", "backup", "--read-only", "--bucket", "bucket", "--prefix", "site/", "--json").data
    listed = {key["access_key"]: key for key in run("key", "list", "local", "--json").data}
    assert listed[made["access_key"]]["name"] == "backup"
    assert listed[made["access_key"]]["policy"]["Statement"][0]["Resource"] == [f"{ARN}/site/*"]
    assert "site/" in run("key", "list", "local").out
    assert [key["policy"] for name, key in listed.items() if name != made["access_key"]] == [None]


def test_a_policy_from_a_file_is_checked(run: Run, tmp_path: Path) -> None:
    run("init")
    good, faulty = tmp_path / "good.json", tmp_path / "faulty.json"
    good.write_text(json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}}))
    faulty.write_text(json.dumps(POLICY))
    assert run("key", "add", "local", "--policy", str(good)).code == 0
    outcome = run("key", "add", "local", "--policy", str(faulty))
    assert (outcome.code, "principal" in outcome.err) == (1, True)
    assert len(run("key", "list", "local", "--json").data) == 2


def test_a_faulty_policy_is_told_with_its_file(run: Run, tmp_path: Path) -> None:
    run("init")
    trust, policy = tmp_path / "trust.json", tmp_path / "policy.json"
    trust.write_text(json.dumps({"Statement": {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}}))
    policy.write_text("{}")
    put = ("role", "put", "local", "reader", "--trust", str(trust), "--policy", str(policy))
    assert "policy.json: MalformedPolicy: Missing required field Statement" in run(*put).err.replace("\n", "")
    trust.write_text("[]")
    assert "trust.json: MalformedPolicy" in run(*put).err.replace("\n", "")
    trust.unlink()
    assert "trust.json: No such file" in run(*put).err.replace("\n", "")
    assert run("role", "list", "local", "--json").data == []


def test_an_action_that_there_is_not_is_stored_with_a_warning(run: Run, tmp_path: Path) -> None:
    run("init")
    policy = tmp_path / "policy.json"
    actions = ["s3:GetObjct", "s3:Get*", "sqs:SendMessage"]
    policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": actions, "Resource": "*"}}))
    outcome = run("key", "add", "local", "--policy", str(policy))
    assert outcome.code == 0
    assert outcome.err.count("warning: ") == 1
    assert 'S3 has no action "s3:GetObjct"' in outcome.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("key", "add", "local", "--policy", "x", "--read-only"), "leave out --read-only"),
        (("key", "add", "local", "--prefix", "a"), "--prefix needs --bucket"),
        (("key", "add", "local", "--bucket", "*"), "InvalidBucketName"),
        (("key", "add", "local", "--name", "a b"), "cannot be the name of a user"),
        (("access", "explain", "--action", "s3:GetObject", "--resource", "bucket"), "is not arn:aws:s3:::BUCKET"),
        (("access", "explain", "--action", "s3:GetObject", "--resource", ARN), "no bucket bucket"),
        (("access", "explain", "--action", "s3:GetObject", "--resource", ARN, "--key", "NONE"), "no access key NONE"),
        (("access", "explain", "--action", "s3:GetObject", "--resource", ARN, "--context", "x"), "is not KEY=VALUE"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(run: Run, arguments: tuple[str, ...], complaint: str) -> None:
    run("init")
    outcome = run(*arguments)
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert complaint in outcome.err


def test_an_explanation_names_the_statement_that_decides(run: Run, tmp_path: Path) -> None:
    run("init")
    make_bucket(tmp_path)
    key = run("key", "list", "local", "--json").data[0]["access_key"]
    limited = run("key", "add", "local", "--name", "reader", "--read-only", "--json").data["access_key"]
    read, delete = ("--action", "s3:GetObject"), ("--action", "s3:DeleteObject")
    resource = ("--resource", f"{ARN}/kept/a")
    assert explained(run, "--key", key, *read, *resource)["decided_by"] == "the account owns the bucket"
    denied = explained(run, "--key", key, *delete, *resource)
    assert (denied["allowed"], denied["decided_by"]) == (False, 'bucket policy, statement 2 "kept"')
    by_limit = explained(run, "--key", limited, "--action", "s3:PutObject", *resource)
    assert (by_limit["allowed"], by_limit["decided_by"]) == (False, "no statement of the key policy allows it")
    stranger = explained(run, *read, *resource)
    assert (stranger["allowed"], stranger["not_given"]) == (False, ["aws:sourceip"])
    inside = explained(run, *read, *resource, "--context", "aws:SourceIp=192.0.2.7")
    assert (inside["allowed"], inside["decided_by"]) == (True, 'bucket policy, statement 1 "office"')


def test_an_explanation_is_given_for_sessions_of_a_role(run: Run, tmp_path: Path) -> None:
    run("init")
    make_bucket(tmp_path)
    trust, policy = tmp_path / "trust.json", tmp_path / "policy.json"
    trust.write_text(json.dumps({"Statement": {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}}))
    team = {"StringEquals": {"aws:PrincipalTag/team": "red"}}
    policy.write_text(json.dumps({"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": team}}))
    arn = run("role", "put", "local", "reader", "--trust", str(trust), "--policy", str(policy)).out.strip()
    asked = ("--role", arn, "--session", "ci", "--resource", f"{ARN}/kept/a", "--action")
    without = explained(run, *asked, "s3:PutObject")
    assert (without["allowed"], without["not_given"]) == (False, ["aws:principaltag/team"])
    found = explained(run, *asked, "s3:PutObject", "--context", "aws:PrincipalTag/team=red")
    assert (found["allowed"], found["decided_by"]) == (True, "role policy, statement 1")
    assert str(found["principal"]).endswith(":assumed-role/reader/ci")
    denied = explained(run, *asked, "s3:DeleteObject", "--context", "aws:PrincipalTag/team=red")
    assert (denied["allowed"], denied["decided_by"]) == (False, 'bucket policy, statement 2 "kept"')
    assert "there is no role" in run("access", "explain", *(("--role", arn + "x", *asked[2:])), "s3:GetObject").err
    both = run("access", "explain", "--key", "AK", *asked, "s3:GetObject")
    assert (both.code, "leave out the other" in both.err) == (1, True)


def test_an_explanation_is_told_in_words(run: Run, tmp_path: Path) -> None:
    run("init")
    make_bucket(tmp_path)
    lines = run("access", "explain", "--action", "s3:GetObject", "--resource", f"{ARN}/a").out.splitlines()
    assert lines[0] == "denied"
    assert "asked for by a condition, and not given: aws:sourceip; give them with --context KEY=VALUE" in lines
    complaint = run("access", "explain", "--action", "s3:Get*", "--resource", f"{ARN}/a")
    assert (complaint.code, "is no action of S3" in complaint.err) == (1, True)
