"""Replication configurations: what is refused, and which rule counts."""

from __future__ import annotations

import json

import pytest

from proxy.s3.errors import S3Error
from proxy.s3.replication import Wanted, check_replication, destinations_of, rules_of, wanted_of


def rule(priority: int = 1, *, bucket: str = "copy", markers: bool = False, **more: object) -> dict[str, object]:
    return {
        "ID": f"rule {priority}",
        "Priority": priority,
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "DeleteMarkerReplication": {"Status": "Enabled" if markers else "Disabled"},
        "Destination": {"Bucket": f"arn:aws:s3:::{bucket}"},
        **more,
    }


def document(*rules: dict[str, object]) -> dict[str, object]:
    return {"Role": "arn:aws:iam::000000000000:role/replication", "Rules": list(rules)}


def wanted(*rules: dict[str, object], key: str = "k", tags: dict[str, str] | None = None, marker: bool = False) -> tuple[Wanted, ...]:
    return wanted_of(rules_of(json.dumps(document(*rules))), key, tags or {}, is_marker=marker)


def test_a_rule_without_a_filter_wants_everything() -> None:
    old = {"Status": "Enabled", "Prefix": "", "Destination": {"Bucket": "arn:aws:s3:::copy", "StorageClass": "STANDARD_IA"}}
    assert wanted(old) == (Wanted("copy", "STANDARD_IA"),)


@pytest.mark.parametrize(
    ("filters", "key", "tags", "meets"),
    [
        ({"Prefix": "a/"}, "a/k", {}, True),
        ({"Prefix": "a/"}, "b/k", {}, False),
        ({"Tag": {"Key": "t", "Value": "1"}}, "k", {"t": "1", "u": "2"}, True),
        ({"Tag": {"Key": "t", "Value": "1"}}, "k", {"t": "2"}, False),
        ({"And": {"Prefix": "a/", "Tags": [{"Key": "t", "Value": "1"}]}}, "a/k", {"t": "1"}, True),
        ({"And": {"Prefix": "a/", "Tags": [{"Key": "t", "Value": "1"}]}}, "a/k", {}, False),
    ],
)
def test_a_filter_chooses_versions(filters: dict[str, object], key: str, tags: dict[str, str], meets: bool) -> None:
    assert bool(wanted(rule(Filter=filters), key=key, tags=tags)) is meets


def test_of_two_rules_for_one_bucket_the_higher_priority_counts() -> None:
    low = rule(1, Destination={"Bucket": "arn:aws:s3:::copy", "StorageClass": "STANDARD_IA"})
    high = rule(2, Destination={"Bucket": "arn:aws:s3:::copy", "StorageClass": "ONEZONE_IA"})
    assert wanted(low, high, rule(3, bucket="other")) == (Wanted("copy", "ONEZONE_IA"), Wanted("other", ""))


def test_delete_markers_are_copied_only_where_a_rule_says_so() -> None:
    assert wanted(rule(), marker=True) == ()
    assert wanted(rule(markers=True), marker=True) == (Wanted("copy", ""),)


def test_a_disabled_rule_wants_nothing_and_its_bucket_must_be_there_all_the_same() -> None:
    disabled = rule(Status="Disabled")
    assert wanted(disabled) == ()
    assert destinations_of(document(disabled)) == {"copy"}


@pytest.mark.parametrize(
    ("configuration", "code"),
    [
        ({"Rules": [rule()]}, "InvalidArgument"),
        (document(), "MalformedXML"),
        (document(rule(Status="Perhaps")), "MalformedXML"),
        (document(rule(Prefix="")), "MalformedXML"),
        ({"Role": "r" * 2049, "Rules": [rule()]}, "InvalidArgument"),
        (document(rule(ID="x" * 256)), "InvalidArgument"),
        (document(rule(Filter={"Prefix": "x" * 1025})), "InvalidRequest"),
        (document(rule(Filter={"Tag": {"Key": "x" * 129, "Value": ""}})), "InvalidTag"),
        (document(rule(Filter={"And": {"Tags": [{"Key": str(n), "Value": ""} for n in range(11)]}})), "BadRequest"),
        (document(rule(Destination={"Bucket": "arn:aws:s3:::copy", "StorageClass": "X" * 65})), "MalformedXML"),
        (document(rule(Destination={"Bucket": "arn:aws:s3:::NO_bucket"})), "InvalidArgument"),
        (document(rule(1), rule(1, ID="another")), "InvalidRequest"),
        (document(rule(1), rule(2, ID="rule 1")), "InvalidArgument"),
        (document({k: v for k, v in rule().items() if k != "Priority"}), "InvalidRequest"),
        (document({k: v for k, v in rule().items() if k != "DeleteMarkerReplication"}), "InvalidRequest"),
        (document(rule(Filter={"Tag": {"Key": "a", "Value": "b"}}, markers=True)), "InvalidRequest"),
        (document(rule(Destination={"Bucket": "copy"})), "InvalidArgument"),
        (document(rule(Destination={"Bucket": "arn:aws:s3:::copy/key"})), "InvalidArgument"),
        (document(rule(ExistingObjectReplication={"Status": "Enabled"})), "NotImplemented"),
        (
            document(rule(Destination={"Bucket": "arn:aws:s3:::copy", "AccessControlTranslation": {"Owner": "Destination"}})),
            "NotImplemented",
        ),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(configuration: dict[str, object], code: str) -> None:
    with pytest.raises(S3Error) as refused:
        check_replication(configuration)
    assert refused.value.code == code


def test_options_that_are_off_are_taken() -> None:
    off = rule(
        ExistingObjectReplication={"Status": "Disabled"},
        SourceSelectionCriteria={"SseKmsEncryptedObjects": {"Status": "Disabled"}},
    )
    assert len(check_replication(document(off))) == 1
