"""`stores check --analyze` beside real servers: one that is fit, and one behind a gateway that drops the Range header."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aiohttp
import boto3
import pytest
from aiohttp import web

from bench.ports import free_port
from proxy.clock import SystemClock
from proxy.stores.conformance import Conformance, analyze
from proxy.stores.protocol import Store, StoreInfo, StoreName
from proxy.stores.upstream import s3_store
from tests.servers import moto_servers

INFO = StoreInfo(name=StoreName("s"), provider="p", region="us-east-1", jurisdiction="j")
KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_servers([free_port()]) as (url,):
        yield url


def bucket(moto: str, *, versioned: bool = False) -> str:
    name = f"b-{os.urandom(6).hex()}"
    client = boto3.client("s3", endpoint_url=moto, region_name="us-east-1", **KEYS)
    client.create_bucket(Bucket=name)
    if versioned:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def store_at(url: str, name: str) -> Store:
    return s3_store(INFO, bucket=name, prefix="pre", endpoint=url, access_key="testing", secret_key="testing")


async def examine(store: Store, *, quick: bool = True) -> Conformance:
    return await analyze(store, SystemClock(), put_seconds=60, get_seconds=60, quick=quick)


def notes(report: Conformance) -> dict[str, str]:
    """Return what is unusual, but that this server may fail some of several puts of one name while it is busy."""
    unusual = {finding.check: finding.outcome for finding in report.findings if finding.outcome != "passed"}
    if unusual.get("puts of one name at once") == "note":
        del unusual["puts of one name at once"]
    return unusual


async def test_an_s3_bucket_is_fit_and_pages_its_listings(moto: str) -> None:
    name = bucket(moto)
    report = await examine(store_at(moto, name), quick=False)
    assert (report.fit, notes(report), report.left) == (True, {}, ())
    assert boto3.client("s3", endpoint_url=moto, region_name="us-east-1", **KEYS).list_objects_v2(Bucket=name)["KeyCount"] == 0
    found = {finding.check: finding.found for finding in report.findings}
    assert found["ETag"] == "the ETag is the MD5 of what was put"
    assert found["conditional put"] == "a put with If-None-Match: * is refused where the name is taken"


async def test_a_bucket_that_keeps_versions_is_noted(moto: str) -> None:
    report = await examine(store_at(moto, bucket(moto, versioned=True)))
    assert (report.fit, notes(report)) == (True, {"versions": "note"})


async def test_a_bucket_that_is_not_there_is_unfit_and_nothing_else_is_tried(moto: str) -> None:
    (finding,) = (await examine(store_at(moto, "absent-bucket"))).findings
    assert (finding.outcome, "the bucket does not exist" in finding.found) == ("failed", True)


async def test_a_gateway_that_answers_ranges_with_the_whole_object_is_found(moto: str) -> None:
    async with gateway_without_ranges(moto) as url:
        report = await examine(store_at(url, bucket(moto)))
    assert not report.fit
    assert notes(report)["ranges"] == "failed"
    assert "bytes as they were put" not in notes(report)


@asynccontextmanager
async def gateway_without_ranges(upstream: str) -> AsyncIterator[str]:
    """Forward everything but the Range header, as some caches do."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def forward(request: web.Request) -> web.Response:
            headers = {name: value for name, value in request.headers.items() if name.lower() not in {"range", "transfer-encoding"}}
            url = f"{upstream}{request.raw_path}"
            async with session.request(request.method, url, headers=headers, data=await request.read() or None) as answer:
                body = await answer.read()
                kept = {name: value for name, value in answer.headers.items() if name.lower() in _KEPT}
                return web.Response(status=answer.status, headers=kept, body=body)

        server = web.Application(client_max_size=2**30)
        server.router.add_route("*", "/{path:.*}", forward)
        runner = web.AppRunner(server)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            await runner.cleanup()


_KEPT = frozenset({"content-type", "etag", "last-modified", "x-amz-version-id"})
