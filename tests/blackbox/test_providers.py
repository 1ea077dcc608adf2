"""The proxy before six S3 providers (moto servers), one of which dies; several workers on one port; a restart that finds everything."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import boto3

from bench.ports import free_port
from proxy.codec.format import is_shard_name
from tests.moto_providers import moto_environ
from tests.servers import ROOT, moto_servers, shardgate, stop


def test_objects_spread_over_six_s3_providers_and_survive_one(tmp_path: Path) -> None:
    with ExitStack() as stack:
        ports = [free_port() for _ in range(6)]
        urls = stack.enter_context(moto_servers(ports[:5]))
        sixth = stack.enter_context(ExitStack())
        urls += sixth.enter_context(moto_servers(ports[5:]))
        server = stack.enter_context(shardgate(tmp_path, config=ROOT / "config/moto.toml", environ=moto_environ(ports)))
        s3 = server.client()
        s3.create_bucket(Bucket="bucket")
        data = os.urandom(6_000_000)
        s3.put_object(Bucket="bucket", Key="k", Body=data)
        for url in urls:
            upstream = boto3.client(
                "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing"
            )
            (upstream_bucket,) = upstream.list_buckets()["Buckets"]
            held = upstream.list_objects_v2(Bucket=upstream_bucket["Name"])["Contents"]
            (size,) = [found["Size"] for found in held if is_shard_name(found["Key"])]
            assert 1_500_000 < size < 1_600_000
        sixth.close()
        assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == data
        s3.put_object(Bucket="bucket", Key="k2", Body=data)
        assert s3.get_object(Bucket="bucket", Key="k2")["Body"].read() == data


def test_a_second_start_finds_everything_and_workers_share_the_port(tmp_path: Path) -> None:
    with shardgate(tmp_path) as first:
        first.client().create_bucket(Bucket="bucket")
        first.client().put_object(Bucket="bucket", Key="k", Body=b"here")
        credentials = first.credentials
        assert stop(first.process) == 0
    with shardgate(tmp_path, workers=2) as second:
        assert second.credentials == credentials
        for number in range(20):
            client = second.client()
            assert client.get_object(Bucket="bucket", Key="k")["Body"].read() == b"here"
            client.put_object(Bucket="bucket", Key=f"k{number}", Body=b"x")
        assert second.client().list_objects_v2(Bucket="bucket")["KeyCount"] == 21
        assert stop(second.process) == 0
