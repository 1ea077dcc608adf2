"""Notification configurations, and how an event reads."""

from __future__ import annotations

import json

import pytest

from proxy.s3.errors import S3Error
from proxy.s3.notification import check_notification, message_of, rules_of

ARN = "arn:aws:sqs:us-east-1:000000000000:hook"


def queue(*events: str, rule: str = "one", arn: str = ARN, **filters: str) -> dict[str, object]:
    filter_rules = [{"Name": name, "Value": value} for name, value in filters.items()]
    return {"Id": rule, "QueueArn": arn, "Events": list(events), **({"Filter": {"Key": {"FilterRules": filter_rules}}} if filters else {})}


def queues(*rules: dict[str, object]) -> dict[str, object]:
    return {"QueueConfigurations": list(rules)}


def test_a_wildcard_stands_for_every_event_of_its_family() -> None:
    (rule,) = check_notification(queues(queue("s3:ObjectCreated:*")), {"hook"})
    assert rule.wants("ObjectCreated:Put", "any")
    assert rule.wants("ObjectCreated:CompleteMultipartUpload", "any")
    assert not rule.wants("ObjectRemoved:Delete", "any")


def test_a_filter_asks_for_the_beginning_and_the_end_of_a_key() -> None:
    (rule,) = check_notification(queues(queue("s3:ObjectCreated:Put", Prefix="photos/", suffix=".jpg")), {"hook"})
    assert rule.wants("ObjectCreated:Put", "photos/a.jpg")
    assert not rule.wants("ObjectCreated:Put", "photos/a.png")
    assert not rule.wants("ObjectCreated:Put", "a.jpg")


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (queues(queue("s3:ObjectEaten:Whole")), "not supported"),
        (queues(queue("ObjectCreated:Put")), "not supported"),
        (queues(queue("s3:ObjectCreated:Put", Middle="x")), "prefix or suffix"),
        (queues(queue("s3:ObjectCreated:Put", prefix="x", Prefix="y")), "more than one prefix"),
        (queues(queue("s3:ObjectCreated:Put", prefix="x" * 1025)), "cannot exceed 1024"),
        (queues(queue("s3:ObjectCreated:Put", arn="hook")), "ARN"),
        (queues(queue("s3:ObjectCreated:Put", arn="arn:aws:sns:us-east-1:0:hook")), "ARN"),
        (queues(queue("s3:ObjectCreated:Put", arn=ARN + "2")), "destination"),
        (queues(queue("s3:ObjectCreated:Put"), queue("s3:ObjectRemoved:*")), "unique"),
        (queues(queue("s3:ObjectCreated:*"), queue("s3:ObjectCreated:Put", rule="two", prefix="a")), "overlap"),
        (queues(*(queue("s3:ObjectCreated:Put", rule=str(n), prefix=f"{n:03}") for n in range(101))), "at most 100"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(document: dict[str, object], complaint: str) -> None:
    with pytest.raises(S3Error) as refused:
        check_notification(document, {"hook"})
    assert refused.value.code == "InvalidArgument"
    assert complaint in refused.value.message


def test_rules_that_no_event_meets_twice_may_stand_side_by_side() -> None:
    rules = (
        queue("s3:ObjectCreated:*", rule="1", prefix="a/"),
        queue("s3:ObjectCreated:*", rule="2", prefix="b/"),
        queue("s3:ObjectRemoved:*", rule="3"),
    )
    assert len(check_notification(queues(*rules), {"hook"})) == 3


def test_eventbridge_is_not_served() -> None:
    with pytest.raises(S3Error) as refused:
        check_notification({"EventBridgeConfiguration": {}}, {"hook"})
    assert refused.value.code == "NotImplemented"


def test_stored_rules_are_those_that_were_checked() -> None:
    document = {
        "TopicConfigurations": [{"Id": "t", "TopicArn": "arn:aws:sns:::hook", "Events": ["s3:ObjectAcl:Put"]}],
        **queues(queue("s3:ObjectTagging:*")),
    }
    assert rules_of(json.dumps(document)) == check_notification(document, {"hook"})


def message(event: str, key: str = "k", version_id: str = "") -> dict[str, object]:
    text = message_of(
        region="us-east-1",
        event=event,
        at_ms=1_750_000_000_123,
        principal="",
        source_ip="127.0.0.1",
        request_id="R",
        host_id="H",
        configuration="one",
        bucket="b",
        owner="o",
        key=key,
        size=3,
        etag="e",
        version_id=version_id,
        sequencer="01",
    )
    (record,) = json.loads(text)["Records"]
    return record


def test_an_event_reads_as_one_of_aws() -> None:
    assert message("ObjectCreated:Put", "red flower+1.jpg", "v1") == {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": "2025-06-15T15:06:40.123Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "Anonymous"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": "R", "x-amz-id-2": "H"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "one",
            "bucket": {"name": "b", "ownerIdentity": {"principalId": "o"}, "arn": "arn:aws:s3:::b"},
            "object": {"key": "red+flower%2B1.jpg", "size": 3, "eTag": "e", "versionId": "v1", "sequencer": "01"},
        },
    }


def test_a_deletion_tells_no_size() -> None:
    assert message("ObjectRemoved:Delete")["s3"]["object"] == {"key": "k", "sequencer": "01"}
