"""Access logs: what a server of its own writes down of requests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import requests

from tests.blackbox.expect import s3_error, until
from tests.patience import PATIENCE_SECONDS
from tests.servers import ROOT, Shardgate, log_with, shardgate

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

FIELDS = re.compile(r'\[[^\]]*\]|"[^"]*"|\S+')


@pytest.fixture(scope="module")
def logging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shardgate]:
    data = tmp_path_factory.mktemp("logging")
    config = data / "logging.toml"
    bench = (ROOT / "config" / "bench.toml").read_text()
    assert "[limits]" not in bench
    top = 'website_domains = ["website.example.com"]\ntrusted_proxies = ["127.0.0.0/8"]\n'
    config.write_text(top + bench + '\n[limits]\naccess_log_seconds = 0.5\n[log]\nformat = "json"\n')
    with shardgate(data, config=config) as running:
        yield running


@pytest.fixture(scope="module")
def s3(logging: Shardgate) -> S3Client:
    client = logging.client()
    client.create_bucket(Bucket="source")
    client.create_bucket(Bucket="logs")
    return client


def lines(s3: S3Client, prefix: str, *wanted: tuple[str, str, str]) -> list[list[str]]:
    """Wait for lines of these operations, keys and statuses under a prefix, and return the fields of all there are."""
    until(lambda: {(f[6], f[7], f[9]) for f in written(s3, prefix)} >= set(wanted))
    return written(s3, prefix)


def written(s3: S3Client, prefix: str) -> list[list[str]]:
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket="logs", Prefix=prefix).get("Contents", [])]
    texts = [s3.get_object(Bucket="logs", Key=key)["Body"].read().decode() for key in keys]
    return [FIELDS.findall(line) for text in texts for line in text.splitlines()]


def test_requests_are_written_down_with_what_came_of_them(s3: S3Client) -> None:
    s3.put_bucket_logging(Bucket="source", BucketLoggingStatus={"LoggingEnabled": {"TargetBucket": "logs", "TargetPrefix": "a/"}})
    assert s3.get_bucket_logging(Bucket="source")["LoggingEnabled"] == {"TargetBucket": "logs", "TargetPrefix": "a/"}
    s3.put_object(Bucket="source", Key="a b", Body=b"12345")
    s3.get_object(Bucket="source", Key="a b", Range="bytes=1-2")["Body"].read()
    with s3_error("NoSuchKey", 404):
        s3.get_object(Bucket="source", Key="none")
    s3.put_bucket_logging(Bucket="source", BucketLoggingStatus={})
    s3.put_object(Bucket="source", Key="unheard", Body=b"x")
    assert "LoggingEnabled" not in s3.get_bucket_logging(Bucket="source")
    wanted = [("REST.PUT.OBJECT", "a%20b", "200"), ("REST.GET.OBJECT", "a%20b", "206"), ("REST.GET.OBJECT", "none", "404")]
    told = {(f[6], f[7], f[9], f[10], f[12]): f for f in lines(s3, "a/", *wanted)}
    assert ("REST.PUT.OBJECT", "a%20b", "200", "-", "5") in told
    assert ("REST.GET.OBJECT", "a%20b", "206", "-", "5") in told
    assert ("REST.GET.OBJECT", "none", "404", "NoSuchKey", "-") in told
    assert not any(key[1] == "unheard" for key in told)
    fields = told["REST.PUT.OBJECT", "a%20b", "200", "-", "5"]
    assert fields[1] == "source"
    assert fields[3] == "127.0.0.1"
    assert (fields[19], fields[21]) == ("SigV4", "AuthHeader")


def test_as_many_bytes_are_written_down_as_a_client_got(logging: Shardgate, s3: S3Client) -> None:
    s3.create_bucket(Bucket="counted")
    s3.put_bucket_logging(Bucket="counted", BucketLoggingStatus={"LoggingEnabled": {"TargetBucket": "logs", "TargetPrefix": "e/"}})
    size = 64 * 1024 * 1024  # more than lies between here and there
    s3.put_object(Bucket="counted", Key="large", Body=b"x" * size)
    with requests.get(s3.generate_presigned_url("list_objects_v2", Params={"Bucket": "counted"}), timeout=PATIENCE_SECONDS) as listing:
        listed = len(listing.content)
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "counted", "Key": "large"})
    with requests.get(url, stream=True, timeout=PATIENCE_SECONDS) as answer:
        answer.raw.read(1000)
    told = {(f[6], f[10]): f[11] for f in lines(s3, "e/", ("REST.GET.BUCKET", "-", "200"), ("REST.GET.OBJECT", "large", "200"))}
    assert int(told["REST.GET.BUCKET", "-"]) == listed
    assert 1000 <= int(told["REST.GET.OBJECT", "ClientClosed"]) < size


def test_forms_and_visitors_of_websites_are_told_apart(logging: Shardgate, s3: S3Client) -> None:
    s3.create_bucket(Bucket="site")
    s3.put_bucket_website(Bucket="site", WebsiteConfiguration={"IndexDocument": {"Suffix": "index.html"}})
    s3.put_bucket_logging(Bucket="site", BucketLoggingStatus={"LoggingEnabled": {"TargetBucket": "logs", "TargetPrefix": "c/"}})
    size = 2 * 1024 * 1024  # more than is held: its end is known late
    form = s3.generate_presigned_post("site", "index.html")
    assert requests.post(form["url"], data=form["fields"], files={"file": b"x" * size}, timeout=PATIENCE_SECONDS).status_code == 204
    requests.get(logging.endpoint, headers={"Host": "site.website.example.com"}, timeout=PATIENCE_SECONDS)
    wanted = [("REST.POST.OBJECT", "index.html", "204"), ("WEBSITE.GET.OBJECT", "index.html", "403")]
    told = {(f[6], f[7], f[9], f[12]) for f in lines(s3, "c/", *wanted)}
    assert ("REST.POST.OBJECT", "index.html", "204", str(size)) in told
    assert ("WEBSITE.GET.OBJECT", "index.html", "403", "-") in told


def test_the_address_is_the_one_that_a_trusted_proxy_tells(logging: Shardgate, s3: S3Client) -> None:
    s3.create_bucket(Bucket="proxied")
    s3.put_bucket_logging(Bucket="proxied", BucketLoggingStatus={"LoggingEnabled": {"TargetBucket": "logs", "TargetPrefix": "d/"}})
    client = logging.client()
    client.meta.events.register("before-send.s3", lambda request, **_: request.headers.update({"X-Forwarded-For": "192.0.2.7"}))
    key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": b"k" * 32}
    client.put_object(Bucket="proxied", Key="k", Body=b"x", **key)  # the connection is what nobody overhears: it is from this machine
    assert [fields[3] for fields in lines(s3, "d/", ("REST.PUT.OBJECT", "k", "200"))] == ["192.0.2.7"]
    told = [line for line in log_with(logging, "/proxied/k").splitlines() if "PutObject" in line and "/proxied/k" in line]
    assert [json.loads(line)["remote"] for line in told] == ["192.0.2.7"]


def test_lines_that_wait_are_stored_when_the_server_stops(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("stopped")
    with shardgate(data, config=ROOT / "config" / "bench.toml") as running:
        client = running.client()
        client.create_bucket(Bucket="source")
        client.create_bucket(Bucket="logs")
        client.put_bucket_logging(Bucket="source", BucketLoggingStatus={"LoggingEnabled": {"TargetBucket": "logs", "TargetPrefix": "b/"}})
        client.put_object(Bucket="source", Key="k", Body=b"x")
        assert "Contents" not in client.list_objects_v2(Bucket="logs")
    with shardgate(data, config=ROOT / "config" / "bench.toml") as running:
        assert lines(running.client(), "b/", ("REST.PUT.OBJECT", "k", "200"))


@pytest.mark.parametrize("target", ["missing-bucket", "Not_A_Name"])
def test_a_target_that_is_no_bucket_of_the_owner_is_refused(s3: S3Client, target: str) -> None:
    code = "InvalidTargetBucketForLogging" if target.islower() else "InvalidBucketName"
    with s3_error(code, 400):
        s3.put_bucket_logging(Bucket="source", BucketLoggingStatus={"LoggingEnabled": {"TargetBucket": target, "TargetPrefix": ""}})
