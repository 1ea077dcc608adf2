"""Notifications: what a webhook, NATS JetStream and a file are told, by a server of their own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING
from uuid import uuid4

import nats
import pytest

from bench.ports import free_port
from tests.blackbox.expect import MIB, s3_error, until
from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT, Shardgate, shardgate, stop

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

SUBJECT = "s3.events"


@dataclass
class Hook:
    """A webhook of the test's own; it can be told to answer 503."""

    port: int = 0
    status: int = 200
    messages: list[dict] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def events(self, bucket: str) -> list[tuple[str, str]]:
        """Return (event name, key) of all records of a bucket."""
        records = [record for message in self.messages for record in message.get("Records", ())]
        return [(r["eventName"], r["s3"]["object"]["key"]) for r in records if r["s3"]["bucket"]["name"] == bucket]


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if hook.status == 200:
                hook.messages.append(json.loads(body))
                hook.headers.append(dict(self.headers))
            self.send_response(hook.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield hook
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A NATS server with a stream; yields its port."""
    program = which("nats-server", path=str(ROOT / ".venv" / "bin")) or which("nats-server")
    if program is None:
        pytest.skip("there is no nats-server on this platform")
    port = free_port()
    command = [program, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(tmp_path_factory.mktemp("nats"))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        asyncio.run(_add_stream(port))
        yield port
    finally:
        stop(process)


async def _add_stream(port: int) -> None:
    async def heard(_: Exception) -> None: ...

    client = await nats.connect(f"nats://127.0.0.1:{port}", max_reconnect_attempts=100, reconnect_time_wait=0.1, error_cb=heard)
    await client.jetstream(timeout=PATIENCE_SECONDS).add_stream(name="events", subjects=[SUBJECT])
    await client.close()


@pytest.fixture(scope="module")
def told(hook: Hook, broker: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shardgate]:
    data = tmp_path_factory.mktemp("told")
    config = data / "told.toml"
    config.write_text(
        f"""{(ROOT / "config" / "bench.toml").read_text()}
[notifications.targets.hook]
kind = "webhook"
url = "http://127.0.0.1:{hook.port}/events"
authorization = "Bearer open-sesame"
[notifications.targets.stream]
kind = "nats"
url = "nats://127.0.0.1:{broker}"
subject = "{SUBJECT}"
[notifications.targets.audit]
kind = "file"
path = "{data}/events.log"
[notifications.targets.nobody]
kind = "webhook"
url = "http://127.0.0.1:{free_port()}/"
"""
    )
    with shardgate(data, config=config, workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def s3(told: Shardgate) -> S3Client:
    return told.client()


@pytest.fixture
def bucket(s3: S3Client) -> str:
    name = f"told-{uuid4()}"
    s3.create_bucket(Bucket=name)
    return name


def listen(s3: S3Client, bucket: str, target: str, *events: str, **options: object) -> None:
    rule = {"Id": "rule", "QueueArn": f"arn:aws:sqs:us-east-1:000000000000:{target}", "Events": list(events), **options}
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [rule]})


def test_a_configuration_comes_back_as_it_was_put(s3: S3Client, bucket: str) -> None:
    rules = [{"Name": "Prefix", "Value": "a/"}, {"Name": "Suffix", "Value": ".jpg"}]
    listen(s3, bucket, "hook", "s3:ObjectCreated:*", Filter={"Key": {"FilterRules": rules}})
    (rule,) = s3.get_bucket_notification_configuration(Bucket=bucket)["QueueConfigurations"]
    assert rule == {
        "Id": "rule",
        "QueueArn": "arn:aws:sqs:us-east-1:000000000000:hook",
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": rules}},
    }
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    assert "QueueConfigurations" not in s3.get_bucket_notification_configuration(Bucket=bucket)


def test_a_target_that_is_not_configured_is_refused(s3: S3Client, bucket: str) -> None:
    with s3_error("InvalidArgument", 400):
        listen(s3, bucket, "stranger", "s3:ObjectCreated:*")
    assert "QueueConfigurations" not in s3.get_bucket_notification_configuration(Bucket=bucket)


def test_a_webhook_is_told_what_is_done_by_every_verb(s3: S3Client, bucket: str, hook: Hook) -> None:
    listen(s3, bucket, "hook", "s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:ObjectTagging:*")
    until(lambda: {"s3:TestEvent"} == {m.get("Event") for m in hook.messages if m.get("Bucket") == bucket})
    s3.put_object(Bucket=bucket, Key="a b+c", Body=b"one")
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "a b+c"})
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="parts", UploadId=upload, PartNumber=1, Body=bytes(MIB))
    parts = [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]}]
    s3.complete_multipart_upload(Bucket=bucket, Key="parts", UploadId=upload, MultipartUpload={"Parts": parts})
    s3.put_object_tagging(Bucket=bucket, Key="copy", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    s3.delete_object_tagging(Bucket=bucket, Key="copy")
    s3.delete_object(Bucket=bucket, Key="copy")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a b+c"}]})
    expected = {
        ("ObjectCreated:Copy", "copy"),
        ("ObjectCreated:CompleteMultipartUpload", "parts"),
        ("ObjectCreated:Put", "a+b%2Bc"),
        ("ObjectRemoved:Delete", "copy"),
        ("ObjectRemoved:DeleteMarkerCreated", "a+b%2Bc"),
        ("ObjectTagging:Delete", "copy"),
        ("ObjectTagging:Put", "copy"),
    }
    until(lambda: len(set(hook.events(bucket))) == len(expected))
    assert set(hook.events(bucket)) == expected
    assert all(headers["Authorization"] == "Bearer open-sesame" for headers in hook.headers)


def test_a_filter_leaves_out_other_keys(s3: S3Client, bucket: str, hook: Hook) -> None:
    listen(s3, bucket, "hook", "s3:ObjectCreated:*", Filter={"Key": {"FilterRules": [{"Name": "suffix", "Value": ".jpg"}]}})
    for key in ("a.png", "b.jpg"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    until(lambda: bool(hook.events(bucket)))
    assert set(hook.events(bucket)) == {("ObjectCreated:Put", "b.jpg")}


def test_events_wait_for_a_webhook_that_is_down(s3: S3Client, bucket: str, hook: Hook) -> None:
    hook.status = 503
    try:
        listen(s3, bucket, "hook", "s3:ObjectCreated:*")
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    finally:
        hook.status = 200
    until(lambda: hook.events(bucket) == [("ObjectCreated:Put", "k")])


def test_a_target_that_nobody_answers_for_does_not_hold_up_writes(s3: S3Client, bucket: str) -> None:
    listen(s3, bucket, "nobody", "s3:ObjectCreated:*")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_a_file_has_a_line_for_each_event(s3: S3Client, bucket: str, told: Shardgate) -> None:
    listen(s3, bucket, "audit", "s3:ObjectCreated:Put")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    path = Path(told.data / "events.log")
    until(lambda: path.exists() and f'"{bucket}"' in path.read_text() and "ObjectCreated:Put" in path.read_text())


def test_jetstream_has_each_event(s3: S3Client, bucket: str, broker: int) -> None:
    listen(s3, bucket, "stream", "s3:ObjectCreated:*")
    for n in range(20):
        s3.put_object(Bucket=bucket, Key=f"k{n}", Body=b"x")

    async def keys() -> set[str]:
        client = await nats.connect(f"nats://127.0.0.1:{broker}")
        subscription = await client.jetstream(timeout=PATIENCE_SECONDS).subscribe(SUBJECT, ordered_consumer=True)
        found: set[str] = set()
        while len(found) < 20:
            message = json.loads((await subscription.next_msg(timeout=PATIENCE_SECONDS)).data)
            found |= {r["s3"]["object"]["key"] for r in message.get("Records", ()) if r["s3"]["bucket"]["name"] == bucket}
        await client.close()
        return found

    assert asyncio.run(keys()) == {f"k{n}" for n in range(20)}
